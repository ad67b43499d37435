use sandbar_sdk::prelude::*;

struct Plugin(u64);

impl Interceptor for Plugin {
    fn create(cx: &mut Context, _config: &str) -> Result<Self, Refusal> {
        cx.wake_every(Duration::from_secs(1));
        Ok(Plugin(0))
    }
    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, _: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::FOLLOW)
    }
    fn read_rtp(&mut self, _: &mut Context, _packet: &mut RtpPacket<'_>) -> Outcome {
        self.0 += 1;
        Outcome::Forward
    }
    fn handle_timeout(&mut self, cx: &mut Context, _: Option<StreamId>) {
        cx.publish("packets", &self.0.to_string());
    }
}

sandbar_sdk::export!(Plugin, binds = [remote_streams]);

#[cfg(test)]
mod tests {
    use super::*;
    use sandbar_sdk::testing::{Harness, packet};

    #[test]
    fn packets_are_counted_and_told_once_per_second() -> Result<(), Refusal> {
        let mut host = Harness::<Plugin>::new("{}")?;
        let video = host.bind_remote_stream(&StreamInfo { ssrc: 7, ..StreamInfo::default() })?;
        for sequence_number in 0..3 {
            assert_eq!(host.read(video, packet(7, sequence_number, b"media")).len(), 1);
        }
        host.advance(Duration::from_secs(1));
        assert_eq!(host.published(), [("packets".to_owned(), "3".to_owned())]);
        Ok(())
    }
}

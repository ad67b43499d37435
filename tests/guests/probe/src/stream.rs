//! One bound stream of the probe.

use std::collections::VecDeque;

use sandbar_sdk::{
    Context, EmitError, HeaderBuf, HeldId, Instant, Payload, RtcpPart, RtpPacket, StreamId, StreamInfo, debug,
};

/// A stream, what is held of it, and how its retransmissions are sent.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) ssrc: u32,
    pub(crate) local: bool,
    rtx: Option<Rtx>,
    held: VecDeque<(HeldId, Instant)>,
}

#[derive(Debug)]
struct Rtx {
    ssrc: u32,
    payload_type: u8,
    next: u16,
}

impl Stream {
    /// What a predecessor held of it is due at once.
    pub(crate) fn new(cx: &mut Context, id: StreamId, info: &StreamInfo, local: bool) -> Self {
        let rtx = info.ssrc_retransmission.zip(info.payload_type_retransmission);
        let rtx = rtx.map(|(ssrc, payload_type)| Rtx { ssrc, payload_type, next: 0 });
        let held: VecDeque<_> = cx.held(id).iter().map(|held| (held.id, cx.now())).collect();
        if !held.is_empty() {
            cx.wake_stream_at(id, Some(cx.now()));
        }
        Stream { id, ssrc: info.ssrc, local, rtx, held }
    }

    /// Holds a packet until it is due.
    pub(crate) fn hold(&mut self, cx: &mut Context, packet: &RtpPacket<'_>, due: Instant) -> Result<(), EmitError> {
        self.held.push_back((cx.hold(packet)?, due));
        if self.held.len() == 1 {
            cx.wake_stream_at(self.id, Some(due));
        }
        Ok(())
    }

    /// Lets go what is due.
    pub(crate) fn release(&mut self, cx: &mut Context) {
        while let Some((held, due)) = self.held.front().copied() {
            if due > cx.now() {
                cx.wake_stream_at(self.id, Some(due));
                return;
            }
            self.held.pop_front();
            if let Err(error) = cx.release(held, &[], &[]) {
                debug!(cx, "{held:?}: {error}");
            }
        }
    }

    /// Emits a packet of the history as it was.
    fn again(&self, cx: &mut Context, sequence_number: u16) -> Result<(), EmitError> {
        let entry = cx.history(self.id, sequence_number).ok_or(EmitError::NotInHistory)?;
        cx.emit_rtp(self.id, &entry.header, Payload::History { sequence_number, prefix: &[] }, &[])
    }

    /// Emits a packet of the history as a retransmission (RFC 4588, 4), or as it was where there is no RTX.
    pub(crate) fn retransmit(&mut self, cx: &mut Context, sequence_number: u16) -> Result<(), EmitError> {
        let Some(rtx) = &mut self.rtx else { return self.again(cx, sequence_number) };
        let entry = cx.history(self.id, sequence_number).ok_or(EmitError::NotInHistory)?;
        let mut header = HeaderBuf::parse(entry.header).map_err(|error| EmitError::Malformed(error.to_string()))?;
        let mut edit = header.edit();
        edit.set_ssrc(rtx.ssrc);
        edit.set_payload_type(rtx.payload_type);
        edit.set_sequence_number(rtx.next);
        rtx.next = rtx.next.wrapping_add(1);
        let prefix = sequence_number.to_be_bytes();
        cx.emit_rtp(self.id, header.as_bytes(), Payload::History { sequence_number, prefix: &prefix }, &[])
    }
}

/// What a generic NACK (RFC 4585, 6.2.1) asks for: SSRC and sequence number; nothing for other packets.
pub(crate) fn asked_for(part: RtcpPart<'_>) -> Vec<(u32, u16)> {
    let Some(ssrc) = part.word(2).filter(|_| part.packet_type == 205 && part.count == 1) else { return Vec::new() };
    let words = (3..).map_while(|index| part.word(index));
    let numbers = words.flat_map(|word| {
        let (first, mask) = ((word >> 16) as u16, word as u16);
        let following = (0..16).filter(move |bit| mask & 1 << bit != 0).map(move |bit| first.wrapping_add(bit + 1));
        std::iter::once(first).chain(following)
    });
    numbers.map(|number| (ssrc, number)).collect()
}

//! How often a publisher's encoder is asked for a key frame.
//!
//! Key frames are large, and many subscribers that lose the same packet ask at once. A first request goes out at once;
//! those that follow within the interval become one, at its end, because the key frame that is on its way may be older
//! than what they lost.

use std::time::Duration;

use sandbar_host::Instant;

use super::rtcp::Request;

/// The requests for one stream.
#[derive(Debug)]
pub(crate) struct KeyFrames {
    interval: Duration,
    sent: Option<Instant>,
    waiting: Option<Request>,
}

impl KeyFrames {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, sent: None, waiting: None }
    }

    /// A subscriber asks. Returns whether to pass it on now.
    pub(crate) fn ask(&mut self, now: Instant, request: Request) -> bool {
        if self.sent.is_some_and(|sent| now < sent + self.interval) {
            self.waiting = Some(request);
            return false;
        }
        self.sent = Some(now);
        self.waiting = None;
        true
    }

    /// When a request that waits goes out.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting?;
        self.sent.map(|sent| sent + self.interval)
    }

    /// The request that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Request> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return None;
        }
        self.sent = Some(now);
        self.waiting.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_requests_becomes_one_now_and_one_at_the_end_of_the_interval() {
        let mut requests = KeyFrames::new(Duration::from_millis(500));
        assert!(requests.ask(Instant::from_millis(0), Request::Pli));
        assert_eq!(requests.poll_timeout(), None);
        for at in 1..10 {
            assert!(!requests.ask(Instant::from_millis(at), Request::Fir));
        }
        assert_eq!(requests.poll_timeout(), Some(Instant::from_millis(500)));
        assert_eq!(requests.handle_timeout(Instant::from_millis(499)), None);
        assert_eq!(requests.handle_timeout(Instant::from_millis(500)), Some(Request::Fir));
        assert_eq!(requests.poll_timeout(), None);
        assert!(!requests.ask(Instant::from_millis(900), Request::Pli));
        assert!(requests.ask(Instant::from_millis(1000), Request::Pli));
        assert_eq!(requests.poll_timeout(), None);
    }

    #[test]
    fn without_an_interval_each_request_goes_out() {
        let mut requests = KeyFrames::new(Duration::ZERO);
        assert!((0..5).all(|_| requests.ask(Instant::ZERO, Request::Pli)));
    }
}

//! What is compared: something that takes packets through chains of interceptors.

use crate::feedback::Feedback;
use crate::traffic::Burst;

/// An implementation with chains for all sessions of a load, each with a remote and a local stream bound.
pub(crate) trait Side {
    /// Makes the bursts' packets in the form that this side takes. Not timed: an application has them.
    fn load(&mut self, bursts: &[Burst]);

    /// Takes what was loaded through the chains, burst by burst, does what is due, and takes all output. Timed.
    fn drive(&mut self);

    /// Does what is due up to `at` nanoseconds, each at its time. Not timed.
    fn advance(&mut self, at: u64);

    /// Gives a session's chain RTCP from its peer. Not timed.
    fn read_rtcp(&mut self, at: u64, session: u32, compound: &[u8]);

    /// What has come out since the last time. Not timed.
    fn take(&mut self) -> Taken;

    /// Whether media packets that come out are kept for [`take`](Self::take), not only counted.
    fn keep_media(&mut self, keep: bool);
}

/// What came out of a side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// RTP packets, to the application or to the wire.
    pub(crate) media: u64,
    /// Those packets as on the wire, where they are kept, with their session.
    pub(crate) kept: Vec<(u32, Vec<u8>)>,
    /// RTCP to the wire.
    pub(crate) feedback: Feedback,
    /// Errors, faults and whatever else should not happen.
    pub(crate) complaints: Vec<String>,
}

impl Taken {
    /// Adds what came out later.
    pub(crate) fn merge(&mut self, later: Self) {
        self.media += later.media;
        self.kept.extend(later.kept);
        self.feedback.merge(later.feedback);
        self.complaints.extend(later.complaints);
    }
}

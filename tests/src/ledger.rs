//! What a session over a link is held to. Every packet that came to it, or that a plugin of it added, is out, was dropped by
//! somebody, or is held; and what its application was given is what the other one sent.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _};

use bytes::Bytes;
use sandbar_host::{Kind, MemberReport, Packet, SessionReport};

use crate::media::{Judge, Source, Verdict, fields};
use crate::net::Tally;
use crate::peers::Peer;

/// The packets of one session, counted at its ends.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Packets from its application.
    pub(crate) written: u64,
    /// Datagrams on the wire, and those of them that are RTP.
    pub(crate) sent: u64,
    sent_rtp: u64,
    pub(crate) delivered: u64,
    /// What members have emitted and dropped that are no longer there.
    gone: (u64, u64),
    /// Of all that came out, with its time.
    pub(crate) digest: DefaultHasher,
}

impl Ledger {
    /// Takes what came out of the session since it was last asked.
    pub(crate) fn take(&mut self, peer: &Peer) {
        for delivered in &peer.delivered {
            (delivered.at, delivered.packet.to_bytes()).hash(&mut self.digest);
        }
        for sent in &peer.sent {
            (sent.at, &sent.bytes).hash(&mut self.digest);
        }
        self.delivered += peer.delivered.len() as u64;
        self.sent += peer.sent.len() as u64;
        self.sent_rtp += peer.sent(Kind::Rtp).count() as u64;
    }

    /// A member is about to be removed, and says nothing any more on its way.
    pub(crate) fn dismiss(&mut self, member: &MemberReport) {
        self.gone.0 += member.emitted;
        self.gone.1 += member.dropped;
    }

    /// Holds the session to its report. Its first member watches RTCP that is written, and nothing else: of that a datagram may
    /// have several.
    ///
    /// # Panics
    /// If a packet is missing, or one too many.
    pub(crate) fn balance(&self, report: &SessionReport, arrived: u64) {
        let counts = report.counts;
        let seen = (counts.read, counts.written, counts.delivered, counts.sent, counts.malformed);
        assert_eq!(seen, (arrived, self.written, self.delivered, self.sent, 0), "{counts:?}");
        for member in &report.members {
            let went = member.packets_out + member.dropped + member.held as u64;
            assert_eq!(member.packets_in + member.emitted, went, "{member:?}");
        }
        let sum = |of: fn(&MemberReport) -> u64| report.members.iter().map(of).sum::<u64>();
        let (emitted, dropped) =
            (sum(|member| member.emitted) + self.gone.0, sum(|member| member.dropped) + self.gone.1);
        let (rtcp, held) = (report.members[0].packets_in, sum(|member| member.held as u64));
        let came = counts.read + counts.written + emitted;
        let went = counts.delivered + self.sent_rtp + rtcp + dropped + held;
        assert_eq!(
            came, went,
            "{counts:?}, {emitted} emitted; {} RTP and {rtcp} RTCP sent, {dropped} dropped, {held} held: {:#?}",
            self.sent_rtp, report.members
        );
    }
}

/// What one application sends the other.
pub(crate) struct Way {
    pub(crate) source: Source,
    wire: Judge,
    heard: Judge,
    /// All that went onto the link.
    on_wire: HashSet<Bytes>,
    /// Packets that were heard and that the host or a decoder restored.
    pub(crate) repaired: u64,
}

impl Way {
    pub(crate) fn new(source: Source) -> Self {
        let (wire, heard) = (Judge::of(&source), Judge::of(&source));
        Self { source, wire, heard, on_wire: HashSet::new(), repaired: 0 }
    }

    /// Takes what the sending session put onto the link.
    pub(crate) fn take_sent(&mut self, sender: &Peer) {
        for sent in &sender.sent {
            self.wire.take(&sent.bytes);
            self.on_wire.insert(sent.bytes.clone());
        }
    }

    /// Takes what the receiving session gave to its application: as it was sent, or restored.
    pub(crate) fn take_heard(&mut self, receiver: &Peer) {
        for delivered in &receiver.delivered {
            let bytes = delivered.packet.to_bytes();
            if matches!(&delivered.packet, Packet::Rtp(packet) if packet.repaired()) {
                self.repaired += 1;
                let ssrc = fields(&bytes).map(|fields| fields.ssrc);
                assert_eq!(ssrc, Some(self.source.ssrc), "only what the application sent can be restored");
            } else {
                assert!(self.on_wire.contains(&bytes), "{:?} was never sent", delivered.packet);
            }
            self.heard.take(&bytes);
        }
    }

    /// Holds both ends to what was written, when nothing is on its way any more: it is on the wire once, in order and as it was;
    /// and the other application had nothing else, and nothing again but what came again.
    ///
    /// # Panics
    /// If it is not so.
    pub(crate) fn judge(&self, tally: Tally) {
        let made = self.source.made;
        assert_eq!(self.wire.verdict(made), Verdict::perfect(made), "on the wire, {:x}", self.source.ssrc);
        let heard = self.heard.verdict(made);
        assert!(self.heard.order().iter().all(|index| *index < made), "more was heard than sent");
        assert_eq!(heard.changed, 0, "{heard:?} of {:x}", self.source.ssrc);
        assert!(heard.duplicated <= tally.duplicated + self.repaired, "{heard:?}, {tally:?}, {}", self.repaired);
    }
}

/// Holds a link to what was put onto it and what came out of it.
///
/// # Panics
/// If a datagram is neither lost nor there.
pub(crate) fn weigh(tally: Tally, in_flight: usize, sent: u64, arrived: u64) {
    assert_eq!(tally.sent, sent, "all that a session sends is on its link");
    assert_eq!(tally.sent - tally.lost + tally.duplicated, arrived + in_flight as u64, "{tally:?}");
}

//! What a plugin answers when a stream or a session's RTCP is bound.

/// How much of each RTP packet the plugin is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The RTP header with CSRCs and extensions; media bytes never reach the plugin.
    Headers,
    /// The whole packet. Needs `read_media` among the plugin's wants.
    Packets,
}

/// What the plugin may do with a stream's packets: its privilege and its speed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Not on the path: the plugin is never called for the stream's packets.
    Pass,
    /// Sees a copy, later and in batches; can neither change, delay nor drop.
    Observe(View),
    /// Sees a copy of each header, once it matters: while the session's timer ([`Context::wake_at`](crate::Context::wake_at)) is set
    /// and a stream's packets come in order, copies wait for the next call that is for the same session, at the latest that timer's,
    /// or until there are many of them. Without a timer they come as to who observes; and so does what tells of a loss: a gap, and
    /// what is late, double or repaired.
    Follow,
    /// Never shown a packet: the host puts the header extension with this id, as negotiated for the stream, on each, with
    /// values that the plugin has supplied ahead ([`Context::supply_stamps`](crate::Context::supply_stamps)).
    Stamp(u8),
    /// Stands between the packet and where it is going; may change, drop, reorder, delay and add.
    Transform(View),
}

/// What the plugin may do with a session's RTCP in one direction. Always whole compounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpAccess {
    /// Not on the path.
    Pass,
    /// Sees a copy.
    Observe,
    /// May change, drop and add.
    Transform,
}

/// The answer to a bind of a stream.
///
/// | the plugin wants to | it answers |
/// | --- | --- |
/// | leave the stream alone | [`Binding::PASS`] |
/// | count, measure or miss packets, and act when its timer is due or one is missing | [`Binding::FOLLOW`] |
/// | look at sequence numbers, timestamps, header extensions of each packet soon | [`Binding::observe_headers`] |
/// | change them, or drop, delay and add packets | [`Binding::transform_headers`] |
/// | number or mark every packet | [`Binding::stamp`] |
/// | read media | [`Binding::observe_packets`] |
/// | change media | [`Binding::transform_packets`] |
/// | send earlier packets again | any of these with [`history`](Binding::with_history) |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// What the plugin sees and may do.
    pub access: Access,
    /// How many of the stream's latest packets the host keeps for the plugin; 0 for none. The host caps it (8192 unless
    /// the operator says otherwise).
    pub history: u32,
    /// Show the plugin, under this stream's id, also packets of SSRCs that no stream of the session has. Not with a stamp.
    pub unbound: bool,
}

impl Binding {
    /// Not on the path of this stream.
    pub const PASS: Binding = Binding { access: Access::Pass, history: 0, unbound: false };

    /// A copy of each header, once it matters.
    pub const FOLLOW: Binding = Binding { access: Access::Follow, ..Binding::PASS };

    /// A copy of each header, soon.
    pub const fn observe_headers() -> Self {
        Binding { access: Access::Observe(View::Headers), ..Binding::PASS }
    }

    /// A copy of each packet.
    pub const fn observe_packets() -> Self {
        Binding { access: Access::Observe(View::Packets), ..Binding::PASS }
    }

    /// A header extension on each packet, by the host.
    pub const fn stamp(extension: u8) -> Self {
        Binding { access: Access::Stamp(extension), ..Binding::PASS }
    }

    /// Each header, before its packet goes on.
    pub const fn transform_headers() -> Self {
        Binding { access: Access::Transform(View::Headers), ..Binding::PASS }
    }

    /// Each packet, before it goes on.
    pub const fn transform_packets() -> Self {
        Binding { access: Access::Transform(View::Packets), ..Binding::PASS }
    }

    /// The same, with the host keeping the last `packets` packets.
    pub const fn with_history(self, packets: u32) -> Self {
        Binding { history: packets, ..self }
    }

    /// The same, with packets of SSRCs that no stream has.
    pub const fn with_unbound(self) -> Self {
        Binding { unbound: true, ..self }
    }
}

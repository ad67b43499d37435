//! What a plugin needs of a stream or of RTCP: its answer to a bind.

use serde::Serialize;

use crate::bindings::types;

/// What a plugin is asked about. Everything else passes it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Binds {
    /// RTCP from the peer.
    pub rtcp_reader: bool,
    /// RTCP to the peer.
    pub rtcp_writer: bool,
    /// Streams that this side sends.
    pub local_streams: bool,
    /// Streams that the peer sends.
    pub remote_streams: bool,
}

impl Binds {
    /// The names of what it is asked about, as in the contract.
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            ("rtcp-reader", self.rtcp_reader),
            ("rtcp-writer", self.rtcp_writer),
            ("local-streams", self.local_streams),
            ("remote-streams", self.remote_streams),
        ];
        all.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).collect()
    }

    /// Whether it is asked about streams in this direction.
    pub(crate) fn streams(self, local: bool) -> bool {
        if local { self.local_streams } else { self.remote_streams }
    }
}

/// How much of an RTP packet a plugin is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum View {
    /// The header with CSRCs and extensions.
    Headers,
    /// All of it.
    Packets,
}

/// What a plugin may do with packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Access {
    /// Nothing: it is not on the path.
    #[default]
    Pass,
    /// See a copy, later.
    Observe(View),
    /// See a copy of each header, once it matters.
    Follow,
    /// Nothing, but the host puts this header extension on them, with values that the plugin supplies ahead.
    Stamp(u8),
    /// Change, drop, reorder, delay and add.
    Transform(View),
}

/// The answer to a bind of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) access: Access,
    pub(crate) history: u32,
    pub(crate) unbound: bool,
}

impl Access {
    pub(crate) fn sees_media(self) -> bool {
        matches!(self, Self::Observe(View::Packets) | Self::Transform(View::Packets))
    }
}

impl From<types::Binding> for Binding {
    fn from(said: types::Binding) -> Self {
        let view = |view| match view {
            types::View::Headers => View::Headers,
            types::View::Packets => View::Packets,
        };
        let access = match said.access {
            types::Access::Pass => Access::Pass,
            types::Access::Observe(shown) => Access::Observe(view(shown)),
            types::Access::Follow => Access::Follow,
            types::Access::Stamp(id) => Access::Stamp(id),
            types::Access::Transform(shown) => Access::Transform(view(shown)),
        };
        Self { access, history: said.history, unbound: said.unbound }
    }
}

impl From<types::RtcpAccess> for Access {
    /// RTCP has one view: all of it.
    fn from(said: types::RtcpAccess) -> Self {
        match said {
            types::RtcpAccess::Pass => Self::Pass,
            types::RtcpAccess::Observe => Self::Observe(View::Packets),
            types::RtcpAccess::Transform => Self::Transform(View::Packets),
        }
    }
}

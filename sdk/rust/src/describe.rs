//! What a plugin says about itself.

use crate::interceptor::Interceptor;

/// Stations of a chain, in order from the wire. The host warns when a chain's order contradicts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Remembers what was sent, for congestion control.
    SendHistory,
    /// Numbers what is sent, such as transport-wide sequence numbers.
    Numbering,
    /// Decides when packets are sent.
    Pacing,
    /// Answers the peer's requests for lost packets.
    Retransmission,
    /// Adds repair packets.
    RepairEncoding,
    /// Tells the peer when packets arrived, repair packets too.
    ArrivalFeedback,
    /// Restores lost packets from repair packets.
    RepairDecoding,
    /// Asks the peer for lost packets.
    LossDetection,
    /// RTCP sender and receiver reports.
    Reports,
    /// Requests to the peer's encoder, such as key frames.
    EncoderRequests,
    /// Puts packets in order for playout.
    Playout,
    /// Works anywhere.
    #[default]
    Anywhere,
}

/// What a plugin wants to be granted. What it does not want it cannot do, whatever the operator grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants(u8);

impl Wants {
    /// Nothing.
    pub const NONE: Wants = Wants(0);
    /// [`Context::emit_rtp`](crate::Context::emit_rtp), and [`Outcome::Packets`](crate::Outcome::Packets) of RTP.
    pub const EMIT_RTP: Wants = Wants(1);
    /// [`Context::emit_rtcp`](crate::Context::emit_rtcp).
    pub const EMIT_RTCP: Wants = Wants(2);
    /// Bindings with [`View::Packets`](crate::View::Packets).
    pub const READ_MEDIA: Wants = Wants(4);
    /// [`Context::ntp`](crate::Context::ntp).
    pub const WALL_CLOCK: Wants = Wants(8);
    /// [`Context::random`](crate::Context::random).
    pub const RANDOMNESS: Wants = Wants(16);
    /// [`Context::write_sink`](crate::Context::write_sink).
    pub const SINK: Wants = Wants(32);
    /// Bindings with [`View::Packets`](crate::View::Packets) where the operator grants that. Where not, such a binding
    /// refuses the chain, and others do not.
    pub const MAY_READ_MEDIA: Wants = Wants(64);

    /// Both.
    pub const fn with(self, other: Wants) -> Wants {
        Wants(self.0 | other.0)
    }

    /// Whether all of `other` is wanted.
    pub const fn contains(self, other: Wants) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a plugin has to do with: it is asked about nothing else. Where it is not asked, everything passes it by as if it had
/// answered so, and of a stream it never hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binds(u8);

impl Binds {
    /// Nothing: only its session's timer and questions come to it.
    pub const NONE: Binds = Binds(0);
    /// [`Interceptor::bind_rtcp_reader`].
    pub const RTCP_READER: Binds = Binds(1);
    /// [`Interceptor::bind_rtcp_writer`].
    pub const RTCP_WRITER: Binds = Binds(2);
    /// [`Interceptor::bind_local_stream`].
    pub const LOCAL_STREAMS: Binds = Binds(4);
    /// [`Interceptor::bind_remote_stream`].
    pub const REMOTE_STREAMS: Binds = Binds(8);
    /// Everything.
    pub const ALL: Binds = Binds(15);

    /// Both.
    pub const fn with(self, other: Binds) -> Binds {
        Binds(self.0 | other.0)
    }

    /// Whether it is asked about all of `other`.
    pub const fn contains(self, other: Binds) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One key of a plugin's JSON configuration, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigOption {
    /// The key.
    pub key: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Such as `ms`, `packets`, `bits/s`; empty where there is none.
    pub unit: &'static str,
    /// JSON.
    pub default: &'static str,
    /// Such as `10..=10000` or `true, false`.
    pub allowed: &'static str,
    /// Where the default comes from: a specification's section or an implementation.
    pub source: &'static str,
}

/// What a plugin says about itself, without being given a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The package's name without `sandbar-plugin-`.
    pub name: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// The package's description: one line.
    pub summary: &'static str,
    /// Where in a chain it belongs.
    pub place: Place,
    /// What it wants to be granted.
    pub wants: Wants,
    /// What it is asked about.
    pub binds: Binds,
    /// Its configuration.
    pub options: &'static [ConfigOption],
}

/// An interceptor that has a description, and so can be a component; [`export!`](crate::export) implements it.
pub trait Plugin: Interceptor {
    /// What the plugin says about itself.
    const DESCRIPTION: Description;
}

/// A package's name without the prefix of plugins' packages.
#[doc(hidden)]
pub const fn plugin_name(package: &'static str) -> &'static str {
    const PREFIX: &[u8] = b"sandbar-plugin-";
    let bytes = package.as_bytes();
    let mut at = 0;
    while at < PREFIX.len() {
        if at >= bytes.len() || bytes[at] != PREFIX[at] {
            return package;
        }
        at += 1;
    }
    package.split_at(PREFIX.len()).1
}

/// Makes a plugin of a type that implements [`Interceptor`](crate::Interceptor): in a wasm build a component of the world
/// `sandbar:interceptor/batched-interceptor`, natively only its description. Name, version and summary are the package's;
/// a release may stamp another version by setting `SANDBAR_PLUGIN_VERSION` for the build. Everything but the type may be
/// left out.
///
/// `binds` lists which of the four bind methods the plugin implements: no other is called, in a host as in a
/// [harness](crate::testing::Harness), and a session is set up sooner. Without it all are called.
///
/// ```
/// use sandbar_sdk::{Binds, ConfigOption, Context, Interceptor, Plugin, Refusal, RtcpAccess};
///
/// struct Meter;
///
/// impl Interceptor for Meter {
///     fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
///         Ok(Meter)
///     }
///
///     fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
///         Ok(RtcpAccess::Observe)
///     }
/// }
///
/// sandbar_sdk::export!(Meter, place = Reports, wants = [emit_rtcp], binds = [rtcp_reader], options = [ConfigOption {
///     key: "interval_ms",
///     summary: "Time between reports.",
///     unit: "ms",
///     default: "1000",
///     allowed: "10..=60000",
///     source: "RFC 3550, 6.2",
/// }]);
/// # fn main() {
/// assert_eq!(Meter::DESCRIPTION.name, env!("CARGO_PKG_NAME"));
/// assert_eq!(Meter::DESCRIPTION.binds, Binds::RTCP_READER);
/// # }
/// ```
#[macro_export]
macro_rules! export {
    (
        $type:ty $(, place = $place:ident)? $(, wants = [$($want:ident),* $(,)?])? $(, binds = [$($bind:ident),* $(,)?])?
        $(, options = $options:expr)? $(,)?
    ) => {
        impl $crate::Plugin for $type {
            const DESCRIPTION: $crate::Description = $crate::Description {
                name: $crate::__private::plugin_name(env!("CARGO_PKG_NAME")),
                version: match option_env!("SANDBAR_PLUGIN_VERSION") {
                    Some(version) => version,
                    None => env!("CARGO_PKG_VERSION"),
                },
                summary: env!("CARGO_PKG_DESCRIPTION"),
                place: $crate::__first!($($crate::Place::$place,)? $crate::Place::Anywhere),
                wants: $crate::Wants::NONE $($(.with($crate::__private::wants::$want))*)?,
                binds: $crate::__first!(
                    $($crate::Binds::NONE $(.with($crate::__private::binds::$bind))*,)? $crate::Binds::ALL
                ),
                options: $crate::__first!($(&$options,)? &[]),
            };
        }

        $crate::__export_component!($type);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __first {
    ($first:expr $(, $rest:expr)?) => {
        $first
    };
}

/// The names under which `export!` knows what can be wanted.
#[doc(hidden)]
#[expect(non_upper_case_globals, reason = "they are written as in the contract")]
pub mod wants {
    use super::Wants;

    pub const emit_rtp: Wants = Wants::EMIT_RTP;
    pub const emit_rtcp: Wants = Wants::EMIT_RTCP;
    pub const read_media: Wants = Wants::READ_MEDIA;
    pub const wall_clock: Wants = Wants::WALL_CLOCK;
    pub const randomness: Wants = Wants::RANDOMNESS;
    pub const sink: Wants = Wants::SINK;
    pub const may_read_media: Wants = Wants::MAY_READ_MEDIA;
}

/// The names under which `export!` knows what a plugin can be asked about.
#[doc(hidden)]
#[expect(non_upper_case_globals, reason = "they are written as in the contract")]
pub mod binds {
    use super::Binds;

    pub const rtcp_reader: Binds = Binds::RTCP_READER;
    pub const rtcp_writer: Binds = Binds::RTCP_WRITER;
    pub const local_streams: Binds = Binds::LOCAL_STREAMS;
    pub const remote_streams: Binds = Binds::REMOTE_STREAMS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_named_after_its_package() {
        assert_eq!(plugin_name("sandbar-plugin-nack-generator"), "nack-generator");
        assert_eq!(plugin_name("meter"), "meter");
        assert_eq!(plugin_name("sandbar-plugi"), "sandbar-plugi");
    }

    #[test]
    fn wants_add_up() {
        let wants = Wants::NONE.with(wants::emit_rtp).with(wants::randomness);
        assert!(wants.contains(Wants::EMIT_RTP) && !wants.contains(Wants::EMIT_RTCP));
    }
}

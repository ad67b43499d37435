//! The trait that a plugin implements.

use crate::binding::{Binding, RtcpAccess};
use crate::context::Context;
use crate::error::Refusal;
use crate::packet::{Outcome, RtcpPacket, RtpPacket};
use crate::stream::{StreamId, StreamInfo};

/// A plugin's code and state for one session, however many sessions its instance serves. Every method but
/// [`create`](Self::create) has a default that does nothing and lets everything pass.
///
/// | to | implement |
/// | --- | --- |
/// | read the operator's configuration | [`create`](Self::create), with [`config::parse`](crate::config::parse) |
/// | see or change what the peer sends | [`bind_remote_stream`](Self::bind_remote_stream) and [`read_rtp`](Self::read_rtp) |
/// | see or change what is sent to the peer | [`bind_local_stream`](Self::bind_local_stream) and [`write_rtp`](Self::write_rtp) |
/// | see or change the peer's reports and feedback | [`bind_rtcp_reader`](Self::bind_rtcp_reader) and [`read_rtcp`](Self::read_rtcp) |
/// | see or change our own | [`bind_rtcp_writer`](Self::bind_rtcp_writer) and [`write_rtcp`](Self::write_rtcp) |
/// | set sessions up in fewer calls | `binds` of [`export!`](crate::export): which of these four binds there are |
/// | number or mark packets without being called for each | [`Binding::stamp`] and [`refill_stamps`](Self::refill_stamps) |
/// | send packets of its own | [`Context::emit_rtp`], [`Context::emit_rtcp`] |
/// | hold packets and let them go later | [`Context::hold`] and [`Context::release`] |
/// | do something later, or again and again | [`Context::wake_at`], [`wake_every`](Context::wake_every), [`Ticker`](crate::Ticker) and [`handle_timeout`](Self::handle_timeout) |
/// | answer the application | [`control`](Self::control) |
/// | tell the application | [`Context::publish`], [`Context::count`], [`Context::gauge`] |
/// | leave something behind for the operator | [`Context::write_sink`] |
/// | tell other plugins | [`RtpPacket::set_attribute`], [`Context::set_session_attribute`] |
/// | hand its state to its next version | [`save`](Self::save) and [`restore`](Self::restore) |
///
/// Order of calls: `create` (or `restore`), `bind_rtcp_reader`, `bind_rtcp_writer`, then any sequence of stream binds,
/// packets, timeouts, controls and unbinds, then `close`. Calls never overlap. Binds that [`export!`](crate::export) does not list
/// where it lists [`Binds`](crate::Binds) are left out, and with them all that follows from them.
#[expect(unused_variables, reason = "the names tell implementers what they are given")]
pub trait Interceptor: Sized + 'static {
    /// Makes the session's interceptor. `config` is the operator's JSON for this plugin, `{}` when there is none.
    ///
    /// # Errors
    /// A refusal refuses the chain, or the change to it, and what ran before runs on.
    fn create(cx: &mut Context, config: &str) -> Result<Self, Refusal>;

    /// The same, continuing from what [`save`](Self::save) of another version of this plugin gave. Streams get new ids;
    /// state that belongs to one is best kept by SSRC.
    ///
    /// # Errors
    /// A refusal makes the host call [`create`](Self::create) instead.
    fn restore(cx: &mut Context, config: &str, state: &[u8]) -> Result<Self, Refusal> {
        Err(Refusal::unsupported("this plugin does not continue from saved state"))
    }

    /// State for a successor; `None` if there is nothing to hand over. Called once, before a swap, between two packets.
    /// The host caps its size (1 MiB unless the operator says otherwise).
    fn save(&mut self, cx: &mut Context) -> Option<Vec<u8>> {
        None
    }

    /// Once, before any stream: what the plugin needs of RTCP from the peer.
    ///
    /// # Errors
    /// A refusal refuses the chain.
    fn bind_rtcp_reader(&mut self, cx: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Pass)
    }

    /// Once, before any stream: what the plugin needs of RTCP to the peer.
    ///
    /// # Errors
    /// A refusal refuses the chain.
    fn bind_rtcp_writer(&mut self, cx: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Pass)
    }

    /// Once per stream that this side sends: what the plugin needs of it.
    ///
    /// # Errors
    /// A refusal refuses the stream.
    fn bind_local_stream(&mut self, cx: &mut Context, stream: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(Binding::PASS)
    }

    /// Once per stream that the peer sends: what the plugin needs of it.
    ///
    /// # Errors
    /// A refusal refuses the stream.
    fn bind_remote_stream(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        info: &StreamInfo,
    ) -> Result<Binding, Refusal> {
        Ok(Binding::PASS)
    }

    /// The stream ends, and its timer and history with it. What is emitted of it here, such as packets that were held,
    /// still goes out.
    fn unbind_local_stream(&mut self, cx: &mut Context, stream: StreamId) {}

    /// As [`unbind_local_stream`](Self::unbind_local_stream).
    fn unbind_remote_stream(&mut self, cx: &mut Context, stream: StreamId) {}

    /// Per packet from the peer, of streams bound with `observe` or `transform`.
    #[inline]
    fn read_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        Outcome::Forward
    }

    /// Per packet to the peer, of streams bound with `observe` or `transform`.
    #[inline]
    fn write_rtp(&mut self, cx: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        Outcome::Forward
    }

    /// Per compound from the peer, when bound.
    #[inline]
    fn read_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        Outcome::Forward
    }

    /// Per compound to the peer, when bound.
    #[inline]
    fn write_rtcp(&mut self, cx: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        Outcome::Forward
    }

    /// The session's timer is due, or with a stream, that stream's. Unless it is a ticker, it is no longer set.
    #[inline]
    fn handle_timeout(&mut self, cx: &mut Context, stream: Option<StreamId>) {}

    /// Few values are left for the streams bound with [`Binding::stamp`]: the host would like `wanted` more, at the latest before
    /// the first packet that would go without. Give them with [`Context::supply_stamps`].
    #[inline]
    fn refill_stamps(&mut self, cx: &mut Context, wanted: usize) {}

    /// Packets of this stream are about to come, after those of others. Where an instance serves thousands of sessions,
    /// reading here what [`read_rtp`](Self::read_rtp) or [`write_rtp`](Self::write_rtp) will need first, and handing it to
    /// [`black_box`](std::hint::black_box), has the processor fetch it for many packets at once. Must change nothing, and
    /// need not do anything.
    #[inline]
    fn prefetch(&self, stream: StreamId) {}

    /// A question or an order from the application or the operator; the plugin defines the language, JSON by custom.
    ///
    /// # Errors
    /// What the asker is told instead of an answer.
    fn control(&mut self, cx: &mut Context, request: &str) -> Result<String, Refusal> {
        Err(Refusal::unsupported("this plugin answers no control requests"))
    }

    /// The session ends. What is emitted here still goes out.
    fn close(&mut self, cx: &mut Context) {}
}

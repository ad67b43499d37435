//! A plugin as a component: the exports of the world `batched-interceptor`, made of an [`Interceptor`].

use std::marker::PhantomData;

use crate::binding::{Access, Binding, RtcpAccess, View};
use crate::bindings::exports::sandbar::interceptor::{batch, description, member};
use crate::bindings::sandbar::interceptor::types;
use crate::describe::{Binds, Description, Place, Plugin, Wants};
use crate::error::Refusal;
use crate::host::lift_attribute;
use crate::instance::{Direction, Instance};
use crate::packet::{Facts, Outcome};
use crate::stream::{RtcpFeedback, RtpHeaderExtension, SessionId, SessionInfo, StreamId, StreamInfo};
use crate::time::Instant;

/// All sessions of the component's one instance, for [`export!`](crate::export) to keep in a static.
#[doc(hidden)]
pub struct Sessions<T>(Instance<T>);

impl<T: Plugin> Sessions<T> {
    #[doc(hidden)]
    #[expect(clippy::new_without_default, reason = "const")]
    pub const fn new() -> Self {
        Sessions(Instance::new())
    }
}

/// What [`export!`](crate::export) implements: where the instance is.
#[doc(hidden)]
pub trait Component: 'static {
    type Plugin: Plugin;

    /// Calls of the host never overlap, so this is never entered twice.
    fn with<R>(call: impl FnOnce(&mut Sessions<Self::Plugin>) -> R) -> R;
}

fn with<C: Component, R>(call: impl FnOnce(&mut Instance<C::Plugin>) -> R) -> R {
    C::with(|sessions| call(&mut sessions.0))
}

impl<C: Component> batch::Guest for C {
    fn process(mut frames: Vec<u8>) {
        with::<C, _>(|instance| {
            if const { C::Plugin::DESCRIPTION.wants.contains(Wants::EMIT_RTP) } {
                instance.process::<true>(&mut frames);
            } else {
                instance.process::<false>(&mut frames);
            }
        });
    }
}

impl<C: Component> description::Guest for C {
    fn describe() -> description::Description {
        let Description { name, version, summary, place, wants, binds, options } = C::Plugin::DESCRIPTION;
        description::Description {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            place: lower_place(place),
            wants: lower_wants(wants),
            binds: lower_binds(binds),
            options: options
                .iter()
                .map(|option| description::ConfigOption {
                    key: option.key.into(),
                    summary: option.summary.into(),
                    unit: option.unit.into(),
                    default_value: option.default.into(),
                    allowed: option.allowed.into(),
                    source: option.source.into(),
                })
                .collect(),
        }
    }
}

impl<C: Component> member::Guest for C {
    type Interceptor = Member<C>;
}

/// One session's resource: the name under which the instance finds its interceptor.
#[doc(hidden)]
pub struct Member<C: Component> {
    session: u32,
    component: PhantomData<C>,
}

impl<C: Component> Drop for Member<C> {
    fn drop(&mut self) {
        with::<C, _>(|instance| instance.remove(self.session));
    }
}

fn make<C: Component>(
    session: types::SessionInfo,
    config: &str,
    state: Option<&[u8]>,
) -> Result<member::Interceptor, types::Refusal> {
    let id = session.id;
    let info =
        SessionInfo { id: SessionId::new(id), mtu: session.mtu, cname: session.cname, rtcp_ssrc: session.rtcp_ssrc };
    with::<C, _>(|instance| instance.create(info, config, state)).map_err(lower_refusal)?;
    Ok(member::Interceptor::new(Member::<C> { session: id, component: PhantomData }))
}

impl<C: Component> Member<C> {
    fn bind_rtcp(&self, direction: Direction) -> Result<types::RtcpAccess, types::Refusal> {
        match with::<C, _>(|instance| instance.bind_rtcp(self.session, direction)) {
            Ok(RtcpAccess::Pass) => Ok(types::RtcpAccess::Pass),
            Ok(RtcpAccess::Observe) => Ok(types::RtcpAccess::Observe),
            Ok(RtcpAccess::Transform) => Ok(types::RtcpAccess::Transform),
            Err(refusal) => Err(lower_refusal(refusal)),
        }
    }

    fn bind_stream(
        &self,
        direction: Direction,
        stream: u32,
        info: types::StreamInfo,
    ) -> Result<types::Binding, types::Refusal> {
        let info = lift_info(info);
        let answer =
            with::<C, _>(|instance| instance.bind_stream(self.session, direction, StreamId::new(stream), &info));
        answer.map(lower_binding).map_err(lower_refusal)
    }

    fn unbind_stream(&self, direction: Direction, stream: u32) {
        with::<C, _>(|instance| instance.unbind_stream(self.session, direction, StreamId::new(stream)));
    }

    fn rtp(&self, direction: Direction, mut packet: member::RtpPacket) -> member::Outcome {
        let facts = Facts {
            packet: packet.packet,
            time: Instant::from_nanos(packet.time),
            size: packet.size as u16,
            padding: packet.padding,
            repaired: packet.repaired,
            attributes: true,
        };
        let stream = StreamId::new(packet.stream);
        lower_outcome(with::<C, _>(|instance| instance.rtp(self.session, direction, stream, facts, &mut packet.bytes)))
    }

    fn rtcp(&self, direction: Direction, mut packet: member::RtcpPacket) -> member::Outcome {
        let facts = Facts {
            packet: packet.packet,
            time: Instant::from_nanos(packet.time),
            size: packet.bytes.len() as u16,
            padding: 0,
            repaired: false,
            attributes: true,
        };
        lower_outcome(with::<C, _>(|instance| instance.rtcp(self.session, direction, facts, &mut packet.bytes)))
    }
}

impl<C: Component> member::GuestInterceptor for Member<C> {
    fn create(session: types::SessionInfo, config: String) -> Result<member::Interceptor, types::Refusal> {
        make::<C>(session, &config, None)
    }

    fn restore(
        session: types::SessionInfo,
        config: String,
        state: Vec<u8>,
    ) -> Result<member::Interceptor, types::Refusal> {
        make::<C>(session, &config, Some(&state))
    }

    fn save(&self) -> Option<Vec<u8>> {
        with::<C, _>(|instance| instance.call(self.session, crate::Interceptor::save)).flatten()
    }

    fn bind_rtcp_reader(&self) -> Result<types::RtcpAccess, types::Refusal> {
        self.bind_rtcp(Direction::Read)
    }

    fn bind_rtcp_writer(&self) -> Result<types::RtcpAccess, types::Refusal> {
        self.bind_rtcp(Direction::Write)
    }

    fn bind_local_stream(&self, stream: u32, info: types::StreamInfo) -> Result<types::Binding, types::Refusal> {
        self.bind_stream(Direction::Write, stream, info)
    }

    fn bind_remote_stream(&self, stream: u32, info: types::StreamInfo) -> Result<types::Binding, types::Refusal> {
        self.bind_stream(Direction::Read, stream, info)
    }

    fn unbind_local_stream(&self, stream: u32) {
        self.unbind_stream(Direction::Write, stream);
    }

    fn unbind_remote_stream(&self, stream: u32) {
        self.unbind_stream(Direction::Read, stream);
    }

    fn read_rtp(&self, packet: member::RtpPacket) -> member::Outcome {
        self.rtp(Direction::Read, packet)
    }

    fn write_rtp(&self, packet: member::RtpPacket) -> member::Outcome {
        self.rtp(Direction::Write, packet)
    }

    fn read_rtcp(&self, packet: member::RtcpPacket) -> member::Outcome {
        self.rtcp(Direction::Read, packet)
    }

    fn write_rtcp(&self, packet: member::RtcpPacket) -> member::Outcome {
        self.rtcp(Direction::Write, packet)
    }

    fn handle_timeout(&self, _now: u64, stream: Option<u32>) {
        with::<C, _>(|instance| instance.timeout(self.session, stream.map(StreamId::new)));
    }

    fn refill_stamps(&self, wanted: u32) {
        with::<C, _>(|instance| {
            instance.call(self.session, |interceptor, cx| {
                crate::Interceptor::refill_stamps(interceptor, cx, wanted as usize)
            })
        });
    }

    fn control(&self, request: String) -> Result<String, types::Refusal> {
        let answer = with::<C, _>(|instance| {
            instance.call(self.session, |interceptor, cx| crate::Interceptor::control(interceptor, cx, &request))
        });
        answer.unwrap_or_else(|| Err(Refusal::other("no such session"))).map_err(lower_refusal)
    }

    fn close(&self) {
        with::<C, _>(|instance| instance.call(self.session, crate::Interceptor::close));
    }
}

fn lower_refusal(refusal: Refusal) -> types::Refusal {
    match refusal {
        Refusal::Config(message) => types::Refusal::Config(message),
        Refusal::Unsupported(message) => types::Refusal::Unsupported(message),
        Refusal::Other(message) => types::Refusal::Other(message),
    }
}

fn lower_binding(binding: Binding) -> types::Binding {
    let view = |view| match view {
        View::Headers => types::View::Headers,
        View::Packets => types::View::Packets,
    };
    let access = match binding.access {
        Access::Pass => types::Access::Pass,
        Access::Observe(seen) => types::Access::Observe(view(seen)),
        Access::Follow => types::Access::Follow,
        Access::Stamp(extension) => types::Access::Stamp(extension),
        Access::Transform(seen) => types::Access::Transform(view(seen)),
    };
    types::Binding { access, history: binding.history, unbound: binding.unbound }
}

fn lower_outcome(outcome: Outcome) -> member::Outcome {
    match outcome {
        Outcome::Forward => member::Outcome::Forward,
        Outcome::Replace(bytes) => member::Outcome::Replace(bytes),
        Outcome::Drop => member::Outcome::Drop,
        Outcome::Packets(packets) => member::Outcome::Packets(packets),
    }
}

fn lower_wants(wants: Wants) -> description::Wants {
    let pairs = [
        (Wants::EMIT_RTP, description::Wants::EMIT_RTP),
        (Wants::EMIT_RTCP, description::Wants::EMIT_RTCP),
        (Wants::READ_MEDIA, description::Wants::READ_MEDIA),
        (Wants::WALL_CLOCK, description::Wants::WALL_CLOCK),
        (Wants::RANDOMNESS, description::Wants::RANDOMNESS),
        (Wants::SINK, description::Wants::SINK),
        (Wants::MAY_READ_MEDIA, description::Wants::MAY_READ_MEDIA),
    ];
    let wanted = pairs.iter().filter(|(want, _)| wants.contains(*want));
    wanted.fold(description::Wants::empty(), |all, (_, flag)| all | *flag)
}

fn lower_binds(binds: Binds) -> description::Binds {
    let pairs = [
        (Binds::RTCP_READER, description::Binds::RTCP_READER),
        (Binds::RTCP_WRITER, description::Binds::RTCP_WRITER),
        (Binds::LOCAL_STREAMS, description::Binds::LOCAL_STREAMS),
        (Binds::REMOTE_STREAMS, description::Binds::REMOTE_STREAMS),
    ];
    let asked = pairs.iter().filter(|(bind, _)| binds.contains(*bind));
    asked.fold(description::Binds::empty(), |all, (_, flag)| all | *flag)
}

fn lower_place(place: Place) -> description::Place {
    match place {
        Place::SendHistory => description::Place::SendHistory,
        Place::Numbering => description::Place::Numbering,
        Place::Pacing => description::Place::Pacing,
        Place::Retransmission => description::Place::Retransmission,
        Place::RepairEncoding => description::Place::RepairEncoding,
        Place::RepairDecoding => description::Place::RepairDecoding,
        Place::LossDetection => description::Place::LossDetection,
        Place::ArrivalFeedback => description::Place::ArrivalFeedback,
        Place::Reports => description::Place::Reports,
        Place::EncoderRequests => description::Place::EncoderRequests,
        Place::Playout => description::Place::Playout,
        Place::Anywhere => description::Place::Anywhere,
    }
}

fn lift_info(info: types::StreamInfo) -> StreamInfo {
    StreamInfo {
        id: info.id,
        attributes: info.attributes.into_iter().map(lift_attribute).collect(),
        ssrc: info.ssrc,
        ssrc_retransmission: info.ssrc_retransmission,
        ssrc_forward_error_correction: info.ssrc_forward_error_correction,
        payload_type: info.payload_type,
        payload_type_retransmission: info.payload_type_retransmission,
        payload_type_forward_error_correction: info.payload_type_forward_error_correction,
        rtp_header_extensions: info
            .rtp_header_extensions
            .into_iter()
            .map(|extension| RtpHeaderExtension { uri: extension.uri, id: extension.id })
            .collect(),
        mime_type: info.mime_type,
        clock_rate: info.clock_rate,
        channels: info.channels,
        sdp_fmtp_line: info.sdp_fmtp_line,
        rtcp_feedback: info
            .rtcp_feedback
            .into_iter()
            .map(|line| RtcpFeedback { kind: line.kind, parameter: line.parameter })
            .collect(),
    }
}

/// The component's half of [`export!`](crate::export).
#[doc(hidden)]
#[macro_export]
macro_rules! __export_component {
    ($type:ty) => {
        const _: () = {
            struct Exported;

            ::std::thread_local! {
                static SESSIONS: ::std::cell::RefCell<$crate::__private::Sessions<$type>> =
                    const { ::std::cell::RefCell::new($crate::__private::Sessions::new()) };
            }

            impl $crate::__private::Component for Exported {
                type Plugin = $type;

                #[inline]
                fn with<R>(call: impl FnOnce(&mut $crate::__private::Sessions<$type>) -> R) -> R {
                    SESSIONS.with_borrow_mut(call)
                }
            }

    $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };
    };
}

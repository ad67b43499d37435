//! Ways for the fuzz targets (`tests/fuzz`) to parsers that have none from outside. No part of the API.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::allowance::Used;
use crate::binding::{Access, View};
use crate::chain::Limits;
use crate::guest::{Bound, Guest, Out, Seat, Sight};
use crate::hold::Held;
use crate::packet::{Packet, RtpPacket, header_len};
use crate::rtcp::{self, RtcpMode, Speaker};
use crate::session::{Direction, Owner, SessionId, StreamId};
use crate::sink::Outlet;
use crate::stamps::Stamps;
use crate::stream::StreamInfo;
use crate::survey::{self, SurveyError};
use crate::tenant::{Holdings, Quotas, Tenant};
use crate::time::WallClock;
use crate::timers::Timer;
use crate::values::{Changes, Values};

/// What a file says that it imports, and how many functions and modules it has.
pub fn survey(bytes: &[u8]) -> Result<(Vec<String>, u32, u32), SurveyError> {
    survey::survey(bytes).map(|found| (found.imports, found.functions, found.modules))
}

/// The datagrams of a tick that brought these compounds, each of which has been checked.
pub fn merge(tick: &[Bytes], mode: RtcpMode, mtu: u16, ssrc: u32, cname: &str) -> Vec<Bytes> {
    rtcp::merge(tick, &Speaker::new(mode, mtu, ssrc, cname), &mut BytesMut::new()).into_vec()
}

/// What a retransmission carries, and the same put back before that packet's payload.
pub fn unwrap_rtx(packet: &RtpPacket, ssrc: u32, payload_type: u8) -> Option<(RtpPacket, RtpPacket)> {
    let original = packet.unwrap_rtx(ssrc, payload_type)?;
    let mut again = original.clone();
    again.put_before_payload(&original.sequence_number().to_be_bytes());
    again.replace_header(packet.header());
    Some((original, again))
}

/// The header of a packet after the host has put an extension on it; `None` where it has no room for that.
pub fn stamp(header: &[u8], extension: u8, value: &[u8]) -> Option<Vec<u8>> {
    let mut packet = RtpPacket::assemble(header, Bytes::new());
    packet.stamp(extension, value, u16::MAX).then(|| packet.header().to_vec())
}

/// Puts another header before the payload, as a plugin does that sees headers; nothing if it is none.
pub fn replace_header_only(packet: &mut RtpPacket, header: &[u8]) -> bool {
    let whole = header_len(header) == Ok(header.len());
    if whole {
        packet.replace_header_only(header);
    }
    whole
}

/// A guest with one stream that is in the middle of a batch.
pub struct Batch {
    guest: Guest,
    stream: u32,
}

impl Batch {
    /// The stream, and the session's MTU.
    pub fn new(info: StreamInfo, mtu: u16) -> Option<Self> {
        let holdings = || Holdings::new(Tenant::new("fuzzing", Quotas::default()));
        let mut guest = Guest::new(Limits::default(), WallClock::default(), holdings());
        let seat = guest.seats.insert(Seat {
            owner: Owner { session: SessionId::default(), member: 0 },
            mtu,
            streams: Default::default(),
            timer: Timer::default(),
            resource: None,
            metrics: Vec::new(),
            oversize: 0,
            sink: Outlet::new(None),
            values: Values::default(),
            changes: Changes::default(),
            used: Used::default(),
            held: Held::default(),
            stamps: Stamps::default(),
            holdings: holdings(),
            histories: 0,
            inheritance: None,
        })?;
        let stream = guest.streams.insert(Bound {
            stream: StreamId::default(),
            seat,
            local: false,
            ssrc: info.ssrc,
            mtu,
            info: Arc::new(info),
            access: Access::Transform(View::Headers),
            history: None,
            reserved: 0,
            timer: Timer::default(),
        })?;
        guest.call.processing = true;
        Some(Self { guest, stream })
    }

    /// Shows a packet of the stream, whole or its header only; one that `waits` may be handed on.
    pub fn show(&mut self, packet: &Packet, whole: bool, waits: bool) {
        let view = if whole { View::Packets } else { View::Headers };
        let slot = waits.then_some(0);
        self.guest.batch.push(&Sight::new(Direction::Read, packet), self.stream, view, slot);
    }

    /// The frames as the guest is given them.
    pub fn frames(&self) -> &[u8] {
        self.guest.batch.frames.as_bytes()
    }

    /// What is handed on by these frames: the packets' numbers, and the bytes in place of those shown, where there are any.
    pub fn hand_on(&mut self, frames: &[u8]) -> Result<Vec<(u32, Vec<u8>)>, String> {
        self.guest.hand_on(frames, 0).map_err(|refused| refused.to_string())?;
        let handed = self.guest.call.effects.out.drain(..).filter_map(|out| match out {
            Out::Handed { token, start, end } => {
                Some((token, frames.get(start as usize..end as usize).unwrap_or_default().to_vec()))
            }
            _ => None,
        });
        Ok(handed.collect())
    }
}

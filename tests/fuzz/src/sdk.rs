//! What the SDK reads and writes for plugins, beside the crates `rtp` and `rtcp`.

use bytes::Bytes;
use rtc_shared::marshal::Unmarshal as _;
use sandbar_host::fuzzing;
use sandbar_sdk::rtcp::receiver_report::ReceiverReport;
use sandbar_sdk::rtcp::sender_report::SenderReport;
use sandbar_sdk::testing::Harness;
use sandbar_sdk::{
    Binding, Context, Header, HeaderBuf, Interceptor, Outcome, Refusal, RtcpAccess, RtcpPacket, RtcpParts, RtpPacket,
    StreamId, StreamInfo,
};

use crate::input::{Input, Seed};
use crate::valid;

/// A header, beside what the crate `rtp` reads.
pub(crate) fn header(data: &[u8]) {
    let Ok(header) = Header::parse(data) else { return };
    assert_eq!(header.as_bytes(), &data[..header.len()]);
    let extensions: Vec<_> = header.extensions().collect();
    for (id, value) in &extensions {
        let range = header.extension_range(*id).expect("it is there");
        assert_eq!(header.extension(*id), Some(&header.as_bytes()[range]));
        assert!(value.len() <= 255);
    }
    let Ok(other) = rtp::header::Header::unmarshal(&mut Bytes::copy_from_slice(data)) else { return };
    assert_eq!(
        (header.padding(), header.marker(), header.payload_type(), header.sequence_number()),
        (other.padding, other.marker, other.payload_type, other.sequence_number)
    );
    assert_eq!((header.timestamp(), header.ssrc()), (other.timestamp, other.ssrc));
    assert_eq!(header.csrcs().collect::<Vec<_>>(), other.csrc);
    // The other reads what ends in the middle of an element in ways of its own; where both read to the end, they agree.
    let whole: usize = extensions.iter().map(|(_, value)| value.len()).sum();
    let theirs: usize = other.extensions.iter().map(|extension| extension.payload.len()).sum();
    if [0xbede, 0x1000].contains(&other.extension_profile) && whole == theirs {
        let theirs: Vec<_> = other.extensions.iter().map(|extension| (extension.id, &extension.payload[..])).collect();
        assert_eq!(extensions, theirs);
    }
}

pub(crate) fn header_seeds() -> Vec<Vec<u8>> {
    vec![valid::rtp(7, 7, b"media"), valid::ornate(7), valid::rtp(7, 8, b"")]
}

/// A header, and what is done to it.
pub(crate) fn edit(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(mut header) = HeaderBuf::parse(input.chunk().to_vec()) else { return };
    for _ in 0..16 {
        let before = header.as_bytes().to_vec();
        let was = Header::parse(&before).expect("a header");
        let kept = |id: u8| -> Vec<(u8, Vec<u8>)> {
            was.extensions().filter(|(other, _)| *other != id).map(|(id, value)| (id, value.to_vec())).collect()
        };
        let (what, id) = (input.byte(), input.byte());
        match what % 8 {
            0 => {
                let number = input.word();
                header.edit().set_sequence_number(number);
                assert_eq!(header.view().sequence_number(), number);
            }
            1 => {
                let timestamp = input.long();
                header.edit().set_timestamp(timestamp);
                assert_eq!(header.view().timestamp(), timestamp);
            }
            2 => {
                header.edit().set_marker(id & 1 == 1);
                header.edit().set_payload_type(id);
                assert_eq!((header.view().marker(), header.view().payload_type()), (id & 1 == 1, id & 0x7f));
            }
            3 => {
                header.edit().remove_extension(id);
                let left: Vec<_> = header.view().extensions().map(|(id, value)| (id, value.to_vec())).collect();
                let twice = was.extensions().filter(|(other, _)| *other == id).count() > 1;
                assert!(twice || left == kept(id), "{left:?} is left of {before:02x?}");
                assert_eq!(header.as_bytes().len(), before.len());
            }
            _ => {
                let len = usize::from(input.byte());
                let value = input.take(if what & 8 == 0 { len % 20 } else { len });
                let twice = was.extensions().filter(|(other, _)| *other == id).count() > 1;
                let stamped = fuzzing::stamp(&before, id, value);
                match header.edit().set_extension(id, value) {
                    Ok(()) => {
                        assert_eq!(
                            stamped.as_deref(),
                            Some(header.as_bytes()),
                            "the host stamps {id} on {before:02x?}"
                        );
                        assert!(twice || header.view().extension(id) == Some(value), "{id} {value:02x?} {before:02x?}");
                        let others = header.view().extensions().filter(|(other, _)| *other != id);
                        let others: Vec<_> = others.map(|(id, value)| (id, value.to_vec())).collect();
                        assert!(twice || others == kept(id), "{others:?} are left of {before:02x?}");
                        assert!(header.as_bytes().len() <= before.len() + value.len() + 9, "it grows by what it needs");
                    }
                    Err(error) => {
                        assert_eq!(header.as_bytes(), before, "an error changes nothing");
                        assert_eq!(stamped, None, "the host stamps {id} on {before:02x?}, here: {error}");
                    }
                }
            }
        }
        let after = Header::parse(header.as_bytes()).expect("it stays a header");
        assert_eq!(after.len(), header.as_bytes().len());
        assert_eq!((after.ssrc(), after.csrcs().count()), (was.ssrc(), was.csrcs().count()));
        if input.is_empty() {
            break;
        }
    }
}

pub(crate) fn edit_seeds() -> Vec<Vec<u8>> {
    let edits = [
        &[4, 5, 2, 9, 9][..],
        &[4, 1, 3, 1, 2, 3],
        &[4, 6, 0],
        &[3, 5],
        &[12, 200, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18],
        &[0, 0, 1, 2],
        &[2, 0x83],
        &[1, 0, 1, 2, 3, 4],
    ];
    let headers = [valid::rtp(7, 7, b""), valid::ornate(7), vec![0x80; 12], [&[0x90][..], &[0xab; 15]].concat()];
    headers.iter().map(|header| Seed::default().chunk(header).bytes(edits.concat()).0).collect()
}

/// A compound, beside what the crate `rtcp` reads.
pub(crate) fn rtcp_parts(data: &[u8]) {
    let mut whole = 0;
    for part in RtcpParts::of(data) {
        assert_eq!(part.bytes, &data[whole..whole + part.bytes.len()], "parts are back to back");
        whole += part.bytes.len();
        let blocks: Vec<_> = part.report_blocks().collect();
        assert!(blocks.len() <= usize::from(part.count) && blocks.len() * 24 <= part.bytes.len());
        let reports = match part.packet_type {
            200 => SenderReport::unmarshal(&mut Bytes::copy_from_slice(part.bytes)).ok().map(|report| {
                let info = part.sender_info().expect("the other read it");
                let theirs = (report.ssrc, report.ntp_time, report.rtp_time, report.packet_count, report.octet_count);
                assert_eq!((info.ssrc, info.ntp, info.rtp, info.packets, info.octets), theirs);
                report.reports
            }),
            201 => ReceiverReport::unmarshal(&mut Bytes::copy_from_slice(part.bytes)).ok().map(|report| report.reports),
            _ => None,
        };
        for (block, report) in blocks.iter().zip(reports.iter().flatten()) {
            assert_eq!((block.ssrc, block.fraction_lost), (report.ssrc, report.fraction_lost));
            assert_eq!(block.cumulative_lost & 0x00ff_ffff, report.total_lost as i32 & 0x00ff_ffff);
            assert_eq!((block.highest, block.jitter), (report.last_sequence_number, report.jitter));
            assert_eq!((block.last_report, block.delay), (report.last_sender_report, report.delay));
        }
        if let Some(reports) = reports {
            assert_eq!(blocks.len(), reports.len(), "{:02x?}", part.bytes);
        }
    }
}

pub(crate) fn rtcp_parts_seeds() -> Vec<Vec<u8>> {
    valid::compounds()
}

/// Does to each packet what its payload says, in every way that the SDK has.
struct Editor;

impl Interceptor for Editor {
    fn create(_: &mut Context, _: &str) -> Result<Self, Refusal> {
        Ok(Editor)
    }
    fn bind_rtcp_reader(&mut self, _: &mut Context) -> Result<RtcpAccess, Refusal> {
        Ok(RtcpAccess::Transform)
    }
    fn bind_remote_stream(&mut self, _: &mut Context, _: StreamId, info: &StreamInfo) -> Result<Binding, Refusal> {
        Ok(match info.ssrc {
            1 => Binding::transform_headers(),
            2 => Binding::transform_packets(),
            _ => Binding::observe_packets(),
        })
    }
    fn read_rtp(&mut self, _: &mut Context, packet: &mut RtpPacket<'_>) -> Outcome {
        let payload = packet.payload().unwrap_or_default().to_vec();
        let mut input = Input::new(&payload);
        let (what, id) = (input.byte(), input.byte());
        let value = input.take(usize::from(what >> 4));
        match what % 8 {
            1 => packet.header_mut().set_sequence_number(7),
            2 | 3 => {
                let before = packet.bytes().to_vec();
                match packet.header_mut().set_extension(id, value) {
                    Ok(()) => assert_eq!(packet.payload().unwrap_or_default(), payload, "what follows stays"),
                    Err(_) => assert_eq!(packet.bytes(), before),
                }
            }
            4 => {
                packet.set_payload(value);
                let _ = packet.header_mut().set_extension(id, value);
                assert!(packet.payload().is_none_or(|after| after == value));
            }
            5 => packet.payload_mut().into_iter().for_each(|payload| payload.fill(id)),
            6 => return Outcome::Drop,
            7 => return Outcome::Replace(packet.bytes().to_vec()),
            _ => {}
        }
        let len = packet.header().len() + packet.payload().map_or(0, <[u8]>::len);
        assert_eq!(packet.bytes().len(), len, "header and payload are the packet");
        Outcome::Forward
    }
    fn read_rtcp(&mut self, _: &mut Context, packet: &mut RtcpPacket<'_>) -> Outcome {
        let last = packet.parts().last().map(|part| part.bytes.to_vec());
        match last {
            Some(last) if packet.bytes().len() & 4 == 0 => Outcome::Packets(vec![last.clone(), last]),
            _ => Outcome::Forward,
        }
    }
}

sandbar_sdk::export!(Editor);

/// Frames of the batched lane, as they come to a plugin.
pub(crate) fn batch(data: &[u8]) {
    let mut harness = Harness::<Editor>::new("{}").expect("it takes anything");
    for ssrc in 1..=3 {
        let info = StreamInfo { ssrc, ..StreamInfo::default() };
        harness.bind_remote_stream(&info).expect("it takes anything");
    }
    // The harness ends the run where what the SDK hands on is not a frame, or not RTP, or handed on twice.
    let went_on = harness.frames(as_shown(data));
    assert!(went_on.len() * 24 <= data.len(), "no more comes out than went in");
}

/// The same frames, with only the header of what is bound to headers, as the host has it.
fn as_shown(mut data: &[u8]) -> Vec<u8> {
    let mut shown = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<24>() {
        let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let Some((bytes, rest)) = rest.split_at_checked(len) else { break };
        let headers = head[0] < 2 && head[4..8] == [1, 0, 0, 0];
        let kept = Header::parse(bytes).ok().filter(|_| headers).map_or(bytes, |header| header.as_bytes());
        shown.extend_from_slice(&head[..2]);
        shown.extend_from_slice(&(kept.len() as u16).to_le_bytes());
        shown.extend_from_slice(&head[4..]);
        shown.extend_from_slice(kept);
        data = rest;
    }
    shown.extend_from_slice(data);
    shown
}

pub(crate) fn batch_seeds() -> Vec<Vec<u8>> {
    let frame = |kind: u8, handle: u8, bytes: &[u8]| {
        let mut head = [0; 24];
        (head[0], head[2], head[4]) = (kind, bytes.len() as u8, handle);
        [&head[..], bytes].concat()
    };
    let edits: [&[u8]; 6] = [&[0], &[0x22, 5, 9, 9], &[0x33, 9, 1, 2, 3], &[0x24, 6, 1, 1], &[5, 7, 0, 0], &[7]];
    let packets = edits.iter().flat_map(|edit| [valid::rtp(2, 7, edit), [valid::ornate(2), edit.to_vec()].concat()]);
    let mut frames: Vec<_> = packets.flat_map(|packet| [1, 2, 3].map(|handle| frame(0, handle, &packet))).collect();
    frames.extend(valid::compounds().iter().filter(|compound| compound.len() < 256).map(|c| frame(2, 1, c)));
    frames.extend([frame(4, 1, &[]), frame(5, 2, &[]), frame(9, 1, b"later")]);
    let some = |n: usize| frames.iter().skip(n).step_by(5).flatten().copied().collect();
    vec![frames.concat(), some(0), some(1), some(2)]
}

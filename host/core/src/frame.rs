//! The frames of the batched lane, as `batch` in the contract lays them out.

/// Bytes of a frame's head.
pub(crate) const HEAD: usize = 24;

/// What a frame tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    ReadRtp = 0,
    WriteRtp = 1,
    ReadRtcp = 2,
    WriteRtcp = 3,
    SessionTimer = 4,
    StreamTimer = 5,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::ReadRtp, Self::WriteRtp, Self::ReadRtcp, Self::WriteRtcp, Self::SessionTimer, Self::StreamTimer]
            .get(usize::from(byte))
            .copied()
    }

    /// Whether the frame's handle is a stream rather than a session.
    pub(crate) fn names_stream(self) -> bool {
        matches!(self, Self::ReadRtp | Self::WriteRtp | Self::StreamTimer)
    }
}

/// Flag: the packet has attributes.
pub(crate) const HAS_ATTRIBUTES: u8 = 1;
/// Flag: the packet was lost and came back.
pub(crate) const REPAIRED: u8 = 2;

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: FrameKind,
    pub(crate) flags: u8,
    pub(crate) handle: u32,
    pub(crate) time: u64,
    pub(crate) size: u32,
    pub(crate) packet: u32,
}

/// Appends a frame. `included` are the header, the packet's parts, or the compound; together at most 65535 bytes.
#[inline]
pub(crate) fn push(frames: &mut Vec<u8>, head: Head, included: [&[u8]; 3]) {
    let mut bytes = [0; HEAD];
    bytes[0] = head.kind as u8;
    bytes[1] = head.flags;
    bytes[2..4].copy_from_slice(&(included.iter().map(|part| part.len()).sum::<usize>() as u16).to_le_bytes());
    bytes[4..8].copy_from_slice(&head.handle.to_le_bytes());
    bytes[8..16].copy_from_slice(&head.time.to_le_bytes());
    bytes[16..20].copy_from_slice(&head.size.to_le_bytes());
    bytes[20..24].copy_from_slice(&head.packet.to_le_bytes());
    frames.reserve(HEAD + included.iter().map(|part| part.len()).sum::<usize>());
    frames.extend_from_slice(&bytes);
    for part in included {
        frames.extend_from_slice(part);
    }
}

/// Takes apart frames that the host wrote itself.
pub(crate) fn iter(frames: &[u8]) -> impl Iterator<Item = (Head, &[u8])> {
    let mut rest = frames;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk::<HEAD>()?;
        let (included, after) = after.split_at_checked(usize::from(u16::from_le_bytes([head[2], head[3]])))?;
        rest = after;
        Some((
            Head {
                kind: FrameKind::from_byte(head[0])?,
                flags: head[1],
                handle: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
                time: u64::from_le_bytes([
                    head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
                ]),
                size: u32::from_le_bytes([head[16], head[17], head[18], head[19]]),
                packet: u32::from_le_bytes([head[20], head[21], head[22], head[23]]),
            },
            included,
        ))
    })
}

/// Why frames that a plugin handed on are a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {index} given to burst.next ends at byte {need} of {have}")]
pub(crate) struct Truncated {
    index: usize,
    need: usize,
    have: usize,
}

/// Takes apart frames that a plugin wrote: of the head, only `packet` and `included` count.
pub(crate) fn handed_on(frames: &[u8]) -> impl Iterator<Item = Result<(u32, &[u8]), Truncated>> {
    let mut at = 0;
    let mut index = 0;
    std::iter::from_fn(move || {
        let rest = &frames[at..];
        if rest.is_empty() {
            return None;
        }
        let included = rest.get(2..4).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
        let need = at + HEAD + included;
        let Some(frame) = frames.get(at..need) else {
            at = frames.len();
            return Some(Err(Truncated { index, need, have: frames.len() }));
        };
        at = need;
        index += 1;
        Some(Ok((u32::from_le_bytes([frame[20], frame[21], frame[22], frame[23]]), &frame[HEAD..])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let head = Head { kind: FrameKind::WriteRtcp, flags: REPAIRED, handle: 7, time: 1 << 40, size: 5, packet: 3 };
        let mut frames = Vec::new();
        push(&mut frames, head, [b"ab", b"c", b"de"]);
        push(&mut frames, Head { packet: 4, ..head }, [b"", b"", b""]);
        let read: Vec<_> = iter(&frames).collect();
        assert_eq!(read, [(head, &b"abcde"[..]), (Head { packet: 4, ..head }, &b""[..])]);
        let handed: Vec<_> = handed_on(&frames).map(Result::unwrap).collect();
        assert_eq!(handed, [(3, &b"abcde"[..]), (4, &b""[..])]);
    }

    #[test]
    fn truncated_frames_are_named() {
        let mut frames = Vec::new();
        let head = Head { kind: FrameKind::ReadRtp, flags: 0, handle: 1, time: 0, size: 3, packet: 0 };
        push(&mut frames, head, [b"abc", b"", b""]);
        for cut in 1..frames.len() {
            let last = handed_on(&frames[..cut]).last().unwrap();
            assert!(last.is_err(), "{cut} bytes of a frame were taken for one");
        }
    }
}

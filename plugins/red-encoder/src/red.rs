//! A RED payload (RFC 2198, 3).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |1|  block PT   |  timestamp offset         |   block length    |  for each frame that is repeated, oldest first
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0|  block PT   |                                                  for the packet's own frame, then all their bytes
//! +-+-+-+-+-+-+-+-+
//! ```

use crate::recent::Frame;

/// Bits for how much earlier a repeated frame is: 14.
pub(crate) const MAX_OFFSET: u32 = (1 << 14) - 1;
/// Bits for how long it is: 10.
pub(crate) const MAX_LENGTH: usize = (1 << 10) - 1;
/// Bytes before everything for the packet's own frame, and for each that is repeated.
pub(crate) const OWN_HEAD: usize = 1;
pub(crate) const HEAD: usize = 4;

/// Writes a payload of these frames, which come oldest first with their timestamp offsets, and the packet's own.
pub(crate) fn write<'a>(
    repeated: impl Iterator<Item = (u32, &'a Frame)> + Clone,
    payload_type: u8,
    media: &[u8],
    payload: &mut Vec<u8>,
) {
    payload.clear();
    for (offset, frame) in repeated.clone() {
        let word = 1 << 31
            | u32::from(frame.payload_type & 0x7F) << 24
            | (offset & MAX_OFFSET) << 10
            | frame.media.len() as u32 & MAX_LENGTH as u32;
        payload.extend_from_slice(&word.to_be_bytes());
    }
    payload.push(payload_type & 0x7F);
    for (_, frame) in repeated {
        payload.extend_from_slice(&frame.media);
    }
    payload.extend_from_slice(media);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload_type: u8, media: &[u8]) -> Frame {
        Frame { payload_type, media: media.to_vec(), ..Frame::default() }
    }

    #[test]
    fn rfc_2198_4_the_example_packet() {
        // "DVI4 (8KHz) with one block of 84 bytes as redundancy, LPC": PT 5 and PT 7, 20 ms of 8 kHz apart.
        let (redundant, primary) = (frame(7, &[0xAA; 14]), [0xBB; 84]);
        let mut payload = Vec::new();
        write([(160, &redundant)].into_iter(), 5, &primary, &mut payload);
        // 1, 7, 160 in 14 bits, 14 in 10 bits; 0, 5.
        assert_eq!(payload[..5], [0x87, 0x02, 0x80, 0x0E, 0x05]);
        assert_eq!(payload[5..], [vec![0xAA; 14], vec![0xBB; 84]].concat());
    }

    #[test]
    fn the_oldest_comes_first_and_every_field_is_used_to_its_last_bit() {
        let (older, newer) = (frame(127, &[1; MAX_LENGTH]), frame(111, &[2; 3]));
        let mut payload = vec![9; 9];
        write([(MAX_OFFSET, &older), (960, &newer)].into_iter(), 111, b"own", &mut payload);
        assert_eq!(payload[..9], [0xFF, 0xFF, 0xFF, 0xFF, 0xEF, 0x0F, 0x00, 0x03, 0x6F]);
        assert_eq!(payload[9..9 + MAX_LENGTH], [1; MAX_LENGTH]);
        assert_eq!(payload[9 + MAX_LENGTH..], *b"\x02\x02\x02own");
        write([].into_iter(), 111, b"own", &mut payload);
        assert_eq!(payload, b"\x6fown");
    }
}

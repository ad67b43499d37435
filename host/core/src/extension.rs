//! Putting a header extension into an RTP header (RFC 8285).

use smallvec::SmallVec;

/// The profile of a block in the one-byte form (RFC 8285, 4.2).
const ONE_BYTE: u16 = 0xbede;
/// The profile of a block in the two-byte form, without the four bits that are the application's (RFC 8285, 4.3).
const TWO_BYTE: u16 = 0x1000;

/// A header that is being put together. Nearly all fit where they are made.
pub(crate) type HeaderBytes = SmallVec<[u8; 64]>;

/// How a block names and measures its elements.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

impl Form {
    fn of(profile: u16) -> Option<Self> {
        match profile {
            ONE_BYTE => Some(Self::OneByte),
            _ if profile & 0xfff0 == TWO_BYTE => Some(Self::TwoByte),
            _ => None,
        }
    }

    /// What goes before a value, and how many bytes of that count; `None` where the form cannot hold it.
    fn head(self, id: u8, len: usize) -> Option<([u8; 2], usize)> {
        match self {
            Self::OneByte if (1..=14).contains(&id) && (1..=16).contains(&len) => {
                Some(([id << 4 | (len - 1) as u8, 0], 1))
            }
            Self::TwoByte if id > 0 => Some(([id, u8::try_from(len).ok()?], 2)),
            _ => None,
        }
    }

    /// The element at the beginning of `block`: its id, and where its value is. `None` ends a block: something that
    /// cannot be read, or in the one-byte form the id 15.
    fn element(self, block: &[u8]) -> Option<(u8, std::ops::Range<usize>)> {
        let (id, value) = match (self, block) {
            (Self::OneByte, [head, ..]) if (1..=14).contains(&(head >> 4)) => {
                (head >> 4, 1..2 + usize::from(head & 0x0f))
            }
            (Self::TwoByte, [id, len, ..]) => (*id, 2..2 + usize::from(*len)),
            _ => return None,
        };
        (value.end <= block.len()).then_some((id, value))
    }
}

/// The header with `value` as the extension `id`: in the place of one of the same length, and else behind the others, in the
/// form that the block has, or without a block in the smaller one that can hold it. `None` where there is no room for it in
/// that form, the block is of another kind, or cannot be read to its end. `header` is a whole and valid one.
pub(crate) fn set(header: &[u8], id: u8, value: &[u8]) -> Option<HeaderBytes> {
    let at = 12 + 4 * usize::from(header[0] & 0x0f);
    if header[0] & 0x10 == 0 {
        return first(header, id, value);
    }
    let (front, block) = header.split_at_checked(at + 4)?;
    let form = Form::of(u16::from_be_bytes([front[at], front[at + 1]]))?;
    let (head, head_len) = form.head(id, value.len())?;
    let mut new = HeaderBytes::from_slice(header);
    // Behind the last element that stays; an old one of another length is blanked, and padding from then on.
    let (mut from, mut end, mut found) = (0, 0, false);
    while let Some(padding) = block[from..].iter().position(|byte| *byte != 0) {
        let start = from + padding;
        let (known, within) = form.element(&block[start..])?;
        let range = start + within.start..start + within.end;
        from = range.end;
        if known != id || found {
            end = range.end;
            continue;
        }
        found = true;
        if range.len() == value.len() {
            new[at + 4..][range].copy_from_slice(value);
            return Some(new);
        }
        new[at + 4..][start..range.end].fill(0);
    }
    let need = (end + head_len + value.len()).next_multiple_of(4).max(block.len());
    let words = u16::try_from(need / 4).ok()?;
    new.resize(at + 4 + need, 0);
    new[at + 2..at + 4].copy_from_slice(&words.to_be_bytes());
    let element = &mut new[at + 4 + end..];
    element[..head_len].copy_from_slice(&head[..head_len]);
    element[head_len..][..value.len()].copy_from_slice(value);
    Some(new)
}

/// What a header without extensions gets behind it for a short value: a block of one word, in the one-byte form. What most
/// stamps are, so it is put together in a register.
#[inline]
pub(crate) fn short_block(id: u8, value: &[u8]) -> Option<[u8; 8]> {
    let ([head, _], 1) = Form::OneByte.head(id, value.len())? else { return None };
    let [p0, p1] = ONE_BYTE.to_be_bytes();
    let (first, second, third) = match *value {
        [first] => (first, 0, 0),
        [first, second] => (first, second, 0),
        [first, second, third] => (first, second, third),
        _ => return None,
    };
    Some([p0, p1, 0, 1, head, first, second, third])
}

/// The header's first extension: with it comes the block.
fn first(header: &[u8], id: u8, value: &[u8]) -> Option<HeaderBytes> {
    let (profile, (head, head_len)) = match Form::OneByte.head(id, value.len()) {
        Some(head) => (ONE_BYTE, head),
        None => (TWO_BYTE, Form::TwoByte.head(id, value.len())?),
    };
    let words = (head_len + value.len()).div_ceil(4);
    let mut new = HeaderBytes::from_slice(header);
    new[0] |= 0x10;
    new.extend_from_slice(&profile.to_be_bytes());
    new.extend_from_slice(&(words as u16).to_be_bytes());
    new.extend_from_slice(&head[..head_len]);
    new.extend_from_slice(value);
    new.resize(header.len() + 4 + 4 * words, 0);
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with this behind the fixed fields and one CSRC.
    fn header(block: &[u8]) -> Vec<u8> {
        let mut header = vec![0x81 | (u8::from(!block.is_empty()) << 4), 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
        header.extend_from_slice(block);
        header
    }

    fn block(old: &[u8], id: u8, value: &[u8]) -> Option<Vec<u8>> {
        let new = set(&header(old), id, value)?;
        assert_eq!(crate::packet::header_len(&new), Ok(new.len()));
        assert_eq!((new[0], &new[1..16]), (0x91, &header(old)[1..16]));
        Some(new[16..].to_vec())
    }

    #[test]
    fn rfc_8285_4_2_the_first_extension_brings_the_block_in_the_smaller_form() {
        assert_eq!(block(&[], 3, &[7, 8]).unwrap(), [0xbe, 0xde, 0, 1, 0x31, 7, 8, 0]);
        assert_eq!(block(&[], 14, &[9; 16]).unwrap()[..6], [0xbe, 0xde, 0, 5, 0xef, 9]);
        assert_eq!(block(&[], 15, &[7, 8]).unwrap(), [0x10, 0, 0, 1, 15, 2, 7, 8]);
        assert_eq!(block(&[], 1, &[9; 17]).unwrap()[..6], [0x10, 0, 0, 5, 1, 17]);
        assert_eq!(block(&[], 0, &[1]), None);
        for value in [&[7][..], &[7, 8], &[7, 8, 9], &[7, 8, 9, 10]] {
            let short = short_block(3, value);
            assert_eq!(short.is_some(), value.len() < 4);
            assert!(short.is_none_or(|short| short == block(&[], 3, value).unwrap()[..]));
        }
        assert_eq!((short_block(15, &[7]), short_block(0, &[7]), short_block(3, &[])), (None, None, None));
        assert_eq!(block(&[], 1, &[0; 256]), None);
    }

    #[test]
    fn one_that_is_there_is_replaced_in_place_if_it_has_the_length_and_moves_behind_the_others_if_not() {
        let two = [0xbe, 0xde, 0, 2, 0x11, 1, 2, 0, 0x20, 9, 0, 0];
        assert_eq!(block(&two, 1, &[7, 8]).unwrap(), [0xbe, 0xde, 0, 2, 0x11, 7, 8, 0, 0x20, 9, 0, 0]);
        assert_eq!(block(&two, 1, &[7]).unwrap(), [0xbe, 0xde, 0, 2, 0, 0, 0, 0, 0x20, 9, 0x10, 7]);
        assert_eq!(block(&two, 2, &[5, 6, 7]).unwrap(), [0xbe, 0xde, 0, 2, 0x11, 1, 2, 0x22, 5, 6, 7, 0]);
        assert_eq!(
            block(&two, 3, &[5, 6, 7]).unwrap(),
            [0xbe, 0xde, 0, 3, 0x11, 1, 2, 0, 0x20, 9, 0x32, 5, 6, 7, 0, 0]
        );
    }

    #[test]
    fn what_cannot_hold_it_or_cannot_be_read_is_left_alone() {
        // Another profile, an element that ends outside of its block, id 15, an id too large for the form.
        assert_eq!(block(&[0xab, 0xcd, 0, 1, 1, 2, 3, 4], 5, &[1]), None);
        assert_eq!(block(&[0xbe, 0xde, 0, 1, 0x2f, 2, 3, 4], 5, &[1]), None);
        assert_eq!(block(&[0xbe, 0xde, 0, 1, 0xf0, 2, 3, 4], 5, &[1]), None);
        assert_eq!(block(&[0x10, 0x01, 0, 1, 7, 3, 3, 4], 5, &[1]), None);
        assert_eq!(block(&[0xbe, 0xde, 0, 0], 15, &[1]), None);
        let full = [&[0x10, 0, 0xff, 0xff][..], &[1, 255], &[9; 4 * 0xffff - 2]].concat();
        assert_eq!(block(&full, 7, &[1]), None);
    }
}

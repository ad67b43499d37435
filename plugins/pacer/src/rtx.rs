//! The numbers of a retransmission stream (RFC 4588), which padding shares, and what is sent as padding.

use sandbar_sdk::serde::{Deserialize, Serialize};
use sandbar_sdk::{Context, EmitError, HeaderBuf, Payload, StreamId};

/// A packet smaller than this is not worth sending again as padding.
const WORTH: usize = 256;
/// Bytes of padding in a packet of nothing else: as many as one byte counts (RFC 3550, 5.1).
const PADDING: usize = 255;
/// Packets that take turns as padding.
const TURNS: usize = 8;

/// Retransmissions that pass keep their order and get numbers between which padding fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Numbers {
    pub(crate) ssrc: u32,
    /// The next packet's, once one was sent.
    next: Option<u16>,
    /// What is added to numbers that pass, once one has.
    offset: Option<u16>,
}

impl Numbers {
    pub(crate) fn new(ssrc: u32) -> Self {
        Self { ssrc, next: None, offset: None }
    }

    /// The number under which a retransmission goes on that came with this one.
    pub(crate) fn pass(&mut self, number: u16) -> u16 {
        let offset = *self.offset.get_or_insert_with(|| self.next.map_or(0, |next| next.wrapping_sub(number)));
        let number = number.wrapping_add(offset);
        // One that is late or sent again does not take the sequence back.
        if self.next.is_none_or(|next| number.wrapping_sub(next) < 1 << 15) {
            self.next = Some(number.wrapping_add(1));
        }
        number
    }

    /// The number under which a retransmission goes on that `pass` was asked about before, and that no padding has followed.
    pub(crate) fn passed(&self, number: u16) -> u16 {
        number.wrapping_add(self.offset.unwrap_or(0))
    }

    /// The number of a packet of padding, from `first` if it is the very first.
    fn insert(&mut self, first: impl FnOnce() -> u64) -> u16 {
        let number = self.next.unwrap_or_else(|| first() as u16);
        self.next = Some(number.wrapping_add(1));
        self.offset = self.offset.map(|offset| offset.wrapping_add(1));
        number
    }
}

/// A stream's companion for padding.
#[derive(Clone, Debug)]
pub(crate) struct Rtx {
    pub(crate) numbers: Numbers,
    payload_type: u8,
    /// The latest media packets that are worth sending again, and whose turn it is.
    recent: Vec<u16>,
    turn: usize,
    timestamp: u32,
    begun: bool,
}

impl Rtx {
    pub(crate) fn new(numbers: Numbers, payload_type: u8) -> Self {
        Self { numbers, payload_type, recent: Vec::new(), turn: 0, timestamp: 0, begun: false }
    }

    /// A media packet leaves.
    #[inline]
    pub(crate) fn sent(&mut self, sequence_number: u16, size: usize, timestamp: Option<u32>) {
        self.begun = true;
        self.timestamp = timestamp.unwrap_or(self.timestamp);
        if size < WORTH {
            return;
        }
        if self.recent.len() < TURNS {
            self.recent.push(sequence_number);
        } else {
            self.turn = (self.turn + 1) % TURNS;
            self.recent[self.turn] = sequence_number;
        }
    }

    /// Whether media has been sent: a receiver that has seen none may not expect padding either.
    pub(crate) fn has_sent(&self) -> bool {
        self.begun
    }

    /// Sends a packet of padding, with `attribute` on it: media that was just sent, which a receiver may have missed, or
    /// else padding alone. Gives its size.
    pub(crate) fn pad(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        attributes: &[sandbar_sdk::Attribute],
    ) -> Result<usize, EmitError> {
        let before = self.numbers;
        let number = self.numbers.insert(|| cx.random());
        let sent = match self.repeat(cx, stream, number, attributes) {
            Err(EmitError::NotInHistory | EmitError::TooLarge) => self.padding(cx, stream, number, attributes),
            sent => sent,
        };
        if sent.is_err() {
            self.numbers = before;
        }
        sent
    }

    fn repeat(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        number: u16,
        attributes: &[sandbar_sdk::Attribute],
    ) -> Result<usize, EmitError> {
        self.turn = (self.turn + 1) % TURNS;
        let at = self.turn % self.recent.len().max(1);
        let sequence_number = *self.recent.get(at).ok_or(EmitError::NotInHistory)?;
        let entry = cx.history(stream, sequence_number).ok_or(EmitError::NotInHistory)?;
        let mut header = HeaderBuf::parse(entry.header).map_err(|error| EmitError::Malformed(error.to_string()))?;
        let mut edit = header.edit();
        edit.set_ssrc(self.numbers.ssrc);
        edit.set_payload_type(self.payload_type);
        edit.set_sequence_number(number);
        let payload = Payload::History { sequence_number, prefix: &sequence_number.to_be_bytes() };
        cx.emit_rtp(stream, header.as_bytes(), payload, attributes).map(|()| entry.size + 2)
    }

    fn padding(
        &mut self,
        cx: &mut Context,
        stream: StreamId,
        number: u16,
        attributes: &[sandbar_sdk::Attribute],
    ) -> Result<usize, EmitError> {
        // RFC 3550, 5.1: the P bit, and a last byte that counts the padding.
        let mut header = [0xa0, self.payload_type & 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header[2..4].copy_from_slice(&number.to_be_bytes());
        header[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&self.numbers.ssrc.to_be_bytes());
        let mut payload = [0; PADDING];
        payload[PADDING - 1] = PADDING as u8;
        cx.emit_rtp(stream, &header, Payload::Bytes(&payload), attributes).map(|()| header.len() + PADDING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_consecutive_whatever_passes_and_is_put_between() {
        let mut numbers = Numbers::new(1);
        let out = [
            numbers.pass(65_534),
            numbers.insert(|| 0),
            numbers.insert(|| 0),
            numbers.pass(65_535),
            numbers.insert(|| 0),
            numbers.pass(0),
            numbers.pass(1),
        ];
        assert_eq!(out, [65_534, 65_535, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn retransmissions_go_on_where_padding_has_begun() {
        let mut numbers = Numbers::new(1);
        assert_eq!([numbers.insert(|| 700), numbers.insert(|| 700)], [700, 701]);
        assert_eq!([numbers.pass(9), numbers.pass(10), numbers.insert(|| 0), numbers.pass(11)], [702, 703, 704, 705]);
    }

    #[test]
    fn without_padding_numbers_stay_and_a_gap_stays_a_gap() {
        let mut numbers = Numbers::new(1);
        assert_eq!([5, 6, 9, 8, 10].map(|number| numbers.pass(number)), [5, 6, 9, 8, 10]);
        assert_eq!(numbers.next, Some(11));
    }
}

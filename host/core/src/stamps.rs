//! Values that a plugin has supplied for the packets of its session's stamped streams.

use crate::bindings::stamps::Error;

/// Values that a plugin is asked to have in stock, and how few make the host ask: a call for every hundred packets or so.
const STOCK: usize = 128;
const FEW: usize = 32;
/// Most values that wait.
const MOST: usize = 1024;
/// Most bytes of one: what the one-byte form of extensions holds.
const LONGEST: u8 = 16;

/// A session's values, in the order in which packets take them.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    values: Vec<u8>,
    /// Where those begin that no packet has taken.
    at: u32,
    /// Bytes of each.
    size: u8,
    /// More have been asked for since the last came.
    asked: bool,
    /// Packets that went on without one.
    pub(crate) missed: u64,
}

impl Stamps {
    pub(crate) fn supply(&mut self, size: u8, values: &[u8]) -> Result<(), Error> {
        let left = self.left();
        let fits = (1..=LONGEST).contains(&size) && values.len().is_multiple_of(size.into());
        if !fits || (left > 0 && size != self.size) {
            return Err(Error::Size);
        }
        if left + values.len() / usize::from(size) > MOST {
            return Err(Error::Quota);
        }
        self.values.drain(..self.at as usize);
        self.values.extend_from_slice(values);
        (self.at, self.size, self.asked) = (0, size, false);
        Ok(())
    }

    /// Values that no packet has taken.
    pub(crate) fn left(&self) -> usize {
        (self.values.len() - self.at as usize).checked_div(self.size.into()).unwrap_or(0)
    }

    /// The next packet's.
    #[inline]
    pub(crate) fn next(&self) -> Option<&[u8]> {
        let at = self.at as usize;
        self.values.get(at..at + usize::from(self.size)).filter(|value| !value.is_empty())
    }

    /// Whether there is one, and nothing to ask the plugin for.
    #[inline]
    pub(crate) fn in_stock(&self) -> bool {
        let left = self.values.len() - self.at as usize;
        left >= usize::from(self.size) * if self.asked { 1 } else { FEW } && left > 0
    }

    /// A packet has taken the next one.
    #[inline]
    pub(crate) fn take(&mut self) {
        self.at += u32::from(self.size);
    }

    /// They were asked for, and nobody was told.
    pub(crate) fn unask(&mut self) {
        self.asked = false;
    }

    /// How many to ask for now, where few are left and none have been asked for.
    #[inline]
    pub(crate) fn ask(&mut self) -> Option<u16> {
        if self.asked || self.values.len() - self.at as usize >= FEW * usize::from(self.size.max(1)) {
            return None;
        }
        self.asked = true;
        Some((STOCK - self.left()) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_in_order_and_asked_for_once_when_few_are_left() {
        let mut stamps = Stamps::default();
        assert_eq!((stamps.next(), stamps.left()), (None, 0));
        assert_eq!((stamps.ask(), stamps.ask()), (Some(128), None));
        let mut numbers = (0..u16::MAX).map(u16::to_be_bytes);
        let mut wanted = 128;
        let mut calls = 0;
        for expected in numbers.clone().take(5000) {
            if wanted > 0 {
                stamps.supply(2, numbers.by_ref().take(wanted).collect::<Vec<_>>().as_flattened()).unwrap();
                calls += 1;
            }
            assert_eq!(stamps.next(), Some(&expected[..]));
            stamps.take();
            wanted = stamps.ask().map_or(0, usize::from);
            assert_eq!(stamps.ask(), None);
        }
        assert_eq!(calls, 1 + 5000 / 97);
    }

    #[test]
    fn what_is_not_whole_or_too_much_is_refused() {
        let mut stamps = Stamps::default();
        assert!(matches!(stamps.supply(0, &[]), Err(Error::Size)));
        assert!(matches!(stamps.supply(17, &[0; 17]), Err(Error::Size)));
        assert!(matches!(stamps.supply(2, &[0; 3]), Err(Error::Size)));
        stamps.supply(2, &[0; 2048]).unwrap();
        assert!(matches!(stamps.supply(3, &[0; 3]), Err(Error::Size)));
        assert!(matches!(stamps.supply(2, &[0; 2]), Err(Error::Quota)));
        assert_eq!(stamps.left(), 1024);
        (0..1024).for_each(|_| stamps.take());
        assert_eq!(stamps.next(), None);
        stamps.supply(3, &[1, 2, 3]).unwrap();
        assert_eq!(stamps.next(), Some(&[1, 2, 3][..]));
    }
}

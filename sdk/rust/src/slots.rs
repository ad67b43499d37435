//! A list that grows by pieces. One that is moved as a whole when it is full takes milliseconds where an instance serves ten
//! thousand sessions, and no packet can wait that long.

use std::ops::Index;

/// Entries of a piece.
const PIECE: usize = 64;

/// Entries that stay where they are, but for those of the first piece.
pub(crate) struct Slots<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Slots { pieces: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.pieces.get_mut(at / PIECE)?.get_mut(at % PIECE)
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => last.push(value),
            // An instance of one session has no use for more.
            None => self.pieces.push(vec![value]),
            Some(_) => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(value);
                self.pieces.push(piece);
            }
        }
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.pieces[at / PIECE][at % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_found_at_its_place_and_stays_there() {
        let mut slots = Slots::new();
        let mut places = Vec::new();
        for n in 0..5 * PIECE {
            assert_eq!(slots.len(), n);
            assert!(slots.get(n).is_none() && slots.get_mut(n).is_none());
            slots.push(n);
            places.push(std::ptr::from_ref(slots.get(n).unwrap()));
        }
        for (n, place) in places.into_iter().enumerate() {
            *slots.get_mut(n).unwrap() += 1;
            assert_eq!(slots.get(n), Some(&(n + 1)));
            assert!(n < PIECE || std::ptr::eq(slots.get(n).unwrap(), place));
        }
    }
}

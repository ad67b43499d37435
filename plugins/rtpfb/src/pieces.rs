//! A queue that grows by pieces. One that is moved as a whole when it is full takes long where many sessions of one instance send at
//! one rate: then they all grow in the same call.

use std::collections::VecDeque;

/// Entries of a piece.
const PIECE: usize = 32;

/// Entries in order, which come at the end and go at the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Pieces<T> {
    /// All but the last are full.
    pieces: VecDeque<Vec<T>>,
    /// Entries at the beginning of the first piece that have gone.
    gone: usize,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), gone: 0 }
    }
}

impl<T> Pieces<T> {
    pub(crate) fn len(&self) -> usize {
        self.pieces.back().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len() - self.gone)
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        let at = at + self.gone;
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let at = at + self.gone;
        self.pieces.get_mut(at / PIECE)?.get_mut(at % PIECE)
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: T) {
        match self.pieces.back_mut() {
            Some(last) if last.len() < PIECE => last.push(entry),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(entry);
                self.pieces.push_back(piece);
            }
        }
    }

    /// Lets the first entry go, if there is one.
    #[inline]
    pub(crate) fn pop(&mut self) {
        let Some(first) = self.pieces.front() else { return };
        self.gone += 1;
        if self.gone == first.len() {
            self.pieces.pop_front();
            self.gone = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The entries from one place on.
    pub(crate) fn from(&self, at: usize) -> impl Iterator<Item = &T> {
        (at..).map_while(|at| self.get(at))
    }
}

impl<T> FromIterator<T> for Pieces<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> Self {
        let mut pieces = Self::default();
        entries.into_iter().for_each(|entry| pieces.push(entry));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_a_queue_in_one_piece_whatever_comes_and_goes() {
        let (mut pieces, mut queue) = (Pieces::default(), VecDeque::new());
        let mut seed = 7u32;
        for n in 0..21_000u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Now it rather grows, and now it rather shrinks.
            if (seed >> 16) % 100 < if n / 1000 % 2 == 0 { 60 } else { 35 } {
                pieces.push(n);
                queue.push_back(n);
            } else {
                pieces.pop();
                queue.pop_front();
            }
            let at = (seed >> 8) as usize % (queue.len() + 2);
            if let Some(entry) = pieces.get_mut(at) {
                *entry ^= seed;
            }
            if let Some(entry) = queue.get_mut(at) {
                *entry ^= seed;
            }
            assert_eq!((pieces.len(), pieces.get(at)), (queue.len(), queue.get(at)));
        }
        let from = queue.len() / 2;
        assert!(pieces.from(from).eq(queue.range(from..)) && queue.len() > 4 * PIECE);
        assert!(queue.iter().copied().collect::<Pieces<_>>().from(0).eq(&queue));
        pieces.clear();
        assert_eq!((pieces.len(), pieces.get(0)), (0, None));
    }
}

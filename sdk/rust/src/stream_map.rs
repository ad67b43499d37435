//! What a plugin keeps of each of a session's streams.

use crate::stream::StreamId;

/// Values by stream. The one stream that most sessions have lies within the map itself, and so within the interceptor that has
/// the map; of several, one is found by halves.
///
/// ```
/// use sandbar_sdk::{StreamId, StreamMap};
///
/// let mut packets = StreamMap::new();
/// packets.insert(StreamId::new(1), 0);
/// if let Some(count) = packets.get_mut(StreamId::new(1)) {
///     *count += 1;
/// }
/// assert_eq!(packets.remove(StreamId::new(1)), Some(1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMap<T> {
    first: Option<(StreamId, T)>,
    /// All but the first, in the order of their numbers.
    more: Vec<(StreamId, T)>,
}

impl<T> Default for StreamMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> StreamMap<T> {
    /// Without streams.
    pub const fn new() -> Self {
        StreamMap { first: None, more: Vec::new() }
    }

    /// Streams that it has.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Keeps a stream's value, and gives the one that it had.
    pub fn insert(&mut self, stream: StreamId, value: T) -> Option<T> {
        if let Some(old) = self.get_mut(stream) {
            return Some(std::mem::replace(old, value));
        }
        match &self.first {
            None => self.first = Some((stream, value)),
            Some(_) => {
                let at = self.more.partition_point(|(known, _)| known.number() < stream.number());
                self.more.insert(at, (stream, value));
            }
        }
        None
    }

    /// Forgets a stream, and gives what was kept of it.
    pub fn remove(&mut self, stream: StreamId) -> Option<T> {
        if self.first.as_ref().is_some_and(|(first, _)| *first == stream) {
            // Any other takes its place.
            return std::mem::replace(&mut self.first, self.more.pop()).map(|(_, value)| value);
        }
        self.place(stream).map(|at| self.more.remove(at).1)
    }

    /// A stream's value.
    #[inline]
    pub fn get(&self, stream: StreamId) -> Option<&T> {
        match &self.first {
            Some((first, value)) if *first == stream => Some(value),
            _ => self.get_behind(stream),
        }
    }

    /// Out of the loops over packets that ask for a stream: with few streams, they are quicker without its code.
    #[inline(never)]
    fn get_behind(&self, stream: StreamId) -> Option<&T> {
        self.more.get(self.place(stream)?).map(|(_, value)| value)
    }

    /// A stream's value, to change.
    #[inline]
    pub fn get_mut(&mut self, stream: StreamId) -> Option<&mut T> {
        if self.first.as_ref().is_some_and(|(first, _)| *first == stream) {
            return self.first.as_mut().map(|(_, value)| value);
        }
        self.get_mut_behind(stream)
    }

    /// As [`get_behind`](Self::get_behind).
    #[inline(never)]
    fn get_mut_behind(&mut self, stream: StreamId) -> Option<&mut T> {
        let at = self.place(stream)?;
        self.more.get_mut(at).map(|(_, value)| value)
    }

    fn place(&self, stream: StreamId) -> Option<usize> {
        // Streams that are bound one after the other have numbers in a row.
        let guess = stream.number().wrapping_sub(self.more.first()?.0.number()) as usize;
        if self.more.get(guess).is_some_and(|(known, _)| *known == stream) {
            return Some(guess);
        }
        self.more.binary_search_by_key(&stream.number(), |(known, _)| known.number()).ok()
    }

    /// All streams with their values.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &T)> {
        self.first.iter().chain(&self.more).map(|(stream, value)| (*stream, value))
    }

    /// The same, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut T)> {
        self.first.iter_mut().chain(&mut self.more).map(|(stream, value)| (*stream, value))
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    /// The same, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.iter_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_keeps_what_any_map_keeps() {
        let (mut map, mut model) = (StreamMap::new(), BTreeMap::new());
        let mut seed = 1u64;
        for step in 0..5000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let stream = StreamId::new((seed >> 60) as u32 + 1);
            match (seed >> 40) % 3 {
                0 => assert_eq!(map.remove(stream), model.remove(&stream.number())),
                _ => assert_eq!(map.insert(stream, step), model.insert(stream.number(), step)),
            }
            for number in 1..=16 {
                let stream = StreamId::new(number);
                assert_eq!(map.get(stream), model.get(&number));
                assert_eq!(map.get_mut(stream), model.get_mut(&number));
            }
            let mut all: Vec<_> = map.iter().map(|(stream, value)| (stream.number(), *value)).collect();
            all.sort_unstable();
            assert_eq!(all, model.iter().map(|(number, value)| (*number, *value)).collect::<Vec<_>>());
            assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        }
    }
}

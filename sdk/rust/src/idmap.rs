//! A map from the host's ids, which count up from 1 and are never reused.

/// Open addressing with linear probing, from the id's low bits on: consecutive ids lie side by side, so that a look-up is
/// seldom more than one probe, and sessions that were opened one after the other share cache lines. The standard map's
/// hashing alone costs more than that.
pub(crate) struct IdMap<V> {
    /// A power of two of them, or none. Key 0 is no id and marks a free one.
    entries: Vec<(u32, V)>,
    len: usize,
}

impl<V: Copy + Default> IdMap<V> {
    pub(crate) const fn new() -> Self {
        IdMap { entries: Vec::new(), len: 0 }
    }

    #[inline]
    fn home(&self, id: u32) -> usize {
        id as usize & (self.entries.len() - 1)
    }

    #[inline]
    fn find(&self, id: u32) -> Option<usize> {
        if id == 0 || self.entries.is_empty() {
            return None;
        }
        let mask = self.entries.len() - 1;
        let mut at = self.home(id);
        loop {
            match self.entries.get(at)?.0 {
                found if found == id => return Some(at),
                0 => return None,
                _ => at = (at + 1) & mask,
            }
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<V> {
        self.find(id).and_then(|at| self.entries.get(at)).map(|entry| entry.1)
    }

    /// Id 0 is not kept.
    pub(crate) fn insert(&mut self, id: u32, value: V) {
        if id == 0 {
            return;
        }
        if let Some(at) = self.find(id) {
            self.entries[at].1 = value;
            return;
        }
        if (self.len + 1) * 4 > self.entries.len() * 3 {
            let bigger = (self.entries.len() * 2).max(8);
            let old = std::mem::replace(&mut self.entries, vec![(0, V::default()); bigger]);
            for (id, value) in old.into_iter().filter(|entry| entry.0 != 0) {
                self.place(id, value);
            }
        }
        self.place(id, value);
        self.len += 1;
    }

    fn place(&mut self, id: u32, value: V) {
        let mask = self.entries.len() - 1;
        let mut at = self.home(id);
        while self.entries[at].0 != 0 {
            at = (at + 1) & mask;
        }
        self.entries[at] = (id, value);
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<V> {
        let mut hole = self.find(id)?;
        let value = self.entries[hole].1;
        self.len -= 1;
        let mask = self.entries.len() - 1;
        let mut at = hole;
        // What was pushed past the hole moves back into it, so that every probe still ends at a free entry.
        loop {
            at = (at + 1) & mask;
            let next = self.entries[at].0;
            if next == 0 {
                break;
            }
            let home = self.home(next);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.entries[hole] = self.entries[at];
                hole = at;
            }
        }
        self.entries[hole].0 = 0;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::IdMap;

    #[test]
    fn it_agrees_with_the_standard_map_under_any_sequence() {
        let mut seed = 88_172_645_463_325_252_u64;
        let (mut map, mut model) = (IdMap::new(), HashMap::new());
        for step in 0..50_000_u64 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let id = (seed % 700) as u32;
            match seed >> 60 {
                0..8 if id != 0 => {
                    map.insert(id, step);
                    model.insert(id, step);
                }
                8.. => assert_eq!(map.remove(id), model.remove(&id)),
                _ => {}
            }
            assert_eq!(map.get(id), model.get(&id).copied());
            assert_eq!(map.len, model.len());
        }
    }

    #[test]
    fn no_id_is_zero() {
        let mut map = IdMap::new();
        map.insert(0, 1);
        assert_eq!((map.get(0), map.remove(0)), (None, None));
    }
}

//! Numbers by which an instance knows its sessions and streams: dense, so that a look-up is an index, and never used
//! twice.

/// Values under numbers that are given out once.
#[derive(Debug)]
pub(crate) struct Ids<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    live: usize,
}

/// Entries at once; the number's other bits count how often its place has been used.
const PLACES: u32 = 1 << 20;

impl<T> Ids<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), live: 0 }
    }

    /// Keeps `value` under a new number; `None` when there is no number left.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let place = match self.free.pop() {
            Some(place) => place as usize,
            None if self.entries.len() < PLACES as usize - 1 => {
                // Place 0 of the numbers stays unused: 0 means none in the contract.
                self.entries.push((self.entries.len() as u32 + 1, None));
                self.entries.len() - 1
            }
            None => return None,
        };
        let (id, entry) = &mut self.entries[place];
        *entry = Some(value);
        self.live += 1;
        Some(*id)
    }

    fn place(id: u32) -> usize {
        ((id & (PLACES - 1)) as usize).wrapping_sub(1)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (known, value) = self.entries.get(Self::place(id))?;
        value.as_ref().filter(|_| *known == id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (known, value) = self.entries.get_mut(Self::place(id))?;
        value.as_mut().filter(|_| *known == id)
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let place = Self::place(id);
        let (known, value) = self.entries.get_mut(place).filter(|(known, _)| *known == id)?;
        let value = value.take()?;
        self.live -= 1;
        // A place whose numbers are used up is left.
        if let Some(next) = known.checked_add(PLACES) {
            *known = next;
            self.free.push(place as u32);
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries.iter().filter_map(|(id, value)| value.as_ref().map(|value| (*id, value)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.entries.iter_mut().filter_map(|(id, value)| value.as_mut().map(|value| (*id, value)))
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_never_given_out_twice() {
        let mut ids = Ids::new();
        let mut seen = std::collections::HashSet::new();
        for n in 0..10_000 {
            let id = ids.insert(n).unwrap();
            assert!(id != 0 && seen.insert(id));
            assert_eq!(ids.get(id), Some(&n));
            if n % 3 != 0 {
                assert_eq!(ids.remove(id), Some(n));
                assert!(ids.get(id).is_none() && ids.get_mut(id).is_none() && ids.remove(id).is_none());
            }
        }
        assert_eq!(ids.len(), ids.iter().count());
        assert!(ids.get(0).is_none());
    }

    #[test]
    fn a_place_whose_numbers_are_used_up_is_left() {
        let mut ids = Ids::new();
        for _ in 0..u32::MAX / PLACES + 2 {
            let id = ids.insert(()).unwrap();
            ids.remove(id);
        }
        assert_eq!(ids.insert(()).map(|id| id & (PLACES - 1)), Some(2));
    }
}

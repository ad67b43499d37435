//! Numbers by which an instance knows its sessions and streams: dense, so that a look-up is an index, and never used
//! twice.

/// Values under numbers that are given out once.
#[derive(Debug)]
pub(crate) struct Ids<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    live: usize,
}

/// The number first, beside what a large value has first.
#[derive(Debug)]
#[repr(C)]
struct Entry<T> {
    /// The number of the value that is there, or of the next one.
    id: u32,
    /// Where it stands in the list of free ones, if it is one.
    free: Option<u32>,
    value: Option<T>,
}

/// Entries at once; the number's other bits count how often its place has been used.
const PLACES: u32 = 1 << 20;
/// Places that are made at once for a number that is wanted, besides as many as there are values twice over.
const SPARSE: usize = 4096;

impl<T> Ids<T> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), live: 0 }
    }

    /// Keeps `value` under a new number; `None` when there is no number left.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        if self.free.is_empty() {
            self.add_place()?;
        }
        let place = self.free.pop()?;
        let entry = self.entries.get_mut(place as usize)?;
        entry.free = None;
        entry.value = Some(value);
        self.live += 1;
        Some(entry.id)
    }

    /// Keeps `value` under the number `wanted` if that has not been used here, and else under another. So what is kept in
    /// several such lists can have one number in all.
    pub(crate) fn insert_as(&mut self, wanted: u32, value: T) -> Option<u32> {
        let place = Self::place(wanted);
        // Not at any cost: who has few does not make room for many.
        while self.entries.len() <= place && place <= 2 * self.live + SPARSE {
            self.add_place()?;
        }
        let Some(entry) = self.entries.get_mut(place).filter(|entry| entry.id <= wanted) else {
            return self.insert(value);
        };
        let Some(free) = entry.free.take() else { return self.insert(value) };
        entry.id = wanted;
        entry.value = Some(value);
        self.live += 1;
        self.free.swap_remove(free as usize);
        if let Some(moved) = self.free.get(free as usize) {
            self.entries[*moved as usize].free = Some(free);
        }
        Some(wanted)
    }

    /// Makes room for another value, whose number has not been used yet.
    fn add_place(&mut self) -> Option<()> {
        let place = self.entries.len() as u32;
        // Place 0 of the numbers stays unused: 0 means none in the contract.
        (place < PLACES - 1).then(|| self.entries.push(Entry { id: place + 1, free: None, value: None }))?;
        self.release(place as usize);
        Some(())
    }

    /// Puts a place into the list of free ones.
    fn release(&mut self, place: usize) {
        self.entries[place].free = Some(self.free.len() as u32);
        self.free.push(place as u32);
    }

    fn place(id: u32) -> usize {
        ((id & (PLACES - 1)) as usize).wrapping_sub(1)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let entry = self.entries.get(Self::place(id))?;
        entry.value.as_ref().filter(|_| entry.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut(Self::place(id))?;
        entry.value.as_mut().filter(|_| entry.id == id)
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let place = Self::place(id);
        let entry = self.entries.get_mut(place).filter(|entry| entry.id == id)?;
        let value = entry.value.take()?;
        self.live -= 1;
        // A place whose numbers are used up is left.
        if let Some(next) = entry.id.checked_add(PLACES) {
            entry.id = next;
            self.release(place);
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries.iter().filter_map(|entry| Some((entry.id, entry.value.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.entries.iter_mut().filter_map(|entry| Some((entry.id, entry.value.as_mut()?)))
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
        assert_eq!(ids.insert_as(1, ()).map(|id| id & (PLACES - 1)), Some(3), "nor is it wanted back");
    }

    #[test]
    fn a_number_that_is_wanted_is_given_where_it_can_be() {
        let mut ids = Ids::new();
        assert_eq!(ids.insert_as(3, 'a'), Some(3));
        assert_eq!(ids.insert_as(3, 'b').map(|id| id != 3), Some(true), "it is taken");
        assert_eq!(ids.insert_as(3 + 2 * PLACES, 'c').map(|id| id & (PLACES - 1) != 3), Some(true));
        ids.remove(3);
        let later = ids.insert_as(3, 'd').unwrap();
        assert_ne!(later, 3, "it was used");
        ids.remove(later);
        assert_eq!(ids.insert_as(3 + 2 * PLACES, 'e'), Some(3 + 2 * PLACES), "a later one of that place");
        assert!(ids.insert_as(PLACES - 1, 'f').is_some_and(|id| id < 100), "too far off");
        assert!(ids.insert_as(0, 'g').is_some_and(|id| id != 0));
        assert_eq!(ids.len(), ids.iter().count());
    }

    #[test]
    fn lists_that_are_told_each_others_numbers_agree() {
        let (mut one, mut other) = (Ids::new(), Ids::new());
        let mut random = 7_u64;
        let mut seen = std::collections::HashSet::new();
        let mut live = Vec::new();
        for n in 0..20_000_u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if random >> 63 == 0 && !live.is_empty() {
                let id = live.swap_remove((random >> 32) as usize % live.len());
                assert_eq!(one.remove(id), other.remove(id));
            } else {
                // Whoever is first asked says the number.
                let (first, second) = if n % 2 == 0 { (&mut one, &mut other) } else { (&mut other, &mut one) };
                let id = first.insert(n).unwrap();
                assert_eq!(second.insert_as(id, n), Some(id));
                assert!(seen.insert(id));
                live.push(id);
            }
        }
        assert_eq!((one.len(), other.len()), (live.len(), live.len()));
    }
}

//! The memory allocator of plugins.
//!
//! What the host hands over and what a plugin emits are blocks of a few sizes that come and go with each call. Looking for
//! room among all free memory takes longer than the rest of such a call, so freed blocks are kept by their size and given
//! out again: two instructions in place of a search. Blocks are powers of two; larger ones go to the system's allocator.
#![expect(unsafe_code, reason = "an allocator hands out raw memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Smallest block, and the alignment of all.
const SMALLEST: usize = 16;
/// Sizes from 16 bytes to 64 KiB.
const CLASSES: usize = 13;

/// Keeps freed blocks by size.
pub(crate) struct Reuse {
    /// The first free block of each size; each begins with where the next one is.
    free: UnsafeCell<[*mut u8; CLASSES]>,
}

// SAFETY: a component has one thread.
#[cfg(target_family = "wasm")]
unsafe impl Sync for Reuse {}

impl Reuse {
    pub(crate) const fn new() -> Self {
        Reuse { free: UnsafeCell::new([ptr::null_mut(); CLASSES]) }
    }

    /// Which size of block serves; none if the system's allocator does.
    #[inline]
    fn class(layout: Layout) -> Option<usize> {
        let class = (layout.size().max(SMALLEST).next_power_of_two() / SMALLEST).trailing_zeros() as usize;
        (class < CLASSES && layout.align() <= SMALLEST).then_some(class)
    }

    /// A block of this size that nobody has had.
    #[cold]
    fn fresh(class: usize) -> *mut u8 {
        match Layout::from_size_align(SMALLEST << class, SMALLEST) {
            // SAFETY: the size is not zero.
            Ok(layout) => unsafe { System.alloc(layout) },
            Err(_) => ptr::null_mut(),
        }
    }
}

// SAFETY: a block is in a list only while it is free, is as large and as aligned as its class says, and large enough for
// the pointer at its beginning. Lists are touched by one thread, and nothing between reading and writing them allocates.
unsafe impl GlobalAlloc for Reuse {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Self::class(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: see above.
        unsafe {
            let first = &mut (*self.free.get())[class];
            let block = *first;
            if block.is_null() {
                return Self::fresh(class);
            }
            *first = block.cast::<*mut u8>().read();
            block
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = Self::class(layout) else {
            // SAFETY: the caller's promise; such a block came from there.
            return unsafe { System.dealloc(block, layout) };
        };
        // SAFETY: see above.
        unsafe {
            let first = &mut (*self.free.get())[class];
            block.cast::<*mut u8>().write(*first);
            *first = block;
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size is not zero and does not overflow with this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Self::class(layout), Self::class(new)) {
            (Some(old), Some(new)) if old == new => block,
            // SAFETY: the caller's promise; such a block came from there.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            // SAFETY: the blocks are apart, and each has at least as many bytes as are copied.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks that are filled, grown, shrunk and freed in any order keep what is in them.
    #[test]
    fn what_is_in_a_block_stays_until_it_is_freed() {
        let heap = Reuse::new();
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut seed = 7u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let holds = |block: &(*mut u8, Layout, u8)| {
            // SAFETY: the block is live and was filled whole.
            unsafe { std::slice::from_raw_parts(block.0, block.1.size()) }.iter().all(|byte| *byte == block.2)
        };
        for step in 0..20_000 {
            let (most, align) = ([20, 200, 3000, 200_000][random(4)], [1, 4, 16, 64][random(4)]);
            let size = 1 + random(most);
            let layout = Layout::from_size_align(size, align).unwrap();
            let fill = step as u8;
            // SAFETY: layouts are those that blocks were made with.
            unsafe {
                match random(3) {
                    0 if !blocks.is_empty() => {
                        let block = blocks.swap_remove(random(blocks.len()));
                        assert!(holds(&block));
                        heap.dealloc(block.0, block.1);
                    }
                    1 if !blocks.is_empty() => {
                        let at = random(blocks.len());
                        let (old, before, kept) = blocks[at];
                        let new = heap.realloc(old, before, size);
                        let both = std::slice::from_raw_parts(new, size.min(before.size()));
                        assert!(both.iter().all(|byte| *byte == kept));
                        new.write_bytes(fill, size);
                        blocks[at] = (new, Layout::from_size_align(size, before.align()).unwrap(), fill);
                    }
                    _ => {
                        let block = heap.alloc(layout);
                        assert_eq!(block as usize % layout.align(), 0);
                        block.write_bytes(fill, size);
                        blocks.push((block, layout, fill));
                    }
                }
            }
        }
        assert!(blocks.iter().all(holds));
        for (block, layout, _) in blocks {
            // SAFETY: as above.
            unsafe { heap.dealloc(block, layout) };
        }
    }

    #[test]
    fn a_freed_block_is_the_next_of_its_size() {
        let heap = Reuse::new();
        let layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: layouts are those that blocks were made with.
        unsafe {
            let block = heap.alloc(layout);
            heap.dealloc(block, layout);
            assert_eq!(heap.alloc(Layout::from_size_align(600, 1).unwrap()), block);
            assert_eq!(heap.realloc(block, layout, 1024), block);
            assert_ne!(heap.alloc(layout), block);
        }
    }
}

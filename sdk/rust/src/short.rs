//! Copying and clearing few bytes.
//!
//! For a length that is not known when it is compiled, wasm has one instruction, and wasmtime leaves the guest for it:
//! ten nanoseconds or more, where a header is 12 to 40 bytes. So these lengths are done with loads and stores, two of
//! them overlapping where the length lies between; there is no loop that the compiler would turn into that instruction.

/// Copies `from` over the beginning of `to`; only as much as both have.
#[inline]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    let len = from.len().min(to.len());
    let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) else { return };
    match len {
        0 => {}
        1 => both::<1>(to, from),
        2..=3 => both::<2>(to, from),
        4..=7 => both::<4>(to, from),
        8..=15 => both::<8>(to, from),
        16..=31 => both::<16>(to, from),
        32..=64 => both::<32>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` of at least `N` and at most `2 * N` bytes.
#[inline(always)]
fn both<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk()) {
        *to = *from;
    }
}

/// Sets every byte to zero.
#[inline]
pub(crate) fn zero(bytes: &mut [u8]) {
    match bytes.len() {
        0 => {}
        1..=64 => copy(bytes, &[0; 64]),
        _ => bytes.fill(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_and_cleared_and_nothing_beside_it() {
        for len in 0..130 {
            let from: Vec<u8> = (1..=len).map(|byte| byte as u8).collect();
            let mut to = vec![0xEE; len + 2];
            copy(&mut to[1..=len], &from);
            assert_eq!((to[0], &to[1..=len], to[len + 1]), (0xEE, &from[..], 0xEE));
            zero(&mut to[1..=len]);
            assert_eq!((to[0], &to[1..=len], to[len + 1]), (0xEE, &vec![0; len][..], 0xEE));
        }
    }

    #[test]
    fn the_shorter_side_counts() {
        let mut to = [0; 3];
        copy(&mut to, &[1, 2, 3, 4, 5]);
        assert_eq!(to, [1, 2, 3]);
        copy(&mut to, &[9]);
        assert_eq!(to, [9, 2, 3]);
    }
}

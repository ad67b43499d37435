//! The peer's clocks, which wrap.

use sandbar_sdk::serde::{Deserialize, Serialize};

/// Unwraps a counter of so many bits, of which each value is the nearest to the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "sandbar_sdk::serde")]
pub(crate) struct Clock(Option<i64>);

impl Clock {
    pub(crate) fn unwrap(&mut self, value: u32, bits: u32) -> i64 {
        let value = i64::from(value);
        let unwrapped = match self.0 {
            None => value,
            Some(last) => {
                let shift = 64 - bits;
                // The difference, with the sign of its highest bit.
                last.wrapping_add((value.wrapping_sub(last) << shift) >> shift)
            }
        };
        self.0 = Some(unwrapped);
        unwrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_on_where_its_counter_wraps_and_may_go_back_a_little() {
        let mut clock = Clock::default();
        let seen: Vec<_> = [0xfffffe, 0xffffff, 0, 2, 1, 0xffffff].map(|value| clock.unwrap(value, 24)).to_vec();
        assert_eq!(seen, [0xfffffe, 0xffffff, 0x1000000, 0x1000002, 0x1000001, 0xffffff]);
        let mut clock = Clock::default();
        assert_eq!([1, u32::MAX, 0, 5].map(|value| clock.unwrap(value, 32)), [1, -1, 0, 5]);
    }
}

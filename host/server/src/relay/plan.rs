//! From one chain to another by inserting, removing and replacing members, so that those which stay are not disturbed.

/// One change. Positions are those at the time the change is made, after the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The member at this position goes.
    Remove(usize),
    /// The member at `at` becomes the target's `target`.
    Replace { at: usize, target: usize },
    /// The target's `target` comes in at `at`.
    Insert { at: usize, target: usize },
}

/// The steps from `old` to `new`. `same` pairs members that are the same plugin, `equal` those that have nothing to
/// change at all. As many as possible stay or are replaced in place, where they may hand over their state.
pub(crate) fn steps<T>(
    old: &[T],
    new: &[T],
    same: impl Fn(&T, &T) -> bool,
    equal: impl Fn(&T, &T) -> bool,
) -> Vec<Step> {
    let longest = longest_common(old, new, &same);
    let mut steps = Vec::new();
    let (mut from, mut target) = (0, 0);
    while from < old.len() || target < new.len() {
        let pair = from < old.len() && target < new.len() && same(&old[from], &new[target]);
        if pair {
            if !equal(&old[from], &new[target]) {
                steps.push(Step::Replace { at: target, target });
            }
            (from, target) = (from + 1, target + 1);
        } else if from < old.len() && (target == new.len() || longest[from + 1][target] >= longest[from][target + 1]) {
            steps.push(Step::Remove(target));
            from += 1;
        } else {
            steps.push(Step::Insert { at: target, target });
            target += 1;
        }
    }
    steps
}

/// `[i][j]`: how many members of `old[i..]` and `new[j..]` can be paired in order.
fn longest_common<T>(old: &[T], new: &[T], same: &impl Fn(&T, &T) -> bool) -> Vec<Vec<usize>> {
    let mut longest = vec![vec![0; new.len() + 1]; old.len() + 1];
    for from in (0..old.len()).rev() {
        for target in (0..new.len()).rev() {
            longest[from][target] = match same(&old[from], &new[target]) {
                true => longest[from + 1][target + 1] + 1,
                false => longest[from + 1][target].max(longest[from][target + 1]),
            };
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member is a plugin and the version of its configuration.
    fn plan(old: &[(char, u8)], new: &[(char, u8)]) -> Vec<Step> {
        let steps = steps(old, new, |a, b| a.0 == b.0, |a, b| a == b);
        let mut chain = old.to_vec();
        for step in &steps {
            match *step {
                Step::Remove(at) => drop(chain.remove(at)),
                Step::Replace { at, target } => {
                    assert_eq!(chain[at].0, new[target].0, "a member is replaced by its like");
                    chain[at] = new[target];
                }
                Step::Insert { at, target } => chain.insert(at, new[target]),
            }
        }
        assert_eq!(chain, new);
        steps
    }

    #[test]
    fn what_stays_is_not_touched() {
        assert_eq!(plan(&[('a', 0), ('b', 0)], &[('a', 0), ('b', 0)]), []);
        assert_eq!(plan(&[('a', 0), ('b', 0)], &[('a', 0), ('x', 0), ('b', 0)]), [Step::Insert { at: 1, target: 1 }]);
        assert_eq!(plan(&[('a', 0), ('b', 0), ('c', 0)], &[('a', 0), ('c', 0)]), [Step::Remove(1)]);
        assert_eq!(plan(&[('a', 0), ('b', 0)], &[('a', 0), ('b', 1)]), [Step::Replace { at: 1, target: 1 }]);
    }

    #[test]
    fn every_pair_of_short_chains_has_a_plan_that_leads_there() {
        let chains: Vec<Vec<(char, u8)>> = (0..256_u32)
            .map(|code| {
                let members = (0..3).map(|place| (code >> (2 * place)) & 3).filter(|letter| *letter < 3);
                members.map(|letter| (char::from(b'a' + letter as u8), ((code >> 6) & 1) as u8)).collect()
            })
            .collect();
        for old in &chains {
            for new in &chains {
                let steps = plan(old, new);
                assert!(steps.len() <= old.len() + new.len());
            }
        }
    }
}

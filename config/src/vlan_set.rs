//! Sets of VLANs, and how they are written.

use std::fmt;
use std::ops::RangeInclusive;

/// The highest VLAN id that a frame may have. IEEE 802.1Q reserves 4095 (table 9-2).
pub(crate) const MAX_VLAN: u16 = 4094;

/// A set of VLANs by VLAN id: 0..=4094, 0 being what is untagged.
///
/// Its `Display` is `all`, `none`, or numbers and ranges in order, such as `0, 10, 100-200`.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; 64]>);

impl VlanSet {
    /// No VLAN.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::new([0; 64]))
    }

    /// Every VLAN that a frame may have, the untagged one included.
    #[must_use]
    pub fn all() -> Self {
        let mut all = Self::none();
        all.insert_range(0..=MAX_VLAN);
        all
    }

    /// Whether a VLAN is in it; ids above 4094 never are.
    #[must_use]
    pub fn contains(&self, vlan: u16) -> bool {
        let word = self.0.get(usize::from(vlan / 64));
        word.is_some_and(|word| word >> (vlan % 64) & 1 == 1)
    }

    /// Adds a VLAN; ids above 4094 are ignored.
    pub fn insert(&mut self, vlan: u16) {
        self.insert_range(vlan..=vlan);
    }

    /// The runs of neighbouring ids, in order.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = (from..=MAX_VLAN).find(|&vlan| self.contains(vlan))?;
            let run = (first..=MAX_VLAN).take_while(|&vlan| self.contains(vlan));
            let last = run.last()?;
            from = last + 1;
            Some(first..=last)
        })
    }

    /// The set as bits.
    ///
    /// # Layout
    /// VLAN `v` is bit `v % 64` of word `v / 64`, counted from the least significant one. Bit 63
    /// of the last word, VLAN 4095, is never set.
    #[must_use]
    pub fn words(&self) -> &[u64; 64] {
        &self.0
    }

    /// Adds VLANs. Says whether none of them was there before. Ids above 4094 are ignored.
    pub(crate) fn insert_range(&mut self, vlans: RangeInclusive<u16>) -> bool {
        let (first, last) = (*vlans.start(), MAX_VLAN.min(*vlans.end()));
        let mut all_new = true;
        for (base, word) in (0..).step_by(64).zip(self.0.iter_mut()) {
            let bits = bits_between(first, last, base);
            all_new &= *word & bits == 0;
            *word |= bits;
        }
        all_new
    }
}

/// The bits of `first..=last` in the word whose lowest bit stands for `base`.
fn bits_between(first: u16, last: u16, base: u16) -> u64 {
    if first > last || last < base || first > base + 63 {
        return 0;
    }
    let (low, high) = (first.saturating_sub(base), (last - base).min(63));
    (u64::MAX << low) & (u64::MAX >> (63 - high))
}

impl fmt::Display for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::all() {
            return f.write_str("all");
        }
        let mut before = "";
        for range in self.ranges() {
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{before}{first}")?,
                (first, last) => write!(f, "{before}{first}-{last}")?,
            }
            before = ", ";
        }
        f.write_str(if before.is_empty() { "none" } else { "" })
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VlanSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &[RangeInclusive<u16>]) -> VlanSet {
        let mut set = VlanSet::none();
        for range in ranges {
            set.insert_range(range.clone());
        }
        set
    }

    #[test]
    fn sets_are_shown_as_they_are_written() {
        assert_eq!(VlanSet::all().to_string(), "all");
        assert_eq!(VlanSet::none().to_string(), "none");
        assert_eq!(
            set(&[0..=0, 100..=200, 10..=10]).to_string(),
            "0, 10, 100-200"
        );
        assert_eq!(set(&[1..=4094]).to_string(), "1-4094");
        assert_eq!(set(&[10..=11, 12..=13]).to_string(), "10-13");
        assert_eq!(format!("{:?}", set(&[7..=7])), "VlanSet(7)");
    }

    #[test]
    fn the_reserved_id_is_in_no_set() {
        let mut vlans = VlanSet::all();
        vlans.insert(4095);
        vlans.insert(u16::MAX);
        assert_eq!(vlans, VlanSet::all());
        assert!(vlans.contains(4094) && !vlans.contains(4095) && !vlans.contains(u16::MAX));
        assert_eq!(vlans.words()[63], u64::MAX >> 1);
        assert_eq!(vlans.words()[..63], [u64::MAX; 63]);
    }

    #[test]
    fn what_was_there_before_is_told() {
        let mut vlans = set(&[64..=127]);
        assert!(vlans.insert_range(0..=63) && vlans.insert_range(128..=4094));
        assert!(!vlans.insert_range(64..=64) && !vlans.insert_range(0..=4094));
        assert_eq!(vlans, VlanSet::all());
    }

    proptest! {
        #[test]
        fn a_set_of_bits_is_a_set(
            ranges in proptest::collection::vec((0..4200_u16, 0..300_u16), 0..9),
        ) {
            let mut expected = BTreeSet::new();
            let mut vlans = VlanSet::none();
            for (first, more) in ranges {
                let ids: Vec<u16> = (first..=first + more).filter(|&id| id <= MAX_VLAN).collect();
                let is_new = ids.iter().all(|id| !expected.contains(id));
                expected.extend(ids);
                prop_assert_eq!(vlans.insert_range(first..=first + more), is_new);
            }
            let found: BTreeSet<u16> = (0..=u16::MAX).filter(|&id| vlans.contains(id)).collect();
            prop_assert_eq!(&found, &expected);
            let runs: Vec<_> = vlans.ranges().collect();
            prop_assert!(runs.windows(2).all(|two| two[0].end() + 1 < *two[1].start()));
            prop_assert_eq!(runs.into_iter().flatten().collect::<BTreeSet<_>>(), expected);
        }
    }
}

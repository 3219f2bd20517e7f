//! Small sets of small numbers: operations, checkpoints, stores, epochs.

use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Sub, SubAssign};

/// A set of numbers below eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Set(u8);

impl Set {
    /// The empty set.
    pub(super) const NONE: Self = Self(0);
    /// The set of 0 and 1.
    pub(super) const BOTH: Self = Self(3);

    /// Returns the set of one number.
    pub(super) const fn of(one: usize) -> Self {
        Self(1 << one)
    }

    /// Returns the set of all numbers below `end`.
    pub(super) const fn below(end: usize) -> Self {
        Self(((1_u16 << end) - 1) as u8)
    }

    pub(super) fn has(self, one: usize) -> bool {
        self.0 >> one & 1 == 1
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Yields the numbers in ascending order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> + Clone {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let one = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (one < 8).then_some(one)
        })
    }

    /// Returns the numbers from `begin` on, each less by it.
    pub(super) fn above(self, begin: usize) -> Self {
        Self(self.0 >> begin)
    }

    /// Returns the set with each number greater by `by`.
    pub(super) fn moved(self, by: usize) -> Self {
        Self(self.0 << by)
    }

    /// Returns the set with 0 and 1 exchanged.
    pub(super) fn swapped(self) -> Self {
        Self(self.0 & !3 | (self.0 & 1) << 1 | self.0 >> 1 & 1)
    }
}

impl BitOr for Set {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Set {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Set {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOrAssign for Set {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl BitAndAssign for Set {
    fn bitand_assign(&mut self, other: Self) {
        *self = *self & other;
    }
}

impl SubAssign for Set {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        numbers.into_iter().fold(Self::NONE, |set, one| set | Self::of(one))
    }
}

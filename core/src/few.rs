//! Ordered maps and sets that take little while they hold little: one sorted vector first, a tree once there are many.
//!
//! A replica knows many logs, and most of them hold one or two of everything. A tree reserves room for eleven entries with
//! its first one.

use std::collections::BTreeMap;
use std::ops::{Bound, Index};

/// Entries up to which a vector holds them.
const FEW_MAX: usize = 8;

/// An ordered map, small where it holds little.
#[derive(Debug, Clone)]
pub(crate) struct FewMap<K, V>(Entries<K, V>);

#[derive(Debug, Clone)]
enum Entries<K, V> {
    /// In the order of their keys.
    Few(Vec<(K, V)>),
    #[expect(clippy::box_collection, reason = "the map itself takes no more than a vector")]
    Many(Box<BTreeMap<K, V>>),
}

/// An ordered set, small where it holds little.
#[derive(Debug, Clone)]
pub(crate) struct FewSet<K>(FewMap<K, ()>);

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> FewMap<K, V> {
    pub(crate) const fn new() -> Self {
        Self(Entries::Few(Vec::new()))
    }

    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Entries::Few(few) => few.len(),
            Entries::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + use<'_, K, V> {
        let (few, many) = match &self.0 {
            Entries::Few(few) => (few.as_slice(), None),
            Entries::Many(many) => (&[][..], Some(&**many)),
        };
        few.iter().map(|(key, value)| (key, value)).chain(many.into_iter().flatten())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> + use<'_, K, V> {
        let (few, many) = match &mut self.0 {
            Entries::Few(few) => (few.as_mut_slice(), None),
            Entries::Many(many) => (&mut [][..], Some(&mut **many)),
        };
        few.iter_mut().map(|(key, value)| (&*key, value)).chain(many.into_iter().flatten())
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + use<'_, K, V> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> + use<'_, K, V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> + use<'_, K, V> {
        self.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = V> {
        let (few, many) = match self.0 {
            Entries::Few(few) => (few, None),
            Entries::Many(many) => (Vec::new(), Some(*many)),
        };
        few.into_iter().chain(many.into_iter().flatten()).map(|(_, value)| value)
    }
}

impl<K: Ord, V> FewMap<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match &self.0 {
            Entries::Few(few) => place(few, key).ok().map(|at| &few[at].1),
            Entries::Many(many) => many.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match &mut self.0 {
            Entries::Few(few) => place(few, key).ok().map(|at| &mut few[at].1),
            Entries::Many(many) => many.get_mut(key),
        }
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Returns the entry with the greatest key.
    pub(crate) fn last_key_value(&self) -> Option<(&K, &V)> {
        match &self.0 {
            Entries::Few(few) => few.last().map(|(key, value)| (key, value)),
            Entries::Many(many) => many.last_key_value(),
        }
    }

    /// Iterates over the entries after a key, or over all.
    pub(crate) fn after(&self, key: Option<&K>) -> impl DoubleEndedIterator<Item = (&K, &V)> + use<'_, K, V> {
        let (few, many) = match &self.0 {
            Entries::Few(few) => {
                let from = key.map_or(0, |key| few.partition_point(|(other, _)| other <= key));
                (&few[from..], None)
            }
            Entries::Many(many) => {
                let from = key.map_or(Bound::Unbounded, Bound::Excluded);
                (&[][..], Some(many.range((from, Bound::Unbounded))))
            }
        };
        few.iter().map(|(key, value)| (key, value)).chain(many.into_iter().flatten())
    }

    /// Puts a value at a key, and returns the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match &mut self.0 {
            Entries::Many(many) => many.insert(key, value),
            Entries::Few(few) => match place(few, &key) {
                Ok(at) => Some(std::mem::replace(&mut few[at].1, value)),
                Err(at) if few.len() < FEW_MAX => {
                    if few.len() == few.capacity() {
                        few.reserve_exact(few.len().max(1));
                    }
                    few.insert(at, (key, value));
                    None
                }
                Err(_) => {
                    let many = std::mem::take(few).into_iter().chain([(key, value)]).collect();
                    self.0 = Entries::Many(Box::new(many));
                    None
                }
            },
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let removed = match &mut self.0 {
            Entries::Few(few) => place(few, key).ok().map(|at| few.remove(at).1),
            Entries::Many(many) => many.remove(key),
        };
        self.shrink();
        removed
    }

    /// Takes out the entry with the least key.
    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        let first = match &mut self.0 {
            Entries::Few(few) => (!few.is_empty()).then(|| few.remove(0)),
            Entries::Many(many) => many.pop_first(),
        };
        self.shrink();
        first
    }

    /// Keeps nothing reserved for what is empty.
    fn shrink(&mut self) {
        if self.is_empty() {
            self.clear();
        }
    }
}

fn place<K: Ord, V>(few: &[(K, V)], key: &K) -> Result<usize, usize> {
    few.binary_search_by(|(other, _)| other.cmp(key))
}

impl<K: Ord, V> Index<&K> for FewMap<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("callers look up keys that are here")
    }
}

impl<K: Ord, V> Extend<(K, V)> for FewMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(key, value)| _ = self.insert(key, value));
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for FewMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        map.extend(entries);
        map
    }
}

impl<K> Default for FewSet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> FewSet<K> {
    pub(crate) const fn new() -> Self {
        Self(FewMap::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &K> + use<'_, K> {
        self.0.keys()
    }
}

impl<K: Ord> FewSet<K> {
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// Returns the least key.
    pub(crate) fn first(&self) -> Option<&K> {
        self.iter().next()
    }

    /// Adds a key. Returns whether it is new here.
    pub(crate) fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    /// Takes a key out. Returns whether it was here.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    /// Takes out the least key.
    pub(crate) fn pop_first(&mut self) -> Option<K> {
        self.0.pop_first().map(|(key, ())| key)
    }
}

impl<K: Ord> Extend<K> for FewSet<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        keys.into_iter().for_each(|key| _ = self.insert(key));
    }
}

impl<K: Ord> FromIterator<K> for FewSet<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut set = Self::default();
        set.extend(keys);
        set
    }
}

impl<K: PartialEq> PartialEq for FewSet<K> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u8),
        Remove(u8),
        PopFirst,
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..24u8, any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => (0..24u8).prop_map(Step::Remove),
            1 => Just(Step::PopFirst),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn it_is_the_tree_that_it_stands_for(steps in steps()) {
            let (mut few, mut tree) = (FewMap::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(key, value) => prop_assert_eq!(few.insert(key, value), tree.insert(key, value)),
                    Step::Remove(key) => prop_assert_eq!(few.remove(&key), tree.remove(&key)),
                    Step::PopFirst => prop_assert_eq!(few.pop_first(), tree.pop_first()),
                    Step::Clear => {
                        few.clear();
                        tree.clear();
                    }
                }
                prop_assert_eq!(few.len(), tree.len());
                prop_assert!(few.iter().eq(&tree) && few.iter().rev().eq(tree.iter().rev()));
                prop_assert!(few.values().eq(tree.values()) && few.clone().into_values().eq(tree.clone().into_values()));
                prop_assert!(few.iter_mut().eq(tree.iter_mut()));
                prop_assert_eq!(few.last_key_value(), tree.last_key_value());
                for key in 0..24 {
                    prop_assert_eq!(few.get(&key), tree.get(&key));
                    prop_assert_eq!(few.get_mut(&key), tree.get_mut(&key));
                    let after = tree.range((Bound::Excluded(key), Bound::Unbounded));
                    prop_assert!(few.after(Some(&key)).eq(after));
                }
                prop_assert!(few.after(None).eq(&tree));
            }
        }
    }

    #[test]
    fn what_is_empty_again_keeps_nothing_reserved() {
        let mut set: FewSet<u8> = (0..100).collect();
        (0..100).for_each(|key| assert!(set.remove(&key)));
        assert!(matches!(&set.0.0, Entries::Few(few) if few.capacity() == 0));
        assert_eq!(size_of::<FewSet<u8>>(), size_of::<Vec<u8>>());
    }
}

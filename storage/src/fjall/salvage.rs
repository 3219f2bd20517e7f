//! What can still be read of a damaged folder: the newest value of each key, whatever file it stands in.
//!
//! It is collected in a scratch database, since it may be more than fits in memory. Nothing here trusts what ties fjall's
//! files together: every table and every journal is read for itself.

use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::files;
use super::journal::{self, Change};
use super::{Failure, Space, table};
use crate::damage::Damage;
use crate::engine::StorageError;

/// The newest values.
pub(super) struct Salvage {
    found: Keyspace,
    // The keyspace lives as long as this.
    _database: Database,
}

impl Salvage {
    /// Reads every file of a folder, and adds to `damage` what cannot be read of them.
    pub(super) fn read(folder: &Path, scratch: &Path, damage: &mut Vec<Damage>) -> Result<Self, StorageError> {
        let failed = |failure| super::open::storage_error("mend", scratch, failure);
        let make = || -> Result<Self, Failure> {
            let database = Database::builder(scratch).open()?;
            let found = database.keyspace("found", KeyspaceCreateOptions::default)?;
            Ok(Self { found, _database: database })
        };
        let salvage = make().map_err(failed)?;
        for (keyspace, path) in files::tables(folder)? {
            let bytes = files::read(&path)?.unwrap_or_default();
            let (mut kept, name) = (Ok(()), files::within(folder, &path));
            let found = table::read(&bytes, keyspace, |change| salvage.keep_unless_failed(&change, &mut kept));
            kept.map_err(failed)?;
            note(damage, &name, found);
        }
        let mut last = 0;
        for path in files::journals(folder)? {
            let bytes = files::read(&path)?.unwrap_or_default();
            let (mut kept, name) = (Ok(()), files::within(folder, &path));
            let found = journal::read(&bytes, &mut last, |change| salvage.keep_unless_failed(&change, &mut kept));
            kept.map_err(failed)?;
            note(damage, &name, found);
        }
        Ok(salvage)
    }

    fn keep_unless_failed(&self, change: &Change<'_>, kept: &mut Result<(), Failure>) {
        if kept.is_ok() {
            *kept = self.keep(change);
        }
    }

    /// Keeps a change unless a newer one of the same key is there.
    fn keep(&self, change: &Change<'_>) -> Result<(), Failure> {
        if !Space::ALL.iter().any(|(space, _)| files::number(*space) == change.keyspace) {
            return Ok(());
        }
        let key = [&change.keyspace.to_be_bytes(), &*change.key].concat();
        let newer = |kept: &[u8]| kept.first_chunk().is_some_and(|seqno| u64::from_be_bytes(*seqno) > change.seqno);
        if self.found.get(&key)?.is_some_and(|kept| newer(&kept)) {
            return Ok(());
        }
        let (tag, value) = match &change.value {
            Some(value) => (THERE, &**value),
            None => (DELETED, &[][..]),
        };
        Ok(self.found.insert(key, [&change.seqno.to_be_bytes(), &[tag][..], value].concat())?)
    }

    /// Returns a value.
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let kept = self.found.get(place(space, key))?;
        Ok(kept.and_then(|kept| value(&kept)))
    }

    /// Returns what a keyspace holds under keys that begin with `prefix`, in order.
    pub(super) fn all(
        &self,
        space: Space,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Failure>> + use<> {
        let found = self.found.prefix(place(space, prefix));
        found.filter_map(|guard| match guard.into_inner() {
            Ok((key, kept)) => value(&kept).map(|value| Ok((key[8..].to_vec(), value))),
            Err(error) => Some(Err(error.into())),
        })
    }
}

fn note(damage: &mut Vec<Damage>, file: &str, found: Vec<String>) {
    for damaged in found.into_iter().map(|why| Damage::new(file, why)) {
        if !damage.contains(&damaged) {
            damage.push(damaged);
        }
    }
}

fn place(space: Space, key: &[u8]) -> Vec<u8> {
    [&files::number(space).to_be_bytes(), key].concat()
}

fn value(kept: &[u8]) -> Option<Vec<u8>> {
    kept.get(8).filter(|tag| **tag == THERE).map(|_| kept[9..].to_vec())
}

const DELETED: u8 = 0;
const THERE: u8 = 1;

//! What a store keeps in notes: users, their tables, used codes, quotas, revocations, seals.

use bytes::Bytes;
use gigfs_core::{Incarnation, StoreId};
use gigfs_storage::{Batch, Engine as _, Memory};
use gigfs_store_server::decoding;

/// How the keys of the notes begin.
const KINDS: [&str; 6] = ["user/", "code/", "quota/", "noted/", "revoked/", "sealed/"];

/// The bytes are notes: which kind, the length of the rest of the key, of the value in tens, and both.
pub(crate) fn law(mut bytes: &[u8]) {
    let engine = Memory::new(StoreId::from_bytes([1; 16]), Incarnation::from_bytes([2; 16]));
    let mut batch = Batch::default();
    while batch.notes.len() < NOTES_MAX
        && let Some(([kind, name, value], rest)) = bytes.split_first_chunk::<3>()
    {
        let (name, rest) = rest.split_at(usize::from(*name).min(rest.len()));
        let (value, rest) = rest.split_at((usize::from(*value) * 10).min(rest.len()));
        bytes = rest;
        let key = [KINDS[usize::from(*kind) % KINDS.len()].as_bytes(), name].concat();
        batch.notes.push((key.into(), Some(Bytes::copy_from_slice(value))));
    }
    engine.commit(&batch).expect("memory takes any notes");
    decoding::notes(&engine).expect("a note that cannot be read is left out");
}

const NOTES_MAX: usize = 32;

//! Fjall's tables, read block by block as they stand in their files.
//!
//! A table begins with its data blocks, one behind the other; an index block follows, and more. Each block has a header with
//! a checksum of its own and one of the block, so a damaged block is left out and those behind it are read. Behind a damaged
//! header the next block begins at the first byte from which blocks run on to the index.

use std::borrow::Cow;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use lsm_tree::coding::Decode as _;
use lsm_tree::table::block::decoder::ParsedItem as _;
use lsm_tree::table::block::{BlockType, Header};
use lsm_tree::table::{Block, DataBlock};
use lsm_tree::{Cache, Checksum, CompressionType, InternalValue, Table, ValueType};

use super::journal::Change;
use super::open::is_damage_by;

/// Reads a table of a keyspace, hands over what its sound data blocks hold, and returns what is damaged of them.
pub(super) fn read(bytes: &[u8], keyspace: u64, mut each: impl FnMut(Change<'_>)) -> Vec<String> {
    let (mut damage, mut at) = (Vec::new(), 0);
    loop {
        match header(bytes, at) {
            Some(header) if header.block_type == BlockType::Data => {
                let end = end_of(at, &header);
                match items(&bytes[at..end], &header) {
                    Some(items) => items.into_iter().map(|item| change(keyspace, item)).for_each(&mut each),
                    None => damage.push(format!("the block at byte {at} is not what was written")),
                }
                at = end;
            }
            Some(_) => return damage,
            None => match starts_of_blocks(bytes, at + 1).find(|from| runs_to_the_index(bytes, *from)) {
                Some(next) => {
                    damage.push(format!("bytes {at} to {next} cannot be read"));
                    at = next;
                }
                None => {
                    damage.push(format!("it cannot be read from byte {at} on"));
                    return damage;
                }
            },
        }
    }
}

/// Returns the newest seqno in a table, if what describes the table is what was written. The data blocks are not looked at.
///
/// # Errors
/// What the system says of a disk that does not read the file.
pub(super) fn newest(file: &Path) -> io::Result<Option<u64>> {
    let recover = || {
        let cache = Arc::new(Cache::with_capacity_bytes(0));
        Table::recover(file.to_owned(), Checksum::from_raw(0), 0, 0, cache, None, true, true)
    };
    match catch_unwind(AssertUnwindSafe(recover)) {
        Ok(Ok(table)) => Ok(Some(table.get_highest_seqno())),
        Ok(Err(lsm_tree::Error::Io(error))) if !is_damage_by(error.kind()) => Err(error),
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

/// Returns the header of a block that is there to its end.
fn header(bytes: &[u8], at: usize) -> Option<Header> {
    let header = Header::decode_from(&mut bytes.get(at..)?).ok()?;
    (end_of(at, &header) <= bytes.len()).then_some(header)
}

fn end_of(at: usize, header: &Header) -> usize {
    at + Header::serialized_len() + header.data_length as usize
}

fn starts_of_blocks(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> {
    let magic = lsm_tree::file::MAGIC_BYTES;
    (from..bytes.len().saturating_sub(magic.len())).filter(move |at| bytes[*at..*at + magic.len()] == magic)
}

fn runs_to_the_index(bytes: &[u8], mut at: usize) -> bool {
    while let Some(header) = header(bytes, at) {
        if header.block_type != BlockType::Data {
            return true;
        }
        at = end_of(at, &header);
    }
    false
}

/// Decodes a data block, if it is sound. A header does not say whether its block is compressed, but its lengths do.
fn items(mut block: &[u8], header: &Header) -> Option<Vec<InternalValue>> {
    let compression = match header.data_length == header.uncompressed_length {
        true => CompressionType::None,
        false => CompressionType::Lz4,
    };
    let decode = || {
        let block = DataBlock::new(Block::from_reader(&mut block, compression).ok()?);
        Some(block.iter().map(|item| item.materialize(block.as_slice())).collect())
    };
    catch_unwind(AssertUnwindSafe(decode)).ok().flatten()
}

fn change(keyspace: u64, item: InternalValue) -> Change<'static> {
    let value = (item.key.value_type == ValueType::Value).then(|| Cow::Owned(item.value.to_vec()));
    Change { keyspace, seqno: item.key.seqno, key: Cow::Owned(item.key.user_key.to_vec()), value }
}

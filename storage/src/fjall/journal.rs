//! Fjall's journals, read as they stand in their files: which batches are sound, and what is between them.
//!
//! A batch is `1, count (u32), seqno (u64)`, its items, and `3, XXH3-64 of the items, "FJL\x03"`; an item is
//! `2, type, compression, keyspace (u64), lengths of the key (u16), of the value (u32) and of the value as it is stored (u32)`,
//! the key, the value; numbers are little endian. After the last batch there are zeros or nothing, or, after a crash, the
//! beginning of a batch.
//!
//! Fjall forgets all that comes after a batch which it cannot read, or does not open. Here reading goes on behind what is
//! damaged. Where it is not clear at which byte the next batch begins, it begins at the first byte from which batches run on
//! to the end: bytes inside a value, which somebody may have chosen, are followed by the rest of their own batch and never
//! pass for one.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

/// One change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change<'b> {
    pub(super) keyspace: u64,
    pub(super) seqno: u64,
    pub(super) key: Cow<'b, [u8]>,
    /// Nothing where the key is deleted.
    pub(super) value: Option<Cow<'b, [u8]>>,
}

/// Reads a journal, hands over each change of its sound batches, and returns what is damaged. `last` is the last seqno of
/// the journal before, and becomes this one's.
pub(super) fn read<'b>(bytes: &'b [u8], last: &mut u64, mut each: impl FnMut(Change<'b>)) -> Vec<String> {
    let (frames, mut damage) = frames(bytes);
    for (at, frame) in frames.iter().enumerate() {
        if !frame.is_sound(bytes) {
            damage.push(format!("the batch at byte {} is not what was written", frame.start));
            continue;
        }
        let next = frames.get(at + 1).map(|next| next.seqno).filter(|next| *next > *last);
        // The journals before the first one are gone.
        let leap = if *last > 0 { SEQNO_LEAP_MAX } else { FIRST_SEQNO_MAX };
        let seqno = match frame.seqno {
            // The order of the batches is that of their seqnos. Fjall's checksum leaves the seqno out.
            seqno if seqno <= *last || next.is_some_and(|next| seqno >= next) || seqno - *last > leap => {
                damage.push(format!("the batch at byte {} has a number that it cannot have", frame.start));
                *last
            }
            seqno => seqno,
        };
        *last = seqno;
        frame.changes(bytes, seqno).for_each(&mut each);
    }
    damage
}

/// Returns where the batches end that are there from the beginning on.
pub(super) fn end(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(frame) = Frame::parse(bytes, at) {
        at = frame.end;
    }
    at
}

/// A batch as it lies in the file.
#[derive(Debug, Clone, Copy)]
struct Frame {
    start: usize,
    items: (usize, usize),
    end: usize,
    seqno: u64,
    count: u32,
    found: u32,
    checksum: u64,
}

/// Finds the batches of a journal, sound or not, and says where there are none and should be.
fn frames(bytes: &[u8]) -> (Vec<Frame>, Vec<String>) {
    let (mut frames, mut damage, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        if bytes[at..].iter().all(|byte| *byte == 0) {
            return (frames, damage);
        }
        if let Some(frame) = Frame::parse(bytes, at) {
            at = frame.end;
            frames.push(frame);
            continue;
        }
        match (at + 1..bytes.len()).find(|from| runs_to_the_end(bytes, *from)) {
            Some(next) => {
                damage.push(format!("bytes {at} to {next} cannot be read"));
                at = next;
            }
            None => {
                if !is_torn(&bytes[at..]) {
                    damage.push(format!("it cannot be read from byte {at} on"));
                }
                return (frames, damage);
            }
        }
    }
}

/// Tells whether there are batches from here on, and nothing else.
fn runs_to_the_end(bytes: &[u8], mut at: usize) -> bool {
    let from = at;
    at += end(&bytes[from..]);
    at > from && bytes[at..].iter().all(|byte| *byte == 0)
}

/// Tells whether this is what a crash leaves: the beginning of a batch, as far as it goes, and no end.
fn is_torn(bytes: &[u8]) -> bool {
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let has_end = bytes.windows(MAGIC.len()).any(|window| window == MAGIC);
    Cursor { bytes: &bytes[..written], at: 0 }.is_beginning() && !has_end
}

impl Frame {
    fn parse(bytes: &[u8], start: usize) -> Option<Self> {
        let mut cursor = Cursor { bytes, at: start };
        if cursor.u8()? != START {
            return None;
        }
        let (count, seqno) = (cursor.u32()?, cursor.u64()?);
        let first = cursor.at;
        let mut found = 0;
        loop {
            let before = cursor.at;
            match cursor.u8()? {
                ITEM => _ = cursor.item()?,
                CLEAR => _ = cursor.u64()?,
                END => {
                    let checksum = cursor.u64()?;
                    let items = (first, before);
                    let is_end = cursor.take(MAGIC.len())? == MAGIC;
                    return is_end.then_some(Self { start, items, end: cursor.at, seqno, count, found, checksum });
                }
                _ => return None,
            }
            found += 1;
        }
    }

    fn is_sound(&self, bytes: &[u8]) -> bool {
        self.count == self.found
            && xxh3_64(&bytes[self.items.0..self.items.1]) == self.checksum
            && self.changes(bytes, self.seqno).count() == self.found as usize
    }

    /// Reads the items. There are fewer if one cannot be unpacked.
    fn changes<'b>(&self, bytes: &'b [u8], seqno: u64) -> impl Iterator<Item = Change<'b>> + use<'b> {
        let mut cursor = Cursor { bytes: &bytes[..self.items.1], at: self.items.0 };
        std::iter::from_fn(move || {
            loop {
                match cursor.u8()? {
                    ITEM => return cursor.item()?.change(seqno),
                    // There is none in what this engine writes.
                    _ => _ = cursor.u64()?,
                }
            }
        })
    }
}

/// An item as it lies in the file.
struct Item<'b> {
    kind: u8,
    compression: u8,
    keyspace: u64,
    length: usize,
    key: &'b [u8],
    stored: &'b [u8],
}

impl<'b> Item<'b> {
    fn change(self, seqno: u64) -> Option<Change<'b>> {
        let value = match (self.kind, self.compression) {
            (VALUE, UNPACKED) => Some(Cow::Borrowed(self.stored)),
            (VALUE, LZ4) => Some(Cow::Owned(lz4_flex::block::decompress(self.stored, self.length).ok()?)),
            (DELETED | DELETED_ONCE, _) => None,
            _ => return None,
        };
        Some(Change { keyspace: self.keyspace, seqno, key: Cow::Borrowed(self.key), value })
    }
}

#[derive(Clone, Copy)]
struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Tells whether a batch could go on where this ends.
    fn is_beginning(mut self) -> bool {
        match self.array::<13>() {
            Some([START, ..]) => {}
            Some(_) => return false,
            None => return self.bytes.first() == Some(&START),
        }
        while self.at < self.bytes.len() {
            let read = match self.u8() {
                Some(ITEM) => self.item().map(drop),
                Some(CLEAR) => self.u64().map(drop),
                Some(END) => return self.bytes.len() - self.at < END_BYTES - 1,
                _ => return false,
            };
            if read.is_none() {
                return true;
            }
        }
        true
    }

    /// Reads an item behind its tag.
    fn item(&mut self) -> Option<Item<'b>> {
        let (kind, compression, keyspace) = (self.u8()?, self.u8()?, self.u64()?);
        let key = usize::from(self.array().map(u16::from_le_bytes)?);
        let (length, stored) = (self.u32()? as usize, self.u32()? as usize);
        if length > VALUE_BYTES_MAX {
            return None;
        }
        Some(Item { kind, compression, keyspace, length, key: self.take(key)?, stored: self.take(stored)? })
    }
}

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const VALUE: u8 = 0;
const DELETED: u8 = 1;
const DELETED_ONCE: u8 = 2;
const UNPACKED: u8 = 0;
const LZ4: u8 = 1;
const MAGIC: &[u8] = b"FJL\x03";
/// Bytes of the end of a batch.
const END_BYTES: usize = 1 + 8 + MAGIC.len();
/// Bytes of a value; what this engine writes has fewer.
const VALUE_BYTES_MAX: usize = 1 << 30;
/// How far apart the seqnos of two batches may be.
const SEQNO_LEAP_MAX: u64 = 1 << 32;
/// The greatest seqno that a journal may begin with; more are not given in a lifetime.
const FIRST_SEQNO_MAX: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a batch with one value.
    fn batch(seqno: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut item = vec![ITEM, VALUE, UNPACKED];
        item.extend(5_u64.to_le_bytes());
        item.extend((key.len() as u16).to_le_bytes());
        item.extend([(value.len() as u32).to_le_bytes(); 2].concat());
        item.extend([key, value].concat());
        let start = [&[START][..], &1_u32.to_le_bytes(), &seqno.to_le_bytes()].concat();
        let end = [&[END][..], &xxh3_64(&item).to_le_bytes(), MAGIC].concat();
        [start, item, end].concat()
    }

    fn journal() -> (Vec<Vec<u8>>, Vec<u8>) {
        let batches: Vec<_> = (1..=4).map(|seqno| batch(seqno, &[seqno as u8], b"value")).collect();
        let bytes = [batches.concat(), vec![0; 100]].concat();
        (batches, bytes)
    }

    fn found(bytes: &[u8]) -> (Vec<u8>, usize) {
        let (mut keys, mut last) = (Vec::new(), 0);
        let damage = read(bytes, &mut last, |change| keys.push(change.key[0]));
        (keys, damage.len())
    }

    #[test]
    fn a_flip_anywhere_loses_its_own_batch_at_most_and_is_named() {
        let (batches, whole) = journal();
        assert_eq!(found(&whole), (vec![1, 2, 3, 4], 0));
        for at in 0..batches.concat().len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let (keys, damage) = found(&bytes);
                let own = (1 + at / batches[0].len()) as u8;
                // Of a seqno that still fits between its neighbours nothing is seen, and nothing is lost.
                let of_seqno = (5..13).contains(&(at % batches[0].len()));
                assert!(damage > 0 || (of_seqno && keys == [1, 2, 3, 4]), "byte {at}, bit {bit}");
                assert!((1..=4).all(|key| key == own || keys.contains(&key)), "byte {at}, bit {bit}: {keys:?}");
            }
        }
    }

    #[test]
    fn a_journal_begins_at_any_number_and_goes_on_in_small_steps() {
        let first = 3 * SEQNO_LEAP_MAX;
        let bytes = |second| [batch(first, b"a", b"x"), batch(second, b"b", b"y")].concat();
        assert_eq!(found(&bytes(first + 7)), (vec![b'a', b'b'], 0));
        assert_eq!(found(&bytes(first + SEQNO_LEAP_MAX + 1)).1, 1);
        assert_eq!(found(&batch(1 << 63, b"a", b"x")), (vec![b'a'], 1));
    }

    #[test]
    fn the_beginning_of_a_batch_at_the_end_is_what_a_crash_leaves_and_no_damage() {
        let (batches, _) = journal();
        let all = batches.concat();
        let last = all.len() - batches[3].len();
        for end in last..all.len() {
            let torn = [&all[..end], &[0; 50]].concat();
            assert_eq!(found(&torn), (vec![1, 2, 3], 0), "cut at {end}");
            assert_eq!(found(&all[..end]), (vec![1, 2, 3], 0), "cut at {end}");
        }
    }

    #[test]
    fn a_batch_inside_a_value_is_never_taken_for_one() {
        let chosen = [batch(2, b"forged", b"x"), batch(3, b"forged", b"x")].concat();
        let mut bytes = [batch(1, b"a", &chosen), batch(9, b"b", b"y")].concat();
        bytes[0] = 0xff;
        assert_eq!(found(&bytes), (vec![b'b'], 1));
        let all = bytes.len() - batch(9, b"b", b"y").len();
        bytes.truncate(all);
        assert_eq!(found(&bytes), (vec![], 1));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let (_, whole) = journal();
        for end in 0..whole.len() {
            found(&whole[end..]);
        }
        found(&[ITEM; 64]);
        found(&[START; 64]);
    }
}

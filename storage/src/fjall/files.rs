//! The files of a fjall folder, looked at without fjall, which on opening deletes what it cannot place.
//!
//! A keyspace's file `current` names its newest list of tables, `v…`, with a checksum of it, and the list has the checksum of
//! each table. So everything but the journals is checked from `current` on; the journals check themselves. What that leaves
//! open is what is cut off at the end of a journal: when the data is closed in good order, the lengths of all files are
//! written down, and looked at when it is opened again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::open::is_damage_by;
use super::{Space, journal, table};
use crate::damage::Damage;
use crate::engine::StorageError;
use crate::home::{self, io_error};

/// Holds the lock that fjall takes.
pub(super) struct Lock(#[expect(dead_code, reason = "it is given back when this is dropped")] File);

impl Lock {
    /// Takes it. The file is made if it is gone: it holds nothing.
    pub(super) fn take(folder: &Path) -> Result<Self, StorageError> {
        let file = home::create_file(&folder.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(fs::TryLockError::WouldBlock) => Err(StorageError::Locked { place: folder.display().to_string() }),
            Err(fs::TryLockError::Error(error)) => Err(io_error("lock", folder, &error)),
        }
    }
}

/// How much of the files is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What fjall reads when it opens.
    Opening,
    /// Every byte.
    Everything,
}

/// Looks at all files and returns what is damaged. `seen` is told of bytes that were read.
pub(super) fn check(folder: &Path, depth: Depth, mut seen: impl FnMut(u64)) -> Result<Vec<Damage>, StorageError> {
    let mut damage = noted(folder)?;
    damage.extend(lengths(folder)?);
    match read(&folder.join(MARKER))? {
        Some(marker) if marker == MARKER_BYTES => {}
        // Of another version, which fjall names.
        Some(marker) if marker.len() == MARKER_BYTES.len() && marker[..3] == MARKER_BYTES[..3] => {}
        Some(_) => damage.push(Damage::new(MARKER, "it is not what was written")),
        None => damage.push(Damage::new(MARKER, GONE)),
    }
    let mut newest = BTreeMap::new();
    for keyspace in 0..=Space::ALL.len() as u64 {
        let path = keyspace_folder(folder, keyspace);
        match path.is_dir() {
            true => {
                let (seqno, found) = check_keyspace(folder, keyspace, depth, &mut seen)?;
                newest.insert(keyspace, seqno);
                damage.extend(found);
            }
            // Those that the first format did not have come to be when it is opened.
            false if keyspace <= SPACES_OF_THE_FIRST_FORMAT => damage.push(Damage::new(within(folder, &path), GONE)),
            false => {}
        }
    }
    damage.extend(check_journals(folder, &newest, &mut seen)?);
    Ok(damage)
}

/// Checks the journals, and that they are not behind the tables. `newest` are the newest seqnos in tables, by keyspace.
fn check_journals(
    folder: &Path,
    newest: &BTreeMap<u64, u64>,
    seen: &mut impl FnMut(u64),
) -> Result<Vec<Damage>, StorageError> {
    let (mut damage, mut last, mut next) = (Vec::new(), 0, None);
    for (number, path) in numbered_journals(folder)? {
        if next.is_some_and(|next| next != number) {
            damage.push(Damage::new(format!("{}.jnl", next.unwrap_or_default()), GONE));
        }
        next = Some(number + 1);
        let Some(bytes) = read(&path)? else { continue };
        seen(bytes.len() as u64);
        let found = journal::read(&bytes, &mut last, |_| ());
        damage.extend(found.into_iter().map(|why| Damage::new(within(folder, &path), why)));
    }
    let of = |space: Space| newest.get(&number(space)).copied().unwrap_or(0);
    let in_tables = newest.iter().filter(|(keyspace, _)| **keyspace > 0).map(|(_, seqno)| *seqno).max().unwrap_or(0);
    // A journal goes when all that it holds is in tables; whatever writes records writes the sums in `meta` too.
    let is_behind = match last {
        0 => of(Space::Meta) < of(Space::Ops),
        last => last < in_tables,
    };
    if is_behind && damage.is_empty() {
        damage.push(Damage::new("the journals", "they end before what is in the tables"));
    }
    Ok(damage)
}

/// Checks a keyspace, and returns the newest seqno in its tables too.
fn check_keyspace(
    folder: &Path,
    keyspace: u64,
    depth: Depth,
    seen: &mut impl FnMut(u64),
) -> Result<(u64, Vec<Damage>), StorageError> {
    let path = keyspace_folder(folder, keyspace);
    let damaged = |file: &Path, why: &str| Ok((0, vec![Damage::new(within(folder, file), why)]));
    let current = path.join("current");
    let Some(bytes) = read(&current)? else { return damaged(&current, GONE) };
    let Some((version, checksum)) = parse_current(&bytes) else { return damaged(&current, CHANGED) };
    let list = path.join(format!("v{version}"));
    let Some(bytes) = read(&list)? else { return damaged(&list, GONE) };
    if xxh3_128(&bytes) != checksum {
        return damaged(&list, "its checksum is not the one that \"current\" has");
    }
    let Some(tables) = parse_tables(&list).map_err(|error| io_error("read", &list, &error))? else {
        return damaged(&list, CHANGED);
    };
    let (mut newest, mut damage) = (0, Vec::new());
    for (table, checksum) in tables {
        let file = path.join("tables").join(table.to_string());
        let why = match (depth, file.is_file()) {
            (_, false) => GONE,
            (Depth::Everything, true) if checksum_of(&file, seen)? != checksum => CHANGED,
            _ => match table::newest(&file).map_err(|error| io_error("read", &file, &error))? {
                Some(seqno) => {
                    newest = newest.max(seqno);
                    continue;
                }
                None => CHANGED,
            },
        };
        damage.push(Damage::new(within(folder, &file), why));
    }
    Ok((newest, damage))
}

/// Returns the tables that the folder has files of, whether they belong to it or not.
pub(super) fn tables(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let mut tables = Vec::new();
    for keyspace in Space::ALL.map(|(space, _)| number(space)) {
        let folder = keyspace_folder(folder, keyspace).join("tables");
        tables.extend(list(&folder)?.into_iter().map(|path| (keyspace, path)));
    }
    Ok(tables)
}

/// Returns the journals, oldest first.
pub(super) fn journals(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    Ok(numbered_journals(folder)?.into_iter().map(|(_, path)| path).collect())
}

fn numbered_journals(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let journals = list(folder)?.into_iter().filter(|path| is_journal(path));
    let mut journals: Vec<_> = journals.filter_map(|path| number(&path).map(|number| (number, path))).collect();
    journals.sort();
    Ok(journals)
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "jnl")
}

/// Returns the bytes of all files.
pub(super) fn size(folder: &Path) -> Result<u64, StorageError> {
    Ok(all_lengths(folder)?.into_values().sum())
}

/// Writes down the lengths of all files, once the data is closed.
pub(super) fn note_lengths(folder: &Path) -> Result<(), StorageError> {
    // Who has opened it meanwhile does this later.
    let Ok(_lock) = Lock::take(folder) else { return Ok(()) };
    let lengths = all_lengths(folder)?;
    let json = serde_json::to_string(&lengths).expect("names and numbers are plain JSON");
    write(&folder.join(LENGTHS), format!("{:032x}\n{json}\n", xxh3_128(json.as_bytes())).as_bytes())
}

/// Forgets the lengths of the files, which change from now on.
pub(super) fn forget_lengths(folder: &Path) -> Result<(), StorageError> {
    match fs::remove_file(folder.join(LENGTHS)) {
        Ok(()) => home::sync_folder(folder),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("write", folder, &error)),
    }
}

/// Compares the files with those that were there when the data was closed.
fn lengths(folder: &Path) -> Result<Vec<Damage>, StorageError> {
    let Some(noted) = read(&folder.join(LENGTHS))? else { return Ok(Vec::new()) };
    let Some(before) = parse_lengths(&noted) else { return Ok(vec![Damage::new(LENGTHS, CHANGED)]) };
    let now = all_lengths(folder)?;
    let differs = |(name, before): (String, u64)| match now.get(&name) {
        Some(now) if *now >= before => None,
        Some(now) => Some(Damage::new(name, format!("it had {before} bytes and {now} are left"))),
        None => Some(Damage::new(name, GONE)),
    };
    Ok(before.into_iter().filter_map(differs).collect())
}

fn parse_lengths(noted: &[u8]) -> Option<BTreeMap<String, u64>> {
    let (checksum, json) = str::from_utf8(noted).ok()?.trim_end().split_once('\n')?;
    (checksum == format!("{:032x}", xxh3_128(json.as_bytes()))).then(|| serde_json::from_str(json).ok())?
}

/// Returns the bytes of each file; of a journal, those that are written.
fn all_lengths(folder: &Path) -> Result<BTreeMap<String, u64>, StorageError> {
    let mut lengths = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in list(&next)? {
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // Fjall removes what it does not need any more, while it is open.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error("look at", &path, &error)),
            };
            let name = within(folder, &path);
            match metadata.is_dir() {
                true => folders.push(path),
                false if [LENGTHS, LOCK, NOTED].contains(&name.as_str()) || name.ends_with(".new") => {}
                false if is_journal(&path) => {
                    let written = journal::end(&read(&path)?.unwrap_or_default()) as u64;
                    lengths.insert(name, written);
                }
                false => _ = lengths.insert(name, metadata.len()),
            }
        }
    }
    Ok(lengths)
}

/// Notes damage that was met while the data was open, so that opening it again mends it.
pub(super) fn note(folder: &Path, damage: &Damage) -> Result<(), StorageError> {
    let mut all = noted(folder)?;
    if all.contains(damage) {
        return Ok(());
    }
    all.push(damage.clone());
    let lines = all.iter().map(|damage| format!("{}\t{}\n", damage.what, damage.why));
    write(&folder.join(NOTED), lines.collect::<String>().as_bytes())
}

fn noted(folder: &Path) -> Result<Vec<Damage>, StorageError> {
    let bytes = read(&folder.join(NOTED))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter_map(|line| line.split_once('\t')).map(|(what, why)| Damage::new(what, why)).collect())
}

/// Returns a file's bytes; nothing if it is not there.
pub(super) fn read(file: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", file, &error)),
    }
}

/// Writes a whole file or leaves what was there.
pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let new = home::beside(file, "new");
    let written = || {
        let mut open = File::create(&new)?;
        open.write_all(bytes)?;
        open.sync_all()?;
        fs::rename(&new, file)
    };
    let written = written();
    if written.is_err() {
        // It would take room from the next one.
        _ = fs::remove_file(&new);
    }
    written.map_err(|error| io_error("write", file, &error))?;
    home::sync_folder(home::parent(file))
}

/// Writes all journals anew, as they are read, and has them on disk.
pub(super) fn rewrite_journals(folder: &Path) -> Result<(), StorageError> {
    for path in journals(folder)? {
        let bytes = read(&path)?.unwrap_or_default();
        // What is allotted and not written yet is all zeros, and is not needed.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        write(&path, &bytes[..written])?;
    }
    Ok(())
}

/// Returns the bytes that the longest journal takes on the disk. What is allotted and not written takes none.
pub(super) fn longest_journal(folder: &Path) -> Result<u64, StorageError> {
    let mut longest = 0;
    for path in journals(folder)? {
        let metadata = fs::metadata(&path).map_err(|error| io_error("look at", &path, &error))?;
        longest = longest.max(metadata.len().min(taken(&metadata)));
    }
    Ok(longest)
}

#[cfg(unix)]
fn taken(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn taken(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

/// Tells whether the disk takes so many bytes.
pub(super) fn probe(folder: &Path, bytes: u64) -> Result<(), StorageError> {
    let file = folder.join("probe.new");
    let written = || {
        let mut open = File::create(&file)?;
        io::copy(&mut io::repeat(1).take(bytes), &mut open)?;
        open.sync_all()
    };
    let written = written().map_err(|error| io_error("write", &file, &error));
    // The next one takes its place.
    _ = fs::remove_file(&file);
    written
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let failed = |error| io_error("read", folder, &error);
    match fs::read_dir(folder) {
        Ok(entries) => {
            let mut paths: Vec<_> =
                entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().map_err(failed)?;
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Fjall numbers keyspaces from 1 in the order in which they were made; 0 is its own.
pub(super) fn number(space: Space) -> u64 {
    space as u64 + 1
}

fn keyspace_folder(folder: &Path, keyspace: u64) -> PathBuf {
    folder.join("keyspaces").join(keyspace.to_string())
}

/// Names a file by its path in the folder.
pub(super) fn within(folder: &Path, file: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).display().to_string()
}

fn checksum_of(file: &Path, seen: &mut impl FnMut(u64)) -> Result<u128, StorageError> {
    let failed = |error| io_error("read", file, &error);
    let mut open = File::open(file).map_err(failed)?;
    let (mut hasher, mut bytes) = (Xxh3Default::new(), vec![0; 1 << 20]);
    loop {
        match open.read(&mut bytes).map_err(failed)? {
            0 => return Ok(hasher.digest128()),
            count => {
                hasher.update(&bytes[..count]);
                seen(count as u64);
            }
        }
    }
}

/// Reads the number of the newest list of tables, and its checksum.
fn parse_current(bytes: &[u8]) -> Option<(u64, u128)> {
    let (version, rest) = bytes.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (kind == [0]).then_some((u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
}

/// Reads the tables of a list, each with its checksum; nothing if it is not what was written.
fn parse_tables(list: &Path) -> io::Result<Option<Vec<(u64, u128)>>> {
    let unless_damaged = |error: io::Error| match is_damage_by(error.kind()) {
        true => Ok(None),
        false => Err(error),
    };
    let reader = match sfa::Reader::new(list) {
        Ok(reader) => reader,
        Err(sfa::Error::Io(error)) => return unless_damaged(error),
        Err(_) => return Ok(None),
    };
    let Some(section) = reader.toc().section(b"tables") else { return Ok(None) };
    let read = || -> io::Result<_> {
        let (mut section, mut tables) = (section.buf_reader(list)?, Vec::new());
        for _ in 0..u8::from_le_bytes(take(&mut section)?) {
            for _ in 0..u8::from_le_bytes(take(&mut section)?) {
                for _ in 0..u32::from_le_bytes(take(&mut section)?) {
                    let id = u64::from_le_bytes(take(&mut section)?);
                    let [_kind] = take(&mut section)?;
                    let checksum = u128::from_le_bytes(take(&mut section)?);
                    let _seqno: [u8; 8] = take(&mut section)?;
                    tables.push((id, checksum));
                }
            }
        }
        Ok(Some(tables))
    };
    read().or_else(unless_damaged)
}

fn take<const N: usize>(reader: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A file that fjall makes once and keeps; its identity is the data's.
pub(super) const MARKER: &str = "version";
const MARKER_BYTES: &[u8] = b"FJL\x03";
const LOCK: &str = "lock";
/// The lengths of all files when the data was closed: XXH3-128 of the second line in hexadecimal, and JSON. // persisted
const LENGTHS: &str = "closed";
/// Damage that was met while the data was open: what, a tab, why, a line each. // persisted
const NOTED: &str = "noted";
/// Keyspaces that were there from the first format on: the first ones.
const SPACES_OF_THE_FIRST_FORMAT: u64 = 8;
const GONE: &str = "it is gone";
const CHANGED: &str = "it is not what was written";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_does_not_read_is_not_taken_for_damage() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        // The system refuses to look there, for root too.
        assert!(parse_tables(&file.join("below")).is_err());
        assert!(table::newest(&file.join("below")).is_err());
        for bytes in [&b""[..], b"not what was written"] {
            fs::write(&file, bytes).unwrap();
            assert!(matches!(parse_tables(&file), Ok(None)), "{bytes:?}");
            assert!(matches!(table::newest(&file), Ok(None)), "{bytes:?}");
        }
    }

    #[test]
    fn a_file_that_could_not_be_written_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.store-id");
        // A folder is not replaced by a file.
        fs::create_dir_all(file.join("in the way")).unwrap();
        assert!(write(&file, b"bytes").is_err());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["data.store-id"]);
    }
}

//! What the figures were measured on: they mean nothing without it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::bench::load::Samples;
use crate::failure::Failure;

/// The machine, and the disk under the servers' data.
#[derive(Debug)]
pub(super) struct Machine {
    processor: String,
    cores: usize,
    memory_mib: u64,
    system: String,
    /// The file system and what it is on.
    disk: String,
    /// How long it takes to write 4 KiB and sync them.
    pub(super) sync: Samples,
}

impl Machine {
    /// Looks at the machine, and measures the disk that `folder` is on.
    pub(super) fn of(folder: &Path) -> Result<Self, Failure> {
        let sync = sync_cost(folder).map_err(|error| Failure::machine("measure what a sync costs", error))?;
        let memory = field("/proc/meminfo", "MemTotal");
        let memory = memory.and_then(|memory| memory.split(' ').next()?.parse::<u64>().ok());
        Ok(Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            system: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| std::env::consts::OS.to_owned()),
            disk: disk_of(folder).unwrap_or_else(|| "unknown".to_owned()),
            sync,
        })
    }

    pub(super) fn lines(&self) -> [String; 3] {
        let Self { processor, cores, memory_mib, system, disk, .. } = self;
        [
            format!("gig {}, {system}", env!("CARGO_PKG_VERSION")),
            format!("{processor}, {cores} cores, {memory_mib} MiB"),
            format!("disk {disk}"),
        ]
    }

    pub(super) fn json(&self) -> Value {
        let Self { processor, cores, memory_mib, system, disk, .. } = self;
        json!({
            "version": env!("CARGO_PKG_VERSION"), "processor": processor, "cores": cores,
            "memory_mib": memory_mib, "system": system, "disk": disk,
        })
    }
}

/// Writes 4 KiB into a file that has its size already, and syncs them, many times.
fn sync_cost(folder: &Path) -> std::io::Result<Samples> {
    let path = folder.join("sync-cost");
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; SYNCED_BYTES * SYNCS], 0)?;
    file.sync_all()?;
    let mut samples = Samples::default();
    for at in 0..SYNCS {
        let begun = Instant::now();
        file.write_all_at(&[1; SYNCED_BYTES], (at * SYNCED_BYTES) as u64)?;
        file.sync_data()?;
        samples.add(begun.elapsed());
    }
    fs::remove_file(&path)?;
    Ok(samples)
}

/// Returns the file system that a folder is on, and its device: that of the longest mount point above it.
fn disk_of(folder: &Path) -> Option<String> {
    let folder = fs::canonicalize(folder).ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let (place, file_system) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?;
        let mut file_system = file_system.split(' ');
        let (kind, device) = (file_system.next()?, file_system.next()?);
        folder.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, disk)| disk)
}

/// Returns what follows a name and a colon in a file of the system.
pub(super) fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    Some(values.next()?.trim().to_owned())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

const SYNCS: usize = 500;
const SYNCED_BYTES: usize = 4096;

//! A server of the bench: a process of `gig` itself, with what can be seen of it from outside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::bench::DEADLINE;
use crate::bench::machine::field;
use crate::failure::{Exit, Failure};

/// A running server. It is killed when this is dropped.
pub(super) struct Server {
    role: &'static str,
    child: Child,
    url: String,
    data: PathBuf,
}

impl Server {
    /// Starts a table or a store, and waits until it answers.
    pub(super) async fn start(role: &'static str, listen: &str, data: PathBuf) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::machine(&format!("start the {role}"), error);
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        command.args(["--json", role, "--listen", listen, "--data"]).arg(&data);
        command.env("GIG_LOG", "error").env("GIG_STORE_SESSION_OPS_PER_SECOND", SESSION_OPS_PER_SECOND);
        command.env("GIG_TABLE_CONNECTIONS", CONNECTIONS).env("GIG_STORE_CONNECTIONS", CONNECTIONS);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let stdout = child.stdout.take().ok_or_else(|| failed(&"it has no output"))?;
        let line = timeout(DEADLINE, BufReader::new(stdout).lines().next_line()).await;
        let line = line.map_err(|_| failed(&"it does not answer"))?.map_err(|error| failed(&error))?;
        let line = line.ok_or_else(|| failed(&"it ended at once"))?;
        let told: Value = serde_json::from_str(&line).map_err(|error| failed(&error))?;
        let url = told["url"].as_str().unwrap_or_default().to_owned();
        Ok(Self { role, child, url, data })
    }

    /// Kills the server if it runs, and starts it again where it was, with its data. Returns how long it took until it answered.
    pub(super) async fn restart(&mut self) -> Result<Duration, Failure> {
        self.kill().await?;
        let listen = self.url.trim_start_matches("http://").to_owned();
        let begun = Instant::now();
        *self = Self::start(self.role, &listen, self.data.clone()).await?;
        Ok(begun.elapsed())
    }

    /// Kills the server without warning, if it runs, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        if self.child.id().is_none() {
            return Ok(());
        }
        self.child.kill().await.map_err(|error| Failure::machine(&format!("kill the {}", self.role), error))
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn admin_token(&self) -> Result<String, Failure> {
        let file = self.data.join("admin-token");
        let token = fs::read_to_string(&file);
        let token = token.map_err(|error| Failure::machine(&format!("read {}", file.display()), error))?;
        Ok(token.trim().to_owned())
    }

    /// Returns one of the server's own figures.
    pub(super) async fn figure(&self, name: &str) -> Result<f64, Failure> {
        let url = format!("{}/metrics", self.url);
        let read = async { reqwest::get(&url).await?.text().await };
        let text = read.await.map_err(|error| Failure::machine(&format!("read {url}"), error))?;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.trim_start().parse().ok());
        values.next().ok_or_else(|| {
            Failure::new(Exit::Machine, "machine", format!("the {} does not tell of {name} at {url}", self.role))
        })
    }

    /// Returns the bytes of memory that the process has.
    pub(super) fn memory(&self) -> Option<u64> {
        let memory = field(&format!("/proc/{}/status", self.child.id()?), "VmRSS")?;
        Some(memory.split(' ').next()?.parse::<u64>().ok()? * 1024)
    }

    /// Returns the seconds of a processor that the process has used.
    pub(super) fn processor_seconds(&self) -> Option<f64> {
        processor_seconds_of(&self.child.id()?.to_string())
    }

    /// Returns the bytes that a folder in the server's data takes on the disk.
    pub(super) fn disk(&self, folder: &str) -> Result<u64, Failure> {
        let folder = self.data.join(folder);
        size_of(&folder).map_err(|error| Failure::machine(&format!("look at {}", folder.display()), error))
    }
}

/// Returns the seconds of a processor that a process has used, in its own code and in the kernel's for it.
pub(super) fn processor_seconds_of(process: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(TIMES_AT).take(2).map(|ticks| ticks.parse::<f64>().ok());
    Some((ticks.next()?? + ticks.next()??) / TICKS_PER_SECOND)
}

fn size_of(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = match entry.metadata() {
            Ok(found) => found,
            // The server goes on tidying up meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        bytes += match found.is_dir() {
            true => size_of(&entry.path())?,
            false => found.blocks() * BLOCK_BYTES,
        };
    }
    Ok(bytes)
}

/// Where `utime` and `stime` stand in `/proc/PID/stat`, counted from behind the name.
const TIMES_AT: usize = 11;
/// What Linux counts them in, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;
/// What `st_blocks` counts.
const BLOCK_BYTES: u64 = 512;
/// More than any session here can push: the bound is for sharing a store, and it is the store that is measured.
/// All clients are at one address.
const CONNECTIONS: &str = "{most_of_address=16384}";
const SESSION_OPS_PER_SECOND: &str = "100000000";

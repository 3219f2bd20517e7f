//! What a store's owner does with all its data: looking at it, copying it, putting a copy in place.

use std::path::{Path, PathBuf};

use gigfs_core::api::{StoreVerified, UpkeepProgress};
use gigfs_store_server::{UpkeepError, restore as restore_folder, verify as verify_folder};
use indicatif::ProgressBar;
use serde_json::json;

use crate::args::{AdminArgs, RunningStore};
use crate::failure::{Exit, Failure};
use crate::mounting::as_admin;
use crate::output::Output;
use crate::standing::progress;

pub(crate) async fn verify(output: Output, folder: Option<PathBuf>, admin: RunningStore) -> Result<(), Failure> {
    let mut shown = Shown::new(output);
    let verified = match (folder, admin) {
        (None, RunningStore { url: Some(url), admin_token: Some(admin_token), trust }) => {
            let (store, token) = as_admin(&AdminArgs { url, admin_token, trust })?;
            store.verify(&token, |at| shown.show(&at)).await?
        }
        (Some(folder), _) if !folder.is_dir() => {
            return Err(Failure::usage(format!("there is no folder {}", folder.display())));
        }
        (Some(folder), _) => blocking(move || verify_folder(&folder, |at| shown.show(&at))).await?,
        (None, _) => return Err(Failure::usage("name a data folder, or a store with --url and --admin-token")),
    };
    tell(output, &verified)?;
    match verified.damage.len() {
        0 => Ok(()),
        count => {
            let failure = Failure::new(Exit::Damaged, "damaged", damaged(count));
            Err(failure.hint(
                "start the store, or start it again: it puts what is damaged aside, writes the rest anew, \
                and is brought what it lost",
            ))
        }
    }
}

fn tell(output: Output, verified: &StoreVerified) -> Result<(), Failure> {
    output.result(&json!(verified), || {
        let StoreVerified { logs, operations, blobs, damage } = verified;
        let damage = damage.iter().map(|damage| format!("damaged: {}: {}\n", damage.what, damage.why));
        format!("{}{logs} logs, {operations} operations, {blobs} blobs", damage.collect::<String>())
    })
}

pub(crate) async fn back_up(output: Output, folder: &Path, admin: &AdminArgs) -> Result<(), Failure> {
    let (store, token) = as_admin(admin)?;
    let folder = std::path::absolute(folder).map_err(|error| Failure::machine("name the folder", error))?;
    let mut shown = Shown::new(output);
    let backup = store.back_up(&token, &folder, |at| shown.show(&at)).await?;
    drop(shown);
    output.result(&json!(backup), || {
        let damaged = backup.damage.iter().map(|damage| format!("not copied: {}: {}\n", damage.what, damage.why));
        let damaged = damaged.collect::<String>();
        format!("{damaged}{} records and {} blobs are in {}", backup.records, backup.blobs, folder.display())
    })
}

pub(crate) async fn restore(output: Output, backup: PathBuf, data: PathBuf) -> Result<(), Failure> {
    let mut shown = Shown::new(output);
    let folder = data.clone();
    let restored = blocking(move || restore_folder(&backup, &folder, |at| shown.show(&at))).await?;
    output.result(&json!(restored), || {
        format!(
            "store {} is in {}; start it with `gig store --data {}`",
            restored.store,
            data.display(),
            data.display()
        )
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UpkeepError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Failure::from),
        Err(error) => Err(Failure::machine("go on", error)),
    }
}

/// A bar for each step, on a terminal.
struct Shown {
    output: Output,
    step: String,
    bar: ProgressBar,
}

impl Shown {
    fn new(output: Output) -> Self {
        Self { output, step: String::new(), bar: ProgressBar::hidden() }
    }

    fn show(&mut self, at: &UpkeepProgress) {
        if self.step != at.step {
            self.bar.finish_and_clear();
            self.step.clone_from(&at.step);
            self.bar = progress(self.output, &at.step);
        }
        self.bar.set_length(at.of);
        self.bar.set_position(at.done);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl From<UpkeepError> for Failure {
    fn from(error: UpkeepError) -> Self {
        let (exit, code) = match &error {
            UpkeepError::Storage(_) | UpkeepError::Io { .. } => (Exit::Machine, "storage"),
            UpkeepError::NoBackup { .. } => (Exit::Refused, "no_backup"),
            UpkeepError::NotEmpty { .. } => (Exit::Refused, "not_empty"),
            UpkeepError::Damaged { .. } => (Exit::Damaged, "damaged"),
        };
        Self::new(exit, code, error.to_string())
    }
}

fn damaged(count: usize) -> String {
    match count {
        1 => "1 thing is damaged".to_owned(),
        count => format!("{count} things are damaged"),
    }
}

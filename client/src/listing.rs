//! Which logs a channel has, as this device and the stores know them.

use std::collections::BTreeSet;

use bytes::Bytes;
use gigfs_core::api::{ListedLog, MountedStore};
use gigfs_core::seal::roster_type;
use gigfs_core::sync::{Mode, Replica};
use gigfs_core::{ChannelName, LogName, Path, PathPrefix, TypeName, base64_text};

use crate::error::Error;
use crate::gig::Gig;
use crate::store::Store;

/// A log in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The type.
    pub kind: TypeName,
    /// The path.
    pub path: Path,
}

impl Gig {
    /// Lists the logs of a channel at or below a path, as this device and every store that answers know them. A log of a
    /// sealed channel that nobody has named yet is listed by its blinded type and path.
    ///
    /// # Errors
    /// The first store's, if nothing is kept here and no store answers; [`Error::Name`]; [`Error::UnknownChannel`].
    pub async fn list(&self, channel: &str, prefix: &str) -> Result<Vec<Listed>, Error> {
        let (channel, prefix) = (ChannelName::parse(channel)?, PathPrefix::parse(prefix)?);
        let kept = self.listed(&channel, &prefix).await?;
        let listed = |log: &LogName| Listed { kind: log.kind.clone(), path: log.path.clone() };
        let clear = |replica: &mut Replica| -> BTreeSet<Listed> {
            let clear = kept.iter().map(|log| replica.clear_name(log).unwrap_or(log));
            clear.filter(|log| log.kind != roster_type()).map(listed).collect()
        };
        Ok(self.shared().look(clear).into_iter().collect())
    }

    /// Lists logs by the names under which stores and disks know them, and learns on the way what they are called.
    pub(crate) async fn listed(&self, channel: &ChannelName, prefix: &PathPrefix) -> Result<BTreeSet<LogName>, Error> {
        self.mounts_heard().await;
        self.know_channel(channel).await?;
        let (prefix, mut all) = self.shared().look(|replica| {
            let prefix = replica.kept_prefix(channel, prefix);
            let written = |log: &&LogName| {
                replica.base(log).is_some() || replica.oplog(log).is_some_and(|oplog| !oplog.is_empty())
            };
            let open = replica.logs(channel).filter(|log| prefix.covers(&log.path)).filter(written);
            let open: BTreeSet<LogName> = open.cloned().collect();
            (prefix, open)
        });
        let mut answers = 0;
        if self.shared().local.is_some() {
            let (shared, channel, prefix) = (self.shared().clone(), channel.clone(), prefix.clone());
            let read =
                move || shared.local.as_ref().map_or(Ok(Vec::new()), |local| local.named_logs(&channel, &prefix));
            let kept = tokio::task::spawn_blocking(read).await.map_err(|error| Error::System(error.to_string()))??;
            answers += usize::from(!kept.is_empty());
            all.extend(self.learn(kept));
        }
        if self.mode() == Mode::Offline {
            return Ok(all);
        }
        let mut failed = None;
        for store in self.stores_of(channel) {
            match self.list_store(&store, channel, &prefix).await {
                Ok(logs) => {
                    answers += 1;
                    all.extend(self.learn(logs));
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if answers == 0 && all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }

    /// Learns what logs are called, from their sealed names, and returns the names that they came under.
    pub(crate) fn learn(&self, logs: Vec<(LogName, Option<Bytes>)>) -> Vec<LogName> {
        self.shared().look(|replica| {
            let learn = |(log, sealed): (LogName, Option<Bytes>)| {
                if replica.clear_name(&log).is_none()
                    && let Some(sealed) = sealed
                    && replica.learn_name(&log, &sealed).is_none()
                {
                    tracing::warn!(%log, "its sealed name is not one that was made with the channel's keys");
                }
                log
            };
            logs.into_iter().map(learn).collect()
        })
    }

    pub(crate) async fn list_store(
        &self,
        mount: &MountedStore,
        channel: &ChannelName,
        prefix: &PathPrefix,
    ) -> Result<Vec<(LogName, Option<Bytes>)>, Error> {
        let Some(table) = self.remote_table() else { return Ok(Vec::new()) };
        let store = Store::with_http(&mount.url, table.http().clone());
        let mut logs: Vec<(LogName, Option<Bytes>)> = Vec::new();
        let named = |log: ListedLog| {
            let sealed = log.sealed_name.and_then(|text| base64_text::decode(&text).ok()).map(Bytes::from);
            let (user, channel) = (self.user().clone(), channel.clone());
            (LogName { user, channel, kind: log.kind, path: log.path }, sealed)
        };
        loop {
            let after = logs.last().map(|(log, _)| (&log.kind, &log.path));
            let page = store.list(mount, self.user(), channel, prefix, after).await?;
            // A store that goes on without getting on has nothing more to say.
            let before = logs.last().map(|(log, _)| (log.kind.clone(), log.path.clone()));
            let last = page.logs.last().map(|log| (log.kind.clone(), log.path.clone()));
            let more = page.more && last > before;
            logs.extend(page.logs.into_iter().map(named));
            if !more {
                return Ok(logs);
            }
        }
    }
}

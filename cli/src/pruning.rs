//! What logs stand on: showing it, pruning, removing.

use std::time::Duration;

use gigfs::{BaseStatus, Gig, PruneHold};
use gigfs_core::BaseId;
use gigfs_core::api::{BaseHeader, OpJson};
use serde_json::{Value, json};

use crate::account::short;
use crate::args::{LogArgs, PruneArgs};
use crate::data::{MOMENT, finish};
use crate::failure::Failure;
use crate::output::{Output, columns, rfc3339};
use crate::profile::Home;
use crate::standing::{operations, progress};

/// How long a removed log may take to be pruned before that is left for later.
const PRUNE_REMOVED_TIMEOUT: Duration = Duration::from_secs(3);

type History = Vec<(gigfs_core::Op, Option<String>)>;

pub(crate) async fn log(home: &Home, output: Output, args: LogArgs) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    let read = async {
        let log = gig.log(&args.channel, &args.kind, &args.path)?;
        match log.refresh(MOMENT).await {
            // The operations can be shown all the same.
            Ok(_) | Err(gigfs::Error::UnreadableBase { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((log.history().await?, log.base().await?))
    };
    let read = read.await;
    finish(gig, read, |(history, base)| {
        output.result(&log_json(&history, &base), || {
            [base_text(&base), history_text(&history)]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join("\n")
        })
    })
    .await
}

fn log_json(history: &History, base: &BaseStatus) -> Value {
    let ops: Vec<Value> = history
        .iter()
        .map(|(op, unreadable)| match unreadable {
            Some(why) => json!({"op": OpJson::from(op), "unreadable": why}),
            None => json!({"op": OpJson::from(op)}),
        })
        .collect();
    let stores: Vec<Value> =
        base.stores.iter().map(|(store, header)| json!({"store": store, "base": header})).collect();
    let made = base
        .made
        .as_ref()
        .map(|(date, reducer, version)| json!({"date": date, "reducer": reducer, "version": version}));
    json!({
        "base": base.base, "covered": base.covered, "committed": base.committed, "made": made, "doubtful": base.doubtful,
        "disputed": base.disputed, "stores": stores, "hold": base.hold.as_ref().map(PruneHold::to_string), "ops": ops,
    })
}

fn base_text(base: &BaseStatus) -> String {
    let mut lines = Vec::new();
    if let (Some(id), Some((date, reducer, version))) = (&base.base, &base.made) {
        let archived = if base.committed { "" } else { "; archived on this device alone" };
        lines.push(format!(
            "base {} {}: {} until {}, by {reducer} {version}{archived}",
            id.generation,
            short(&id.sha),
            operations(usize::try_from(base.covered).unwrap_or(usize::MAX)),
            rfc3339(date.micros()),
        ));
    }
    if base.disputed {
        lines.push("  devices computed different states for it; repair it on one that is right".to_owned());
    }
    if base.base.is_some() {
        lines.extend(base.stores.iter().map(|(store, header)| {
            format!("  store {}: {}", short(store), standing_of(base.base.as_ref(), header.as_ref()))
        }));
    }
    if base.doubtful > 0 {
        lines.push(format!("  {} may be part of it; no store could say yet", operations(base.doubtful)));
    }
    match &base.hold {
        None => lines.push(format!("{} since; can be pruned now", operations(base.ops))),
        Some(PruneHold::Nothing) if base.base.is_none() => {}
        Some(PruneHold::Nothing) => lines.push("nothing since".to_owned()),
        Some(hold) => lines.push(format!("{} since; not pruned now: {hold}", operations(base.ops))),
    }
    lines.join("\n")
}

fn standing_of(base: Option<&BaseId>, store: Option<&BaseHeader>) -> String {
    match store {
        None => "has no base, or was not heard".to_owned(),
        Some(header) if Some(&header.id) == base && header.complete => {
            format!("has it, in {} bytes, and keeps {} bytes of what it covers", header.bytes, header.retained_bytes)
        }
        Some(header) if Some(&header.id) == base => "has it, and does not know all that it covers".to_owned(),
        Some(header) => format!("has base {} {}", header.id.generation, short(&header.id.sha)),
    }
}

fn history_text(history: &History) -> String {
    let row = |(op, unreadable): &(gigfs_core::Op, Option<String>)| {
        let payload = op.content().map(|content| String::from_utf8_lossy(content).into_owned()).unwrap_or_default();
        let note = unreadable.as_ref().map(|why| format!("no effect: {why}")).unwrap_or_default();
        vec![rfc3339(op.date().micros()), short(&op.actor()), op.seq().to_string(), short(&op.sha()), payload, note]
    };
    columns(&history.iter().map(row).collect::<Vec<_>>())
}

pub(crate) async fn prune(home: &Home, output: Output, args: PruneArgs) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    let pruned = prune_logs(&gig, output, &args).await;
    finish(gig, pruned, |(rows, failed)| {
        let logs: Vec<Value> = rows.iter().map(|(log, base)| json!({"log": log, "base": base})).collect();
        output.result(&json!({"logs": logs}), || {
            let row = |(log, base): &(String, Option<BaseId>)| {
                let base = base.as_ref().map_or("nothing to do".to_owned(), |base| {
                    format!("base {} {}", base.generation, short(&base.sha))
                });
                vec![log.clone(), base]
            };
            columns(&rows.iter().map(row).collect::<Vec<_>>())
        })?;
        failed.map_or(Ok(()), Err)
    })
    .await
}

type Pruned = (Vec<(String, Option<BaseId>)>, Option<Failure>);

/// Prunes one log or all of a channel. One that cannot be pruned does not keep the others from it; the first failure is
/// told at the end.
async fn prune_logs(gig: &Gig, output: Output, args: &PruneArgs) -> Result<Pruned, Failure> {
    let channel = args.channel.as_str();
    let logs: Vec<(String, String)> = match (&args.kind, &args.path) {
        (Some(kind), Some(path)) => vec![(kind.clone(), path.clone())],
        _ => {
            let listed = gig.list(channel, "/").await?;
            listed.iter().map(|log| (log.kind.to_string(), log.path.to_string())).collect()
        }
    };
    let bar = progress(output, "logs pruned");
    bar.set_length(logs.len() as u64);
    let (mut rows, mut failed) = (Vec::new(), None);
    for (kind, path) in logs {
        let log = gig.log(channel, &kind, &path)?;
        let deadline = Duration::from_secs(args.timeout);
        let base = if args.repair { log.repair(deadline).await } else { log.prune(deadline).await };
        match base {
            Ok(base) => rows.push((format!("{kind} {path}"), base)),
            Err(error) => _ = failed.get_or_insert_with(|| Failure::from(error)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((rows, failed))
}

pub(crate) async fn remove(home: &Home, output: Output, args: LogArgs) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    let removed = async {
        let log = gig.log(&args.channel, &args.kind, &args.path)?;
        log.refresh(MOMENT).await?;
        let mut pushed = log.remove().await?;
        if let Some(why) = pushed.durable().await.local_error {
            return Err(Failure::machine("write to this device's store", why));
        }
        // If it cannot be now, a device that follows the log does it, or `gig prune`.
        Ok(log.prune(PRUNE_REMOVED_TIMEOUT).await.err())
    };
    let removed = removed.await;
    finish(gig, removed, |held| {
        let held = held.map(|error| error.to_string());
        output.result(&json!({"removed": true, "pruned": held.is_none(), "hold": held}), || match &held {
            None => "removed".to_owned(),
            Some(why) => format!("removed; its operations are kept until it is pruned: {why}"),
        })
    })
    .await
}

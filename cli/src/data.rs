//! Reading and writing logs from a shell.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use gigfs::{Gig, Receipt, Standing};
use gigfs_core::api::OpJson;
use gigfs_core::{ChannelName, ErrorKind, Refusal};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::account::short;
use crate::args::{LogArgs, OnArgs, PushArgs};
use crate::failure::{Exit, Failure};
use crate::output::{Output, columns};
use crate::profile::Home;
use crate::stop::Stop;

/// How long a command waits for the stores before it goes on with what this device has.
pub(crate) const MOMENT: Duration = Duration::from_secs(2);

/// What to do about a session that has ended.
const LOG_IN: &str = "log in again with `gig login`; what waits goes out then";

pub(crate) async fn push(home: &Home, output: Output, args: PushArgs) -> Result<(), Failure> {
    let text = match args.intent.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::machine("read standard input", error))?;
            text
        }
        text => text.to_owned(),
    };
    let intent: Value = serde_json::from_str(&text).map_err(|error| {
        let hint =
            format!("write it in quotes, such as: gig push {} counter /visits '{{\"add\": 1}}'", args.log.channel);
        Failure::usage(format!("{text:?} is not JSON: {error}")).hint(hint)
    })?;
    let gig = home.profile()?.open(home).await?;
    let pushed = push_and_wait(&gig, &args.log, &intent).await;
    let ended = gig.status().table_down.filter(|refusal| refusal.code.kind() == ErrorKind::LogIn);
    finish(gig, pushed, |receipt| {
        output.result(&receipt_json(&receipt), || told(&receipt))?;
        verdict(&receipt, ended)
    })
    .await
}

async fn push_and_wait(gig: &Gig, log: &LogArgs, intent: &Value) -> Result<Receipt, Failure> {
    let log = gig.log(&log.channel, &log.kind, &log.path)?;
    // What a person means, such as "insert at 5", is meant against the newest value that can be had.
    log.refresh(MOMENT).await?;
    let mut pushed = log.push(intent).await?;
    let receipt = pushed.durable().await;
    if let Some(why) = receipt.local_error {
        return Err(Failure::machine("write to this device's store", why));
    }
    gig.settle(MOMENT).await;
    Ok(pushed.status())
}

/// Fails if no store will have the operation until somebody does something: every store has refused it for good, or the
/// session has ended.
fn verdict(receipt: &Receipt, ended: Option<Refusal>) -> Result<(), Failure> {
    if let Some(refusal) = ended.filter(|_| receipt.accepted() == 0) {
        let message = format!("what was pushed is kept on this device and waits: {refusal}");
        return Err(Failure::new(Exit::LogIn, refusal.code.as_str(), message).hint(LOG_IN));
    }
    let final_word = |standing: &Standing| match standing {
        Standing::Refused(refusal) if refusal.code.kind() != ErrorKind::Retry => Some(refusal.clone()),
        _ => None,
    };
    let refusals: Vec<_> = receipt.stores.values().filter_map(final_word).collect();
    match refusals.first() {
        Some(refusal) if refusals.len() == receipt.stores.len() => {
            Err(Failure::new(Exit::Refused, refusal.code.as_str(), refusal.message.clone()).hint(refusal.hint.clone()))
        }
        _ => Ok(()),
    }
}

fn told(receipt: &Receipt) -> String {
    let (accepted, stores) = (receipt.accepted(), receipt.stores.len());
    let mut text = match (accepted, stores) {
        (_, 0) => "durable on this device; the channel's stores are not known yet".to_owned(),
        (0, 1) => "durable on this device; queued for 1 store".to_owned(),
        (0, _) => format!("durable on this device; queued for {stores} stores"),
        (1, 1) => "accepted by 1 of 1 store".to_owned(),
        (accepted, stores) => format!("accepted by {accepted} of {stores} stores"),
    };
    for (store, standing) in &receipt.stores {
        if let Standing::Refused(refusal) = standing {
            text.push_str(&format!("\nrefused by store {}: {refusal}", short(store)));
        }
    }
    text
}

fn receipt_json(receipt: &Receipt) -> Value {
    let standing = |standing: &Standing| match standing {
        Standing::Queued => json!({"status": "queued"}),
        Standing::Accepted => json!({"status": "accepted"}),
        Standing::Covered => json!({"status": "covered"}),
        Standing::Refused(refusal) => json!({"status": "refused", "refusal": refusal}),
    };
    let stores: BTreeMap<String, Value> =
        receipt.stores.iter().map(|(store, said)| (store.to_string(), standing(said))).collect();
    json!({"sha": receipt.sha, "durable": receipt.durable, "accepted": receipt.accepted(), "stores": stores})
}

pub(crate) async fn get(home: &Home, output: Output, args: LogArgs) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    let read = async {
        let log = gig.log(&args.channel, &args.kind, &args.path)?;
        let value = log.refresh(MOMENT).await?;
        let standing = log.standing();
        Ok((value, standing))
    };
    let read = read.await;
    finish(gig, read, |(value, standing)| {
        if standing.current == 0 {
            output.note("no store answered; this is what this device has");
        }
        let result =
            json!({"value": *value, "stores_read": standing.current, "stores_down": standing.down + standing.trying});
        output.result(&result, || value.to_string())
    })
    .await
}

pub(crate) async fn on(home: &Home, output: Output, args: OnArgs) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    let mut stop = Stop::listen()?;
    let channel = ChannelName::parse(&args.channel)?;
    let mut followers = JoinSet::new();
    let following = async {
        let many = args.paths.len() > 1;
        for path in args.paths {
            let log = gig.log(&args.channel, &args.kind, &path)?;
            let mut changes = log.on().await?;
            let value = log.refresh(MOMENT).await?;
            let print = move |value: &Value, ops: Vec<Value>| {
                let result = json!({"path": path, "value": value, "ops": ops});
                output.result(&result, || if many { format!("{path}\t{value}") } else { value.to_string() })
            };
            print(&value, Vec::new())?;
            followers.spawn(async move {
                let mut last = value;
                while let Some(change) = changes.next().await {
                    if change.value != last {
                        let ops = change.ops.iter().map(|(_, op)| json!(OpJson::from(op))).collect();
                        print(&change.value, ops)?;
                        last = change.value;
                    }
                }
                Ok::<(), Failure>(())
            });
        }
        let Some(ended) = followers.join_next().await else { return Ok(()) };
        ended.map_err(|error| Failure::machine("follow the log", error)).flatten()
    };
    let ended = tokio::select! {
        ended = following => ended,
        ended = logged_out(&gig) => Err(ended),
        gone = gig.unmounted(&channel) => Err(gone.into()),
        () = stop.asked() => Ok(()),
    };
    followers.shutdown().await;
    finish(gig, ended, Ok).await
}

/// Waits until the session has ended.
pub(crate) async fn logged_out(gig: &Gig) -> Failure {
    let refusal = gig.logged_out().await;
    Failure::new(Exit::LogIn, refusal.code.as_str(), refusal.message).hint(LOG_IN)
}

pub(crate) async fn ls(home: &Home, output: Output, channel: &ChannelName, prefix: &str) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    let listed = gig.list(channel.as_str(), prefix).await.map_err(Failure::from);
    finish(gig, listed, |logs| {
        let value: Vec<Value> = logs.iter().map(|log| json!({"type": log.kind, "path": log.path})).collect();
        output.result(&json!({"logs": value}), || {
            columns(&logs.iter().map(|log| vec![log.kind.to_string(), log.path.to_string()]).collect::<Vec<_>>())
        })
    })
    .await
}

/// Gives what waits from earlier commands a moment to go out, prints the result, and closes the client.
pub(crate) async fn finish<T>(
    gig: Gig,
    result: Result<T, Failure>,
    print: impl FnOnce(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let printed = result.and_then(print);
    gig.settle(MOMENT).await;
    gig.close().await?;
    printed
}

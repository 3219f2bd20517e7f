//! What is stored where, and what waits.

use std::time::Duration;

use gigfs::{LinkStatus, SealMode, Status};
use gigfs_core::{ChannelName, UserName};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::account::short;
use crate::data::{finish, logged_out};
use crate::failure::Failure;
use crate::output::Output;
use crate::profile::Home;

/// How long `status` waits for the stores to answer.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn status(home: &Home, output: Output) -> Result<(), Failure> {
    let profile = home.profile()?;
    let gig = profile.open(home).await?;
    gig.settled(SETTLE_TIMEOUT).await;
    let to_renew = gig.to_renew(SETTLE_TIMEOUT).await;
    let status = gig.status();
    let table = &profile.table;
    let printed = output.result(&status_json(table, &status, &to_renew), || status_text(table, &status, &to_renew));
    finish(gig, printed, Ok).await
}

fn status_text(table: &str, status: &Status, to_renew: &[(ChannelName, UserName)]) -> String {
    let mut lines = Vec::new();
    let standing = match &status.table_down {
        Some(refusal) => format!("down: {refusal}"),
        None => "up".to_owned(),
    };
    lines.push(format!("{} at {table}: {standing}", status.user));
    if status.stores.is_empty() {
        lines.push("no store is mounted".to_owned());
    }
    for (channel, mode) in &status.channels {
        lines.push(format!("{channel}: {}", sealing(*mode)));
    }
    for (url, link) in &status.stores {
        let standing = match (&link.up, &link.down) {
            (Some(_), _) => "up".to_owned(),
            (None, Some(refusal)) => format!("down: {refusal}"),
            (None, None) => "no answer yet".to_owned(),
        };
        lines.push(format!("{}  store {} {url}: {standing}", link.link.channel, short(&link.link.store)));
        let ahead = link.clock_offset.filter(|offset| offset.unsigned_abs() > 30_000_000);
        if let Some(offset) = ahead {
            lines.push(format!("  its clock is {} s from this device's", offset / 1_000_000));
        }
        for queued in &link.queued {
            lines.push(format!("  queued: {} for {} {}", operations(queued.ops), queued.log.kind, queued.log.path));
        }
        for refused in &link.refused {
            lines.push(format!(
                "  refused: {} of {} {}: {}",
                short(&refused.sha),
                refused.log.kind,
                refused.log.path,
                refused.refusal
            ));
        }
        if link.queued.is_empty() && link.refused.is_empty() {
            lines.push("  nothing waits".to_owned());
        }
    }
    for suspicion in &status.suspicions {
        lines.push(format!("store {}, {}: {}", short(&suspicion.link.store), suspicion.log, suspicion.what));
    }
    for (log, ops) in &status.unproven {
        lines.push(format!("{log}: {} without effect, for which nobody who may write there vouches", operations(*ops)));
    }
    for (log, ops) in &status.staying {
        lines.push(format!(
            "{log}: {} stay on this device, written before {} was sealed",
            operations(*ops),
            log.channel
        ));
    }
    for (channel, user) in to_renew {
        lines.push(format!(
            "{channel}: {user} was taken off by an admin; `gig unshare {channel} {user}` seals what is written from then on under new keys"
        ));
    }
    for trouble in &status.troubles {
        lines.push(format!("{}: {}", trouble.log, trouble.what));
    }
    lines.join("\n")
}

/// Says how a channel is sealed.
fn sealing(mode: Option<SealMode>) -> &'static str {
    match mode {
        Some(SealMode::Sealed) => "sealed",
        Some(SealMode::Plain) => "plain",
        None => "unknown",
    }
}

pub(crate) fn operations(count: usize) -> String {
    match count {
        1 => "1 operation".to_owned(),
        count => format!("{count} operations"),
    }
}

fn status_json(table: &str, status: &Status, to_renew: &[(ChannelName, UserName)]) -> Value {
    let store = |(url, link): &(String, LinkStatus)| {
        json!({
            "channel": link.link.channel, "store": link.link.store, "url": url,
            "up": link.up.is_some(), "incarnation": link.up, "down": link.down,
            "clock_offset_micros": link.clock_offset, "in_flight": link.in_flight,
            "queued": link.queued.iter().map(|queued| json!({"type": queued.log.kind, "path": queued.log.path, "ops": queued.ops})).collect::<Vec<_>>(),
            "refused": link.refused.iter().map(|refused| json!({"type": refused.log.kind, "path": refused.log.path, "sha": refused.sha, "refusal": refused.refusal})).collect::<Vec<_>>(),
        })
    };
    json!({
        "user": status.user, "table": table, "epoch": status.epoch, "table_down": status.table_down,
        "channels": status.channels.iter().map(|(channel, mode)| json!({"channel": channel, "sealing": sealing(*mode)})).collect::<Vec<_>>(),
        "stores": status.stores.iter().map(store).collect::<Vec<_>>(),
        "suspicions": status.suspicions.iter().map(|suspicion| json!({
            "channel": suspicion.link.channel, "store": suspicion.link.store, "type": suspicion.log.kind,
            "path": suspicion.log.path, "what": suspicion.what,
        })).collect::<Vec<_>>(),
        "unproven": status.unproven.iter().map(|(log, ops)| json!({
            "channel": log.channel, "type": log.kind, "path": log.path, "ops": ops,
        })).collect::<Vec<_>>(),
        "staying": status.staying.iter().map(|(log, ops)| json!({
            "channel": log.channel, "type": log.kind, "path": log.path, "ops": ops,
        })).collect::<Vec<_>>(),
        "to_renew": to_renew.iter().map(|(channel, user)| json!({"channel": channel, "user": user})).collect::<Vec<_>>(),
        "troubles": status.troubles.iter().map(|trouble| json!({
            "channel": trouble.log.channel, "type": trouble.log.kind, "path": trouble.log.path, "what": trouble.what,
        })).collect::<Vec<_>>(),
    })
}

pub(crate) async fn flush(
    home: &Home,
    output: Output,
    channel: Option<ChannelName>,
    seconds: u64,
) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    let bar = progress(output, "to send");
    let mut most = 0;
    let flushing = gig.flush_with(channel.as_ref(), Duration::from_secs(seconds), |left| {
        most = most.max(left);
        bar.set_length(most as u64);
        bar.set_position((most - left) as u64);
    });
    let flushed = tokio::select! {
        biased;
        flushed = flushing => Ok(flushed),
        ended = logged_out(&gig) => Err(ended),
    };
    bar.finish_and_clear();
    let status = gig.status();
    let flushed = flushed.and_then(|flushed| {
        flushed.map_err(|error| {
            let down = status.stores.iter().filter(|(_, link)| !link.queued.is_empty());
            let why = down.map(|(url, link)| match &link.down {
                Some(refusal) => format!("{url}: {}", refusal.message),
                None => format!("{url} is slow to answer"),
            });
            Failure::from(error).hint(why.collect::<Vec<_>>().join("; "))
        })
    });
    finish(gig, flushed, |()| output.result(&json!({"queued": 0}), || "every store has everything".to_owned())).await
}

/// Makes a progress bar that is drawn on a terminal only.
pub(crate) fn progress(output: Output, what: &str) -> ProgressBar {
    if !output.draws_progress() {
        return ProgressBar::hidden();
    }
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what} {{eta}}");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

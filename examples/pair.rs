//! A self-hosted table with two stores, used by three clients. One store is killed and brought back: nobody notices but
//! `status`, and nothing is lost.
//!
//!     cargo run --release -p gigfs-examples --bin pair

use std::time::Duration;

use gigfs::{Gig, LinkStatus};
use gigfs_examples::{CHANNEL, Failure, Servers, say, serve_if_asked};
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve_if_asked().await?;
    let mut servers = Servers::start(2).await?;
    let mut clients = Vec::new();
    for name in ["ana", "ben", "eva"] {
        clients.push((name, servers.device(name).await?));
    }

    for (name, client) in &clients {
        let mut pushed = client.push(CHANNEL, "set", "/guests", json!({"add": name})).await?;
        let receipt = pushed.accepted(2).await;
        say(format_args!("{name} is on the list, at {} stores", receipt.accepted()));
    }

    servers.kill_store(1).await?;
    say("store 2 is killed");
    for (name, client) in &clients {
        let mut pushed = client.push(CHANNEL, "list", "/log", json!({"append": format!("{name} was here")})).await?;
        let receipt = pushed.accepted(1).await;
        say(format_args!("{name} went on writing: {} of {} stores", receipt.accepted(), receipt.stores.len()));
    }
    say(format_args!("ana's status: {}", standing(&clients[0].1)));

    servers.revive_store(1).await?;
    say("store 2 is back");
    for (name, client) in clients {
        client.flush(None, DEADLINE).await?;
        let log = client.log(CHANNEL, "list", "/log")?;
        let value = log.until(|value| value.as_array().is_some_and(|lines| lines.len() == 3), DEADLINE).await?;
        say(format_args!("{name} reads {value}; nothing waits: {}", standing(&client)));
        client.close().await?;
    }

    // Store 2 alone has everything: the other one is gone now.
    servers.kill_store(0).await?;
    let late = servers.device("late").await?;
    let guests = late.log(CHANNEL, "set", "/guests")?;
    let value = guests.until(|value| value.as_array().is_some_and(|names| names.len() == 3), DEADLINE).await?;
    say(format_args!("a new device reads from store 2 alone: {value}"));
    late.close().await?;
    Ok(())
}

fn standing(client: &Gig) -> String {
    let queued = |link: &LinkStatus| link.queued.iter().map(|queued| queued.ops).sum::<usize>();
    let stores = client.status().stores;
    let lines = stores.iter().map(|(_, link)| {
        let standing = if link.up.is_some() { "up" } else { "down" };
        format!("a store is {standing} with {} queued", queued(link))
    });
    lines.collect::<Vec<_>>().join(", ")
}

//! Two devices count together.
//!
//!     cargo run --release -p gigfs-examples --bin quickstart

use std::time::Duration;

use gigfs_examples::{Failure, Servers, say, serve_if_asked};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve_if_asked().await?;
    let servers = Servers::start(1).await?;
    let (phone, laptop) = (servers.device("phone").await?, servers.device("laptop").await?);

    phone.push("home", "counter", "/visits", json!({"add": 1})).await?;
    laptop.push("home", "counter", "/visits", json!({"add": 2})).await?;

    let visits = phone.log("home", "counter", "/visits")?;
    let value = visits.until(|value| *value == json!(3), Duration::from_secs(10)).await?;
    say(format_args!("both devices counted: {value}"));

    phone.close().await?;
    laptop.close().await?;
    Ok(())
}

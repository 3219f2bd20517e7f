//! What the README shows with `curl`.

use serde_json::json;

use crate::world::{Curl, Up};

#[tokio::test(flavor = "multi_thread")]
async fn an_unstamped_post_shows_up_in_a_running_on() {
    let up = Up::start();
    let (_on, lines) = up.device.on("counter", &["/visits"]);
    lines.until(|line| line["value"] == json!(0));
    let curl = Curl::new(&up.device, 0).await;
    let results = curl.push("counter", "/visits", &json!({"payload": {"add": 3}})).await;
    assert_eq!(results[0]["status"], "accepted");
    let line = lines.until(|line| line["value"] == json!(3));
    assert_eq!(line["ops"][0]["sha"], results[0]["sha"]);
    let results =
        curl.push("counter", "/visits", &json!({"ops": [{"payload": {"add": 4}}, {"payload": {"add": 5}}]})).await;
    assert_eq!(results.len(), 2);
    lines.until(|line| line["value"] == json!(12));
    assert_eq!(up.device.get("counter", "/visits"), json!(12));
}

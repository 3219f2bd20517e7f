//! Operations that a store makes of those that it holds: with a good identity and in a sealed channel, but without the keys.

use gigfs_core::api::{LogList, OpJson};
use gigfs_core::{ActorId, Date, Draft, LogName, Op, Payload, Seq};
use serde_json::{Value, json};

use crate::world::{Curl, Device, Up};

/// The logs of `home` as the store knows them.
async fn logs(curl: &Curl) -> Vec<LogName> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/user/me/oplogs?channel=home", curl.store);
    let listed: LogList = http.get(url).bearer_auth(&curl.token).send().await.unwrap().json().await.unwrap();
    listed.logs.iter().map(|log| LogName::parse("me", "home", log.kind.as_str(), log.path.as_str()).unwrap()).collect()
}

async fn drafts(curl: &Curl, log: &LogName) -> Vec<Draft> {
    let ops = curl.read(log.kind.as_str(), log.path.as_str()).await;
    let draft = |op: Value| serde_json::from_value::<OpJson>(op).unwrap().stamped().unwrap().0;
    ops.into_iter().map(draft).collect()
}

/// Everything that can be done to an operation without the key that sealed it, but to leave it as it is.
fn forgeries(draft: &Draft) -> Vec<Draft> {
    let Payload::Sealed { epoch, bytes } = draft.payload.clone() else { panic!("it is sealed") };
    let mut flipped = bytes.to_vec();
    flipped[0] ^= 1;
    let with = |change: &dyn Fn(&mut Draft)| {
        let mut forged = draft.clone();
        change(&mut forged);
        forged
    };
    vec![
        with(&|forged| forged.seq = Seq::new(forged.seq.get() + 100).unwrap()),
        with(&|forged| forged.date = Date::saturating(forged.date.micros() - 1_000_000)),
        with(&|forged| forged.actor = ActorId::from_bytes([9; 16])),
        with(&|forged| forged.deps = Vec::new()),
        with(&|forged| forged.payload = Payload::Sealed { epoch: epoch + 1, bytes: bytes.clone() }),
        with(&|forged| forged.payload = Payload::Sealed { epoch, bytes: flipped.clone().into() }),
        with(&|forged| forged.payload = Payload::plain(&json!({"append": "forged"}))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_makes_of_sealed_operations_is_shown_and_not_folded() {
    let up = Up::sealed();
    let me = &up.device;
    me.push("list", "/a", r#"{"append":"one"}"#);
    me.push("list", "/a", r#"{"append":"two"}"#);
    me.push("list", "/b", r#"{"append":"elsewhere"}"#);
    me.run(["flush"]).ok();
    let curl = Curl::new(me, 0).await;
    let mut logs = logs(&curl).await;
    // The roster's operations are dated at the beginning of time, and prove themselves.
    for at in (0..logs.len()).rev() {
        if drafts(&curl, &logs[at]).await.iter().all(|draft| draft.date == Date::EPOCH) {
            logs.remove(at);
        }
    }
    assert_eq!(logs.len(), 2);
    let mut forged = 0;
    for (log, other) in [(&logs[0], &logs[1]), (&logs[1], &logs[0])] {
        let own = drafts(&curl, log).await;
        // Under new identities that are right for what they are, so that the store has no reason to refuse them.
        let mut drafts_here: Vec<Draft> = forgeries(own.last().unwrap());
        drafts_here.extend(drafts(&curl, other).await);
        let known: Vec<_> = own.iter().map(|draft| draft.clone().finish(log).unwrap().sha()).collect();
        let ops: Vec<Op> = drafts_here.into_iter().map(|draft| draft.finish(log).unwrap()).collect();
        for op in ops.iter().filter(|op| !known.contains(&op.sha())) {
            let result = curl.push(log.kind.as_str(), log.path.as_str(), &json!(OpJson::from(op))).await;
            assert_eq!(result[0]["status"], "accepted", "{result:?}");
            forged += 1;
        }
    }
    assert!(forged >= 14, "{forged}");
    for device in [&Device::logged_in(&up), me] {
        assert_eq!(device.get("list", "/a"), json!(["one", "two"]));
        assert_eq!(device.get("list", "/b"), json!(["elsewhere"]));
        let log = device.run(["--json", "log", "home", "list", "/a"]).json();
        let unreadable = log["ops"].as_array().unwrap().iter().filter(|op| !op["unreadable"].is_null()).count();
        assert!(unreadable >= 7, "{log}");
    }
}

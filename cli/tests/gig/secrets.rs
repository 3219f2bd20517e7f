//! A whole life of a table, a store and two devices with every log at its most talkative: no secret is in any of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gigfs_core::api::PasswordParams;
use gigfs_core::base64_text;
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Device, Lines, Process, Ran, free, start_logged};

const PASSWORD: &str = "the first password, which nobody repeats";
const SECOND: &str = "another password, which nobody repeats";
const WRONG: &str = "a wrong password, which nobody repeats";

/// A server that logs everything to a file.
struct Traced {
    process: Process,
    folder: TempDir,
    log: PathBuf,
    url: String,
    _lines: Lines,
}

impl Traced {
    fn start(role: &str) -> Self {
        let (folder, admin, listen) = (TempDir::new().unwrap(), Device::new(), free(1).to_string());
        let (data, log) = (folder.path().join("data"), folder.path().join("log"));
        let mut command = admin.command(["--json", role, "--data", data.to_str().unwrap(), "--listen", &listen]);
        let (process, lines) = start_logged(command.env("GIG_LOG", "trace"), &log);
        let told: Value = serde_json::from_str(&lines.next().expect("the server did not start")).unwrap();
        Self { process, folder, log, url: told["url"].as_str().unwrap().to_owned(), _lines: lines }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn secret(&self, file: &str) -> String {
        fs::read_to_string(self.data().join(file)).unwrap().trim().to_owned()
    }
}

/// All that was printed, logged, answered and kept, by where.
#[derive(Default)]
struct Told(BTreeMap<String, Vec<u8>>);

impl Told {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.entry(place.into()).or_default().extend(bytes.into());
    }

    /// Adds every file of a folder but those that hold the server's own secrets.
    fn folder(&mut self, folder: &Path, but: &[&str]) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                self.folder(&entry.path(), but);
            } else if !but.contains(&entry.file_name().to_str().unwrap()) {
                self.add(entry.path().display().to_string(), fs::read(entry.path()).unwrap());
            }
        }
    }

    fn places_of(&self, secret: &[u8]) -> Vec<&str> {
        let holds = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        self.0.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
    }
}

/// A device whose commands log everything, and what they said.
struct Talkative(Device, Told);

impl Talkative {
    fn run(&mut self, args: &[&str], input: &str) -> Ran {
        let args: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        let ran = self.0.run_traced(&args, input.as_bytes());
        self.1.add(format!("the log of gig {}", args.join(" ")), ran.err.clone());
        if !args.contains(&"code") {
            self.1.add(format!("the output of gig {}", args.join(" ")), ran.out.clone());
        }
        ran
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
}

/// The ways in which bytes are written down.
fn spellings(name: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    vec![
        (name.to_owned(), bytes.to_vec()),
        (format!("{name} in base64url"), base64_text::encode(bytes).into_bytes()),
        (format!("{name} in hexadecimal"), hex(bytes)),
        (format!("{name} as a list of numbers"), format!("{bytes:?}").into_bytes()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_metric_error_url_or_disk_holds_a_secret() {
    let (mut table, mut store) = (Traced::start("table"), Traced::start("store"));
    let (table_url, store_url) = (table.url.clone(), store.url.clone());
    let mut one = Talkative(Device::new(), Told::default());
    let (table_admin, store_admin) = (table.data().join("admin-token"), store.data().join("admin-token"));
    let at_table = ["--url", &table_url, "--admin-token", table_admin.to_str().unwrap()];
    let at_store = ["--url", &store_url, "--admin-token", store_admin.to_str().unwrap()];
    let with = |args: &[&'static str], admin: &[&str]| -> Vec<String> {
        args.iter().chain(admin).map(|arg| (*arg).to_owned()).collect()
    };
    let run = |device: &mut Talkative, args: &[String], input: &str| {
        device.run(&args.iter().map(String::as_str).collect::<Vec<_>>(), input)
    };

    run(&mut one, &with(&["table", "add-user", "me", "--password-stdin"], &at_table), PASSWORD).ok();
    let log_in = ["login", table_url.as_str(), "--user", "me", "--password-stdin"];
    assert_eq!(one.run(&log_in, WRONG).code, Some(4));
    one.run(&log_in, PASSWORD).ok();
    let first = one.0.profile()["token"].as_str().unwrap().to_owned();
    let kept: Value = serde_json::from_slice(&fs::read(one.0.home().join("keyring.json")).unwrap()).unwrap();
    let keyring_key = base64_text::decode(kept["key"].as_str().unwrap()).unwrap();
    one.run(&["identity"], "").ok();
    let code =
        run(&mut one, &with(&["store", "code", "me"], &at_store), "").json()["code"].as_str().unwrap().to_owned();
    one.run(&["store", "add", "home", &store_url, "--code", &code], "").ok();
    assert_ne!(one.run(&["store", "add", "home", &store_url, "--code", &code], "").code, Some(0), "used already");
    run(&mut one, &with(&["store", "quota", "me", "1G"], &at_store), "").ok();
    one.run(&["push", "home", "counter", "/v", r#"{"add":1}"#], "").ok();
    one.run(&["prune", "home"], "").ok();

    let mut two = Talkative(Device::new(), Told::default());
    two.run(&log_in, PASSWORD).ok();
    let second = two.0.profile()["token"].as_str().unwrap().to_owned();
    two.run(&["get", "home", "counter", "/v"], "").ok();
    two.run(&["status"], "").ok();
    two.run(&["store", "ls"], "").ok();
    let mounts = two.0.table().mounts().await.unwrap();
    let store_token = mounts.channels[0].stores[0].token.clone();
    two.run(&["session", "ls"], "").ok();
    let ended = one.0.profile()["session"].as_str().unwrap().to_owned();
    two.run(&["session", "revoke", &ended], "").ok();
    assert_eq!(one.run(&["session", "ls"], "").code, Some(4));

    // Secrets where they do not belong: the answers and the logs do not repeat them.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let master_of = async |password: &'static str| {
        let params = http.get(format!("{table_url}/user/me/password")).send().await.unwrap();
        let params = params.json::<PasswordParams>().await.unwrap();
        tokio::task::spawn_blocking(move || gigfs::password::keys(password, &params).unwrap()).await.unwrap()
    };
    let (master, wrong_master) = (master_of(PASSWORD).await, master_of(WRONG).await);
    for (server, secret) in
        [(&table_url, &second), (&store_url, &store_token), (&table_url, &store_token), (&store_url, &code)]
    {
        for request in [
            http.get(format!("{server}/user/me/table/stream")).bearer_auth(format!("x{secret}")),
            http.get(format!("{server}/user/me/oplog?channel=home&type=list&path=/a"))
                .bearer_auth(format!("{secret}x")),
            http.get(format!("{server}/user/me/oplog?token={secret}")),
            http.post(format!("{server}/user/me/oplog?channel=home&type=counter&path=/v"))
                .bearer_auth(secret)
                .body(secret.clone()),
            http.post(format!("{server}/user/me/confirm"))
                .body(format!("{{\"code\": \"{secret}\", \"table_url\": 1}}")),
            http.post(format!("{server}/user/me/session"))
                .header("authorization", format!("Master {secret}"))
                .body("{}"),
            http.put(format!("{server}/admin/user/me")).bearer_auth(secret).body(format!("[\"{secret}\"]")),
            http.get(format!("{server}/user/me/table/{secret}")).bearer_auth(secret),
        ] {
            let answer = request.send().await.unwrap();
            two.1.add("the answers to requests that are wrong", answer.text().await.unwrap());
        }
    }
    for path in ["metrics", "healthz", "readyz"] {
        for server in [&table_url, &store_url] {
            let text = http.get(format!("{server}/{path}")).send().await.unwrap().text().await.unwrap();
            assert!(!text.is_empty());
            two.1.add(format!("{server}/{path}"), text);
        }
    }
    two.run(&["passwd", "--password-stdin"], &format!("{PASSWORD}\n{SECOND}\n")).ok();
    two.run(&log_in, SECOND).ok();
    let third = two.0.profile()["token"].as_str().unwrap().to_owned();
    let second_master = master_of(SECOND).await;
    two.run(&["push", "home", "counter", "/v", r#"{"add":1}"#], "").ok();
    two.run(&["logout"], "").ok();

    let mut told = Told::default();
    for (place, bytes) in one.1.0.into_iter().chain(two.1.0) {
        told.add(place, bytes);
    }
    let mut secrets: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, text) in [
        ("the password", PASSWORD),
        ("the second password", SECOND),
        ("the wrong password", WRONG),
        ("the confirmation code", code.as_str()),
        ("the store token", store_token.as_str()),
        ("the table's admin token", &table.secret("admin-token")),
        ("the store's admin token", &store.secret("admin-token")),
        ("the store's secret for codes", &store.secret("code-secret")),
        ("the store's key", store.secret("signing-key.pem").lines().nth(1).unwrap()),
    ] {
        secrets.push((name.to_owned(), text.as_bytes().to_vec()));
    }
    for (name, token) in [("the first session", &first), ("the second session", &second), ("the third session", &third)]
    {
        let (_, secret) = token.split_once('.').unwrap();
        secrets.push((format!("the token of {name}"), secret.as_bytes().to_vec()));
        secrets.extend(spellings(&format!("the secret of {name}"), &base64_text::decode(secret).unwrap()));
    }
    for (name, keys) in [("", &master), ("second ", &second_master), ("wrong ", &wrong_master)] {
        secrets.extend(spellings(&format!("the {name}master"), keys.master.expose()));
        secrets.extend(spellings(&format!("the {name}root key"), keys.root.secret().expose()));
    }
    secrets.extend(spellings("the keyring's key", &keyring_key));
    // The part of a token that makes it good.
    secrets
        .push(("the store token's signature".to_owned(), store_token.rsplit('.').next().unwrap().as_bytes().to_vec()));

    for server in [&mut table, &mut store] {
        assert_eq!(server.process.stop(), Some(0));
        let log = fs::read(&server.log).unwrap();
        assert!(log.windows(5).any(|window| window == b"TRACE"), "the log is as talkative as it can be");
        told.add(format!("the log of {}", server.url), log);
    }
    told.folder(&table.data(), &["admin-token"]);
    told.folder(&store.data(), &["admin-token", "code-secret", "signing-key.pem"]);
    let audits = told.0.keys().filter(|place| place.ends_with("audit.jsonl")).count();
    assert_eq!(audits, 2);
    let mut leaks = Vec::new();
    for (name, secret) in &secrets {
        assert!(secret.len() >= 16, "{name} is too short to be looked for");
        for place in told.places_of(secret) {
            leaks.push(format!("{name} is in {place}"));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

//! What a person can type wrongly: each ends with the exit code that `gig --help` documents, a sentence and a hint.

use std::io::Read;
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::world::{Apart, Device, Login, Up, free};

/// The exit codes of `gig --help`.
const USAGE: i32 = 2;
const RETRY: i32 = 3;
const LOG_IN: i32 = 4;
const REFUSED: i32 = 5;

/// Runs a command as a person and as a program would, and checks what each is told.
#[track_caller]
fn fails(device: &Device, args: &[&str], input: &str, exit: i32, code: &str) {
    let told = device.run_with(args, input.as_bytes());
    assert_eq!(told.code, Some(exit), "{args:?}: {told:?}");
    let lines: Vec<&str> = told.err.lines().collect();
    let of_gig =
        lines.iter().any(|line| line.starts_with("gig: ")) && lines.iter().any(|line| line.starts_with("     "));
    let of_clap =
        lines.iter().any(|line| line.starts_with("error: ")) && lines.iter().any(|line| line.contains("--help"));
    assert!(of_gig || of_clap, "{args:?} is told without a sentence and a hint: {told:?}");

    let told = device.run_with(["--json"].iter().chain(args), input.as_bytes());
    assert_eq!(told.code, Some(exit), "{args:?}: {told:?}");
    let error: Value = serde_json::from_str(told.err.lines().last().unwrap()).unwrap();
    let error = &error["error"];
    assert_eq!(error["code"], code, "{args:?}: {told:?}");
    assert!(error["message"].as_str().is_some_and(|text| text.len() > 10), "{args:?}: {error}");
    assert!(error["hint"].as_str().is_some_and(|text| text.len() > 5), "{args:?}: {error}");
}

#[test]
fn a_log_that_cannot_be_is_named_with_what_is_wrong_and_nothing_is_written() {
    let up = Up::start();
    let me = &up.device;
    let add = r#"{"add":1}"#;
    fails(me, &["push", "nowhere", "counter", "/v", add], "", REFUSED, "unknown_channel");
    fails(me, &["get", "nowhere", "counter", "/v"], "", REFUSED, "unknown_channel");
    fails(me, &["ls", "nowhere"], "", REFUSED, "unknown_channel");
    fails(me, &["push", "home", "nothing", "/v", add], "", REFUSED, "unknown_type");
    fails(me, &["get", "home", "nothing", "/v"], "", REFUSED, "unknown_type");
    for path in ["", "v", "/", "//", "/v/", "/../etc/passwd", "/a/../b", "/a/./b", "/a\nb", "/a\u{7f}", "/a\u{1b}[2J"] {
        fails(me, &["push", "home", "counter", path, add], "", REFUSED, "invalid_name");
    }
    fails(me, &["push", "home", "counter", &format!("/{}", "x".repeat(2_000)), add], "", REFUSED, "invalid_name");
    fails(me, &["push", "ho me", "counter", "/v", add], "", REFUSED, "invalid_name");
    fails(me, &["ls", "ho me"], "", USAGE, "usage");
    fails(me, &["ls", "home", "/.."], "", REFUSED, "invalid_name");
    assert_eq!(me.run(["--json", "ls", "home"]).json(), json!({"logs": []}));
}

#[test]
fn what_cannot_be_written_is_refused_and_nothing_is_written() {
    let up = Up::start();
    let me = &up.device;
    for not_json in ["", "add 1", "{add:1}", r#"{"add":1"#, r#"{"add":1} 2"#] {
        fails(me, &["push", "home", "counter", "/v", not_json], "", USAGE, "usage");
    }
    fails(me, &["push", "home", "counter", "/v", "-"], "not json either", USAGE, "usage");
    for no_intent in [r#"{"ad":1}"#, r#"{"add":"1"}"#, r#"{"add":1.5}"#, "null", "[]", r#"{"add":1,"set":2}"#] {
        fails(me, &["push", "home", "counter", "/v", no_intent], "", REFUSED, "invalid_op");
    }
    let large = format!(r#"{{"set":"{}"}}"#, "x".repeat(300 * 1024));
    fails(me, &["push", "home", "register", "/v", "-"], &large, REFUSED, "invalid_op");
    let deep = format!(r#"{{"set":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    fails(me, &["push", "home", "register", "/v", &deep], "", REFUSED, "invalid_op");
    assert_eq!(me.run(["--json", "ls", "home"]).json(), json!({"logs": []}));
}

#[test]
fn a_login_that_cannot_be_says_what_to_change() {
    let up = Up::start();
    let new = Device::new();
    let (url, password) = up.login();
    let log_in = |url: &'static str| ["login", url, "--user", "me", "--password-stdin"];
    fails(&new, &["login", &url, "--user", "me", "--password-stdin"], "wrong", LOG_IN, "unauthorized");
    fails(&new, &["login", &url, "--user", "nobody", "--password-stdin"], &password, LOG_IN, "unauthorized");
    fails(&new, &["login", &url, "--user", "m/e", "--password-stdin"], &password, USAGE, "usage");
    fails(&new, &["login", &url, "--user", "me", "--password-stdin"], "", USAGE, "usage");
    fails(&new, &["login", &url, "--user", "me"], "", USAGE, "usage");
    fails(&new, &["login", &up.store, "--user", "me", "--password-stdin"], &password, REFUSED, "not_found");
    for url in ["localhost", "127.0.0.1:4420", "ftp://127.0.0.1", "http://", "/tmp"] {
        fails(&new, &log_in(url), &password, USAGE, "bad_url");
    }
    let nobody = format!("http://{}", free(1));
    fails(&new, &["login", &nobody, "--user", "me", "--password-stdin"], &password, RETRY, "unreachable");
    fails(&up.device, &["login", &url, "--user", "other", "--password-stdin"], &password, REFUSED, "conflict");
    assert!(!new.home().join("profile.json").exists());
}

#[test]
fn without_a_login_every_command_says_to_log_in() {
    let new = Device::new();
    let commands: [&[&str]; 11] = [
        &["push", "home", "counter", "/v", r#"{"add":1}"#],
        &["get", "home", "counter", "/v"],
        &["on", "home", "counter", "/v"],
        &["ls", "home"],
        &["status"],
        &["flush"],
        &["whoami"],
        &["identity"],
        &["recovery-code"],
        &["logout"],
        &["session", "ls"],
    ];
    for command in commands {
        fails(&new, command, "", LOG_IN, "not_logged_in");
    }
}

#[test]
fn a_revoked_session_is_told_so_and_what_it_writes_waits_for_the_next_login() {
    let up = Up::start();
    let revoked = Device::logged_in(&up);
    revoked.push("counter", "/v", r#"{"add":1}"#);
    up.device.run(["session", "revoke", revoked.profile()["session"].as_str().unwrap()]).ok();
    for command in [
        &["whoami"][..],
        &["session", "ls"],
        &["channel", "ls"],
        &["channel", "add", "new"],
        &["on", "home", "counter", "/v"],
    ] {
        fails(&revoked, command, "", LOG_IN, "revoked");
    }
    // `fails` pushes it twice.
    fails(&revoked, &["push", "home", "counter", "/v", r#"{"add":1}"#], "", LOG_IN, "revoked");
    fails(&revoked, &["flush", "--timeout", "20"], "", LOG_IN, "revoked");
    assert_eq!(revoked.get("counter", "/v"), json!(3), "what is here can be read");
    assert_eq!(up.device.get("counter", "/v"), json!(1));
    revoked.log_in(&up).ok();
    revoked.run(["flush", "--timeout", "20"]).ok();
    assert_eq!(up.device.get("counter", "/v"), json!(3));
}

#[test]
fn the_end_of_a_session_ends_its_device_only() {
    let up = Up::start();
    let other = Device::logged_in(&up);
    other.run(["logout"]).ok();
    fails(&other, &["whoami"], "", LOG_IN, "not_logged_in");
    assert_eq!(up.device.push("counter", "/v", r#"{"add":1}"#)["accepted"], json!(1));
    fails(&up.device, &["session", "revoke", ""], "", USAGE, "usage");
    fails(&up.device, &["session", "revoke", "zzz"], "", USAGE, "usage");
    up.device.run(["whoami"]).ok();
}

#[test]
fn servers_that_cannot_listen_say_where_and_what_to_do() {
    let device = Device::new();
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let taken = TcpListener::bind(free(1)).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    for command in ["up", "table", "store"] {
        fails(&device, &[command, "--data", data, "--listen", &listen], "", 1, "cannot_serve");
    }
    fails(&device, &["up", "--data", data, "--listen", "127.0.0.1:65535"], "", USAGE, "usage");
    fails(&device, &["up", "--data", data, "--listen", "here"], "", USAGE, "usage");
    fails(&device, &["store", "--data", data, "--config", "/nowhere"], "", USAGE, "usage");
}

#[test]
fn stores_and_channels_that_cannot_be_are_named() {
    let world = Apart::with_stores(1);
    let (me, store) = (&world.device, world.stores[0].url.clone());
    fails(me, &["store", "add", "home", "nowhere"], "", USAGE, "bad_url");
    fails(me, &["store", "add", "home", &format!("http://{}", free(1)), "--code", "x"], "", RETRY, "unreachable");
    fails(me, &["store", "add", "home", &world.table.url, "--code", "x"], "", RETRY, "unreachable");
    fails(me, &["store", "rm", "home", ""], "", USAGE, "usage");
    fails(me, &["store", "rm", "home", "zzz"], "", USAGE, "usage");
    fails(me, &["store", "rm", "nowhere", "a"], "", REFUSED, "unknown_channel");
    fails(me, &["channel", "add", "home"], "", REFUSED, "conflict");
    fails(me, &["channel", "add", "new", "--like", "nowhere"], "", REFUSED, "unknown_store");
    fails(me, &["channel", "rm", "nowhere"], "", REFUSED, "unknown_channel");
    fails(me, &["store", "code", "me", "--url", &store, "--admin-token", "/nowhere"], "", USAGE, "usage");
    fails(me, &["nonsense"], "", USAGE, "usage");
    fails(me, &["get", "home"], "", USAGE, "usage");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let device = Device::new();
    for args in [&["completions", "bash"][..], &["--help"]] {
        let mut child = device.command(args).spawn().unwrap();
        drop(child.stdout.take());
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_bench_whose_reader_goes_away_leaves_nothing_behind() {
    let (device, data) = (Device::new(), tempfile::tempdir().unwrap());
    let args = ["bench", "--short", "--only", "prop", "--data", data.path().to_str().unwrap()];
    let mut child = device.command(args).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "its servers and their data are gone");
}

#[test]
fn help_documents_the_exit_codes() {
    let help = Device::new().run(["--help"]).ok();
    for code in 0..=7 {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))), "{help}");
    }
}

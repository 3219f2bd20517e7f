//! The keyring from a shell: logins, another device, a new password, the recovery code, and a table that goes back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gigfs::core::base64_text;
use gigfs::core::seal::{ChannelKeys, KeyringKey, SealedKeyring, Sealing, Secret};
use gigfs::core::{ChannelName, UserName};
use gigfs::{DeviceSecret, SealMode, UserKeys};
use serde_json::Value;

use crate::world::{Apart, Device, Login as _, Ran, Server, Up};

/// The exit codes that `gig --help` documents.
const USAGE: i32 = 2;
const LOG_IN: i32 = 4;
const REFUSED: i32 = 5;

fn kept(device: &Device) -> Value {
    serde_json::from_slice(&fs::read(device.home().join("keyring.json")).unwrap()).unwrap()
}

fn bytes(kept: &Value, name: &str) -> Vec<u8> {
    base64_text::decode(kept[name].as_str().unwrap()).unwrap()
}

/// Opens the keys as a command does: from what the device keeps, with what is new at the table.
async fn keys(device: &Device) -> UserKeys {
    let kept = kept(device);
    let key: [u8; 32] = bytes(&kept, "key").try_into().unwrap();
    let record = SealedKeyring::from_bytes(&bytes(&kept, "record")).unwrap();
    let key = KeyringKey::from_secret(Secret::from_bytes(key));
    let keys = UserKeys::with_key(UserName::parse("me").unwrap(), record, key, DeviceSecret::fresh().unwrap()).unwrap();
    keys.refresh(&device.table()).await.unwrap();
    keys
}

fn home() -> ChannelName {
    ChannelName::parse("home").unwrap()
}

async fn home_keys(device: &Device) -> ChannelKeys {
    match keys(device).await.channel(&home()) {
        Some(Sealing::Sealed(keys)) => keys,
        other => panic!("the channel is {other:?}"),
    }
}

fn log_in(device: &Device, table: &str, password: &str) -> Ran {
    device.run_with(["--json", "login", table, "--user", "me", "--password-stdin"], password.as_bytes())
}

#[track_caller]
fn fails(ran: Ran, exit: i32, code: &str) -> Value {
    assert_eq!((ran.code, ran.out.as_str()), (Some(exit), ""), "{ran:?}");
    let mut said: Value = serde_json::from_str(ran.err.lines().last().unwrap()).unwrap();
    assert_eq!(said["error"]["code"], code, "{said}");
    assert_ne!(said["error"]["hint"], "", "{said}");
    said["error"].take()
}

fn fingerprint(device: &Device) -> String {
    device.run(["--json", "identity"]).json()["fingerprint"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_login_makes_a_keyring_and_another_device_has_it_with_the_password_alone() {
    let world = Apart::with_stores(0);
    let (table, password) = world.login();
    keys(&world.device).await.ensure(&world.device.table(), &home(), SealMode::Sealed).await.unwrap();
    let second = Device::new();
    let told = log_in(&second, &table, &password).json();
    assert_eq!(told["keyring"], "opened");
    assert_eq!(home_keys(&second).await, home_keys(&world.device).await);
    assert_eq!(told["fingerprint"], fingerprint(&world.device).as_str());
    assert_eq!(fingerprint(&second), fingerprint(&world.device));
    assert_eq!(fs::metadata(second.home().join("keyring.json")).unwrap().permissions().mode() & 0o777, 0o600);

    // Logged out, the device has no key any more, and nothing that opens the record.
    second.run(["logout"]).ok();
    assert_eq!((kept(&second)["key"].as_str(), bytes(&kept(&second), "record").is_empty()), (Some(""), false));
    fails(second.run(["--json", "identity"]), LOG_IN, "not_logged_in");
    assert_eq!(log_in(&second, &table, &password).json()["keyring"], "opened");
    assert_eq!(fingerprint(&second), fingerprint(&world.device));
}

#[tokio::test(flavor = "multi_thread")]
async fn gig_up_makes_the_keyring_of_its_user_and_keeps_it_wherever_it_listens() {
    let mut up = Up::sealed();
    keys(&up.device).await.ensure(&up.device.table(), &home(), SealMode::Sealed).await.unwrap();
    let (before, own) = (home_keys(&up.device).await, fingerprint(&up.device));
    assert_eq!(home_keys(&Device::logged_in(&up)).await, before);
    assert_eq!(up.stop(), Some(0));
    up.again_elsewhere();
    assert_eq!((fingerprint(&up.device), kept(&up.device)["table"].as_str()), (own, Some(up.table.as_str())));
    assert_eq!(home_keys(&up.device).await, before);
    // It starts also where the first password is no good any more; only the keys wait for a login.
    let password = up.login().1;
    up.device.run_with(["passwd", "--password-stdin"], format!("{password}\nanother\n").as_bytes()).ok();
    assert_eq!(up.stop(), Some(0));
    up.again();
    let push = ["--json", "push", "home", "counter", "/v", r#"{"add":1}"#];
    fails(up.device.run(push), LOG_IN, "no_keyring_key");
    fails(up.device.run(["--json", "identity"]), LOG_IN, "no_keyring_key");
    log_in(&up.device, &up.table, "another").ok();
    assert_eq!(home_keys(&up.device).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_keeps_the_keys_ends_the_sessions_and_the_old_one_opens_nothing() {
    let world = Apart::with_stores(0);
    let (table, password) = world.login();
    let (me, other) = (&world.device, Device::logged_in(&world));
    keys(me).await.ensure(&me.table(), &home(), SealMode::Sealed).await.unwrap();
    let (before, own) = (home_keys(me).await, fingerprint(me));

    let wrong = me.run_with(["--json", "passwd", "--password-stdin"], b"guessed\nnever\n");
    fails(wrong, LOG_IN, "unauthorized");
    assert_eq!(fingerprint(me), own, "nothing was changed");
    me.run_with(["password", "--password-stdin"], format!("{password}\nanother\n").as_bytes()).ok();
    fails(me.run(["--json", "whoami"]), LOG_IN, "not_logged_in");
    fails(other.run(["--json", "whoami"]), LOG_IN, "revoked");
    fails(log_in(me, &table, &password), LOG_IN, "unauthorized");
    for device in [me, &other, &Device::new()] {
        log_in(device, &table, "another").ok();
        assert_eq!((home_keys(device).await, fingerprint(device)), (before.clone(), own.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forgot_the_password_gets_back_in_with_the_recovery_code() {
    let world = Apart::with_stores(0);
    let (table, me) = (world.login().0, &world.device);
    keys(me).await.ensure(&me.table(), &home(), SealMode::Sealed).await.unwrap();
    let (before, own) = (home_keys(me).await, fingerprint(me));

    let piped = me.run(["recovery-code"]);
    assert_eq!((piped.code, piped.out.as_str()), (Some(USAGE), ""), "{piped:?}");
    assert!(piped.err.contains("--json"), "{piped:?}");
    let first = me.run(["--json", "recovery-code"]).json()["recovery_code"].as_str().unwrap().to_owned();
    let code = me.run(["--json", "recovery-code"]).json()["recovery_code"].as_str().unwrap().to_owned();

    let reset = ["table", "reset-password", "me", "--password-stdin"];
    world.table.admin(&reset, "from the admin").ok();
    fails(me.run(["--json", "whoami"]), LOG_IN, "revoked");
    let lost = fails(log_in(me, &table, "from the admin"), REFUSED, "keyring");
    assert!(lost["hint"].as_str().unwrap().contains("gig recover"), "{lost}");

    let recover = |device: &Device, given: &str, code: &str| {
        let input = format!("{given}\n{code}\nmy own again\n");
        device.run_with(["--json", "recover", &table, "--user", "me", "--password-stdin"], input.as_bytes())
    };
    let (new, given) = (Device::new(), "from the admin");
    fails(recover(&new, "guessed", &code), LOG_IN, "unauthorized");
    fails(recover(&new, given, &first), REFUSED, "keyring");
    fails(recover(&new, given, &code[1..]), USAGE, "usage");
    assert!(!new.home().join("profile.json").exists());
    let sloppy = code.to_lowercase().replace('-', " ");
    assert_eq!(recover(&new, given, &sloppy).json()["fingerprint"], own.as_str());
    assert_eq!(home_keys(&new).await, before);
    fails(log_in(&Device::new(), &table, given), LOG_IN, "unauthorized");
    log_in(me, &table, "my own again").ok();
    assert_eq!((home_keys(me).await, fingerprint(me)), (before, own));
}

/// Copies the files of a server that does not run.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_the_keyring_back_is_noticed_and_named() {
    let mut up = Up::sealed();
    let (backup, data) = (tempfile::tempdir().unwrap(), up.data().join("table"));
    up.kill();
    copy(&data, backup.path());
    up.again();
    up.device.run(["--json", "recovery-code"]).ok();
    up.kill();
    fs::remove_dir_all(&data).unwrap();
    copy(backup.path(), &data);
    up.again();

    let before = kept(&up.device);
    for command in [&["--json", "identity"][..], &["--json", "recovery-code"]] {
        let said = fails(up.device.run(command), REFUSED, "keyring_rolled_back");
        let message = said["message"].as_str().unwrap();
        assert!(message.contains(&up.table) && message.contains("revision 2"), "{said}");
    }
    let password = up.login().1;
    // It says so also to whoever was logged out meanwhile.
    up.device.run(["logout"]).ok();
    fails(log_in(&up.device, &up.table, &password), REFUSED, "keyring_rolled_back");
    assert_eq!(kept(&up.device)["record"], before["record"]);
    assert!(!up.device.home().join("profile.json").exists());
    let sessions = Device::logged_in(&up).run(["--json", "session", "ls"]).json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "a login that failed leaves no session: {sessions}");
}

/// Every spelling of some bytes that could be on a disk.
fn spellings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![bytes.to_vec(), base64_text::encode(bytes).into_bytes(), hex.to_uppercase().into_bytes(), hex.into_bytes()]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_disk_holds_no_key_of_a_keyring() {
    let mut up = Up::sealed();
    let password = up.login().1;
    let code = up.device.run(["--json", "recovery-code"]).json()["recovery_code"].as_str().unwrap().to_owned();
    // Channel secrets that the test knows, put into the keyring as a device would.
    let (user, table) = (UserName::parse("me").unwrap(), up.device.table());
    let (names, epoch) = (Secret::from_bytes(*b"the secret of a channel's names!"), Secret::from_bytes([0xc5; 32]));
    let opened = keys(&up.device).await;
    let record = opened.record();
    let mut keyring = record.open_with_key(&user, &opened.key(), 0).unwrap();
    let diary = ChannelName::parse("diary").unwrap();
    keyring.add_keys(user.clone(), diary, ChannelKeys::new(names.clone(), epoch.clone())).unwrap();
    keyring.advance();
    let next = record.updated(&user, &keyring, &opened.key()).unwrap().to_bytes();
    let url = format!("{}/user/me/keyring", up.table);
    let request = reqwest::Client::new().put(url).bearer_auth(up.device.profile()["token"].as_str().unwrap());
    let body = serde_json::json!({"record": base64_text::encode(&next)});
    assert_eq!(request.json(&body).send().await.unwrap().status(), 204);
    assert_eq!(opened.refresh(&table).await.unwrap(), keyring.revision());

    let params = reqwest::get(format!("{}/user/me/password", up.table)).await.unwrap().json().await.unwrap();
    let from_password = gigfs::password::keys(&password, &params).unwrap();
    let mut secrets = vec![password.into_bytes(), code.clone().into_bytes(), code.replace('-', "").into_bytes()];
    for secret in [from_password.root.secret(), &from_password.master, opened.key().secret(), &names, &epoch] {
        secrets.extend(spellings(secret.expose()));
    }
    assert_eq!(up.stop(), Some(0));
    let (mut sealed, mut files) = (false, 0);
    for entry in fs::read_dir(up.data().join("table")).unwrap() {
        let path = entry.unwrap().path();
        let held = fs::read(&path).unwrap();
        let finds = |held: &[u8], needle: &[u8]| held.windows(needle.len()).any(|window| window == needle);
        sealed |= finds(&held, &next[..64]);
        for secret in &secrets {
            assert!(!finds(&held, secret), "{} holds a secret", path.display());
        }
        files += 1;
    }
    assert!(sealed && files > 2, "the record is there, so what was looked through is what there is");
}

#[test]
fn what_a_device_keeps_of_a_keyring_may_be_damaged_and_logging_out_removes_it() {
    let world = Apart::with_stores(0);
    let (table, password) = world.login();
    let file = world.device.home().join("keyring.json");
    let good = kept(&world.device);
    let mut other_key = good.clone();
    other_key["key"] = base64_text::encode(&[7; 32]).into();
    fs::write(&file, other_key.to_string()).unwrap();
    fails(world.device.run(["--json", "identity"]), LOG_IN, "no_keyring_key");
    for damaged in ["", "{", "null", r#"{"table":"","user":"me","key":"","record":"AAAA"}"#] {
        fs::write(&file, damaged).unwrap();
        let ran = world.device.run(["--json", "identity"]);
        assert!(matches!(ran.code, Some(1 | LOG_IN)), "{ran:?}");
    }
    fs::write(&file, "{").unwrap();
    world.device.run(["logout"]).ok();
    assert!(!file.exists());
    log_in(&world.device, &table, &password).ok();
    assert_eq!(kept(&world.device)["record"], good["record"]);
}

#[test]
fn recovering_without_a_keyring_or_a_user_says_so() {
    let world = Apart::with_stores(0);
    let code = world.device.run(["--json", "recovery-code"]).json()["recovery_code"].as_str().unwrap().to_owned();
    world.table.admin(&["table", "add-user", "fresh", "--password-stdin"], "a password").ok();
    let recover = |server: &Server, user: &str| {
        let input = format!("a password\n{code}\nanother\n");
        Device::new().run_with(["--json", "recover", &server.url, "--user", user, "--password-stdin"], input.as_bytes())
    };
    fails(recover(&world.table, "fresh"), REFUSED, "no_keyring");
    fails(recover(&world.table, "nobody"), LOG_IN, "unauthorized");
}

#[test]
fn what_a_command_learns_of_the_keyring_is_kept_for_the_next() {
    let mut up = Up::sealed();
    let other = Device::logged_in(&up);
    let record = |device: &Device| -> Value {
        let kept = std::fs::read(device.home().join("keyring.json")).unwrap();
        serde_json::from_slice::<Value>(&kept).unwrap()["record"].take()
    };
    up.device.run(["channel", "add", "later"]).ok();
    let before = record(&other);
    other.run(["push", "later", "counter", "/v", r#"{"add":1}"#]).ok();
    assert_ne!(record(&other), before);
    assert_eq!(record(&other), record(&up.device));
    // Without the table the next command still has the keys.
    up.kill();
    assert_eq!(other.run(["--json", "get", "later", "counter", "/v"]).json()["value"], 1);
    // A record that was met is not kept by a device that has logged out meanwhile.
    other.run(["logout", "--forget"]).ok();
    let kept: Value = serde_json::from_slice(&std::fs::read(other.home().join("keyring.json")).unwrap()).unwrap();
    assert_eq!(kept["key"], "");
}

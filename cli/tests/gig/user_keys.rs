//! The library's keys against a real table: devices that change the keyring at once, new passwords, a table that goes back.

use std::fs;
use std::path::Path;

use gigfs::core::api::NewSession;
use gigfs::core::seal::{KeyringError, RootKey, Sealing};
use gigfs::core::{ChannelName, ErrorCode, UserName};
use gigfs::{Error, SealMode, Table, UserKeys};

use crate::world::{Login as _, Up};

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

async fn try_log_in(up: &Up, password: &str) -> Result<(Table, RootKey), Error> {
    let table = Table::new(&up.table, UserName::parse("me").unwrap(), &[]).unwrap();
    let session = NewSession { timeout: 600, description: "a device".to_owned() };
    let logged_in = table.log_in(password, &session).await?;
    Ok((table.with_session(&logged_in.created.token), logged_in.root))
}

/// Logs a device in that has nothing but the password, and opens its keys.
async fn device(up: &Up, password: &str) -> (Table, UserKeys) {
    let (table, root) = try_log_in(up, password).await.unwrap();
    let opened = UserKeys::open_or_create(&table, &root, None).await.unwrap();
    (table, opened.keys)
}

/// Copies the files of the table, which does not run.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Takes the table back to what it was before `then`.
async fn taken_back<T>(up: &mut Up, then: impl AsyncFnOnce(&Up) -> T) -> T {
    let backup = tempfile::tempdir().unwrap();
    let data = up.data().join("table");
    up.kill();
    copy(&data, backup.path());
    up.again();
    let came = then(up).await;
    up.kill();
    fs::remove_dir_all(&data).unwrap();
    copy(backup.path(), &data);
    up.again();
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_change_the_keyring_at_once_lose_nothing_and_agree() {
    let up = Up::sealed();
    let password = up.login().1;
    let mut devices = Vec::new();
    for _ in 0..4 {
        devices.push(device(&up, &password).await);
    }
    let mut at_once = Vec::new();
    for (number, (table, keys)) in devices.clone().into_iter().enumerate() {
        at_once.push(tokio::spawn(async move {
            let own = channel(&format!("own-{number}"));
            let mine = keys.ensure(&table, &own, SealMode::Sealed).await.unwrap();
            let ours = keys.ensure(&table, &channel("ours"), SealMode::Sealed).await.unwrap();
            keys.ensure(&table, &channel("open"), SealMode::Plain).await.unwrap();
            (own, mine, ours)
        }));
    }
    let mut made = Vec::new();
    for device in at_once {
        made.push(device.await.unwrap());
    }
    devices.push(device(&up, &password).await);
    for (table, keys) in &devices {
        keys.refresh(table).await.unwrap();
        for (own, mine, ours) in &made {
            assert_eq!(keys.channel(own).as_ref(), Some(mine));
            assert_eq!(keys.channel(&channel("ours")).as_ref(), Some(ours));
        }
        assert_eq!(keys.channel(&channel("open")), Some(Sealing::Plain));
        assert_eq!(keys.channel(&channel("never-made")), None);
        assert_eq!(keys.record(), devices[0].1.record());
    }
    assert_ne!(made[0].1, made[1].1, "each channel has keys of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_another_device_made_is_not_made_over_in_the_other_kind() {
    let up = Up::sealed();
    let password = up.login().1;
    let ((one_table, one), (two_table, two)) = (device(&up, &password).await, device(&up, &password).await);
    let keys = one.ensure(&one_table, &channel("sealed"), SealMode::Sealed).await.unwrap();
    one.ensure(&one_table, &channel("open"), SealMode::Plain).await.unwrap();
    // The second device knows of neither, and finds out.
    let to_plain = two.ensure(&two_table, &channel("sealed"), SealMode::Plain).await.unwrap_err();
    assert!(matches!(to_plain, Error::MarkPlain(_)) && to_plain.to_string().contains("sealed"), "{to_plain}");
    let to_sealed = two.ensure(&two_table, &channel("open"), SealMode::Sealed).await.unwrap_err();
    assert!(matches!(to_sealed, Error::AddKeys(_)), "{to_sealed}");
    assert_eq!(two.channel(&channel("sealed")), Some(keys));
    assert_eq!(two.revision(), one.revision());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_keeps_the_keys_and_the_old_one_opens_nothing() {
    let up = Up::sealed();
    let password = up.login().1;
    let (table, keys) = device(&up, &password).await;
    let home = keys.ensure(&table, &channel("home"), SealMode::Sealed).await.unwrap();
    let old_root = try_log_in(&up, &password).await.unwrap().1;

    let wrong = table.change_password("guessed", "never", Some(&keys.record())).await.unwrap_err();
    assert!(matches!(&wrong, Error::Refused { refusal, .. } if refusal.code == ErrorCode::Unauthorized), "{wrong}");
    let record = table.change_password(&password, "a new one", Some(&keys.record())).await.unwrap().unwrap();
    assert_eq!(record.revision(), keys.revision() + 1);
    assert!(table.session().await.is_err(), "the sessions ended");
    assert!(try_log_in(&up, &password).await.is_err());
    let (table, fresh) = device(&up, "a new one").await;
    assert_eq!(fresh.channel(&channel("home")), Some(home));
    assert_eq!((fresh.record(), fresh.fingerprint()), (record, keys.fingerprint()));
    let by_old = UserKeys::open_or_create(&table, &old_root, None).await.unwrap_err();
    assert!(matches!(&by_old, Error::Keyring { error, .. } if matches!(**error, KeyringError::Password { .. })));
    // Who kept the keyring's key goes on with it.
    keys.refresh(&table).await.unwrap();
    assert_eq!(keys.record(), fresh.record());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_kept_opens_without_a_network_and_with_its_own_key_only() {
    let mut up = Up::sealed();
    let password = up.login().1;
    let (table, keys) = device(&up, &password).await;
    let home = keys.ensure(&table, &channel("home"), SealMode::Sealed).await.unwrap();
    up.kill();
    let kept = UserKeys::with_key(keys.user().clone(), keys.record(), keys.key(), keys.device().clone()).unwrap();
    assert_eq!((kept.channel(&channel("home")), kept.revision()), (Some(home), keys.revision()));
    let other = gigfs::core::seal::KeyringKey::from_secret(gigfs::core::seal::Secret::from_bytes([1; 32]));
    let refused = UserKeys::with_key(keys.user().clone(), keys.record(), other, keys.device().clone()).unwrap_err();
    assert!(matches!(refused, KeyringError::Key { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_went_back_is_refused_by_whoever_saw_more() {
    let mut up = Up::sealed();
    let password = up.login().1;
    let (table, keys) = device(&up, &password).await;
    let before = keys.revision();
    taken_back(&mut up, async |_| {
        keys.ensure(&table, &channel("lost"), SealMode::Sealed).await.unwrap();
    })
    .await;
    let (new_table, root) = try_log_in(&up, &password).await.unwrap();
    let at_refresh = keys.refresh(&table).await.unwrap_err();
    let at_login = UserKeys::open_or_create(&new_table, &root, Some(&keys.record())).await.unwrap_err();
    let at_change = keys.ensure(&table, &channel("more"), SealMode::Sealed).await.unwrap_err();
    let at_password = new_table.change_password(&password, "another", Some(&keys.record())).await.unwrap_err();
    for error in [at_refresh, at_login, at_change, at_password] {
        let seen = before + 1;
        assert!(
            matches!(&error, Error::KeyringRolledBack { revision, seen: s, .. } if (*revision, *s) == (before, seen))
        );
        assert!(error.to_string().contains(&up.table), "it names the table: {error}");
    }
    assert!(keys.channel(&channel("lost")).is_some(), "nothing that was known is forgotten");

    // A device that saw nothing more goes on, and so there is another record of the same revision.
    let (other_table, other) = device(&up, &password).await;
    other.ensure(&other_table, &channel("other"), SealMode::Sealed).await.unwrap();
    assert_eq!(other.revision(), keys.revision());
    let forked = keys.refresh(&table).await.unwrap_err();
    assert!(forked.to_string().contains("another revision"), "{forked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_code_takes_the_place_of_the_one_before_it() {
    let up = Up::sealed();
    let password = up.login().1;
    let (table, keys) = device(&up, &password).await;
    let home = keys.ensure(&table, &channel("home"), SealMode::Sealed).await.unwrap();
    let first = keys.recovery_code(&table).await.unwrap();
    let second = keys.recovery_code(&table).await.unwrap();
    assert_ne!(*first.reveal(), *second.reveal());
    let by_first = UserKeys::recover(&table, &password, &first, "new", None).await.unwrap_err();
    assert!(matches!(&by_first, Error::Keyring { error, .. } if matches!(**error, KeyringError::Recovery { .. })));
    let recovered = UserKeys::recover(&table, &password, &second, "new", Some(&keys.record())).await.unwrap();
    assert_eq!(recovered.channel(&channel("home")), Some(home));
    assert_eq!(device(&up, "new").await.1.record(), recovered.record());
}

//! The vectors that a client in another language checks itself against: `testdata/v1/seal.json`.
//!
//! `GIGFS_WRITE_VECTORS=1 cargo test -p gigfs-core vectors` writes them; without it they are read. A change of a released
//! vector is a change of the format.

use super::*;
use crate::Path;
use crate::seal::padding::padded;
use crate::seal::{names, payload, state};
use serde_json::Value;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/v1/seal.json");

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn golden() -> Value {
    serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
}

fn blind() -> BlindLog {
    keys().names().blind(&log())
}

fn name_vectors() -> Value {
    let logs = [("counter", "/house/visits"), ("set", "/house/visits"), ("counter", "/house"), ("text", "/ä/☃ 1")];
    let vector = |(kind, path)| {
        let log = LogName::parse("me", "home", kind, path).unwrap();
        let blind = keys().names().blind(&log);
        json!({
            "log": log, "blind": blind.as_log(), "associated": hex(names::associated(&blind)),
            "sealed": hex(keys().names().seal(&log)),
        })
    };
    json!({ "secret": hex(secret(1).expose()), "logs": logs.map(vector) })
}

fn payload_vectors() -> Value {
    let payloads =
        [json!(null), json!({"add": 1}), json!("x".repeat(30)), json!("x".repeat(29)), json!("x".repeat(600))];
    let vector = |plain: Value| {
        let draft = draft(Payload::plain(&plain));
        let sealed = keys().seal_payload(&blind(), &draft).unwrap();
        let op = Draft { payload: sealed.clone(), ..draft.clone() }.finish(blind().as_log()).unwrap();
        json!({
            "log": blind().as_log(), "actor": draft.actor, "seq": draft.seq, "date": draft.date, "deps": draft.deps,
            "epoch": 2, "payload": plain, "associated": hex(payload::associated(&blind(), &draft, 2)),
            "sealed": hex(sealed.bytes()), "sha": op.sha(),
        })
    };
    json!({ "secret": hex(secret(3).expose()), "ops": payloads.map(vector) })
}

fn state_vectors() -> Value {
    let vector = |(parent, content): (Option<Sha>, &[u8])| {
        let plain = checkpoint(Payload::Plain(content.to_vec().into()));
        let checkpoint = Checkpoint { parent, ..plain };
        json!({
            "log": blind().as_log(), "gen": checkpoint.generation, "parent": parent, "digest": checkpoint.digest,
            "reducer": checkpoint.reducer, "version": checkpoint.version, "epoch": 2, "state": hex(content),
            "associated": hex(state::associated(&blind(), &checkpoint, 2)),
            "sealed": hex(keys().seal_state(&blind(), &checkpoint).unwrap().bytes()),
        })
    };
    let states: [(Option<Sha>, &[u8]); 2] = [(None, b""), (Some(Sha::of(b"parent")), b"42")];
    json!({ "secret": hex(secret(3).expose()), "states": states.map(vector) })
}

fn identity_vectors() -> Value {
    let (me, device, actor) = (identity(20), DeviceId::from_bytes([1; 16]), ActorId::from_bytes([7; 16]));
    let key = DeviceKey::from_secret(&secret(30));
    let issued = Date::saturating(1_700_000_000_000_000);
    let sha = Sha::of(b"an operation");
    json!({
        "signing_secret": hex(secret(20).expose()), "exchange_secret": hex(secret(21).expose()),
        "signing": hex(me.public().signing), "exchange": hex(me.public().exchange),
        "fingerprint": me.public().fingerprint().to_string(),
        "user": "me", "device": device, "device_secret": hex(secret(30).expose()), "device_key": hex(key.public()),
        "issued": issued, "actor": actor,
        "device_certificate": hex(me.certify_device(user("me"), device, key.public(), issued).to_bytes()),
        "actor_certificate": hex(key.certify_actor(&user("me"), device, actor, issued).to_bytes()),
        "sha": sha, "op_signature": hex(key.sign_op(sha).0), "checkpoint_signature": hex(key.sign_checkpoint(sha).0),
    })
}

fn keyring_vectors() -> Value {
    let mut keyring = Keyring::new(identity(20));
    keyring.add_keys(user("me"), channel("home"), keys()).unwrap();
    keyring.mark_plain(user("me"), channel("open")).unwrap();
    keyring.pin(user("you"), identity(40).public().fingerprint()).unwrap();
    let code = RecoveryCode::from_bytes([70; 20]);
    let (key, root) = (KeyringKey::from_secret(secret(50)), RootKey::from_secret(secret(60)));
    let sealed = SealedKeyring::seal(&user("me"), &keyring, &key, &root, Some(&code)).unwrap();
    json!({
        "user": "me", "key": hex(secret(50).expose()), "root": hex(secret(60).expose()),
        "recovery": hex([70; 20]), "recovery_code": *code.reveal(),
        "content": hex(&*keyring.to_bytes()), "sealed": hex(sealed.to_bytes()),
    })
}

fn grant_vectors() -> Value {
    let (me, you) = (identity(20), identity(40));
    let to = (user("you"), you.public());
    let grant = Grant::seal(&me, user("me"), channel("home"), to, &keys(), secret(80)).unwrap();
    json!({
        "granter": me.public().fingerprint().to_string(), "grantee": "you", "random": hex(secret(80).expose()),
        "signing_secret": hex(secret(40).expose()), "exchange_secret": hex(secret(41).expose()),
        "names": hex(secret(1).expose()), "epochs": [[1, hex(secret(2).expose())], [2, hex(secret(3).expose())]],
        "grant": hex(grant.to_bytes()),
    })
}

#[test]
fn golden_vectors_keep_their_bytes() {
    let lengths = [0, 30, 31, 32, 511, 512, 1024, 2047, 2048, 100_000, 258_047, 3_080_191];
    let vectors = json!({
        "padding": lengths.map(|length| [length, padded(length)]),
        "names": name_vectors(),
        "payloads": payload_vectors(),
        "states": state_vectors(),
        "identity": identity_vectors(),
        "keyring": keyring_vectors(),
        "grant": grant_vectors(),
    });
    if std::env::var_os("GIGFS_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, serde_json::to_string_pretty(&vectors).unwrap() + "\n").unwrap();
    }
    assert_eq!(vectors, golden());
}

#[test]
fn golden_vectors_open() {
    let golden = golden();
    for vector in golden["names"]["logs"].as_array().unwrap() {
        let blind = BlindLog::parse(serde_json::from_value(vector["blind"].clone()).unwrap()).unwrap();
        let opened = keys().names().open(&blind, &unhex(&vector["sealed"])).unwrap();
        assert_eq!(json!(opened), vector["log"]);
    }
    for vector in golden["payloads"]["ops"].as_array().unwrap() {
        let bytes = unhex(&vector["sealed"]).into();
        let opened = keys().open_payload(&blind(), &draft(Payload::Sealed { epoch: 2, bytes })).unwrap();
        assert_eq!(opened, Payload::plain(&vector["payload"]));
    }
    for vector in golden["states"]["states"].as_array().unwrap() {
        let sealed = checkpoint(Payload::Sealed { epoch: 2, bytes: unhex(&vector["sealed"]).into() });
        let sealed = Checkpoint { parent: serde_json::from_value(vector["parent"].clone()).unwrap(), ..sealed };
        let opened = keys().open_state(&blind(), &sealed).unwrap();
        assert_eq!(opened.bytes(), &unhex(&vector["state"]));
    }
    let vector = &golden["keyring"];
    let sealed = SealedKeyring::from_bytes(&unhex(&vector["sealed"])).unwrap();
    let (keyring, _) = sealed.open(&user("me"), &RootKey::from_secret(secret(60)), 1).unwrap();
    assert_eq!(keyring.channel(&user("me"), &channel("home")).and_then(Sealing::keys), Some(&keys()));
    assert_eq!(keyring.channel(&user("me"), &channel("open")), Some(&Sealing::Plain));
    let code: RecoveryCode = vector["recovery_code"].as_str().unwrap().parse().unwrap();
    sealed.open_with_recovery(&user("me"), &code, 1).unwrap();
    let grant = Grant::from_bytes(&unhex(&golden["grant"]["grant"])).unwrap();
    let granter = golden["grant"]["granter"].as_str().unwrap().parse().unwrap();
    assert_eq!(grant.open(&user("you"), &identity(40), granter).unwrap(), keys());
    let certificate = DeviceCertificate::from_bytes(&unhex(&golden["identity"]["device_certificate"])).unwrap();
    let device = certificate.verify(&user("me"), identity(20).public()).unwrap();
    device.trust(&ActorCertificate::from_bytes(&unhex(&golden["identity"]["actor_certificate"])).unwrap()).unwrap();
}

#[test]
fn a_blinded_path_extends_the_blinded_path_above_it() {
    let path = |text: &str| keys().names().blind_path(&Path::parse(text).unwrap()).as_str().to_owned();
    assert!(path("/house/visits").starts_with(&path("/house")));
}

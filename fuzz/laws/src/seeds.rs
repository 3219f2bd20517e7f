//! What the fuzzer begins with: the golden vectors of the formats, divided among the targets, and what they do not hold.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use gigfs_core::api::OpJson;
use gigfs_core::{LogName, Op};
use serde_json::{Value, json};

/// One input to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The target that it is for.
    pub target: &'static str,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Returns all inputs to begin with.
///
/// # Panics
/// If a golden file is not as it was.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Seeds(Vec::new());
    seeds.wire();
    seeds.ops();
    seeds.checkpoints();
    seeds.seal();
    seeds.reducers();
    seeds.texts();
    seeds.claims();
    seeds.bodies();
    seeds.rows();
    seeds.signed();
    seeds.store_notes();
    seeds.0
}

const WIRE: &str = include_str!("../../../core/testdata/v1/wire.json");
const OPS: &str = include_str!("../../../core/testdata/v1/ops.json");
const CHECKPOINTS: &str = include_str!("../../../core/testdata/v1/checkpoints.json");
const SEAL: &str = include_str!("../../../core/testdata/v1/seal.json");
const STATES: &str = include_str!("../../../reducers/testdata/v1/states.json");

struct Seeds(Vec<Seed>);

impl Seeds {
    fn add(&mut self, target: &'static str, bytes: impl AsRef<[u8]>) {
        self.0.push(Seed { target, bytes: bytes.as_ref().to_vec() });
    }

    /// Behind the byte that chooses what it is.
    fn chosen(&mut self, target: &'static str, choice: u8, bytes: impl AsRef<[u8]>) {
        self.add(target, [&[choice], bytes.as_ref()].concat());
    }

    fn wire(&mut self) {
        for message in items(&golden(WIRE)) {
            for target in ["client_messages", "server_messages"] {
                self.add(target, unhex(&message[0]));
                self.add(target, text(&message[1]));
            }
            self.add("json", text(&message[1]));
        }
    }

    fn ops(&mut self) {
        for vector in items(&golden(OPS)) {
            let record = unhex(&vector["record"]);
            let log: LogName = serde_json::from_value(vector["log"].clone()).expect("a log's name");
            let op = Op::from_record(&log, &record, None).expect("a golden operation");
            self.add("ops", serde_json::to_vec(&OpJson::from(&op)).expect("an operation has a JSON form"));
            self.add("ops", record);
            self.add("json", op.payload().bytes());
            self.chosen("sealed", 0, op.payload().bytes());
            self.add("names", log.path.as_str());
        }
        self.add("ops", br#"{"ops":[{"payload":{"add":1}},{"sealed":{"epoch":1,"bytes":"AAAA"}}]}"#);
    }

    fn checkpoints(&mut self) {
        for vector in items(&golden(CHECKPOINTS)) {
            self.add("checkpoints", unhex(&vector["record"]));
        }
        let sha = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        let base = json!({
            "generation": 1, "sha": sha, "parent": null, "reducer": "counter", "version": 1, "date": 1, "state": "42",
            "record": "AAAA", "certificate": "a.b.c",
        });
        self.add("checkpoints", base.to_string());
    }

    fn seal(&mut self) {
        let golden = golden(SEAL);
        for vector in items(&golden["payloads"]["ops"]) {
            self.chosen("sealed", 0, vector["payload"].to_string());
            self.chosen("sealed", 6, [&[2], &*unhex(&vector["sealed"])].concat());
        }
        for vector in items(&golden["states"]["states"]) {
            self.chosen("sealed", 2, unhex(&vector["state"]));
        }
        for vector in items(&golden["names"]["logs"]) {
            let (kind, path) = (text(&vector["log"]["type"]), text(&vector["log"]["path"]));
            let name = crate::sealed::array(2, |to| _ = to.str(kind).and_then(|to| to.str(path)));
            self.chosen("sealed", 4, &name);
            self.chosen("sealed", 5, crate::sealed::padded(&name));
            let blind = &vector["blind"];
            let parts = ["user", "channel", "type", "path"].map(|part| text(&blind[part]).to_owned());
            self.add("names", parts.join("\0"));
        }
        self.chosen("sealed", 1, crate::sealed::padded(b"{\"add\":1}"));
        self.chosen("sealed", 3, crate::sealed::padded(b"42"));
        let identity = &golden["identity"];
        self.add("certificates", unhex(&identity["device_certificate"]));
        self.add("certificates", unhex(&identity["actor_certificate"]));
        self.add("typed", text(&identity["fingerprint"]));
        self.add("typed", text(&golden["keyring"]["recovery_code"]));
        self.add("keyrings", unhex(&golden["keyring"]["sealed"]));
        let content = unhex(&golden["keyring"]["content"]);
        self.chosen("keyrings", 0, &content);
        self.chosen("keyrings", 1, crate::sealed::padded(&content));
        self.add("grants", unhex(&golden["grant"]["grant"]));
        let keys = crate::sealed::array(2, |to| {
            _ = to.bytes(&[1; 32]).and_then(|to| to.array(2));
            for epoch in 1..=2_u8 {
                _ = to.array(2).and_then(|to| to.u8(epoch)).and_then(|to| to.bytes(&[epoch + 1; 32]));
            }
        });
        self.add("grants", cbor_identity());
        self.chosen("grants", 0, &keys);
        self.chosen("grants", 1, crate::sealed::padded(&keys));
    }

    fn reducers(&mut self) {
        let golden = golden(STATES);
        for (which, name) in (0..).zip(["counter", "register", "set", "map", "list"]) {
            let state = unbase64(&golden[name]["state"]);
            let payloads: Vec<String> = items(&golden[name]["payloads"]).iter().map(Value::to_string).collect();
            self.chosen("reducers", which, [&state, b"\n".as_slice(), payloads.join("\n").as_bytes()].concat());
            self.chosen("reducers", which, format!("\n{}", payloads.join("\n")));
            payloads.iter().for_each(|payload| self.chosen("reducers", which, format!("\n{payload}")));
        }
        let typed = [
            (2, "\n{\"add\":1}\n{\"remove\":1}\n{\"add\":1}"),
            (3, "\n{\"set\":{\"a\":1}}\n{\"put\":[\"a\",1]}\n{\"remove\":\"a\"}\n{\"key\":\"a\",\"set\":1}"),
            (4, "\n{\"append\":1}\n{\"insert\":2,\"at\":0}\n{\"remove\":0}"),
        ];
        typed.into_iter().for_each(|(which, lines)| self.chosen("reducers", which, lines));
    }

    fn texts(&mut self) {
        let text = &golden(STATES)["text"];
        let step = |kind: u8, content: &[u8]| {
            let wide = content.len() > 255;
            let length = if wide { content.len().div_ceil(16) } else { content.len() };
            [&[kind | u8::from(wide) << 3, length as u8], content].concat()
        };
        let edits: Vec<Vec<u8>> = items(&text["payloads"]).iter().map(|payload| unbase64(&payload["yrs"])).collect();
        let steps: Vec<Vec<u8>> = edits.iter().map(|edit| step(0, edit)).collect();
        let state = unbase64(&text["state"]);
        self.add("text", steps.concat());
        self.add("text", steps.iter().rev().flatten().copied().collect::<Vec<u8>>());
        self.add("text", step(4, &state));
        self.add("text", [step(5, &state[9..]), step(3, b"\0\x02ab")].concat());
        self.add("text", [step(3, b"\0\0hello"), step(2, "\x01\x01ä😀".as_bytes()), step(3, b"\x02\x01")].concat());
        self.add("text", step(6, br#"{"splices":[[0,0,"a"],[1,0,"b"]]}"#));
        steps.iter().for_each(|step| self.add("text", step));
    }

    fn claims(&mut self) {
        let (id, sha) = ("01010101010101010101010101010101", "01".repeat(32));
        let claims = [
            json!({"iss": "t", "aud": id, "sub": "me", "channel": "home", "permission": "write", "sid": id, "iat": 1,
                   "exp": 4_000_000_000_u64, "use": "store"}),
            json!({"iss": "t", "aud": id, "sub": "me", "channel": "home", "permission": "read", "sid": id, "share": 7,
                   "iat": 1, "exp": 4_000_000_000_u64, "use": "store"}),
            json!({"iss": "t", "aud": id, "sub": "me", "sid": id, "exp": 4_000_000_000_u64, "use": "revoke"}),
            json!({"iss": "t", "aud": id, "sub": "me", "sid": id, "channel": "home", "before": 7,
                   "exp": 4_000_000_000_u64, "use": "revoke"}),
            json!({"iss": id, "sub": "me", "exp": 4_000_000_000_u64, "jti": "x", "use": "confirm"}),
            json!({"iss": id, "sub": "me", "channel": "home", "type": "counter", "path": "/visits", "gen": 1,
                   "checkpoint": sha, "parent": null, "epoch": 7, "use": "acknowledge"}),
            json!({"iss": "t", "sub": "me", "channel": "home", "type": "counter", "path": "/visits", "gen": 1,
                   "checkpoint": sha, "iat": 1, "use": "checkpoint"}),
            json!({"iss": "t", "aud": id, "sub": "me", "channel": "home", "sealed": true, "exp": 4_000_000_000_u64,
                   "use": "seal"}),
        ];
        for claims in claims {
            self.add("tokens", claims.to_string());
        }
    }

    fn bodies(&mut self) {
        let (id, sha) = ("01010101010101010101010101010101", "01".repeat(32));
        let digest = json!({"count": 1, "xor": sha});
        let base = json!({"generation": 1, "sha": sha, "covered": digest, "complete": true, "disputed": false,
                          "bytes": 10, "retained_bytes": 0});
        let header = json!({"base": base, "digest": digest, "last_index": 3, "bytes": 100});
        let log = json!({"type": "counter", "path": "/visits", "base": base, "digest": digest, "last_index": 3,
                         "bytes": 100});
        let op = json!({"sha": sha, "actor": id, "seq": 1, "date": 1, "deps": [], "payload": {"add": 1}});
        let session = json!({"id": id, "description": "laptop", "created": 1, "expires": 2, "current": true});
        let refusal = json!({"code": "quota", "message": "m", "hint": "h", "retry": null});
        let params = json!({"salt": "AAAAAAAAAAAAAAAAAAAAAA", "memory_kib": 65536, "passes": 3});
        let store = json!({"id": id, "url": "https://store", "token": "a.b.c", "permission": "write", "expires": 2,
                           "sealed": true});
        let bodies = [
            json!({"incarnation": id, "header": header, "ops": [{"index": 1, "op": op}], "more": true}),
            json!({"logs": [log], "more": false}),
            json!({"results": [{"status": "accepted", "sha": sha}, {"status": "covered", "sha": sha},
                               {"status": "refused", "code": "quota", "message": "m"}]}),
            header,
            json!({"blobs": [sha]}),
            json!({"missing": [sha]}),
            json!({"code": "a.b.c", "expires": 1}),
            json!({"bytes": null}),
            json!({"quota": 1, "oplogs": 2, "blobs": 3}),
            json!({"sealed": true}),
            json!({"table_url": "https://table", "code": "a.b.c", "table_id": "t", "table_key": "PEM"}),
            json!({"store": id, "store_key": "PEM"}),
            json!({"user": "me", "table_id": "t", "table_key": "PEM", "epoch": 3,
                   "channels": [{"channel": "home", "epoch": 2, "stores": [store]}]}),
            json!({"epoch": 3}),
            json!({"session": id, "expires": 1}),
            json!({"password": params, "master": "AAAA"}),
            json!({"timeout": 60, "description": "laptop"}),
            json!({"token": "t", "id": id, "description": "laptop", "created": 1, "expires": 2, "current": true}),
            json!({"sessions": [session]}),
            json!({"store_url": "https://store", "code": "a.b.c"}),
            json!({"identity": "AAAA"}),
            json!({"permission": "write", "admin": true, "grant": "AAAA"}),
            json!({"guests": [{"user": "you", "permission": "read", "admin": false}]}),
            json!({"channels": [{"owner": "you", "channel": "home", "permission": "read", "admin": false, "grant": ""}]}),
            json!({"logs": [{"type": "counter", "path": "/visits", "checkpoint": {"generation": 1, "sha": sha},
                             "parent": null, "acks": ["a.b.c"]}]}),
            json!({"logs": [{"status": "committed", "certificate": "a.b.c"},
                            {"status": "standing", "certificate": null, "refusal": refusal}]}),
            refusal,
        ];
        for body in bodies {
            self.add("api", body.to_string());
            self.add("json", body.to_string());
        }
        let names = ["me", "/notes/", "/ä/☃ 1", "/..", id, &sha, "channel=home&type=counter&path=%2Fvisits&after=3"];
        names.into_iter().for_each(|name| self.add("names", name));
    }

    fn rows(&mut self) {
        let numbers = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
        let base = [numbers(&[1, 10, 0, 2]), vec![1; 64], vec![3]].concat();
        let log = [numbers(&[1, 3, 3, 100, 2, 1_700_000_000_000_000, 0]), vec![1; 32]].concat();
        self.chosen("rows", 0, numbers(&[1, 2]));
        self.chosen("rows", 1, [&log[..], &[2; 64]].concat());
        self.chosen("rows", 1, [&log[..], &base, &[2; 64]].concat());
        self.chosen("rows", 2, [numbers(&[0, 5]), b"a.b.cRECORD".to_vec()].concat());
        self.chosen("rows", 3, [numbers(&[1, 2]), vec![1; 32], b"RECORD".to_vec()].concat());
        self.chosen("rows", 4, [vec![1; 32], numbers(&[1]), b"RECORD".to_vec()].concat());
        self.chosen("rows", 5, "me\0home\0counter\0/visits");
        self.chosen("rows", 6, [vec![1], numbers(&[1, 2, 3])].concat());
        self.chosen("rows", 7, [numbers(&[1, 2]), vec![1; 32]].concat());
        let (sha, none) = (cell(4, &[1; 32]), cell(0, b""));
        let number = |number: u8| cell(1, &[number]);
        let named = [cell(3, b"counter"), cell(3, b"/visits"), number(3), number(100), number(2), sha.clone()];
        let tail = [number(9), number(0), cell(4, &[2; 64])];
        let base = [number(1), sha.clone(), number(10), number(2), sha.clone(), number(1), number(0), number(0)];
        let without = [none.clone(), none.clone(), none.clone(), none.clone(), none.clone(), none.clone()];
        self.chosen("rows", 8, [named.concat(), tail.concat(), base.concat()].concat());
        self.chosen("rows", 8, [named.concat(), tail.concat(), without.concat(), none.clone(), none].concat());
        self.chosen("rows", 12, [number(1), sha.clone(), cell(4, b"RECORD")].concat());
        self.chosen("rows", 14, [sha, cell(3, b"a.b.c"), cell(4, b"RECORD")].concat());
    }

    fn signed(&mut self) {
        let (store, session) = ("01".repeat(16), "02".repeat(16));
        // Far ahead, so that they do not run out while the fuzzer runs.
        let exp = 4_000_000_000_u64;
        let (log, sha) = (crate::log(), "33".repeat(32));
        let of_log = json!({"sub": log.user, "channel": log.channel, "type": log.kind, "path": log.path, "gen": 1, "checkpoint": sha});
        let with = |base: &Value, more: Value| {
            let (mut all, Value::Object(more)) = (base.clone(), more) else { unreachable!() };
            all.as_object_mut().expect("an object").extend(more);
            all
        };
        let of_table = json!({"iss": "table-1", "aud": store, "sub": log.user});
        for claims in [
            with(&of_table, json!({"use": "revoke", "sid": session, "exp": exp})),
            with(&of_table, json!({"use": "revoke", "sid": session, "channel": log.channel, "before": 7, "exp": exp})),
            with(&of_table, json!({"use": "seal", "channel": log.channel, "sealed": true, "exp": exp})),
            with(
                &of_table,
                json!({"use": "store", "sid": session, "channel": log.channel, "permission": "write", "iat": 1, "exp": exp}),
            ),
            with(&of_log, json!({"iss": "table-1", "iat": 1, "use": "checkpoint"})),
            with(&of_log, json!({"iss": store, "parent": null, "epoch": 3, "use": "acknowledge"})),
        ] {
            self.chosen("signed", 2, claims.to_string());
        }
        let code = json!({"iss": store, "sub": log.user, "exp": exp, "jti": "a", "use": "confirm"});
        self.chosen("signed", 4, code.to_string());
        for head in [
            r#"{"alg":"EdDSA"}"#,
            r#"{"alg":"none"}"#,
            r#"{"alg":"EdDSA","kid":"a","jwk":{"kty":"OKP"},"crit":["b64"]}"#,
        ] {
            self.chosen("signed", 3, head);
        }
        self.chosen("signed", 0, "eyJhbGciOiJFZERTQSJ9.e30.AAAA");
        self.chosen("signed", 1, [0, 40, b'A', 0, 90, b'x']);
        self.chosen("signed", 5, format!("{session}.{}", "A".repeat(43)));
    }

    fn store_notes(&mut self) {
        let note = |kind: u8, name: &[u8], value: &[u8]| {
            let tens = value.len().div_ceil(10);
            [&[kind, name.len() as u8, tens as u8], name, value, &vec![b' '; tens * 10 - value.len()]].concat()
        };
        let key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA6kps7+iFJwWKo2bRVNDhbPCzFFhHc+P8HHcFVo7mFPM=\n-----END PUBLIC KEY-----\n";
        let user = json!({"table": {"id": "table-1", "url": "https://table.example", "key": key}}).to_string();
        let of = [
            note(0, b"me", user.as_bytes()),
            note(0, b"you", br#"{"table":null}"#),
            note(1, b"jti", &[0; 8]),
            note(4, format!("me/{}", "02".repeat(16)).as_bytes(), &[0; 8]),
            note(4, format!("me/{}/home", "02".repeat(16)).as_bytes(), &[0; 16]),
            note(5, b"me/home", b""),
        ];
        // Numbers of eight bytes stand at the end, where nothing fills them up.
        for kind in [1, 2, 3, 4] {
            self.add("store_notes", [&of.concat()[..], &[kind, 2, 1], b"me", &[0, 0, 0, 0, 0, 0, 4, 0]].concat());
        }
        of.iter().for_each(|note| self.add("store_notes", note));
    }
}

fn cbor_identity() -> Vec<u8> {
    [&[0x83, 1, 0x58, 32][..], &[1; 32], &[0x58, 32], &[2; 32]].concat()
}

fn cell(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind, content.len() as u8], content].concat()
}

fn golden(text: &str) -> Value {
    serde_json::from_str(text).expect("a golden file is JSON")
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().cloned().expect("a golden file holds arrays")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a golden file holds texts")
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits: Vec<u8> = text(value).bytes().map(|digit| (digit as char).to_digit(16).expect("hex") as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn unbase64(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text(value)).expect("a golden file holds base64")
}

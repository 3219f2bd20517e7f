//! Store tokens: which are taken, and which are not.

use std::sync::atomic::Ordering;

use gigfs_core::token::{Permission, StoreUse};
use gigfs_core::{ChannelName, ErrorCode, StoreId, UserName, base64_text};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Table, World, refusal, seconds};

#[tokio::test]
async fn a_token_of_another_store_user_channel_or_use_or_out_of_time_is_refused() {
    let world = World::start().await;
    world.confirm("you").await;
    let token = |change: fn(&mut gigfs_core::token::StoreClaims)| world.token_with(change);
    for (what, token, code) in [
        ("store", token(|claims| claims.aud = StoreId::from_bytes([9; 16])), ErrorCode::Forbidden),
        ("user", token(|claims| claims.sub = UserName::parse("you").unwrap()), ErrorCode::Forbidden),
        ("channel", token(|claims| claims.channel = ChannelName::parse("work").unwrap()), ErrorCode::Forbidden),
        ("issuer", token(|claims| claims.iss = "table-2".to_owned()), ErrorCode::Unauthorized),
        ("expired", token(|claims| claims.exp = seconds() - 1), ErrorCode::Expired),
        ("endless", token(|claims| claims.exp = seconds() + 10_000_000), ErrorCode::Unauthorized),
        ("ahead", token(|claims| claims.iat = seconds() + 10_000), ErrorCode::Unauthorized),
    ] {
        assert_eq!(world.try_token(&token).await, Err(code), "{what}");
    }
    let mut other_use: Value = serde_json::to_value(world.claims()).unwrap();
    other_use["use"] = json!("revoke");
    assert_eq!(world.try_token(&world.table.sign(&other_use)).await, Err(ErrorCode::Unauthorized));
    assert_eq!(world.claims().usage, StoreUse::Store);
    for garbage in ["", "x", "a.b.c", &"x".repeat(5000)] {
        assert_eq!(world.try_token(garbage).await, Err(ErrorCode::Unauthorized), "{garbage:.20}");
    }
    assert_eq!(world.try_token(&world.token()).await, Ok(()));
}

#[tokio::test]
async fn only_the_confirmed_key_and_only_eddsa_is_taken() {
    let world = World::start().await;
    let claims = world.claims();
    let stranger = Table::start(&world.table.id).await;
    assert_eq!(world.try_token(&stranger.sign(&claims)).await, Err(ErrorCode::Unauthorized));
    // The public key as if it were a shared secret, in each form that it has.
    let pem = world.table.public.as_bytes();
    let der = pem.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"-")).collect::<Vec<_>>().concat();
    for secret in [pem, &der] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(secret);
            let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap();
            assert_eq!(world.try_token(&token).await, Err(ErrorCode::Unauthorized));
        }
    }
    // No signature at all, and a good one over another head.
    let good = world.token();
    let parts: Vec<_> = good.split('.').collect();
    for head in [r#"{"alg":"none","typ":"JWT"}"#, r#"{"alg":"None"}"#, r#"{"alg":"HS256"}"#, r#"{"typ":"JWT"}"#] {
        let head = base64_text::encode(head.as_bytes());
        for token in [format!("{head}.{}.", parts[1]), format!("{head}.{}.{}", parts[1], parts[2])] {
            assert_eq!(world.try_token(&token).await, Err(ErrorCode::Unauthorized));
        }
    }
    // One bit of the claims.
    let mut claims = base64_text::decode(parts[1]).unwrap();
    let at = claims.windows(5).position(|window| window == b"write").unwrap();
    claims[at] ^= 1;
    let token = format!("{}.{}.{}", parts[0], base64_text::encode(&claims), parts[2]);
    assert_eq!(world.try_token(&token).await, Err(ErrorCode::Unauthorized));
}

#[tokio::test]
async fn a_token_does_not_choose_the_key_that_it_is_checked_with() {
    let world = World::start().await;
    let claims = world.claims();
    let stranger = Table::start(&world.table.id).await;
    let der: String = stranger.public.lines().filter(|line| !line.starts_with('-')).collect();
    let raw = base64_text::decode(der.trim_end_matches('=').replace('+', "-").replace('/', "_").as_str()).unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64_text::encode(&raw[raw.len() - 32..])});
    let heads = [
        json!({"jwk": jwk}),
        json!({"jku": format!("{}/keys", stranger.url)}),
        json!({"x5u": format!("{}/keys", stranger.url)}),
        json!({"x5c": [der]}),
        json!({"kid": "../../../../dev/null"}),
        json!({"kid": stranger.url}),
        json!({"kid": ""}),
    ];
    let payload = base64_text::encode(&serde_json::to_vec(&claims).unwrap());
    for mut head in heads {
        head["alg"] = json!("EdDSA");
        let signed = format!("{}.{payload}", base64_text::encode(head.to_string().as_bytes()));
        let with = |table: &Table| {
            let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &table.signing, Algorithm::EdDSA).unwrap();
            format!("{signed}.{signature}")
        };
        assert_eq!(world.try_token(&with(&stranger)).await, Err(ErrorCode::Unauthorized), "{head}");
        // The table's own signature is good whatever else its head says.
        assert_eq!(world.try_token(&with(&world.table)).await, Ok(()), "{head}");
    }
    assert_eq!(stranger.asked.load(Ordering::SeqCst), 0, "nobody was asked for a key");
}

#[tokio::test]
async fn a_key_of_another_kind_signs_nothing_that_is_taken() {
    let world = World::start().await;
    let claims = world.claims();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let key = EncodingKey::from_ec_der(pair.serialized_der());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap();
    assert_eq!(world.try_token(&token).await, Err(ErrorCode::Unauthorized));
    // A code of the store is no token, and a token is no code.
    let code = world.store().confirm_code(&claims.sub).await.unwrap().code;
    assert_eq!(world.try_token(&code).await, Err(ErrorCode::Unauthorized));
    for forged in [world.token(), unsigned(&code), resigned(&code, b""), resigned(&code, world.table.public.as_bytes())]
    {
        let introduction = world.table.introduction(forged);
        let answer =
            world.http.post(format!("{}/user/me/confirm", world.url)).json(&introduction).send().await.unwrap();
        assert_eq!(refusal(answer).await.code, ErrorCode::Forbidden);
    }
}

fn unsigned(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    format!("{}.{claims}.", base64_text::encode(br#"{"alg":"none","typ":"JWT"}"#))
}

/// The same claims under a secret that everybody knows.
fn resigned(token: &str, secret: &[u8]) -> String {
    let claims = base64_text::decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret)).unwrap()
}

#[tokio::test]
async fn a_token_for_reading_reads_and_does_not_write() {
    let world = World::start().await;
    let token = world.token_with(|claims| claims.permission = Permission::Read);
    assert_eq!(world.try_token(&token).await, Ok(()));
    let url = format!("{}/user/me/oplog?channel=home&type=list&path=/a", world.url);
    let answer = world.http.post(url).bearer_auth(&token).json(&json!({ "payload": 1 })).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::Forbidden);
    let url = format!("{}/user/me/blob/{}?channel=home", world.url, blake3::hash(b"x"));
    let answer = world.http.put(url).bearer_auth(&token).body("x").send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::Forbidden);
}

#[tokio::test]
async fn one_request_with_a_bad_token_keeps_nobody_else_out() {
    let world = World::start().await;
    for _ in 0..3 {
        assert_eq!(world.try_token("bad").await, Err(ErrorCode::Unauthorized));
        assert_eq!(world.try_token(&world.token()).await, Ok(()));
    }
    let answer = world.http.get(format!("{}/user/me/oplogs?channel=home", world.url)).send().await.unwrap();
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    assert_eq!(refusal(answer).await.code, ErrorCode::Unauthorized);
}

#[tokio::test]
async fn a_user_whom_no_table_speaks_for_is_refused() {
    let world = World::start().await;
    world.store().create_user(&UserName::parse("you").unwrap()).await.unwrap();
    for user in ["you", "nobody"] {
        let path = format!("/user/{user}/oplogs?channel=home");
        let answer = world.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(refusal(answer).await.code, ErrorCode::Unauthorized);
    }
}

#[tokio::test]
async fn a_table_is_asked_once_about_a_token_by_many_at_a_time() {
    let world = World::start().await;
    let token = world.token();
    let tries = (0..20).map(|_| world.try_token(&token));
    assert!(futures_util::future::join_all(tries).await.iter().all(Result::is_ok));
    assert_eq!(world.table.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_whose_session_the_table_has_ended_is_refused_and_that_is_remembered() {
    let world = World::start().await;
    *world.table.answer.lock() = Err(ErrorCode::Revoked);
    let token = world.token();
    assert_eq!(world.try_token(&token).await, Err(ErrorCode::Revoked));
    *world.table.answer.lock() = Ok(());
    assert_eq!(world.try_token(&token).await, Err(ErrorCode::Revoked));
    assert_eq!(world.table.asked.load(Ordering::SeqCst), 1);
    assert_eq!(world.try_token(&world.token_with(|claims| claims.exp += 1)).await, Ok(()));
}

#[tokio::test]
async fn a_table_that_cannot_be_reached_keeps_nobody_from_their_data() {
    let world = World::start().await;
    *world.table.answer.lock() = Err(ErrorCode::Internal);
    assert_eq!(world.try_token(&world.token()).await, Ok(()));
    world.table.vanish();
    assert_eq!(world.try_token(&world.token_with(|claims| claims.exp += 1)).await, Ok(()));
    assert_eq!(world.try_token("bad").await, Err(ErrorCode::Unauthorized));
}

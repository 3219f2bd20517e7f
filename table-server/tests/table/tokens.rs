//! Store tokens: what they are bound to, how long they live, and what a store is told that asks about one.

use gigfs_core::api::{Confirm, MountedStore, TokenStanding};
use gigfs_core::token::{Permission, StoreClaims};
use gigfs_core::{ErrorCode, base64_text};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;

use crate::world::*;

struct Mounted {
    world: World,
    ann: Person,
    store: StoreSide,
    confirm: Confirm,
}

async fn mounted() -> Mounted {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    world.mount(&ann, "notes", &store).await;
    let (_, confirm) = store.hears_confirm().await;
    Mounted { world, ann, store, confirm }
}

impl Mounted {
    async fn token(&self, who: &Person) -> MountedStore {
        self.world.mounts(who).await.channels.remove(0).stores.remove(0)
    }

    async fn check(&self, token: &str) -> reqwest::Response {
        self.world.check("ann", &format!("Bearer {token}")).await
    }
}

#[tokio::test]
async fn a_store_token_is_bound_to_store_user_channel_and_session() {
    let it = mounted().await;
    let given = it.token(&it.ann).await;
    let claims = store_claims(&given.token, &it.confirm, it.store.id);
    assert_eq!((claims.sub.as_str(), claims.channel.as_str(), claims.aud), ("ann", "notes", it.store.id));
    assert_eq!((claims.permission, claims.sid), (Permission::Write, it.ann.session.session.id));
    assert_eq!((claims.exp, given.expires), (claims.iat + 3600, claims.exp));
}

#[tokio::test]
async fn a_store_token_never_outlives_its_session() {
    let it = mounted().await;
    let brief = it.ann.with(it.world.log_in("ann", &it.ann.master, 30).await);
    let claims = store_claims(&it.token(&brief).await.token, &it.confirm, it.store.id);
    assert_eq!(claims.exp, brief.session.session.expires);
    let long = it.ann.with(it.world.log_in("ann", &it.ann.master, 1_000_000).await);
    let claims = store_claims(&it.token(&long).await.token, &it.confirm, it.store.id);
    assert_eq!(claims.exp, claims.iat + 3600);
}

#[tokio::test]
async fn a_store_that_asks_is_told_how_long_the_session_lives() {
    let it = mounted().await;
    let given = it.token(&it.ann).await;
    let answer = it.check(&given.token).await;
    assert_eq!(answer.status(), 200);
    let standing: TokenStanding = answer.json().await.unwrap();
    let session = &it.ann.session.session;
    assert_eq!((standing.session, standing.expires), (session.id, session.expires));
}

#[tokio::test]
async fn a_token_falls_with_its_session_and_with_its_mount() {
    let it = mounted().await;
    let other = it.ann.with(it.world.log_in("ann", &it.ann.master, 60).await);
    let (first, second) = (it.token(&it.ann).await.token, it.token(&other).await.token);
    it.world.revoke(&it.ann, other.session.session.id).await;
    refused_as(ErrorCode::Revoked, it.check(&second).await).await;
    assert_eq!(it.check(&first).await.status(), 200);

    let path = format!("/table/notes/store/{}", it.store.id);
    assert_eq!(it.world.ask(Method::DELETE, &path, &it.ann).await.status(), 200);
    let refusal = refused_as(ErrorCode::Revoked, it.check(&first).await).await;
    assert!(refusal.message.contains(&it.store.id.to_string()), "{refusal}");
}

#[tokio::test]
async fn a_token_that_ran_out_is_expired() {
    let world = World::start_with(|config| config.token_seconds = 1).await;
    let ann = world.person("ann").await;
    let store = StoreSide::start(1).await;
    world.mount(&ann, "notes", &store).await;
    let token = world.mounts(&ann).await.channels.remove(0).stores.remove(0).token;
    // A session of one second outlives the token, so its end is the event to wait for.
    let brief = ann.with(world.log_in("ann", &ann.master, 1).await);
    let mut events = world.stream(&brief).await;
    while events.next().await.is_some() {}
    refused_as(ErrorCode::Expired, world.check("ann", &format!("Bearer {token}")).await).await;
    assert_eq!(world.ask(Method::GET, "/session/check", &ann).await.status(), 200);
}

#[tokio::test]
async fn another_algorithm_is_refused_even_with_the_public_key_as_its_secret() {
    let it = mounted().await;
    let token = it.token(&it.ann).await.token;
    let claims = store_claims(&token, &it.confirm, it.store.id);
    let pem = it.confirm.table_key.as_bytes();
    let der: Vec<u8> = {
        let lines = it.confirm.table_key.lines().filter(|line| !line.starts_with('-'));
        let text = lines.collect::<String>().trim_end_matches('=').replace('+', "-").replace('/', "_");
        base64_text::decode(&text).unwrap()
    };
    let mut forged = Vec::new();
    for secret in [pem, &der, &der[der.len() - 32..]] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let key = EncodingKey::from_secret(secret);
            forged.push(jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap());
        }
    }
    let body = token.split('.').nth(1).unwrap();
    let signature = token.split('.').nth(2).unwrap();
    for header in [r#"{"alg":"none","typ":"JWT"}"#, r#"{"alg":"None"}"#, r#"{"alg":"HS256"}"#, r#"{}"#] {
        let header = base64_text::encode(header.as_bytes());
        forged.push(format!("{header}.{body}."));
        forged.push(format!("{header}.{body}.{signature}"));
    }
    for token in forged {
        refused_as(ErrorCode::Unauthorized, it.check(&token).await).await;
    }
}

#[tokio::test]
async fn a_token_that_was_changed_or_made_elsewhere_is_refused() {
    let it = mounted().await;
    let token = it.token(&it.ann).await.token;
    let claims = store_claims(&token, &it.confirm, it.store.id);
    let parts: Vec<&str> = token.split('.').collect();
    let widened = StoreClaims { channel: channel("photos"), ..claims.clone() };
    let widened = base64_text::encode(&serde_json::to_vec(&widened).unwrap());
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = EncodingKey::from_ed_der(other.serialized_der());
    let foreign = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
    for bad in
        [format!("{}.{widened}.{}", parts[0], parts[2]), foreign, token[..token.len() - 2].to_owned(), String::new()]
    {
        refused_as(ErrorCode::Unauthorized, it.check(&bad).await).await;
    }
    let session = it.ann.session.token.clone();
    refused_as(ErrorCode::Unauthorized, it.check(&session).await).await;
    it.world.person("bobby").await;
    refused_as(ErrorCode::Unauthorized, it.world.check("bobby", &format!("Bearer {token}")).await).await;
}

#[tokio::test]
async fn a_revocation_call_is_no_store_token() {
    let mut it = mounted().await;
    let other = it.world.log_in("ann", &it.ann.master, 60).await;
    it.world.revoke(&it.ann, other.session.id).await;
    let Heard::Revoke { authorization, .. } = within("a revoke call", it.store.heard.recv()).await.unwrap() else {
        panic!("the store heard something else");
    };
    refused_as(ErrorCode::Unauthorized, it.world.check("ann", &authorization).await).await;
}

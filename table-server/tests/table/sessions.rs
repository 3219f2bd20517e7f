//! Sessions: created, listed, checked, ended.

use std::collections::BTreeSet;

use gigfs_core::api::{CreatedSession, NewSession, SessionInfo, SessionList};
use gigfs_core::{ErrorCode, SessionId};
use reqwest::Method;

use crate::world::*;

#[tokio::test]
async fn fifty_logins_at_once_give_fifty_sessions() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let logins = (0..50).map(|_| world.log_in("ann", &ann.master, 600));
    let created = futures_util::future::join_all(logins).await;
    let mut ids: BTreeSet<SessionId> = created.iter().map(|created| created.session.id).collect();
    assert_eq!(ids.len(), 50);
    ids.insert(ann.session.session.id);
    let list: SessionList = world.get("/session", &ann).await;
    assert_eq!(list.sessions.iter().map(|session| session.id).collect::<BTreeSet<_>>(), ids);
    for session in created {
        let info: SessionInfo = world.get("/session/check", &ann.with(session.clone())).await;
        assert_eq!(info.id, session.session.id);
    }
}

#[tokio::test]
async fn sessions_are_listed_newest_first_and_the_asking_one_is_marked() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let newer = world.log_in("ann", &ann.master, 60).await;
    let list: SessionList = world.get("/session", &ann).await;
    let seen: Vec<_> = list.sessions.iter().map(|session| (session.id, session.current)).collect();
    assert_eq!(seen, [(newer.session.id, false), (ann.session.session.id, true)]);
    assert_eq!(list.sessions[0].description, "a test");
}

#[tokio::test]
async fn a_session_ends_by_itself_and_says_so() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let brief = ann.with(world.log_in("ann", &ann.master, 1).await);
    let mut events = world.stream(&brief).await;
    assert!(events.next().await.is_some());
    assert!(events.next().await.is_none(), "the stream ends with its session");
    let refusal = refused_as(ErrorCode::Expired, world.ask(Method::GET, "/session/check", &brief).await).await;
    assert!(refusal.now.is_some());
    let list: SessionList = world.get("/session", &ann).await;
    assert_eq!(list.sessions.len(), 1);
}

#[tokio::test]
async fn a_revoked_session_says_so_and_only_its_user_can_revoke_it() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let bob = world.person("bobby").await;
    let other = ann.with(world.log_in("ann", &ann.master, 60).await);
    let path = format!("/session/{}", other.session.session.id);
    refused_as(ErrorCode::UnknownSession, world.ask(Method::DELETE, &path, &bob).await).await;
    world.revoke(&ann, other.session.session.id).await;
    refused_as(ErrorCode::Revoked, world.ask(Method::GET, "/session/check", &other).await).await;
    refused_as(ErrorCode::UnknownSession, world.ask(Method::DELETE, &path, &ann).await).await;
    world.revoke(&ann, ann.session.session.id).await;
    refused_as(ErrorCode::Revoked, world.ask(Method::GET, "/table", &ann).await).await;
}

/// Whoever brings an id or a token along to a login, so that it becomes the one that is logged in, brings it in vain.
#[tokio::test]
async fn a_login_makes_a_session_of_its_own_whatever_is_brought_along() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let bob = world.person("bobby").await;
    let (id, token) = (bob.session.session.id.to_string(), bob.session.token.clone());
    let url = format!("{}/user/ann/session", world.url);
    let master = master_header(&ann.master);
    for place in ["cookie", "x-session", "session", "x-forwarded-user"] {
        let request = world.http.post(&url).header("authorization", &master).header(place, &token);
        let answer = request.json(&serde_json::json!({"timeout": 60, "description": ""})).send().await.unwrap();
        let made: CreatedSession = answer.json().await.unwrap();
        assert!(made.session.id.to_string() != id && made.token != token, "{place}");
        assert_ne!(made.session.id, ann.session.session.id);
    }
    let (id, token) = (id.as_str(), token.as_str());
    for field in ["id", "session", "token", "sid"] {
        let body = serde_json::json!({"timeout": 60, "description": "", field: id});
        let request = world.http.post(format!("{url}?{field}={id}&token={token}")).header("authorization", &master);
        let made: CreatedSession = request.json(&body).send().await.unwrap().json().await.unwrap();
        assert!(made.session.id.to_string() != id && made.token != token, "{field}");
    }
    // What was brought along is what it was: a session of its own user, and of nobody else.
    assert_eq!(world.ask(Method::GET, "/session/check", &bob).await.status(), 200);
    let as_ann = world.send(Method::GET, "/user/ann/session/check", &bob.bearer(), None::<&()>).await;
    refused_as(ErrorCode::Unauthorized, as_ann).await;
    // Two logins never share a token or an id.
    let (one, two) = (world.log_in("ann", &ann.master, 60).await, world.log_in("ann", &ann.master, 60).await);
    assert!(one.session.id != two.session.id && one.token != two.token);
}

#[tokio::test]
async fn credentials_of_others_and_of_nobody_are_unauthorized() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let bob = world.person("bobby").await;
    let (id, secret) = ann.session.token.split_once('.').unwrap();
    let foreign_secret = bob.session.token.split_once('.').unwrap().1;
    let attempts = [
        String::new(),
        "Bearer".to_owned(),
        format!("Bearer {}", bob.session.token),
        format!("Bearer {id}.{foreign_secret}"),
        format!("Bearer {}.{secret}", bob.session.session.id),
        format!("Bearer {}", id),
        format!("Basic {}", ann.session.token),
        master_header(&ann.master),
        format!("Bearer {}", "x".repeat(4000)),
    ];
    for attempt in attempts {
        let answer = world.send(Method::GET, "/user/ann/session/check", &attempt, None::<&()>).await;
        assert!(answer.headers().contains_key("www-authenticate"));
        refused_as(ErrorCode::Unauthorized, answer).await;
    }
    let twice = world.http.get(format!("{}/user/ann/session/check", world.url));
    let twice = twice.header("authorization", ann.bearer()).header("authorization", bob.bearer());
    refused_as(ErrorCode::Unauthorized, twice.send().await.unwrap()).await;
}

#[tokio::test]
async fn timeouts_and_descriptions_have_limits_that_are_named() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    for timeout in [0, u64::MAX >> 11] {
        let refusal = refused_as(ErrorCode::BadRequest, world.try_log_in("ann", &ann.master, timeout).await).await;
        assert!(refusal.message.contains(&timeout.to_string()), "{refusal}");
    }
    let long = NewSession { timeout: 60, description: "d".repeat(257) };
    let answer = world.send(Method::POST, "/user/ann/session", &master_header(&ann.master), Some(&long)).await;
    assert!(refused_as(ErrorCode::TooLarge, answer).await.message.contains("256"));
}

#[tokio::test]
async fn the_process_itself_needs_no_credentials() {
    let world = World::start().await;
    world.table.create_user(&user("ann"), new_master(&[1; 32])).await.unwrap();
    let again = world.table.create_user(&user("ann"), new_master(&[1; 32])).await.unwrap_err();
    assert_eq!(again.to_refusal().code, ErrorCode::Conflict);
    let new = NewSession { timeout: 60, description: String::new() };
    let session = world.table.create_session(&user("ann"), new.clone()).await.unwrap();
    let ann = Person { name: "ann".to_owned(), master: vec![1; 32], session };
    let info: SessionInfo = world.get("/session/check", &ann).await;
    assert!(info.current);
    let unknown = world.table.create_session(&user("bob"), new).await.unwrap_err();
    assert_eq!(unknown.to_refusal().code, ErrorCode::UnknownUser);
}

//! Users and masters: who is let in, and what those learn who are not.

use std::cell::RefCell;

use gigfs_core::api::{NewSession, PasswordParams};
use gigfs_core::{ErrorCode, Refusal};
use reqwest::Method;

use crate::world::*;

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let world = World::start().await;
    world.person("ann").await;
    let wrong = world.try_log_in("ann", &[9; 32], 60).await;
    let unknown = world.try_log_in("nobody", &[9; 32], 60).await;
    assert_eq!(wrong.status(), unknown.status());
    let same = ["content-type", "content-length", "www-authenticate", "cache-control"];
    for name in same {
        assert_eq!(wrong.headers().get(name), unknown.headers().get(name), "{name}");
    }
    assert_eq!(wrong.bytes().await.unwrap(), unknown.bytes().await.unwrap());

    let replace = |name: &str| {
        let path = format!("/user/{name}/master");
        let world = &world;
        async move {
            let body = new_master(&[1; 32]);
            let answer = world.send(Method::PUT, &path, &master_header(&[9; 32]), Some(&body)).await;
            (answer.status(), answer.bytes().await.unwrap())
        }
    };
    assert_eq!(replace("ann").await, replace("nobody").await);
}

#[tokio::test]
async fn an_unknown_user_has_password_parameters_that_stay_the_same() {
    let mut world = World::start().await;
    world.person("ann").await;
    let mut answers = Vec::new();
    for name in ["nobody", "nobody", "somebody", "ann"] {
        let answer = world.send(Method::GET, &format!("/user/{name}/password"), "", None::<&()>).await;
        assert_eq!(answer.status(), 200);
        answers.push(answer.json::<PasswordParams>().await.unwrap());
    }
    assert_eq!(answers[0], answers[1], "one name, one answer");
    assert_ne!(answers[0].salt, answers[2].salt, "another name, another salt");
    assert_eq!(answers[3].salt, vec![7; 16], "a user's own salt");
    assert_eq!(answers[0].salt.len(), PasswordParams::SALT_BYTES);
    let costs = |params: &PasswordParams| (params.memory_kib, params.passes);
    assert_eq!(costs(&answers[0]), costs(&answers[3]));

    world.restart().await;
    let again = world.send(Method::GET, "/user/nobody/password", "", None::<&()>).await;
    assert_eq!(again.json::<PasswordParams>().await.unwrap(), answers[0]);
}

#[tokio::test]
async fn only_the_admin_token_creates_users_and_a_name_is_taken_once() {
    let world = World::start().await;
    let body = new_master(&[1; 32]);
    for bad in ["", "Bearer ", "Bearer wrong", &format!("Master {}", world.admin_token())] {
        let answer = world.send(Method::PUT, "/admin/user/ann", bad, Some(&body)).await;
        refused_as(ErrorCode::Unauthorized, answer).await;
    }
    let admin = world.bearer_admin();
    let create = || world.send(Method::PUT, "/admin/user/ann", &admin, Some(&body));
    assert_eq!(create().await.status(), 201);
    let refusal = refused_as(ErrorCode::Conflict, create().await).await;
    assert!(refusal.message.contains("ann"), "{refusal}");
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_secret_on_disk_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::start().await;
    world.person("ann").await;
    let dir = &world.config.data_dir;
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for entry in dir.read_dir().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn a_new_master_needs_the_old_one_and_ends_every_session() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let other = ann.with(world.log_in("ann", &ann.master, 60).await);
    let replace = |old: &[u8]| {
        let header = master_header(old);
        let world = &world;
        async move { world.send(Method::PUT, "/user/ann/master", &header, Some(&new_master(&[2; 32]))).await }
    };
    refused_as(ErrorCode::Unauthorized, replace(&[9; 32]).await).await;
    assert_eq!(world.ask(Method::GET, "/session/check", &ann).await.status(), 200);

    assert_eq!(replace(&ann.master).await.status(), 204);
    for session in [&ann, &other] {
        refused_as(ErrorCode::Revoked, world.ask(Method::GET, "/session/check", session).await).await;
    }
    refused_as(ErrorCode::Unauthorized, world.try_log_in("ann", &ann.master, 60).await).await;
    world.log_in("ann", &[2; 32], 60).await;
}

#[tokio::test]
async fn a_master_of_the_wrong_form_is_refused_with_its_reason() {
    let world = World::start().await;
    let mut short = new_master(&[1; 31]);
    let answer = world.send(Method::PUT, "/admin/user/ann", &world.bearer_admin(), Some(&short)).await;
    assert!(refused_as(ErrorCode::BadRequest, answer).await.message.contains("32 bytes"));
    short = new_master(&[1; 32]);
    short.password.salt.pop();
    let answer = world.send(Method::PUT, "/admin/user/ann", &world.bearer_admin(), Some(&short)).await;
    assert!(refused_as(ErrorCode::BadRequest, answer).await.message.contains("16 bytes"));
}

#[tokio::test]
async fn secrets_do_not_stand_in_the_database_the_log_or_the_figures() {
    LogHere::install();
    let mut world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    world.mount(&ann, "notes", &store).await;
    let (_, confirm) = store.hears_confirm().await;
    let token = world.mounts(&ann).await.channels[0].stores[0].token.clone();
    assert_eq!(world.check("ann", &format!("Bearer {token}")).await.status(), 200);
    refused_as(ErrorCode::Unauthorized, world.try_log_in("ann", &[9; 32], 60).await).await;
    store.refuse_revoke(true);
    let other = world.log_in("ann", &ann.master, 60).await;
    world.revoke(&ann, other.session.id).await;
    store.hears_revoke(&confirm).await;
    let metrics = world.send(Method::GET, "/metrics", "", None::<&()>).await.text().await.unwrap();
    let admin = world.admin_token();
    world.stop().await;

    let log = LogHere::take();
    let text = String::from_utf8(log.clone()).unwrap();
    assert!(text.contains("/user/{user}/session") && text.contains("gigfs_table_server"), "{text}");
    let files = world.config.data_dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| !path.ends_with("admin-token")).map(|path| std::fs::read(path).unwrap());
    let secret = ann.session.token.split_once('.').unwrap().1;
    let secret_bytes = gigfs_core::base64_text::decode(secret).unwrap();
    let master = gigfs_core::base64_text::encode(&ann.master);
    let signature = token.rsplit_once('.').unwrap().1;
    let needles: [&[u8]; 7] = [
        &ann.master,
        master.as_bytes(),
        secret.as_bytes(),
        &secret_bytes,
        admin.as_bytes(),
        signature.as_bytes(),
        b"the-code",
    ];
    for bytes in files.chain([log, metrics.into_bytes()]) {
        for needle in needles {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{needle:?}");
        }
    }
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what is logged on each thread: a test's runtime is one thread, and so all of its table logs there.
struct LogHere;

impl LogHere {
    fn install() {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(|| Self);
        subscriber.init();
    }

    fn take() -> Vec<u8> {
        LOG.take()
    }
}

impl std::io::Write for LogHere {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Tries to log in with a wrong master until it is not looked at any more, and returns how often it was and the refusal.
async fn until_slowed(world: &World, name: &str) -> (usize, Refusal) {
    for tried in 0..100 {
        let answer = world.try_log_in(name, &[9; 32], 60).await;
        let header = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let refusal = refused(answer).await;
        match refusal.code {
            ErrorCode::Unauthorized => assert_eq!(header, None),
            code => {
                assert_eq!(code, ErrorCode::TooManyAttempts);
                assert_eq!(header, refusal.retry_after.map(|seconds| seconds.to_string()));
                return (tried, refusal);
            }
        }
    }
    panic!("a hundred guesses were looked at")
}

#[tokio::test]
async fn guessing_is_slowed_alike_for_a_user_and_for_nobody() {
    let (world, other) = (World::start().await, World::start().await);
    world.person("ann").await;
    let (of_ann, of_nobody) = (until_slowed(&world, "ann").await, until_slowed(&other, "nobody").await);
    assert_eq!(of_ann, of_nobody);
    assert_eq!(of_ann.1.retry_after, Some(1));
    // Nothing else is looked at from here now, be it right.
    let right = world.try_log_in("ann", &[3; 32], 60).await;
    refused_as(ErrorCode::TooManyAttempts, right).await;
    let path = "/user/ann/master";
    let replace = world.send(Method::PUT, path, &master_header(&[3; 32]), Some(&new_master(&[4; 32]))).await;
    refused_as(ErrorCode::TooManyAttempts, replace).await;
    let admin = world.send(Method::PUT, "/admin/user/bob", &world.bearer_admin(), Some(&new_master(&[1; 32]))).await;
    refused_as(ErrorCode::TooManyAttempts, admin).await;
}

#[tokio::test]
async fn whoever_comes_from_elsewhere_through_a_trusted_proxy_is_not_slowed_with_a_guesser() {
    let world = World::start_with(|config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let ann = world.person("ann").await;
    let from = async |address: &str, master: &[u8]| {
        let new = NewSession { timeout: 60, description: String::new() };
        let request = world.http.post(format!("{}/user/ann/session", world.url)).json(&new);
        let request = request.header("x-forwarded-for", address).header("authorization", master_header(master));
        within("an answer", request.send()).await.unwrap()
    };
    // Where she has logged in before, and the admin's token too, nobody else's guesses matter.
    assert_eq!(from("9.9.9.9", &ann.master).await.status(), 201);
    for _ in 0..10 {
        refused_as(ErrorCode::Unauthorized, from("6.6.6.6", &[9; 32]).await).await;
    }
    for guesser in ["6.6.6.6", "6.6.6.7"] {
        // The first of these is the eleventh, after which nothing is looked at for a second.
        _ = from(guesser, &[9; 32]).await;
        refused_as(ErrorCode::TooManyAttempts, from(guesser, &[9; 32]).await).await;
    }
    assert_eq!(from("9.9.9.9", &ann.master).await.status(), 201);
    world.person("bob").await;
}

#[tokio::test]
async fn wrong_admin_tokens_are_slowed() {
    let world = World::start().await;
    let body = new_master(&[1; 32]);
    let guess = || world.send(Method::PUT, "/admin/user/ann", "Bearer guess", Some(&body));
    for _ in 0..11 {
        refused_as(ErrorCode::Unauthorized, guess().await).await;
    }
    refused_as(ErrorCode::TooManyAttempts, guess().await).await;
}

//! The register: it moves by the word of every store of the channel's epoch, one checkpoint at a time, and keeps it.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use gigfs_core::api::{CommitBody, CommitResult, CommitResults, Confirm, Proposal};
use gigfs_core::limits::{CERTIFICATE_BYTES_MAX, CHANNEL_STORES_MAX, COMMIT_LOGS_MAX};
use gigfs_core::token::{AckClaims, AckUse, CertificateClaims};
use gigfs_core::{BaseId, ErrorCode, LogName, Refusal, Seq, Sha, StoreId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use reqwest::{Method, Response};

use crate::world::*;

/// A person with one channel at some stores.
struct Pruning {
    world: World,
    ann: Person,
    stores: Vec<StoreSide>,
    confirm: Confirm,
}

/// A checkpoint by its generation and a name that stands for what is in it.
fn base(generation: u64, name: &str) -> BaseId {
    BaseId { generation: Seq::new(generation).unwrap(), sha: Sha::of(name.as_bytes()) }
}

fn log(path: &str) -> LogName {
    LogName::parse("ann", "notes", "text", path).unwrap()
}

fn claims(store: StoreId, path: &str, of: BaseId, parent: Option<BaseId>, epoch: u64) -> AckClaims {
    let LogName { user, channel, kind, path } = log(path);
    let (generation, checkpoint, parent) = (of.generation, of.sha, parent.map(|parent| parent.sha));
    let usage = AckUse::Acknowledge;
    AckClaims { iss: store, sub: user, channel, kind, path, generation, checkpoint, parent, epoch, usage }
}

fn propose(path: &str, of: BaseId, parent: Option<BaseId>, acks: Vec<String>) -> Proposal {
    let LogName { kind, path, .. } = log(path);
    Proposal { kind, path, checkpoint: Some(of), parent: parent.map(|parent| parent.sha), acks }
}

fn question(path: &str) -> Proposal {
    let LogName { kind, path, .. } = log(path);
    Proposal { kind, path, checkpoint: None, parent: None, acks: Vec::new() }
}

fn committed(result: CommitResult) -> String {
    match result {
        CommitResult::Committed { certificate } => certificate,
        other => panic!("{other:?}"),
    }
}

fn standing(result: CommitResult) -> (Option<String>, Option<Refusal>) {
    match result {
        CommitResult::Standing { certificate, refusal } => (certificate, refusal),
        other => panic!("{other:?}"),
    }
}

/// Why a checkpoint was not committed.
fn why(code: ErrorCode, result: CommitResult) -> Refusal {
    let refusal = standing(result).1.unwrap();
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(!refusal.hint.is_empty(), "{refusal}");
    refusal
}

impl Pruning {
    async fn at(stores: u8) -> Self {
        let world = World::start().await;
        let ann = world.person("ann").await;
        let mut it = Self { world, ann, stores: Vec::new(), confirm: nobody() };
        for number in 1..=stores {
            it.join(number).await;
        }
        it
    }

    async fn join(&mut self, number: u8) {
        let mut store = StoreSide::start(number).await;
        self.world.mount(&self.ann, "notes", &store).await;
        (_, self.confirm) = store.hears_confirm().await;
        self.stores.push(store);
    }

    async fn epoch(&self) -> u64 {
        self.world.mounts(&self.ann).await.channels[0].epoch
    }

    /// What all stores of the channel say in its present epoch.
    async fn acks(&self, path: &str, of: BaseId, parent: Option<BaseId>) -> Vec<String> {
        let epoch = self.epoch().await;
        self.stores.iter().map(|store| store.sign(&claims(store.id, path, of, parent, epoch))).collect()
    }

    async fn acknowledged(&self, path: &str, of: BaseId, parent: Option<BaseId>) -> Proposal {
        propose(path, of, parent, self.acks(path, of, parent).await)
    }

    async fn send(&self, logs: Vec<Proposal>) -> Response {
        let path = "/user/ann/table/notes/checkpoint";
        self.world.send(Method::POST, path, &self.ann.bearer(), Some(&CommitBody { logs })).await
    }

    async fn ask_all(&self, logs: Vec<Proposal>) -> Vec<CommitResult> {
        let answer = self.send(logs).await;
        assert_eq!(answer.status(), 200);
        answer.json::<CommitResults>().await.unwrap().logs
    }

    async fn ask(&self, proposal: Proposal) -> CommitResult {
        self.ask_all(vec![proposal]).await.remove(0)
    }

    async fn commit(&self, path: &str, of: BaseId, parent: Option<BaseId>) -> CommitResult {
        self.ask(self.acknowledged(path, of, parent).await).await
    }

    /// How many proposals came to this outcome, by the table's figures.
    async fn count(&self, outcome: &str) -> usize {
        let metrics = self.world.send(Method::GET, "/metrics", "", None::<&()>).await.text().await.unwrap();
        let line = format!(r#"gigfs_table_checkpoints_total{{outcome="{outcome}"}} "#);
        metrics.lines().find_map(|it| it.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    /// Reads a certificate as a client and a store do: with the key that the mount table names.
    fn certified(&self, certificate: &str) -> CertificateClaims {
        let key = DecodingKey::from_ed_pem(self.confirm.table_key.as_bytes()).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&self.confirm.table_id]);
        validation.set_required_spec_claims(&["iss", "sub"]);
        jsonwebtoken::decode(certificate, &key, &validation).unwrap().claims
    }

    fn certified_base(&self, certificate: &str) -> BaseId {
        let CertificateClaims { generation, checkpoint: sha, .. } = self.certified(certificate);
        BaseId { generation, sha }
    }
}

fn nobody() -> Confirm {
    let nothing = String::new;
    Confirm { table_url: nothing(), code: nothing(), table_id: nothing(), table_key: nothing() }
}

#[tokio::test]
async fn a_checkpoint_that_all_stores_acknowledged_is_committed_with_a_certificate() {
    let it = Pruning::at(2).await;
    assert_eq!(standing(it.ask(question("/a")).await), (None, None), "there was never one");
    let (first, second) = (base(1, "first"), base(2, "second"));
    let certificate = committed(it.commit("/a", first, None).await);
    let claims = it.certified(&certificate);
    assert!(claims.is_of(&log("/a")));
    assert_eq!((claims.generation, claims.checkpoint), (first.generation, first.sha));
    assert!(claims.iat > 1_600_000_000, "{claims:?}");
    assert_eq!(standing(it.ask(question("/a")).await), (Some(certificate), None));
    let certificate = committed(it.commit("/a", second, Some(first)).await);
    assert_eq!(it.certified_base(&certificate), second);
    assert_eq!(standing(it.ask(question("/b")).await), (None, None), "another log has another register");
}

#[tokio::test]
async fn of_sixteen_checkpoints_on_one_parent_at_once_one_is_committed_and_the_others_hear_of_it() {
    let it = Pruning::at(2).await;
    let mut parent = None;
    for round in 1..=3 {
        let rivals: Vec<_> = (0..16).map(|rival| base(round, &format!("{round} {rival}"))).collect();
        let proposals = join_all(rivals.iter().map(|rival| it.acknowledged("/a", *rival, parent))).await;
        let answers = join_all(proposals.into_iter().map(|proposal| it.ask(proposal))).await;
        let mut won = Vec::new();
        let mut told = BTreeSet::new();
        for (rival, answer) in rivals.into_iter().zip(answers) {
            match answer {
                CommitResult::Committed { certificate } => won.push((rival, certificate)),
                CommitResult::Standing { certificate, refusal } => {
                    assert_eq!(refusal.unwrap().code, ErrorCode::StaleBase);
                    told.insert(certificate.unwrap());
                }
            }
        }
        assert_eq!(won.len(), 1, "{won:?}");
        let (winner, certificate) = won.remove(0);
        assert_eq!(it.certified_base(&certificate), winner);
        assert_eq!(told, BTreeSet::from([certificate]));
        parent = Some(winner);
    }
}

#[tokio::test]
async fn asking_for_what_is_committed_answers_with_the_same_certificate() {
    let it = Pruning::at(1).await;
    let first = base(1, "first");
    let proposal = it.acknowledged("/a", first, None).await;
    let certificate = committed(it.ask(proposal.clone()).await);
    assert_eq!(committed(it.ask(proposal).await), certificate);
    assert_eq!(committed(it.ask(propose("/a", first, None, vec!["junk".to_owned()])).await), certificate);
    assert_eq!((it.count("committed").await, it.count("known").await), (1, 2), "it is signed once");
    let rival = why(ErrorCode::StaleBase, it.commit("/a", base(1, "rival"), None).await);
    assert!(rival.message.contains("generation 1"), "{rival}");
}

#[tokio::test]
async fn acknowledgements_from_before_a_store_joined_or_left_do_not_count() {
    let mut it = Pruning::at(2).await;
    let first = base(1, "first");
    let before = it.acks("/a", first, None).await;
    it.join(3).await;
    let epoch = it.epoch().await;
    let third = &it.stores[2];
    let mut acks = before.clone();
    acks.push(third.sign(&claims(third.id, "/a", first, None, epoch)));
    let refusal = why(ErrorCode::MissingOps, it.ask(propose("/a", first, None, acks)).await);
    assert!(refusal.message.contains(&it.stores[0].id.to_string()), "{refusal}");
    assert!(refusal.message.contains("of epoch 2") && refusal.message.contains("in epoch 3"), "{refusal}");

    let during = it.acks("/a", first, None).await;
    let left = it.stores.pop().unwrap();
    assert_eq!(it.world.remove(&it.ann, "notes", left.id, "?abandon=true").await.status(), 200);
    let refusal = why(ErrorCode::MissingOps, it.ask(propose("/a", first, None, during)).await);
    assert!(refusal.message.contains("of epoch 3") && refusal.message.contains("in epoch 4"), "{refusal}");
    why(ErrorCode::MissingOps, it.ask(propose("/a", first, None, before)).await);
    committed(it.commit("/a", first, None).await);
}

#[tokio::test]
async fn a_channel_is_not_pruned_without_each_of_its_stores() {
    let it = Pruning::at(2).await;
    let first = base(1, "first");
    let acks = it.acks("/a", first, None).await;
    for (one, absent) in acks.iter().zip([1, 0]) {
        let twice = vec![one.clone(), one.clone()];
        let refusal = why(ErrorCode::MissingOps, it.ask(propose("/a", first, None, twice)).await);
        assert!(refusal.message.contains(&it.stores[absent].id.to_string()), "{refusal}");
    }
    let none = why(ErrorCode::MissingOps, it.ask(propose("/a", first, None, Vec::new())).await);
    assert!(none.message.contains("epoch 2"), "{none}");
    assert_eq!(standing(it.ask(question("/a")).await), (None, None));
}

#[tokio::test]
async fn what_a_store_of_the_channel_did_not_sign_does_not_count_and_is_named() {
    let it = Pruning::at(2).await;
    let first = base(1, "first");
    let epoch = it.epoch().await;
    let good = it.acks("/a", first, None).await;
    let (one, two) = (&it.stores[0], &it.stores[1]);
    let said = claims(one.id, "/a", first, None, epoch);
    let (outsider, thief) = (StoreSide::start(9).await, StoreSide::start(1).await);

    let (head, rest) = good[0].split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    let other_body = good[1].split('.').nth(1).unwrap();
    let secret = EncodingKey::from_secret(one.give_key("").as_bytes());
    let hs256 = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &said, &secret).unwrap();
    let unsigned = format!("{}.{body}.", gigfs_core::base64_text::encode(br#"{"alg":"none","typ":"JWT"}"#));
    let token = it.world.mounts(&it.ann).await.channels[0].stores[0].token.clone();
    let id = one.id.to_string();
    for (bad, words) in [
        (thief.sign(&said), vec![id.as_str(), "cannot be verified", "did not sign it"]),
        (two.sign(&said), vec![id.as_str(), "did not sign it"]),
        (hs256, vec![id.as_str(), "did not sign it"]),
        (unsigned, vec![id.as_str(), "did not sign it"]),
        (format!("{head}.{body}.{}", &signature[1..]), vec![id.as_str(), "did not sign it"]),
        (format!("{head}.{other_body}.{signature}"), vec!["did not sign it"]),
        (outsider.sign(&claims(outsider.id, "/a", first, None, epoch)), vec!["the channel does not have"]),
        (token, vec!["cannot be read"]),
        (String::new(), vec!["cannot be read"]),
        ("a.b.c".to_owned(), vec!["cannot be read"]),
        ("ä".repeat(CERTIFICATE_BYTES_MAX), vec!["cannot be read", "limit"]),
    ] {
        let answer = it.ask(propose("/a", first, None, vec![bad.clone(), good[1].clone()])).await;
        let refusal = why(ErrorCode::MissingOps, answer);
        for word in words {
            assert!(refusal.message.contains(word), "{bad}: {refusal}");
        }
        assert!(refusal.message.contains(&id), "{bad}: {refusal}");
    }
    assert_eq!(standing(it.ask(question("/a")).await), (None, None));
    let with_junk = [&good[..], &["junk".to_owned()]].concat();
    committed(it.ask(propose("/a", first, None, with_junk)).await);
}

#[tokio::test]
async fn an_acknowledgement_of_something_else_does_not_count() {
    let it = Pruning::at(1).await;
    let store = &it.stores[0];
    let epoch = it.epoch().await;
    let first = base(1, "first");
    let said = claims(store.id, "/a", first, None, epoch);
    let text = gigfs_core::TypeName::parse("counter").unwrap();
    for other in [
        claims(store.id, "/b", first, None, epoch),
        claims(store.id, "/a", base(1, "other"), None, epoch),
        claims(store.id, "/a", base(2, "first"), None, epoch),
        claims(store.id, "/a", first, Some(base(1, "other")), epoch),
        claims(store.id, "/a", first, None, epoch + 1),
        AckClaims { sub: user("bob"), ..said.clone() },
        AckClaims { channel: channel("photos"), ..said.clone() },
        AckClaims { kind: text, ..said.clone() },
    ] {
        why(ErrorCode::MissingOps, it.ask(propose("/a", first, None, vec![store.sign(&other)])).await);
    }
    committed(it.ask(propose("/a", first, None, vec![store.sign(&said)])).await);
}

#[tokio::test]
async fn a_batch_of_many_logs_is_answered_in_its_order_each_for_itself() {
    let it = Pruning::at(2).await;
    let path = |number: usize| format!("/{number}");
    let checkpoint = |number: usize| base(1, &path(number));
    let mut batch = Vec::new();
    for number in 0..COMMIT_LOGS_MAX {
        let proposal = match number % 4 {
            0 => question(&path(number)),
            1 => propose(&path(number), checkpoint(number), None, vec!["junk".to_owned()]),
            _ => it.acknowledged(&path(number), checkpoint(number), None).await,
        };
        batch.push(proposal);
    }
    assert!(serde_json::to_vec(&batch).unwrap().len() > 128 * 1024, "more than other routes take");
    let answers = it.ask_all(batch.clone()).await;
    assert_eq!(answers.len(), COMMIT_LOGS_MAX);
    for (number, answer) in answers.into_iter().enumerate() {
        match number % 4 {
            0 => assert_eq!(standing(answer), (None, None)),
            1 => assert!(why(ErrorCode::MissingOps, answer).message.contains("cannot be read")),
            _ => {
                let claims = it.certified(&committed(answer));
                assert!(claims.is_of(&log(&path(number))), "{claims:?}");
                assert_eq!(claims.checkpoint, checkpoint(number).sha);
            }
        }
    }
    for (outcome, count) in [("committed", 128), ("missing_ops", 64), ("asked", 64)] {
        assert_eq!(it.count(outcome).await, count, "{outcome}");
    }

    batch.push(question("/one-more"));
    let refusal = refused_as(ErrorCode::TooLarge, it.send(batch).await).await;
    assert!(refusal.message.contains(&COMMIT_LOGS_MAX.to_string()), "{refusal}");
    let many = propose("/a", base(1, "a"), None, vec!["junk".to_owned(); CHANNEL_STORES_MAX + 1]);
    refused_as(ErrorCode::TooLarge, it.send(vec![many]).await).await;
    assert!(it.ask_all(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_log_that_a_batch_names_twice_is_decided_in_order() {
    let it = Pruning::at(1).await;
    let (first, second) = (base(1, "first"), base(2, "second"));
    let rival = it.acknowledged("/a", base(1, "rival"), None).await;
    let batch = vec![
        it.acknowledged("/a", first, None).await,
        rival,
        it.acknowledged("/a", second, Some(first)).await,
        question("/a"),
    ];
    let mut answers = it.ask_all(batch).await.into_iter();
    assert_eq!(it.certified_base(&committed(answers.next().unwrap())), first);
    why(ErrorCode::StaleBase, answers.next().unwrap());
    let certificate = committed(answers.next().unwrap());
    assert_eq!(standing(answers.next().unwrap()), (Some(certificate), None));
}

#[tokio::test]
async fn a_table_that_stands_behind_its_stores_follows_them() {
    let it = Pruning::at(2).await;
    let (first, fifth, sixth) = (base(1, "first"), base(5, "fifth"), base(6, "sixth"));
    committed(it.commit("/a", first, None).await);
    // The table's data is from before the second checkpoint; all stores stand on the fifth.
    why(ErrorCode::StaleBase, it.commit("/a", base(2, "lost"), Some(base(1, "foreign"))).await);
    assert_eq!(it.certified_base(&committed(it.commit("/a", sixth, Some(fifth)).await)), sixth);
    why(ErrorCode::StaleBase, it.commit("/a", base(2, "second"), Some(first)).await);
    assert_eq!(it.certified_base(&committed(it.commit("/b", sixth, Some(fifth)).await)), sixth, "of which it lost all");
}

#[tokio::test]
async fn a_register_survives_a_restart_and_the_removal_of_a_store() {
    let mut it = Pruning::at(2).await;
    let (first, second) = (base(1, "first"), base(2, "second"));
    let certificate = committed(it.commit("/a", first, None).await);
    it.world.restart().await;
    let left = it.stores.pop().unwrap();
    assert_eq!(it.world.remove(&it.ann, "notes", left.id, "?abandon=true").await.status(), 200);
    assert_eq!(standing(it.ask(question("/a")).await), (Some(certificate), None));
    committed(it.commit("/a", second, Some(first)).await);
}

#[tokio::test]
async fn a_register_goes_with_its_channel_and_a_channel_made_anew_follows_its_stores() {
    let it = Pruning::at(1).await;
    let (first, second, third) = (base(1, "first"), base(2, "second"), base(3, "third"));
    let old = it.acknowledged("/a", second, Some(first)).await;
    committed(it.commit("/a", first, None).await);
    assert_eq!(it.world.remove(&it.ann, "notes", it.stores[0].id, "").await.status(), 200);
    refused_as(ErrorCode::UnknownChannel, it.send(vec![question("/a")]).await).await;

    it.world.mount(&it.ann, "notes", &it.stores[0]).await;
    assert_eq!(standing(it.ask(question("/a")).await), (None, None));
    why(ErrorCode::MissingOps, it.ask(old).await);
    assert_eq!(it.certified_base(&committed(it.commit("/a", third, Some(second)).await)), third);
}

#[tokio::test]
async fn a_register_is_its_users_own() {
    let it = Pruning::at(1).await;
    let first = base(1, "first");
    let proposal = it.acknowledged("/a", first, None).await;
    let body = CommitBody { logs: vec![proposal] };
    let bob = it.world.person("bobby").await;
    let (anns, bobs) = ("/user/ann/table/notes/checkpoint", "/user/bobby/table/notes/checkpoint");
    refused_as(ErrorCode::Forbidden, it.world.send(Method::POST, anns, &bob.bearer(), Some(&body)).await).await;
    refused_as(ErrorCode::UnknownChannel, it.world.send(Method::POST, bobs, &bob.bearer(), Some(&body)).await).await;
    it.world.mount(&bob, "notes", &it.stores[0]).await;
    let answer = it.world.send(Method::POST, bobs, &bob.bearer(), Some(&body)).await;
    let answer = answer.json::<CommitResults>().await.unwrap().logs.remove(0);
    why(ErrorCode::MissingOps, answer);
}

#[tokio::test]
async fn a_table_of_the_first_format_is_brought_on_and_its_stores_count_once_they_are_mounted_again() {
    let mut it = Pruning::at(2).await;
    let first = base(1, "first");
    it.world.stop().await;
    {
        let path = it.world.config.data_dir.join("table.db");
        let connection = rusqlite::Connection::open(path).unwrap();
        let back =
            "DROP TABLE keyrings; DROP TABLE registers; DROP TABLE store_keys; ALTER TABLE mounts DROP COLUMN sealed;
                    PRAGMA user_version = 1;";
        connection.execute_batch(BEFORE_SHARING).unwrap();
        connection.execute_batch(back).unwrap();
    }
    it.world.restart_stopped().await;
    assert_eq!(it.epoch().await, 2);
    let refusal = why(ErrorCode::MissingOps, it.commit("/a", first, None).await);
    for store in &it.stores {
        let named = format!("of the store {} cannot be verified", store.id);
        assert!(refusal.message.contains(&named), "{refusal}");
    }
    assert!(refusal.hint.contains("mount the store again with a code"), "{refusal:?}");
    for store in &it.stores {
        it.world.mount(&it.ann, "notes", store).await;
    }
    assert_eq!(it.epoch().await, 2, "a key changes no set of stores");
    committed(it.commit("/a", first, None).await);
}

//! Checkpoints, bases, and what becomes of the operations that they cover.

use std::time::Duration;

use bytes::Bytes;
use gigfs_core::api::{LogHeader, OpJson, PushResult, Pushed};
use gigfs_core::token::{AckClaims, CertificateClaims, Permission};
use gigfs_core::wire::{ClientMessage, LogRef, SUBPROTOCOL_CBOR, ServerMessage, Which, WireBase, WireOp};
use gigfs_core::{BaseId, Date, ErrorCode, LogName, Op, Refusal, Seq, Sha};
use gigfs_storage::{Append, Batch, Engine as _, Fjall};
use gigfs_store_server::EngineKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use reqwest::Method;
use serde_json::json;

use crate::world::{Made, Stream, Table, World, chain, checkpoint, log, op_with, seconds, soon};

pub(crate) const FOR_LONG: Duration = Duration::from_secs(3600);

impl Stream {
    pub(crate) async fn acknowledge(&mut self, made: &Made, epoch: u64) -> Result<String, ErrorCode> {
        let (sha, record) = (made.id.sha, made.record.clone());
        self.send(&ClientMessage::Checkpoint { tag: 1, log: (&made.log).into(), sha, record, epoch }).await;
        match self.next().await {
            Some(ServerMessage::Acknowledged { tag: 1, ack }) => Ok(ack),
            Some(ServerMessage::Failed { tag: 1, refusal }) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn install(&mut self, log: &LogName, base: WireBase) -> Result<LogHeader, ErrorCode> {
        self.install_instead(log, base, None).await
    }

    pub(crate) async fn install_instead(
        &mut self,
        log: &LogName,
        base: WireBase,
        instead_of: Option<Sha>,
    ) -> Result<LogHeader, ErrorCode> {
        self.send(&ClientMessage::Install { tag: 2, log: log.into(), base, instead_of }).await;
        self.installed().await
    }

    pub(crate) async fn cover(&mut self, log: &LogName, base: Sha, shas: Vec<Sha>) -> Result<LogHeader, ErrorCode> {
        self.send(&ClientMessage::Cover { tag: 2, log: log.into(), base, shas }).await;
        self.installed().await
    }

    pub(crate) async fn dispute(&mut self, log: &LogName, base: Sha) -> Result<LogHeader, ErrorCode> {
        self.send(&ClientMessage::Dispute { tag: 2, log: log.into(), base }).await;
        self.installed().await
    }

    pub(crate) async fn installed(&mut self) -> Result<LogHeader, ErrorCode> {
        match self.next().await {
            Some(ServerMessage::Installed { tag: 2, header }) => Ok(header),
            Some(ServerMessage::Failed { tag: 2, refusal }) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    /// Reads a log in all its parts.
    pub(crate) async fn get(&mut self, log: &LogName, known: Option<BaseId>) -> Result<Read, Refusal> {
        self.send(&ClientMessage::Get { tag: 3, log: log.into(), after: 0, base: known }).await;
        let mut read = Read { base: None, ops: Vec::new(), header: LogHeader::default(), parts: Vec::new() };
        loop {
            match self.next().await {
                Some(ServerMessage::Ops { tag: 3, base, ops, header, more }) => {
                    read.parts.push(ops.len());
                    read.base = base.or(read.base);
                    read.ops.extend(ops.iter().map(|(_, op)| op.sha));
                    read.header = header;
                    if !more {
                        return Ok(read);
                    }
                }
                Some(ServerMessage::Failed { tag: 3, refusal }) => return Err(refusal),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn covered(&mut self, log: &LogName) -> Vec<Sha> {
        self.send(&ClientMessage::Inventory { tag: 4, log: log.into(), which: Which::Covered }).await;
        match self.next().await {
            Some(ServerMessage::Shas { tag: 4, shas, more: false, .. }) => shas,
            other => panic!("{other:?}"),
        }
    }

    /// Reads what is retained: the base under it, the operations by generation, and how many parts that took.
    pub(crate) async fn retained(&mut self, log: &LogName) -> (Option<Sha>, Vec<(u64, Sha)>, usize) {
        self.send(&ClientMessage::Retained { tag: 5, log: log.into() }).await;
        let (mut under, mut all, mut parts) = (None, Vec::new(), 0);
        loop {
            let Some(ServerMessage::Retained { tag: 5, base, ops, more }) = self.next().await else { panic!() };
            assert!(base.is_none() || parts == 0, "the base comes first");
            under = base.map(|base| base.sha).or(under);
            all.extend(ops.iter().map(|(generation, op)| (*generation, op.open(log).unwrap().sha())));
            parts += 1;
            if !more {
                return (under, all, parts);
            }
        }
    }
}

pub(crate) struct Read {
    pub(crate) base: Option<WireBase>,
    pub(crate) ops: Vec<Sha>,
    pub(crate) header: LogHeader,
    /// How many operations each part had.
    pub(crate) parts: Vec<usize>,
}

pub(crate) fn shas<'a>(ops: impl IntoIterator<Item = &'a Op>) -> Vec<Sha> {
    ops.into_iter().map(Op::sha).collect()
}

pub(crate) fn without_record(base: WireBase) -> WireBase {
    WireBase { record: Bytes::new(), ..base }
}

pub(crate) fn code(result: &PushResult) -> Option<ErrorCode> {
    match result {
        PushResult::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

pub(crate) fn all_covered(results: &[PushResult], ops: &[Op]) -> bool {
    let covered: Vec<_> = ops.iter().map(|op| PushResult::Covered { sha: op.sha() }).collect();
    results == covered
}

#[tokio::test]
async fn a_checkpoint_is_acknowledged_on_top_of_the_stores_base_and_with_all_that_it_covers() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=3);
    let first = checkpoint(&a, None, &ops, &json!([1]));
    stream.pushed(&a, &ops[..2]).await.unwrap();
    assert_eq!(stream.acknowledge(&first, 1).await, Err(ErrorCode::MissingOps));
    stream.pushed(&a, &ops[2..]).await.unwrap();
    assert!(stream.acknowledge(&first, 1).await.is_ok());

    let more = op_with(&a, 1, 4, &[ops[2].sha()], &json!(4));
    stream.pushed(&a, std::slice::from_ref(&more)).await.unwrap();
    let second = checkpoint(&a, Some(&first), std::slice::from_ref(&more), &json!([2]));
    assert_eq!(stream.acknowledge(&second, 1).await, Err(ErrorCode::StaleBase));
    stream.install(&a, world.table.certified(&first)).await.unwrap();
    assert!(stream.acknowledge(&second, 1).await.is_ok());
    assert_eq!(stream.acknowledge(&first, 1).await, Err(ErrorCode::StaleBase));

    let mut forged = checkpoint(&a, Some(&first), &[more], &json!([3]));
    forged.id.sha = second.id.sha;
    assert_eq!(stream.acknowledge(&forged, 1).await, Err(ErrorCode::InvalidOp));
    let token = world.token_with(|claims| claims.permission = Permission::Read);
    let mut reader = world.stream_with(Some(SUBPROTOCOL_CBOR), &token).await.unwrap().welcomed().await;
    assert_eq!(reader.acknowledge(&second, 1).await, Err(ErrorCode::Forbidden));
    assert_eq!(reader.install(&a, world.table.certified(&second)).await, Err(ErrorCode::Forbidden));
    assert_eq!(reader.cover(&a, first.id.sha, vec![]).await, Err(ErrorCode::Forbidden));
    assert_eq!(reader.dispute(&a, first.id.sha).await, Err(ErrorCode::Forbidden));
}

#[tokio::test]
async fn an_acknowledgement_is_signed_with_the_key_that_the_store_showed_its_table() {
    let mut world = World::with(EngineKind::Fjall).await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=2);
    stream.pushed(&a, &ops).await.unwrap();
    let made = checkpoint(&a, None, &ops, &json!([1]));
    let ack = stream.acknowledge(&made, 7).await.unwrap();
    let key = world.confirm("me").await.store_key;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(&["iss"]);
    let verified =
        jsonwebtoken::decode::<AckClaims>(&ack, &DecodingKey::from_ed_pem(key.as_bytes()).unwrap(), &validation);
    let claims = verified.unwrap().claims;
    assert!(claims.is_of(&a));
    assert_eq!((claims.iss, claims.checkpoint, claims.generation), (world.store_id, made.id.sha, Seq::FIRST));
    assert_eq!((claims.parent, claims.epoch), (None, 7));
    world.restart(FOR_LONG).await;
    assert_eq!(world.confirm("me").await.store_key, key);
}

#[tokio::test]
async fn a_checkpoint_that_was_acknowledged_is_installed_by_its_certificate_alone_after_a_restart() {
    let mut world = World::with(EngineKind::Fjall).await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=2);
    stream.pushed(&a, &ops).await.unwrap();
    let (made, other) = (checkpoint(&a, None, &ops, &json!([1])), checkpoint(&a, None, &ops, &json!([2])));
    stream.acknowledge(&made, 1).await.unwrap();
    world.restart(FOR_LONG).await;
    let mut stream = world.stream().await.welcomed().await;
    let unknown = without_record(world.table.certified(&other));
    assert_eq!(stream.install(&a, unknown).await, Err(ErrorCode::MissingOps));
    let header = stream.install(&a, without_record(world.table.certified(&made))).await.unwrap();
    let base = header.base.unwrap();
    assert_eq!((base.id, base.complete, base.covered), (made.id, true, made.checkpoint.digest));
    // Again, it is there already, whatever comes with it.
    assert_eq!(stream.install(&a, without_record(world.table.certified(&made))).await.unwrap(), header);
    assert_eq!(stream.get(&a, None).await.unwrap().base.unwrap().record, made.record);
}

#[tokio::test]
async fn a_certificate_of_another_key_table_log_checkpoint_or_use_installs_nothing() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=2);
    stream.pushed(&a, &ops).await.unwrap();
    let made = checkpoint(&a, None, &ops, &json!([1]));
    stream.acknowledge(&made, 1).await.unwrap();
    let good = world.table.certificate(&a, made.id);
    let with = |change: fn(&mut CertificateClaims)| {
        let mut claims = good.clone();
        change(&mut claims);
        world.table.sign(&claims)
    };
    let stranger = Table::start(&world.table.id).await;
    let shared = EncodingKey::from_secret(world.table.public.as_bytes());
    let mut other_use = serde_json::to_value(&good).unwrap();
    other_use["use"] = json!("store");
    for (what, certificate) in [
        ("key", stranger.sign(&good)),
        ("table", with(|claims| claims.iss = "table-2".to_owned())),
        ("log", with(|claims| claims.path = log("/b").path)),
        ("user", with(|claims| claims.sub = gigfs_core::UserName::parse("you").unwrap())),
        ("checkpoint", with(|claims| claims.checkpoint = Sha::of(b"another"))),
        ("use", world.table.sign(&other_use)),
        ("algorithm", jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good, &shared).unwrap()),
        ("none", String::new()),
    ] {
        let base = WireBase { certificate, ..world.table.certified(&made) };
        assert_eq!(stream.install(&a, base).await, Err(ErrorCode::Forbidden), "{what}");
    }
    let base = WireBase {
        certificate: with(|claims| claims.generation = Seq::new(2).unwrap()),
        ..world.table.certified(&made)
    };
    assert_eq!(stream.install(&a, base).await, Err(ErrorCode::InvalidOp));
    assert_eq!(stream.get(&a, None).await.unwrap().header.base, None);
}

#[tokio::test]
async fn an_install_takes_the_covered_operations_out_and_leaves_the_late_ones() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let (ops, late) = (chain(&a, 1, 1..=5), chain(&a, 2, 1..=2));
    stream.pushed(&a, &ops).await.unwrap();
    stream.pushed(&a, &late).await.unwrap();
    let made = checkpoint(&a, None, &ops, &json!([1]));
    let header = stream.install(&a, world.table.certified(&made)).await.unwrap();
    assert_eq!((header.digest.count, header.last_index), (2, 7));
    let read = stream.get(&a, None).await.unwrap();
    assert_eq!((read.ops, read.base.unwrap().sha), (shas(&late), made.id.sha));
    let mut covered = shas(&ops);
    covered.sort();
    assert_eq!(stream.covered(&a).await, covered);

    assert!(all_covered(&stream.pushed(&a, &ops).await.unwrap(), &ops));
    let body = json!({ "ops": ops.iter().map(OpJson::from).collect::<Vec<_>>() });
    let answer = world.request(Method::POST, "/user/me/oplog?channel=home&type=list&path=/a").json(&body);
    assert!(all_covered(&answer.send().await.unwrap().json::<Pushed>().await.unwrap().results, &ops));
    let known = stream.pushed(&a, &late[..1]).await.unwrap();
    assert_eq!(known, [PushResult::Known { sha: late[0].sha() }]);
    assert_eq!(stream.get(&a, None).await.unwrap().header, header);
}

#[tokio::test]
async fn a_store_that_never_had_the_operations_can_tell_what_is_covered_once_it_has_the_list() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=3);
    let made = checkpoint(&a, None, &ops, &json!([1]));
    let header = stream.install(&a, world.table.certified(&made)).await.unwrap();
    assert!(!header.base.unwrap().complete);
    let later = op_with(&a, 1, 4, &[ops[2].sha()], &json!(4));
    let results = stream.pushed(&a, &[ops[0].clone(), ops[2].clone(), later.clone()]).await.unwrap();
    assert_eq!(code(&results[0]), Some(ErrorCode::CoverageUnknown));
    assert_eq!(results[1..], [PushResult::Covered { sha: ops[2].sha() }, PushResult::Accepted { sha: later.sha() }]);
    let next = checkpoint(&a, Some(&made), std::slice::from_ref(&later), &json!([2]));
    assert_eq!(stream.acknowledge(&next, 1).await, Err(ErrorCode::CoverageUnknown));

    assert_eq!(stream.cover(&a, Sha::of(b"another"), shas(&ops)).await, Err(ErrorCode::StaleBase));
    assert!(!stream.cover(&a, made.id.sha, shas(&ops[..2])).await.unwrap().base.unwrap().complete);
    assert!(stream.cover(&a, made.id.sha, shas(&ops[2..])).await.unwrap().base.unwrap().complete);
    assert!(all_covered(&stream.pushed(&a, &ops).await.unwrap(), &ops));
    assert!(stream.acknowledge(&next, 1).await.is_ok());
    assert_eq!(stream.get(&a, None).await.unwrap().ops, [later.sha()]);
}

#[tokio::test]
async fn what_is_covered_can_be_read_for_a_while_and_is_then_forgotten() {
    let mut world = World::with(EngineKind::Fjall).await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops: Vec<Op> = (1..=8).map(|seq| op_with(&a, 1, seq, &[], &json!("x".repeat(200_000)))).collect();
    for op in &ops {
        stream.pushed(&a, std::slice::from_ref(op)).await.unwrap();
    }
    let first = checkpoint(&a, None, &ops[..6], &json!([1]));
    let second = checkpoint(&a, Some(&first), &ops[6..], &json!([2]));
    assert_eq!(stream.retained(&a).await, (None, vec![], 1));
    stream.install(&a, world.table.certified(&first)).await.unwrap();
    stream.install(&a, world.table.certified(&second)).await.unwrap();
    let (under, kept, parts) = stream.retained(&a).await;
    let generation = |op: &Op| if op.seq().get() <= 6 { 1 } else { 2 };
    let expected: Vec<_> = ops.iter().map(|op| (generation(op), op.sha())).collect();
    assert_eq!((under, kept), (None, expected));
    assert!(parts > 1);

    world.restart(Duration::ZERO).await;
    let mut stream = world.stream().await.welcomed().await;
    let forgotten = async {
        // Eight operations and the base before.
        while world.metric("gigfs_store_forgotten_ops_total").await < 9.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(forgotten).await;
    assert_eq!(stream.retained(&a).await, (None, vec![], 1));
    assert!(all_covered(&stream.pushed(&a, &ops[..1]).await.unwrap(), &ops[..1]));
    assert_eq!(stream.get(&a, None).await.unwrap().header.base.unwrap().retained_bytes, 0);

    // What is kept from now on came on top of a base.
    world.restart(FOR_LONG).await;
    let mut stream = world.stream().await.welcomed().await;
    let more = chain(&a, 2, 1..=2);
    stream.pushed(&a, &more).await.unwrap();
    let third = checkpoint(&a, Some(&second), &more, &json!([3]));
    stream.install(&a, world.table.certified(&third)).await.unwrap();
    let kept = more.iter().map(|op| (3, op.sha())).collect();
    assert_eq!(stream.retained(&a).await, (Some(second.id.sha), kept, 1));
}

#[tokio::test]
async fn on_top_of_a_disputed_base_only_its_repair_is_acknowledged() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let (ops, late) = (chain(&a, 1, 1..=2), chain(&a, 2, 1..=1));
    stream.pushed(&a, &ops).await.unwrap();
    stream.pushed(&a, &late).await.unwrap();
    let first = checkpoint(&a, None, &ops, &json!([1]));
    assert_eq!(stream.dispute(&a, first.id.sha).await, Err(ErrorCode::StaleBase));
    stream.install(&a, world.table.certified(&first)).await.unwrap();
    assert!(stream.dispute(&a, first.id.sha).await.unwrap().base.unwrap().disputed);
    let (next, repair) =
        (checkpoint(&a, Some(&first), &late, &json!([2])), checkpoint(&a, Some(&first), &[], &json!([3])));
    assert_eq!(stream.acknowledge(&next, 1).await, Err(ErrorCode::Disputed));
    assert!(stream.acknowledge(&repair, 1).await.is_ok());
    let header = stream.install(&a, without_record(world.table.certified(&repair))).await.unwrap();
    assert!(!header.base.unwrap().disputed && header.base.unwrap().complete);
}

#[tokio::test]
async fn a_base_of_another_history_goes_only_when_that_is_said_and_what_it_alone_covered_is_late() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let (common, foreign, ours) = (chain(&a, 1, 1..=2), chain(&a, 2, 1..=2), chain(&a, 3, 1..=2));
    for ops in [&common, &foreign, &ours] {
        stream.pushed(&a, ops).await.unwrap();
    }
    let theirs = checkpoint(&a, None, &[&common[..], &foreign].concat(), &json!(["theirs"]));
    stream.install(&a, world.table.certified(&theirs)).await.unwrap();
    let parent = checkpoint(&a, None, &common, &json!(["ours"]));
    let second = checkpoint(&a, Some(&parent), &ours, &json!(["ours"]));
    assert_eq!(stream.install(&a, world.table.certified(&second)).await, Err(ErrorCode::ForeignBase));

    let mut watcher = world.stream().await.welcomed().await;
    watcher.watch(1, "/", None).await;
    assert!(matches!(watcher.next().await, Some(ServerMessage::Watching { .. })));
    let base = world.table.certified(&second);
    let header = stream.install_instead(&a, base, Some(theirs.id.sha)).await.unwrap();
    assert!(header.base.unwrap().complete, "what both cover was still kept here");
    assert_eq!(header.base.unwrap().id, second.id);
    assert_eq!(stream.get(&a, None).await.unwrap().ops, shas(&foreign));
    // It is told of what is live again, before the base under it.
    let told = soon(watcher.events(2)).await.0;
    assert_eq!(told, shas(&foreign));
    assert_eq!(watcher.next().await, Some(ServerMessage::Pruned { log: LogRef::from(&a), header }));
}

#[tokio::test]
async fn installs_that_come_at_once_never_take_a_log_back() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=30);
    stream.pushed(&a, &ops).await.unwrap();
    let mut chain_of: Vec<Made> = Vec::new();
    for op in &ops {
        chain_of.push(checkpoint(&a, chain_of.last(), std::slice::from_ref(op), &json!([op.seq()])));
    }
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(world.stream().await.welcomed().await);
    }
    // Each stream asks for every sixth, and takes no notice of the others.
    let installing = streams.iter_mut().enumerate().map(|(at, stream)| {
        let (world, a, chain_of) = (&world, &a, &chain_of);
        async move {
            for made in chain_of.iter().skip(at).step_by(6) {
                let header = stream.install(a, world.table.certified(made)).await.unwrap();
                assert!(header.base.unwrap().id >= made.id);
            }
        }
    });
    futures_util::future::join_all(installing).await;
    let base = stream.get(&a, None).await.unwrap().header.base.unwrap();
    assert_eq!(base.id, chain_of[29].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_while_bases_come_is_of_one_moment() {
    let world = World::with(EngineKind::Fjall).await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=150);
    stream.pushed(&a, &ops).await.unwrap();
    let mut bases: Vec<Made> = Vec::new();
    for op in &ops {
        bases.push(checkpoint(&a, bases.last(), std::slice::from_ref(op), &json!([op.seq()])));
    }
    let mut reader = world.stream().await.welcomed().await;
    let installing = async {
        for made in &bases {
            stream.install(&a, world.table.certified(made)).await.unwrap();
        }
    };
    let reading = async {
        loop {
            let Read { base, ops: live, header, .. } = reader.get(&a, None).await.unwrap();
            let generation = header.base.map_or(0, |base| base.id.generation.get()) as usize;
            assert_eq!(base.map(|base| base.sha), header.base.map(|base| base.id.sha));
            assert_eq!((&live, header.digest.count as usize), (&shas(&ops[generation..]), ops.len() - generation));
            if generation == ops.len() {
                return;
            }
        }
    };
    soon(async { tokio::join!(installing, reading) }).await;
}

#[tokio::test]
async fn an_operation_that_the_store_has_is_not_refused_for_its_date() {
    let mut world = World::with(EngineKind::Fjall).await;
    let a = log("/a");
    let ahead: Vec<Op> = (1..=3)
        .map(|seq| {
            let mut draft = op_with(&a, 1, seq, &[], &json!(seq)).draft().clone();
            draft.date = Date::saturating((seconds() + 3600) * 1_000_000);
            draft.finish(&a).unwrap()
        })
        .collect();
    // As it was stored when the store's clock was ahead as well.
    world.stop().await;
    let engine = Fjall::open(&world.data().join("oplogs")).unwrap();
    let appends = ahead[..2].iter().map(|op| Append::Op { log: a.clone(), op: op.clone() }).collect();
    engine.commit(&Batch { appends, ..Batch::default() }).unwrap();
    drop(engine);
    world.start_again(FOR_LONG).await;
    let mut stream = world.stream().await.welcomed().await;
    let made = checkpoint(&a, None, &ahead[..1], &json!([1]));
    stream.install(&a, world.table.certified(&made)).await.unwrap();
    let over_stream = stream.pushed(&a, &ahead).await.unwrap();
    let body = json!({ "ops": ahead.iter().map(OpJson::from).collect::<Vec<_>>() });
    let answer = world.request(Method::POST, "/user/me/oplog?channel=home&type=list&path=/a").json(&body);
    let over_http = answer.send().await.unwrap().json::<Pushed>().await.unwrap().results;
    for results in [over_stream, over_http] {
        assert_eq!(
            results[..2],
            [PushResult::Covered { sha: ahead[0].sha() }, PushResult::Known { sha: ahead[1].sha() }]
        );
        assert_eq!(code(&results[2]), Some(ErrorCode::ClockAhead));
    }
}

#[tokio::test]
async fn a_list_over_its_limit_is_refused() {
    let world = World::start().await;
    let a = log("/a");
    // CBOR cannot even say it.
    let mut json = world.stream_with(None, &world.token()).await.unwrap().welcomed().await;
    let shas = vec![Sha::of(b"x"); gigfs_core::limits::INVENTORY_SHAS_MAX + 1];
    assert_eq!(json.cover(&a, Sha::of(b"y"), shas).await, Err(ErrorCode::TooLarge));
}

#[tokio::test]
async fn a_push_right_behind_a_checkpoint_is_not_held_up_by_it() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=200);
    stream.pushed(&a, &ops).await.unwrap();
    let made = checkpoint(&a, None, &ops, &json!("x".repeat(1_000_000)));
    // More of them than there is room for.
    for tag in 0..100 {
        let (sha, record) = (made.id.sha, made.record.clone());
        stream.send(&ClientMessage::Checkpoint { tag, log: (&a).into(), sha, record, epoch: 1 }).await;
    }
    let late = op_with(&a, 2, 1, &[], &json!(1));
    let op = WireOp::from(&late);
    stream.send(&ClientMessage::Push { tag: 500, log: (&a).into(), ops: vec![op], beyond: None }).await;
    let (mut acknowledged, mut accepted) = (0, 0);
    while acknowledged < 100 || accepted < 1 {
        match stream.next().await.unwrap() {
            ServerMessage::Acknowledged { .. } => acknowledged += 1,
            ServerMessage::Pushed { tag: 500, .. } => accepted += 1,
            other => panic!("{other:?}"),
        }
    }
}

//! The writing thread over engines that fail.

use super::*;
use crate::blob::Blobs;
use gigfs_core::{ActorId, Date, Draft, ErrorCode, Incarnation, LogName, Payload, Seq, StoreId};
use gigfs_storage::Append;
use gigfs_storage::{Fault, Faulty};
use serde_json::json;

fn push(seq: u64) -> (Job, oneshot::Receiver<Outcome>) {
    let log = LogName::parse("me", "home", "list", "/a").unwrap();
    let draft = Draft {
        actor: ActorId::from_bytes([1; 16]),
        seq: Seq::new(seq).unwrap(),
        date: Date::EPOCH,
        deps: vec![],
        payload: Payload::plain(&json!(seq)),
    };
    let op = draft.finish(&log).unwrap();
    let admitted = Admitted { appends: vec![Append::Op { log, op }], results: vec![None], ahead: vec![] };
    let (reply, results) = oneshot::channel();
    (Job::Push(Push { admitted, reply: Reply::Http(reply), _room: None }), results)
}

fn writer(engine: &Arc<Faulty>) -> Writer {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Arc::new(Blobs::open(folder.path()).unwrap());
    let quotas = Quotas::load(&**engine, None, blobs).unwrap();
    let (hub, metrics, seals) = (Arc::default(), Metrics::new(), Seals::default());
    Writer { engine: engine.clone(), hub, metrics, seals, quotas, mirror: None }
}

fn faulty() -> Arc<Faulty> {
    Arc::new(Faulty::new(StoreId::from_bytes([1; 16]), Incarnation::from_bytes([2; 16])))
}

#[test]
fn pushes_that_wait_together_share_one_commit() {
    let engine = faulty();
    let (jobs, results): (Vec<_>, Vec<_>) = (1..=50).map(push).unzip();
    let (queue, waiting) = mpsc::channel(64);
    jobs.into_iter().for_each(|job| queue.try_send(job).map_err(|_| ()).unwrap());
    drop(queue);
    writer(&engine).run(waiting);
    for mut results in results {
        assert!(matches!(results.try_recv().unwrap().unwrap()[..], [PushResult::Accepted { .. }]));
    }
    assert_eq!(engine.commits(), 1);
}

#[test]
fn a_failed_commit_refuses_what_is_in_it_and_nothing_after() {
    let engine = faulty();
    engine.fail([Fault::Full, Fault::Io]);
    let mut writer = writer(&engine);
    for expected in [Some(ErrorCode::InsufficientStorage), Some(ErrorCode::StorageFailed), None] {
        let (job, mut results) = push(1);
        writer.commit(vec![job]);
        let refused = match &results.try_recv().unwrap().unwrap()[0] {
            PushResult::Refused(refusal) => Some(refusal.code),
            _ => None,
        };
        assert_eq!(refused, expected);
    }
}

#[test]
fn a_push_that_was_written_and_not_acknowledged_is_known_when_it_comes_again() {
    let engine = faulty();
    engine.fail([Fault::Unacknowledged]);
    let mut writer = writer(&engine);
    let (job, mut results) = push(1);
    writer.commit(vec![job]);
    assert!(matches!(results.try_recv().unwrap().unwrap()[0], PushResult::Refused(_)));
    let (job, mut results) = push(1);
    writer.commit(vec![job]);
    assert!(matches!(results.try_recv().unwrap().unwrap()[0], PushResult::Known { .. }));
}

#[test]
fn what_is_queued_when_the_thread_is_told_to_stop_is_written() {
    let engine = faulty();
    let (queue, waiting) = mpsc::channel(64);
    let (before, mut results) = push(1);
    let (after, mut later) = push(2);
    for job in [before, Job::Stop, after] {
        queue.try_send(job).map_err(|_| ()).unwrap();
    }
    writer(&engine).run(waiting);
    assert!(matches!(results.try_recv().unwrap().unwrap()[0], PushResult::Accepted { .. }));
    assert!(matches!(later.try_recv().unwrap().unwrap()[0], PushResult::Accepted { .. }));
    assert!(queue.is_closed());
}

fn seal(sealed: bool) -> (Job, oneshot::Receiver<Result<(), Refusal>>) {
    let LogName { user, channel, .. } = LogName::parse("me", "home", "list", "/a").unwrap();
    let (done, answer) = oneshot::channel();
    (Job::Seal(Sealing::Channel { user, channel, sealed }, done), answer)
}

#[test]
fn of_pushes_that_wait_with_a_seal_those_before_it_are_written_and_those_after_it_are_refused() {
    let engine = faulty();
    let (queue, waiting) = mpsc::channel(64);
    let (before, mut results) = push(1);
    let (seals, mut sealed) = seal(true);
    let (after, mut refused) = push(2);
    let (opens, mut opened) = seal(false);
    let (later, mut taken) = push(3);
    for job in [before, seals, after, opens, later] {
        queue.try_send(job).map_err(|_| ()).unwrap();
    }
    drop(queue);
    writer(&engine).run(waiting);
    assert!(matches!(results.try_recv().unwrap().unwrap()[..], [PushResult::Accepted { .. }]));
    assert_eq!(sealed.try_recv().unwrap(), Ok(()));
    assert_eq!(refused.try_recv().unwrap().unwrap_err().code, ErrorCode::Sealed);
    assert_eq!(opened.try_recv().unwrap(), Ok(()));
    assert!(matches!(taken.try_recv().unwrap().unwrap()[..], [PushResult::Accepted { .. }]));
}

#[test]
fn a_seal_that_is_not_on_disk_refuses_nothing() {
    let engine = faulty();
    engine.fail([Fault::Io]);
    let mut writer = writer(&engine);
    let (job, mut sealed) = seal(true);
    writer.commit(vec![job]);
    assert_eq!(sealed.try_recv().unwrap().unwrap_err().code, ErrorCode::StorageFailed);
    let (job, mut results) = push(1);
    writer.commit(vec![job]);
    assert!(matches!(results.try_recv().unwrap().unwrap()[..], [PushResult::Accepted { .. }]));
    assert_eq!(
        Seals::load(&*engine).unwrap().check(Some(&LogName::parse("me", "home", "list", "/a").unwrap())),
        Ok(())
    );
}

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn log() -> LogName {
    LogName::parse("me", "home", "counter", "/visits").unwrap()
}

fn checkpoints() -> Vec<(Checkpoint, Option<Signature>)> {
    let actor = |byte| ActorId::from_bytes([byte; 16]);
    let heads = |name: &[u8], seq| (Seq::new(seq).unwrap(), Sha::of(name));
    let first = Checkpoint {
        generation: Seq::FIRST,
        parent: None,
        covers: Covers::from_entries([(actor(1), vec![heads(b"a", 7)])]),
        absent: vec![],
        digest: Digest { count: 7, xor: [0x77; 32] },
        reducer: TypeName::parse("counter").unwrap(),
        version: 1,
        state: Payload::plain(&json!(42)),
        date: Date::saturating(1_700_000_000_000_000),
        author: actor(1),
    };
    let mut forked = vec![heads(b"b", 300), heads(b"c", 300)];
    forked.sort_unstable();
    let second = Checkpoint {
        generation: Seq::new(2).unwrap(),
        parent: Some(first.sha(&log())),
        covers: Covers::from_entries([(actor(1), vec![heads(b"d", 9)]), (actor(2), forked)]),
        absent: vec![Sha::of(b"e")],
        digest: Digest { count: 310, xor: [0x55; 32] },
        state: Payload::Sealed { epoch: 3, bytes: vec![0xde, 0xad, 0xbe, 0xef].into() },
        author: actor(2),
        ..first.clone()
    };
    vec![(first, None), (second, Some(Signature([0x11; 64])))]
}

#[test]
fn a_checkpoint_belongs_to_one_log_only_and_round_trips() {
    let other = LogName::parse("me", "home", "counter", "/other").unwrap();
    for (checkpoint, signature) in checkpoints() {
        let (record, sha) = (checkpoint.to_record(signature.as_ref()), checkpoint.sha(&log()));
        assert_eq!(Checkpoint::from_record(&log(), &record, sha).unwrap(), (checkpoint, signature));
        let moved = Checkpoint::from_record(&other, &record, sha);
        assert!(matches!(moved, Err(CheckpointError::ShaMismatch { .. })));
    }
}

#[test]
fn every_flipped_bit_truncation_and_trailing_byte_of_a_checkpoint_is_refused() {
    let (checkpoint, _) = checkpoints().swap_remove(0);
    let (record, sha) = (checkpoint.to_record(None), checkpoint.sha(&log()));
    for at in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(Checkpoint::from_record(&log(), &flipped, sha).is_err(), "bit {at} went unseen");
    }
    for length in 0..record.len() {
        assert!(Checkpoint::from_record(&log(), &record[..length], sha).is_err());
    }
    assert!(Checkpoint::from_record(&log(), &[record, vec![0]].concat(), sha).is_err());
}

#[test]
fn heads_out_of_order_and_states_over_the_limit_are_refused() {
    let (mut checkpoint, _) = checkpoints().swap_remove(1);
    let reversed = |(actor, heads): (&ActorId, &Heads)| (*actor, heads.iter().rev().copied().collect());
    checkpoint.covers = Covers::from_entries(checkpoint.covers.entries().map(reversed).collect::<BTreeMap<_, _>>());
    assert_eq!(checkpoint.check(), Err(CheckpointError::Covers));
    let (mut checkpoint, _) = checkpoints().swap_remove(0);
    checkpoint.state = Payload::Plain(vec![0; CHECKPOINT_STATE_BYTES_MAX + 1].into());
    assert!(matches!(checkpoint.check(), Err(CheckpointError::StateTooLarge { .. })));
}

/// The vectors that a client in another language checks itself against: `testdata/v1/checkpoints.json`.
#[test]
fn golden_checkpoints_keep_their_bytes_and_their_shas() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let vector = |(checkpoint, signature): &(Checkpoint, Option<Signature>)| {
        json!({
            "log": log(), "identity": hex(checkpoint.identity_bytes(&log())), "sha": checkpoint.sha(&log()),
            "record": hex(checkpoint.to_record(signature.as_ref())),
            "gen": checkpoint.generation, "parent": checkpoint.parent, "covers": checkpoint.covers,
            "absent": checkpoint.absent, "digest": checkpoint.digest,
            "reducer": checkpoint.reducer, "version": checkpoint.version, "date": checkpoint.date,
            "author": checkpoint.author,
        })
    };
    let vectors: Vec<Value> = checkpoints().iter().map(vector).collect();
    let golden: Vec<Value> = serde_json::from_str(include_str!("../../testdata/v1/checkpoints.json")).unwrap();
    assert_eq!(vectors, golden);
}

proptest! {
    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        _ = Checkpoint::from_record(&log(), &bytes, Sha::of(b""));
    }
}

use super::*;
use crate::laws::{self, Fold, Step};
use proptest::prelude::*;
use serde_json::json;

fn intents() -> impl Strategy<Value = Value> {
    let splice = || {
        (0..5_u64, 0..3_u64, prop_oneof![Just("a"), Just("bc"), Just("é"), Just("😀x"), Just("")])
            .prop_map(|(position, deleted, inserted)| json!([position, deleted, inserted]))
    };
    prop_oneof![
        3 => (0..3_u64, prop_oneof![Just("abc"), Just("x"), Just("y😀z")]).prop_map(|(at, text)| json!({"splice": [at, 0, text]})),
        3 => splice().prop_map(|splice| json!({"splice": splice})),
        1 => prop::collection::vec(splice(), 0..3).prop_map(|splices| json!({"splices": splices})),
    ]
}

laws::hold!(
    Text,
    intents(),
    [
        json!({"yrs": "not base64"}),
        json!({"yrs": ""}),
        json!({"yrs": "AQE="}),
        json!({"splice": [0, 0]}),
        json!({"splice": [-1, 0, ""]}),
        json!({"insert": "x"}),
        json!(null)
    ]
);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn splices_posted_as_typed_converge(
        steps in laws::script(intents()), typed in any::<[bool; 24]>(), priorities in laws::priorities()
    ) {
        let post = |(step, typed): (&Step, bool)| if typed { step.posted() } else { step.clone() };
        let steps: Vec<_> = steps.iter().zip(typed).map(post).collect();
        laws::arrival_order_does_not_matter(&Text, &steps, &priorities)?;
    }
}

fn edit_of(op: &laws::Op) -> Vec<u8> {
    match serde_json::from_value(op.payload.clone()).unwrap() {
        TextChange::Yrs(bytes) => bytes,
        typed => panic!("{typed:?} was not prepared"),
    }
}

fn clients_of(fold: &Fold<Text>) -> Vec<u64> {
    fold.state.clocks.keys().copied().collect()
}

fn author_of(actor: u8, seq: u64) -> Author {
    let actor = ActorId::from_bytes([actor; 16]);
    Author { actor, seq: gigfs_core::Seq::new(seq).unwrap(), date: gigfs_core::Date::saturating(seq) }
}

fn insert(position: u64, text: &str) -> TextIntent {
    TextIntent::Splice(Splice(position, 0, text.to_owned()))
}

proptest! {
    #[test]
    fn a_damaged_edit_is_refused_or_applied_and_never_panics(
        steps in laws::script(intents()),
        at in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4)
    ) {
        let ops = laws::history(&Text, &steps);
        if ops.is_empty() {
            return Ok(());
        }
        let victim = at.index(ops.len());
        let mut bytes = edit_of(&ops[victim]);
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
        let damaged = json!({"yrs": BASE64_STANDARD.encode(&bytes)});
        let mut fold = Fold::new(Text);
        for (number, op) in ops.iter().enumerate() {
            let op = if number == victim { laws::Op { payload: damaged.clone(), ..op.clone() } } else { op.clone() };
            let before = fold.encoded();
            if fold.apply(&op).is_err() {
                prop_assert_eq!(fold.encoded(), before);
            }
        }
        fold.reopened().write(1_000, json!({"splice": [0, 0, "still writable"]}));
        fold.write(1_000, json!({"splice": [0, 0, "still writable"]}));
    }
}

#[test]
fn positions_count_characters_whatever_their_width() {
    let mut fold = Fold::new(Text);
    fold.write(1, json!({"splice": [0, 0, "né😀𝄞x"]}));
    fold.write(2, json!({"splice": [3, 1, "ß"]}));
    fold.write(3, json!({"splices": [[5, 0, "🦀!"], [0, 2, ""], [1, 0, "-"]]}));
    assert_eq!(fold.view(), json!("😀-ßx🦀!"));
    assert_eq!(fold.reopened().view(), json!("😀-ßx🦀!"));
}

#[test]
fn a_splice_beyond_the_text_is_refused_with_a_sentence_and_posted_as_typed_it_is_moved_into_it() {
    let mut fold = Fold::new(Text);
    fold.write(1, json!({"splice": [0, 0, "abc"]}));
    let error = fold.try_write(2, json!({"splice": [2, 2, "x"]})).unwrap_err();
    assert_eq!(error, "the text has 3 characters, and the splice is about 2 from position 2 on");
    fold.post(2, json!({"splice": [2, 2, "x"]}));
    fold.post(3, json!({"splice": [9, 9, "y"]}));
    assert_eq!(fold.view(), json!("abxy"));
}

#[test]
fn concurrent_insertions_at_one_place_stand_whole_and_the_smaller_actor_first() {
    let (mut small, mut large) = (Fold::by(1, Text), Fold::by(2, Text));
    let from_large = large.write(1, json!({"splice": [0, 0, "large"]}));
    let from_small = small.write(9, json!({"splice": [0, 0, "small"]}));
    small.hear(&from_large);
    large.hear(&from_small);
    assert_eq!(small.view(), json!("smalllarge"));
    assert_eq!(small.encoded(), large.encoded());
}

#[test]
fn an_edit_waits_for_what_it_builds_on_and_also_in_an_encoded_state() {
    let mut author = Fold::by(1, Text);
    let typed = ["a", "b", "c"].iter().enumerate();
    let mut ops: Vec<_> = typed.map(|(at, text)| author.write(at as u64, json!({"splice": [at, 0, text]}))).collect();
    ops.push(author.write(9, json!({"splice": [1, 1, ""]})));
    let mut late = Fold::by(2, Text);
    for op in ops[1..].iter().rev() {
        late.hear(op);
        late = late.reopened();
        assert_eq!(late.view(), json!(""));
    }
    late.hear(&ops[0]);
    assert_eq!(late.view(), json!("ac"));
    assert_eq!(late.encoded(), author.encoded());
}

#[test]
fn preparing_does_not_change_the_state() {
    let mut fold = Fold::new(Text);
    fold.write(1, json!({"splice": [0, 0, "abc"]}));
    let before = fold.encoded();
    Text.prepare(&fold.state, insert(1, "lost"), &author_of(1, 2)).unwrap();
    assert_eq!(fold.encoded(), before);
}

#[test]
fn an_edit_that_was_prepared_and_not_logged_is_forgotten_and_its_ids_are_not_used_again() {
    let mut fold = Fold::new(Text);
    fold.write(1, json!({"splice": [0, 0, "abc"]}));
    let lost = Text.prepare(&fold.state, insert(3, "lost"), &author_of(1, 2)).unwrap();
    fold.write(2, json!({"splice": [3, 0, "d"]}));
    assert_eq!(fold.view(), json!("abcd"));
    assert_eq!(clients_of(&fold).len(), 2);
    fold.post(3, serde_json::to_value(lost).unwrap());
    assert_eq!(fold.view().as_str().map(str::len), Some(8));
}

#[test]
fn an_author_keeps_its_client_id_while_its_edits_are_applied_and_others_come_in_between() {
    let (mut here, mut there) = (Fold::by(1, Text), Fold::by(2, Text));
    for date in 0..20 {
        let op = here.write(date, json!({"splice": [date, 0, "h"]}));
        there.hear(&op);
        let op = there.write(date, json!({"splice": [0, (date % 2), "t"]}));
        here.hear(&op);
    }
    assert_eq!(here.encoded(), there.encoded());
    assert_eq!(clients_of(&here).len(), 2);
}

#[test]
fn a_device_restored_from_a_backup_repeats_seqs_and_loses_nothing() {
    let mut backup = Fold::by(1, Text);
    backup.write(1, json!({"splice": [0, 0, "common "]}));
    let (mut lost, mut restored) = (backup.reopened(), backup.reopened());
    let first = lost.write(2, json!({"splice": [7, 0, "lost "]}));
    let second = restored.write(2, json!({"splice": [7, 0, "restored "]}));
    assert_eq!(first.meta.seq, second.meta.seq);
    lost.hear(&second);
    restored.hear(&first);
    assert_eq!(lost.encoded(), restored.encoded());
    assert_eq!(lost.view().as_str().map(str::len), Some("common lost restored ".len()));
}

#[test]
fn nobody_can_use_the_ids_of_another_actor() {
    let mut author = Fold::by(1, Text);
    let op = author.write(1, json!({"splice": [0, 0, "mine"]}));
    let mut thief = Fold::by(2, Text);
    thief.post(1, op.payload);
    assert_eq!(thief.view(), json!(""));
}

#[test]
fn a_clone_is_another_document() {
    let mut fold = Fold::new(Text);
    fold.write(1, json!({"splice": [0, 0, "abc"]}));
    let kept = fold.state.clone();
    fold.write(2, json!({"splice": [0, 3, ""]}));
    assert_eq!(Text.view(&kept), json!("abc"));
    assert_eq!(fold.view(), json!(""));
}

#[test]
fn deleted_text_leaves_only_its_count() {
    let mut fold = Fold::new(Text);
    fold.write(1, json!({"splice": [0, 0, "x".repeat(10_000)]}));
    assert!(fold.encoded().len() > 10_000);
    fold.write(2, json!({"splice": [1, 9_998, ""]}));
    assert!(fold.encoded().len() < 100, "{} bytes", fold.encoded().len());
}

//! Reducers that differ, and states that are wrong.

use std::sync::Arc;

use gigfs_core::sync::PruneHold;
use gigfs_core::{Author, IntentError, Kind, Meta, PayloadError, Reduced, Reducer, StateError, TypeName};
use gigfs_sim::World;
use serde_json::{Value, json};

use super::script::{
    ANNA, BERT, CARL, DISK, HOME, LOG, MEMORY, OTHER_DISK, RENTED, away, back, base, converge, covered, generation,
    live, name, ops, prune, say, world,
};

/// Words one behind the other, as `concat` folds them; from version 2 on the state begins with their count.
struct Words {
    version: u32,
    separator: char,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Word {
    append: String,
}

impl Words {
    fn kind(version: u32, separator: char) -> Arc<dyn Kind> {
        Arc::new(Reduced::new(Self { version, separator }))
    }
}

impl Reducer for Words {
    type Intent = Word;
    type Payload = Word;
    type State = (u64, String);

    fn name(&self) -> &str {
        "concat"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn initial(&self) -> (u64, String) {
        (0, String::new())
    }

    fn prepare(&self, _: &(u64, String), intent: Word, _: &Author) -> Result<Word, IntentError> {
        Ok(intent)
    }

    fn apply(&self, state: &mut (u64, String), payload: Word, _: &Meta) -> Result<(), PayloadError> {
        state.0 += 1;
        state.1.push_str(&payload.append);
        state.1.push(self.separator);
        Ok(())
    }

    fn view(&self, state: &(u64, String)) -> Value {
        json!(state.1)
    }

    fn encode_state(&self, (count, words): &(u64, String)) -> Vec<u8> {
        match self.version {
            1 => words.clone().into_bytes(),
            _ => format!("{count}:{words}").into_bytes(),
        }
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<(u64, String), StateError> {
        self.decode_state_of(self.version, bytes)
    }

    fn decode_state_of(&self, version: u32, bytes: &[u8]) -> Result<(u64, String), StateError> {
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| StateError(error.to_string()))?;
        if version == 1 {
            return Ok((text.matches(self.separator).count() as u64, text));
        }
        let (count, words) = text.split_once(':').ok_or_else(|| StateError("there is no count".into()))?;
        let count = count.parse().map_err(|_| StateError("the count is no number".into()))?;
        Ok((count, words.to_owned()))
    }
}

fn concat() -> TypeName {
    TypeName::parse("concat").expect("the name is well formed")
}

#[test]
fn a_client_with_an_older_reducer_takes_part_but_does_not_prune_until_it_is_upgraded() {
    let mut w = world("concat", &[DISK, OTHER_DISK], 2);
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    prune(&mut w, BERT);
    // Version 2 reads the state of version 1, and goes on from it.
    w.equip(ANNA, &concat(), &Words::kind(2, ' '));
    w.judge_by(&concat(), &Words::kind(2, ' '));
    assert_eq!(w.value(ANNA, LOG), json!("w1 "));
    // Before it meets the new base, the old client notices nothing.
    away(&mut w, BERT);
    say(&mut w, BERT, 2);
    say(&mut w, ANNA, 3);
    w.run_for(10_000);
    prune(&mut w, ANNA);
    back(&mut w, BERT);
    w.drive().unwrap();
    let log = name(&w);
    let trouble = w.clients[BERT].replica.as_ref().unwrap().trouble(&log).unwrap().to_owned();
    assert!(trouble.contains("version 2"), "{trouble}");
    assert_eq!((base(&w, BERT), ops(&w, BERT)), (base(&w, ANNA), 1));
    assert_eq!(w.value(ANNA, LOG), json!("w1 w3 w2 "), "what the old client wrote is here");
    assert!(matches!(w.prune(BERT, LOG), Some(PruneHold::NoState { .. })));
    // It still reads what others write, keeps it, and brings it to stores that they do not reach.
    w.partition(ANNA, RENTED);
    say(&mut w, ANNA, 4);
    w.run_for(20_000);
    assert_eq!((live(&w, RENTED), ops(&w, BERT)), (vec![Some(2), Some(4)], 2));
    w.restore(RENTED, false);
    w.run_for(20_000);
    assert_eq!((w.stores[RENTED].base(&log), w.stores[RENTED].is_complete(&log)), (base(&w, ANNA), true));
    w.heal(ANNA, RENTED);
    w.equip(BERT, &concat(), &Words::kind(2, ' '));
    converge(&mut w);
    assert_eq!(w.value(BERT, LOG), json!("w1 w3 w2 w4 "));
    prune(&mut w, BERT);
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (json!("w1 w3 w2 w4 "), 4));
}

/// Makes a world in which Bert, who folds wrongly, has pruned the log.
fn poisoned(stores: usize) -> World {
    let mut w = world("concat", &[DISK, OTHER_DISK, MEMORY], stores);
    w.any_state = true;
    w.equip(BERT, &concat(), &Words::kind(1, '?'));
    (1..=3).for_each(|id| _ = say(&mut w, ANNA, id));
    w.drive().expect("nothing has gone wrong yet");
    prune(&mut w, BERT);
    w.drive().expect("nothing has gone wrong yet");
    assert_eq!((w.value(ANNA, LOG), base(&w, ANNA)), (json!("w1?w2?w3?"), w.registered(LOG)));
    w
}

#[test]
fn a_wrong_state_is_found_by_others_and_undone_while_what_it_was_made_of_is_kept() {
    for stores in [1, 2] {
        let mut w = poisoned(stores);
        let log = name(&w);
        assert_eq!(w.clients[ANNA].disputes, [(log.clone(), w.registered(LOG).unwrap())]);
        assert!(w.stores.iter().all(|store| store.is_disputed(&log)));
        // Everybody still writes and reads, and nobody prunes.
        say(&mut w, CARL, 4);
        w.drive().unwrap();
        for client in [ANNA, BERT, CARL] {
            assert_eq!(w.prune(client, LOG), Some(PruneHold::Disputed));
        }
        assert_eq!(w.repair(ANNA, LOG), None);
        w.drive().unwrap();
        assert_eq!((generation(w.registered(LOG)), covered(&mut w, ANNA)), (2, 3));
        assert!(w.stores.iter().all(|store| !store.is_disputed(&log)));
        assert_eq!((w.value(ANNA, LOG), w.value(CARL, LOG)), (json!("w1 w2 w3 w4 "), json!("w1 w2 w3 w4 ")));
        // Once the wrong client is right, all is as it should be, and pruning goes on.
        w.equip(BERT, &concat(), &Words::kind(1, ' '));
        converge(&mut w);
        w.any_state = false;
        prune(&mut w, BERT);
        converge(&mut w);
        assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (json!("w1 w2 w3 w4 "), 4));
    }
}

#[test]
fn what_a_disputed_base_was_made_of_is_kept_beyond_the_grace_period() {
    let mut w = poisoned(2);
    w.forget_retained(HOME);
    w.forget_retained(RENTED);
    assert_eq!(w.repair(ANNA, LOG), None);
    w.drive().unwrap();
    assert_eq!((generation(w.registered(LOG)), w.value(CARL, LOG)), (2, json!("w1 w2 w3 ")));
    w.equip(BERT, &concat(), &Words::kind(1, ' '));
    converge(&mut w);
}

#[test]
fn a_wrong_state_that_nobody_found_in_time_cannot_be_undone() {
    let mut w = world("concat", &[DISK, OTHER_DISK], 2);
    w.any_state = true;
    w.equip(BERT, &concat(), &Words::kind(1, '?'));
    away(&mut w, ANNA);
    say(&mut w, BERT, 1);
    say(&mut w, BERT, 2);
    w.run_for(10_000);
    prune(&mut w, BERT);
    back(&mut w, ANNA);
    w.drive().unwrap();
    // Who did not hold the operations cannot know.
    assert_eq!((w.counts.disputes, w.value(ANNA, LOG)), (0, json!("w1?w2?")));
    w.forget_retained(HOME);
    w.forget_retained(RENTED);
    assert_eq!(w.repair(ANNA, LOG), None);
    w.drive().unwrap();
    assert_eq!(w.clients[ANNA].holds.last().unwrap().1, PruneHold::NotKept);
    assert_eq!(generation(w.registered(LOG)), 1);
    // The log goes on.
    w.equip(BERT, &concat(), &Words::kind(1, ' '));
    say(&mut w, ANNA, 3);
    converge(&mut w);
    assert_eq!(w.value(BERT, LOG), json!("w1?w2?w3 "));
}

#[test]
fn a_right_state_needs_no_repair() {
    let mut w = world("concat", &[DISK, MEMORY], 1);
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    prune(&mut w, ANNA);
    assert_eq!(w.repair(BERT, LOG), None);
    w.drive().unwrap();
    assert_eq!(w.clients[BERT].holds.last().unwrap().1, PruneHold::NothingToRepair);
}

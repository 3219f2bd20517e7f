//! Stores that join, are restored, swapped or sealed.

use std::collections::BTreeSet;

use gigfs_core::ErrorCode;
use gigfs_core::sync::{Mode, PruneHold, Standing};
use gigfs_sim::{Spec, World};
use serde_json::json;

use super::SEALED;
use super::script::{
    ANNA, BERT, CARL, DISK, HOME, LOG, MEMORY, OTHER_DISK, RENTED, ask, away, back, begin, converge, covered, known,
    live, name, ops, prune, say, spec, standing, world, written,
};

#[test]
fn a_store_that_joins_after_the_prune_gets_the_base_the_list_and_late_operations() {
    for forgotten in [true, false] {
        let mut w = begin(Spec { channels: vec![[HOME].into()], ..spec("concat", &[DISK, MEMORY, OTHER_DISK], 2) });
        (1..=9).for_each(|id| _ = say(&mut w, BERT, id));
        w.drive().unwrap();
        let early = written(&w, BERT, 4);
        away(&mut w, CARL);
        say(&mut w, CARL, 10);
        w.run_for(1_000);
        let at = prune(&mut w, ANNA);
        say(&mut w, BERT, 11);
        w.run_for(10_000);
        if forgotten {
            w.forget_retained(HOME);
        }
        w.join(0, RENTED);
        w.run_for(10_000);
        assert!(w.stores[RENTED].is_complete(&name(&w)));
        assert_eq!(ask(&w, RENTED, &early), known(&early));
        back(&mut w, CARL);
        converge(&mut w);
        assert_eq!(w.stores[RENTED].base(&name(&w)), Some(at));
        assert_eq!(w.stores[RENTED].covered(&name(&w)), w.stores[HOME].covered(&name(&w)));
        assert_eq!(live(&w, RENTED).into_iter().collect::<BTreeSet<_>>(), [Some(10), Some(11)].into());
        prune(&mut w, CARL);
        converge(&mut w);
        assert_eq!((covered(&mut w, ANNA), live(&w, RENTED)), (11, vec![]));
    }
}

#[test]
fn a_client_that_never_heard_of_the_prune_is_told_covered_by_a_store_that_never_saw_the_operation() {
    let mut w = begin(Spec { delay: 50_000, ..spec("concat", &[DISK, MEMORY], 1) });
    let push = say(&mut w, ANNA, 1);
    while w.stores[HOME].ops(&name(&w)).is_empty() {
        w.run_for(1);
    }
    // The answer is lost, and the client only sends from now on.
    away(&mut w, ANNA);
    assert_eq!(standing(&w, ANNA, push, HOME), Standing::Queued);
    prune(&mut w, BERT);
    w.set_mode(ANNA, Mode::SendOnly);
    back(&mut w, ANNA);
    w.run_for(30_000);
    assert_eq!(standing(&w, ANNA, push, HOME), Standing::Covered);
    w.set_mode(ANNA, Mode::Online);
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), ops(&w, ANNA)), (json!("w1 "), 0));
}

#[test]
fn a_store_restored_from_an_old_backup_is_brought_forward_even_if_it_is_the_only_one() {
    for stores in [1, 2] {
        for generations in 0..=2 {
            for silently in [true, false] {
                let mut w = world("concat", &[DISK, MEMORY], stores);
                if generations == 0 {
                    w.back_up(HOME);
                }
                for round in 1..=3 {
                    say(&mut w, ANNA, 10 * round + 1);
                    say(&mut w, ANNA, 10 * round + 2);
                    w.drive().unwrap();
                    if round == 3 {
                        break;
                    }
                    if round == generations {
                        // Before it has the base of this round, but with what the base covers.
                        w.back_up(HOME);
                    }
                    prune(&mut w, if round == 1 { ANNA } else { BERT });
                }
                let (at, expected) = (w.registered(LOG), json!("w11 w12 w21 w22 w31 w32 "));
                w.restore(HOME, silently);
                assert!(w.stores[HOME].base(&name(&w)) < at);
                converge(&mut w);
                assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (expected.clone(), expected.clone()));
                assert_eq!((w.stores[HOME].base(&name(&w)), covered(&mut w, BERT)), (at, 4));
                assert!(w.stores[HOME].is_complete(&name(&w)));
                assert_eq!(live(&w, HOME).into_iter().collect::<BTreeSet<_>>(), [Some(31), Some(32)].into());
                prune(&mut w, BERT);
                converge(&mut w);
                assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (expected, 6));
            }
        }
    }
}

#[test]
fn a_store_whose_list_nobody_has_any_more_holds_pruning_and_nothing_else() {
    let mut w = world("concat", &[MEMORY, MEMORY], 1);
    w.back_up(HOME);
    say(&mut w, ANNA, 1);
    say(&mut w, BERT, 2);
    w.drive().unwrap();
    prune(&mut w, ANNA);
    // A client that began later knows the base and not the list; it is the only one that is left.
    w.crash(ANNA);
    w.crash(BERT);
    w.restart(BERT);
    w.open(BERT, LOG);
    w.drive().unwrap();
    w.restore(HOME, false);
    w.drive().unwrap();
    say(&mut w, BERT, 3);
    converge(&mut w);
    assert!(!w.stores[HOME].is_complete(&name(&w)));
    assert!(matches!(w.prune(BERT, LOG), Some(PruneHold::NoList { .. })));
    assert_eq!((covered(&mut w, BERT), ops(&w, ANNA), ops(&w, BERT)), (2, 1, 1));
}

#[test]
fn a_swap_of_stores_loses_nothing_that_a_client_with_the_old_table_was_acknowledged() {
    let mut w = begin(Spec { channels: vec![[HOME].into()], ..spec("concat", &[DISK, MEMORY], 2) });
    say(&mut w, BERT, 1);
    w.drive().unwrap();
    prune(&mut w, BERT);
    w.clients[ANNA].keeps_table = true;
    w.join(0, RENTED);
    w.run_for(10_000);
    let before = say(&mut w, ANNA, 2);
    while w.clients[ANNA].receipts[&before].accepted() == 0 {
        w.run_for(1);
    }
    w.leave(0, HOME);
    // The old table says that the sealed store is the channel's.
    let after = say(&mut w, ANNA, 3);
    w.run_for(10_000);
    let refused = standing(&w, ANNA, after, HOME);
    assert!(matches!(&refused, Standing::Refused(refusal) if refusal.code == ErrorCode::Sealed), "{refused:?}");
    assert_eq!(w.value(BERT, LOG), json!("w1 w2 "));
    // Meanwhile the log is pruned without the old store.
    prune(&mut w, BERT);
    assert_eq!((covered(&mut w, BERT), live(&w, RENTED)), (2, vec![]));
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!("w1 w2 w3 "), json!("w1 w2 w3 ")));
    assert_eq!((live(&w, RENTED), covered(&mut w, ANNA)), (vec![Some(3)], 2));
}

#[test]
fn a_checkpoint_acknowledged_by_a_sealed_store_alone_is_not_committed() {
    let mut w = begin(Spec { channels: vec![[HOME].into()], ..spec("concat", &[DISK, MEMORY], 2) });
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    w.clients[ANNA].keeps_table = true;
    w.join(0, RENTED);
    w.run_for(10_000);
    w.leave(0, HOME);
    w.run_for(10_000);
    assert_eq!(w.prune(ANNA, LOG), None);
    w.run_for(10_000);
    let held = &w.clients[ANNA].holds.last().unwrap().1;
    assert!(matches!(held, PruneHold::NotCommitted { refusal } if refusal.code == ErrorCode::MissingOps), "{held:?}");
    assert_eq!((w.registered(LOG), w.counts.committed), (None, 0));
    converge(&mut w);
    prune(&mut w, ANNA);
    converge(&mut w);
    assert_eq!(w.value(BERT, LOG), json!("w1 "));
}

#[test]
fn whoever_signs_for_the_first_time_waits_until_the_stores_can_tell_who_it_is() {
    let mut w = World::new(spec("concat", &[DISK, MEMORY], 2));
    w.table_loses = 0;
    [ANNA, BERT].into_iter().for_each(|client| w.open(client, LOG));
    w.drive().unwrap();
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    let (log, held) = (name(&w), w.prune(BERT, LOG));
    assert_eq!(matches!(held, Some(PruneHold::Behind { .. })), SEALED);
    if SEALED {
        let hold = w.clients[BERT].replica.as_mut().unwrap().prune_hold(&log);
        assert_eq!(hold, held, "it would only be refused again");
        w.run_for(1_000);
        assert_eq!(w.prune(BERT, LOG), None);
    }
    converge(&mut w);
    assert_eq!(covered(&mut w, ANNA), 1);
}

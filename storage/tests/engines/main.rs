//! One conformance suite over every engine.

#![allow(clippy::unwrap_used)]

mod bases;
mod conformance;
mod damage;
mod disk;
mod fixtures;
mod model;
mod script;

use bases::*;
use conformance::*;
use gigfs_core::{Incarnation, StoreId};
use gigfs_storage::{Engine, Faulty, Fjall, Memory, Sqlite};
use tempfile::TempDir;

/// An engine and what it lives in.
struct Opened {
    engine: Box<dyn Engine>,
    _folder: Option<TempDir>,
}

fn memory() -> Opened {
    Opened { engine: Box::new(Memory::fresh().unwrap()), _folder: None }
}

fn faulty() -> Opened {
    let engine = Faulty::new(StoreId::from_bytes([1; 16]), Incarnation::from_bytes([2; 16]));
    Opened { engine: Box::new(engine), _folder: None }
}

fn sqlite() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let engine = Box::new(Sqlite::open(&folder.path().join("store.db")).unwrap());
    Opened { engine, _folder: Some(folder) }
}

fn fjall() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let engine = Box::new(Fjall::open(&folder.path().join("data")).unwrap());
    Opened { engine, _folder: Some(folder) }
}

/// Runs every claim of the suite over every engine.
macro_rules! suite {
    ($($claim:ident)*) => {
        suite!(@over memory $($claim)*);
        suite!(@over faulty $($claim)*);
        suite!(@over sqlite $($claim)*);
        suite!(@over fjall $($claim)*);
    };
    (@over $engine:ident $($claim:ident)*) => {
        mod $engine {
            $(
                #[test]
                fn $claim() {
                    crate::$claim(&*crate::$engine().engine);
                }
            )*

            #[test]
            fn answers_as_the_one_in_memory_does() {
                crate::model::answers_as_the_one_in_memory_does(crate::$engine);
            }
        }
    };
}

suite! {
    what_is_appended_reads_back_in_order_of_arrival
    an_operation_is_written_once_within_a_batch_and_across_batches
    removes_subtract_and_never_give_a_place_twice
    an_operation_can_come_and_go_in_one_batch
    a_removed_operation_can_come_again_at_a_new_place
    a_page_ends_with_the_record_that_reaches_its_limit
    a_listing_goes_on_after_any_log_and_keeps_to_whole_segments
    a_path_below_another_is_a_log_of_its_own
    a_feed_is_of_one_channel_of_one_user
    a_stamped_payload_comes_after_all_that_the_log_holds
    a_payload_that_breaks_a_rule_is_refused_and_its_batch_goes_on
    falsy_payloads_are_values
    notes_are_kept_in_the_order_of_their_keys
    what_never_arrived_is_nothing
    a_large_record_reads_back_whole
    positions_are_given_once_by_many_threads
    an_operation_that_a_base_covers_is_answered_covered_and_not_written
    a_late_operation_stays_beside_the_base
    a_base_without_its_operations_leaves_doubtful_what_it_may_cover
    what_a_base_covers_can_be_learned_later
    a_base_comes_to_a_log_that_has_no_records
    the_first_base_of_a_log_leaves_its_indexes_positions_and_stamps_as_they_are
    covered_operations_are_retained_until_they_are_forgotten
    what_is_not_retained_is_gone_at_once
    a_log_whose_base_is_disputed_forgets_nothing
    a_base_that_comes_back_is_the_logs_own_again
    of_two_bases_of_one_generation_the_last_one_is_shown
    a_restore_brings_everything_back_live
    a_restored_log_can_be_pruned_again
    a_remove_passes_over_what_is_retained
    an_install_is_atomic_with_its_batch
    appends_and_installs_of_one_batch_see_each_other_in_order
    shas_that_are_covered_are_read_in_pages
}

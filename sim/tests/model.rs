//! The pruning rule in every small world. The binary `model` searches larger ones.

use gigfs_sim::model::{Config, Rule, Size, Watch, search};

const STATES_MAX: usize = 2_000_000;

/// Searches each second configuration, so that two tests share the work.
fn ours_holds(first: usize) {
    for config in Config::all(Size::Quick).into_iter().skip(first).step_by(2) {
        let outcome = search(&config, &Rule::OURS, Watch::All, STATES_MAX);
        assert!(outcome.counterexample.is_none(), "{}: {:#?}", config.name, outcome.counterexample);
        assert!(outcome.complete, "{} was not searched to its end", config.name);
    }
}

#[test]
fn the_rule_holds_in_every_world_of_one_half_of_the_configurations() {
    ours_holds(0);
}

#[test]
fn the_rule_holds_in_every_world_of_the_other_half_of_the_configurations() {
    ours_holds(1);
}

#[test]
fn a_rule_that_lacks_any_point_is_found_out() {
    for rule in Rule::BROKEN {
        let breaks = |size: Size| {
            let config = Config::named(rule.shown_by, size).unwrap();
            search(&config, &rule, Watch::All, STATES_MAX).counterexample.is_some()
        };
        assert!(breaks(Size::Quick) || breaks(Size::Full), "{} holds in {}", rule.name, rule.shown_by);
    }
}

#[test]
fn what_gigfs_and_a_leaderless_rule_break_is_a_value() {
    for name in ["gigfs", "leaderless"] {
        let config = Config::named("static-1", Size::Quick).unwrap();
        let outcome = search(&config, &Rule::named(name).unwrap(), Watch::Values, STATES_MAX);
        let found = outcome.counterexample.unwrap();
        assert!(found.what.contains("lacks"), "{name}: {}", found.what);
        assert!(found.script.len() <= 10, "{name}: {:#?}", found.script);
    }
}

#[test]
#[ignore = "minutes, in a release build"]
fn the_rule_holds_in_larger_worlds() {
    for config in Config::all(Size::Full) {
        let outcome = search(&config, &Rule::OURS, Watch::All, usize::MAX);
        assert!(outcome.complete, "{}: {:#?}", config.name, outcome.counterexample);
    }
}

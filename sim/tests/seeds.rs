//! Short worlds, as many as fit into a run of all tests. The binary plays longer ones.

use gigfs_sim::Script;

const WORLDS: u64 = 300;
const STEPS: usize = 250;

fn play(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let script = Script::of(seed, STEPS);
        if let Err(violation) = script.play() {
            let least = script.shrink(500);
            panic!(
                "seed {seed}: {}\nreplay: cargo run --release -p gigfs-sim -- --seeds 1 --seed-base {seed} --steps {STEPS}\n{:?}\n{:#?}",
                violation.0, least.spec, least.steps
            );
        }
    }
}

#[test]
fn worlds_of_the_first_seeds_hold_together() {
    play(0..WORLDS / 2);
}

#[test]
fn worlds_of_the_next_seeds_hold_together() {
    play(WORLDS / 2..WORLDS);
}

#[test]
fn a_seed_replays_to_the_same_events() {
    let play = || {
        let counts = Script::of(7, STEPS).play().unwrap();
        (counts.events, counts.writes, counts.ops_pushed, counts.ops_read, counts.refused)
    };
    assert_eq!(play(), play());
}

#[test]
fn a_script_shrinks_to_what_breaks_it() {
    let script = Script::of(7, STEPS);
    assert_eq!(script.shrink(3).steps.len(), STEPS, "what does not break is not cut");
}

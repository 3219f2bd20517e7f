//! Plays seeded worlds and says which of them broke: `gigfs-sim --seeds N [--seed-base B] [--steps S] [--jobs J] [--json]`.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gigfs_sim::{Counts, Script};

const USAGE: &str = "gigfs-sim --seeds N [--seed-base B] [--steps S] [--jobs J] [--json]
  --seeds N      worlds to play (default 100)
  --seed-base B  the seed of the first one (default 0)
  --steps S      steps in each world (default 1000)
  --jobs J       threads, each with worlds of its own (default 1)
  --json         one line of JSON instead of sentences";

/// Plays after which shrinking a failing script ends.
const SHRINK_PLAYS: usize = 3_000;

struct Options {
    seeds: u64,
    base: u64,
    steps: usize,
    jobs: u64,
    json: bool,
}

/// A world that broke.
struct Failure {
    seed: u64,
    what: String,
    shortest: Script,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            _ = writeln!(std::io::stderr(), "{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let workers: Vec<(Counts, Vec<Failure>)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..options.jobs).map(|_| scope.spawn(|| work(&options, &next))).collect();
        handles.into_iter().filter_map(|handle| handle.join().ok()).collect()
    });
    let panicked = workers.len() < options.jobs as usize;
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    for (counted, failed) in workers {
        counts.add(counted);
        failures.extend(failed);
    }
    failures.sort_by_key(|failure| failure.seed);
    report(&options, &counts, &failures, begun.elapsed().as_secs_f64());
    if failures.is_empty() && !panicked { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(options: &Options, next: &AtomicU64) -> (Counts, Vec<Failure>) {
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= options.seeds {
            return (counts, failures);
        }
        let seed = options.base + at;
        let script = Script::of(seed, options.steps);
        match script.play() {
            Ok(counted) => counts.add(counted),
            Err(violation) => {
                let shortest = script.shrink(SHRINK_PLAYS);
                failures.push(Failure { seed, what: violation.0, shortest });
            }
        }
    }
}

fn report(options: &Options, counts: &Counts, failures: &[Failure], seconds: f64) {
    let mut out = std::io::stdout().lock();
    if options.json {
        let failed: Vec<_> = failures.iter().map(|failure| failure.seed).collect();
        let line = serde_json::json!({
            "seeds": options.seeds, "seed_base": options.base, "steps": options.steps as u64 * options.seeds,
            "events": counts.events, "writes": counts.writes, "ops_pushed": counts.ops_pushed,
            "ops_read": counts.ops_read, "refused": counts.refused, "dated_again": counts.dated_again,
            "suspicions": counts.suspicions, "committed": counts.committed, "installed": counts.pruned,
            "resumed": counts.resumed, "seconds": seconds, "failed": failed,
        });
        _ = writeln!(out, "{line}");
        return;
    }
    for failure in failures {
        let again =
            failure.shortest.play().err().map_or_else(|| "nothing any more".to_owned(), |violation| violation.0);
        _ = writeln!(
            out,
            "seed {} broke: {}\n  replay: cargo run --release -p gigfs-sim -- --seeds 1 --seed-base {} --steps {}\n  \
             shortest script found ({} steps; it breaks: {again}):\n  {:?}",
            failure.seed,
            failure.what,
            failure.seed,
            options.steps,
            failure.shortest.steps.len(),
            failure.shortest.spec,
        );
        for step in &failure.shortest.steps {
            _ = writeln!(out, "    {step:?}");
        }
    }
    _ = writeln!(
        out,
        "{} worlds, {} steps, {} events, {} writes, {} operations sent, {} read, {} refused, {} dated again, \
         {} suspicions, {} checkpoints committed, {} bases installed, {} times gone on, {} broke, {seconds:.1} s",
        options.seeds,
        options.steps as u64 * options.seeds,
        counts.events,
        counts.writes,
        counts.ops_pushed,
        counts.ops_read,
        counts.refused,
        counts.dated_again,
        counts.suspicions,
        counts.committed,
        counts.pruned,
        counts.resumed,
        failures.len(),
    );
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seeds: 100, base: 0, steps: 1_000, jobs: 1, json: false };
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u64, String> {
            let text = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            text.parse().map_err(|_| format!("{arg} needs a number, and {text} is none"))
        };
        match arg.as_str() {
            "--seeds" => options.seeds = number()?,
            "--seed-base" => options.base = number()?,
            "--steps" => options.steps = number()? as usize,
            "--jobs" => options.jobs = number()?.clamp(1, 64),
            "--json" => options.json = true,
            _ => return Err(format!("{arg} is not an option")),
        }
    }
    Ok(options)
}

//! Wire worlds: the real client library and the real servers, over wires that a seed breaks.
//!
//! `wire --seeds N [--seed-base B] [--steps S] [--jobs J] [--json] [--trace]` plays each seed in a process of its own, and
//! says which broke and how to play it again.
//!
//! A world is a table server and one to three store servers, each a process with its data on disk; two to four clients,
//! each a [`Gig`](gigfs::Gig) with connections, a session and perhaps a local store of its own; and between each of them
//! and each server a wire ([`proxy`]) that holds, delays, cuts and refuses. Every other world is
//! sealed. The script writes, prunes, removes logs, kills servers and starts them on what they left, stops them in order, has
//! stores join and leave the channel, and closes and opens clients. Then everything is made whole, and it is checked that each write that was durable or acknowledged shows in
//! every client exactly once, that all show the same to the byte, also a client that knew nothing, that nobody is left with
//! work, doubts or complaints, and that the stores' disks hold the same ([`check`]).
//!
//! *Why not turmoil.* It simulates a network for programs that open `turmoil::net` sockets, on one thread and a clock of its
//! own. `reqwest` and `tokio_tungstenite::connect_async` open `tokio::net` sockets themselves, axum-server takes the
//! system's listeners, and the storage and commit threads of the product work in real time. It would carry another product,
//! with its HTTP client, its listeners and its threads replaced; here the product is the one that ships, and what is
//! simulated is the wire.
//!
//! *What a seed means.* The seed decides the world, the script, and where in the stream of bytes a wire is cut. It does not
//! decide how threads, processes and the kernel interleave, so it does not replay bit for bit: a seed that broke is played
//! several times to see it again, and one that held may break another day. `gigfs-sim` plays the same rules in worlds that
//! do replay.

mod check;
mod ledger;
mod proxy;
mod script;
mod server;
mod world;

use std::io::Write as _;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::World;

/// Any error. In a world each is a violation.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "wire --seeds N [--seed-base B] [--steps S] [--jobs J] [--json] [--trace]
  --seeds N      worlds to play (default 20)
  --seed-base B  the seed of the first one (default 0)
  --steps S      steps in each world (default 200)
  --jobs J       worlds at a time (default 2)
  --json         one line of JSON instead of sentences
  --trace        each step as it happens, on the standard error";

/// How long one world may take.
const WORLD_TIMEOUT: Duration = Duration::from_secs(120);
/// The hidden argument that has this process play one seed itself.
const ONE: &str = "--one";

#[derive(Debug, Clone)]
struct Options {
    seeds: u64,
    base: u64,
    steps: usize,
    jobs: u64,
    json: bool,
    trace: bool,
    one: Option<u64>,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let served = args.next_if(|arg| arg == server::SERVE).is_some();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    if served {
        logging();
        return match runtime.block_on(server::serve(args)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        };
    }
    let options = match parse(args) {
        Ok(options) => options,
        Err(why) => {
            _ = writeln!(std::io::stderr(), "{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let held = match options.one {
        Some(seed) => {
            logging();
            let result = runtime.block_on(one(seed, &options));
            _ = writeln!(std::io::stdout(), "{result}");
            // What still runs is not waited for.
            runtime.shutdown_background();
            result["broke"].is_null()
        }
        None => runtime.block_on(all(&options)),
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays one seed in this process.
async fn one(seed: u64, options: &Options) -> Value {
    let begun = Instant::now();
    let (spec, steps) = script::script(seed, options.steps);
    let trace = |what: &dyn std::fmt::Debug| {
        if options.trace {
            _ = writeln!(std::io::stderr(), "{:8.3} {what:?}", begun.elapsed().as_secs_f64());
        }
    };
    trace(&spec);
    let mut world = match World::start(seed, spec).await {
        Ok(world) => world,
        Err(error) => return json!({"broke": format!("the world did not begin: {error}")}),
    };
    trace(&world.sessions());
    let played = async {
        for (at, step) in steps.iter().enumerate() {
            trace(step);
            world.take(*step).await.map_err(|error| format!("at step {at}, {step:?}: {error}"))?;
        }
        trace(&"everything is made whole");
        world.heal().await.map_err(|error| format!("while everything was made whole: {error}"))?;
        world.converged().await.map_err(|error| error.to_string())
    };
    let broke: Option<String> = played.await.err();
    let counts = world.counts;
    json!({
        "writes": counts.writes, "pruned": counts.pruned, "moved": counts.moved, "crashes": counts.crashes,
        "checks": counts.checks, "broke": broke,
    })
}

/// What came of one world.
struct Outcome {
    seed: u64,
    result: Value,
}

/// Plays all seeds, each in a process of its own, and reports. Tells whether all held.
async fn all(options: &Options) -> bool {
    let begun = Instant::now();
    let (next, shared) = (Arc::new(AtomicU64::new(0)), Arc::new(options.clone()));
    let mut workers = JoinSet::new();
    for _ in 0..options.jobs {
        let (next, options) = (next.clone(), shared.clone());
        workers.spawn(async move {
            let mut outcomes = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= options.seeds {
                    return outcomes;
                }
                let seed = options.base + at;
                let result = play(seed, &options).await.unwrap_or_else(|error| json!({"broke": error.to_string()}));
                outcomes.push(Outcome { seed, result });
            }
        });
    }
    let mut outcomes: Vec<Outcome> = workers.join_all().await.into_iter().flatten().collect();
    outcomes.sort_by_key(|outcome| outcome.seed);
    report(options, &outcomes, begun.elapsed().as_secs_f64());
    outcomes.iter().all(|outcome| outcome.result["broke"].is_null())
}

/// Plays one seed in another process, which is ended if it takes too long; its servers end with it.
async fn play(seed: u64, options: &Options) -> Result<Value, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([ONE, &seed.to_string(), "--steps", &options.steps.to_string()]);
    if options.trace {
        command.arg("--trace");
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let late = format!("it does not come to rest in {} s", WORLD_TIMEOUT.as_secs());
    let output = timeout(WORLD_TIMEOUT, child.wait_with_output()).await.map_err(|_| late)??;
    let line = String::from_utf8_lossy(&output.stdout);
    let result = line.lines().last().and_then(|line| serde_json::from_str(line).ok());
    result.ok_or_else(|| format!("its process ended with {} and said nothing", output.status).into())
}

fn report(options: &Options, outcomes: &[Outcome], seconds: f64) {
    let sum = |name: &str| outcomes.iter().filter_map(|outcome| outcome.result[name].as_u64()).sum::<u64>();
    let broke: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.result["broke"].is_null()).collect();
    let steps = options.steps as u64 * options.seeds;
    let mut out = std::io::stdout().lock();
    if options.json {
        let violations: Vec<Value> = broke
            .iter()
            .map(|outcome| json!({"seed": outcome.seed, "what": outcome.result["broke"], "replay": replay(options, outcome.seed)}))
            .collect();
        let line = json!({
            "seeds": options.seeds, "seed_base": options.base, "steps": steps, "writes": sum("writes"),
            "pruned": sum("pruned"), "moved": sum("moved"), "crashes": sum("crashes"), "checks": sum("checks"),
            "violations": violations, "seconds": seconds,
        });
        _ = writeln!(out, "{line}");
        return;
    }
    for outcome in &broke {
        let what = outcome.result["broke"].as_str().unwrap_or_default();
        _ = writeln!(out, "seed {} broke: {what}\n  replay: {}", outcome.seed, replay(options, outcome.seed));
    }
    _ = writeln!(
        out,
        "{} wire worlds, {steps} steps, {} writes, {} logs pruned, {} stores moved, {} servers killed, {} checks, \
         {} violations, {seconds:.1} s",
        options.seeds,
        sum("writes"),
        sum("pruned"),
        sum("moved"),
        sum("crashes"),
        sum("checks"),
        broke.len(),
    );
}

fn replay(options: &Options, seed: u64) -> String {
    let steps = options.steps;
    format!("cargo run --release -p gigfs-sim --bin wire -- --seeds 1 --seed-base {seed} --steps {steps} --trace")
}

/// Says on the standard error what the servers and the clients log, as far as `RUST_LOG` asks for it.
fn logging() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

fn complain(error: &dyn std::fmt::Display) -> ExitCode {
    _ = writeln!(std::io::stderr(), "{error}");
    ExitCode::FAILURE
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seeds: 20, base: 0, steps: 200, jobs: 2, json: false, trace: false, one: None };
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
            "--trace" => options.trace = true,
            ONE => options.one = Some(number()?),
            _ => return Err(format!("{arg} is not an option")),
        }
    }
    Ok(options)
}

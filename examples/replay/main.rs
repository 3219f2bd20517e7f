//! Plays a recorded editing history through real servers on loopback: each author a client of its own, one table, two
//! stores. In the end every device's text must equal the recorded one, byte for byte.
//!
//!     cargo run --release -p gigfs-examples --bin replay -- FILE.json.gz [--offline]
//!
//! In a concurrent history each author types against exactly what they had seen when it was recorded, so sending and
//! receiving are let happen at just the recorded moments (`schedule`), and stand still in between.

mod schedule;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use gigfs::{Gig, Log, Mode};
use gigfs_examples::{CHANNEL, Failure, Servers, say, serve_if_asked};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use schedule::Step;
use trace::Trace;

const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Parser)]
struct Args {
    /// The recorded history, gzipped JSON.
    file: PathBuf,
    /// Close the authors' connections for random stretches, instead of only holding back what they exchange.
    #[arg(long)]
    offline: bool,
    /// Seeds the random stretches.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stores of the channel.
    #[arg(long, default_value_t = 2)]
    stores: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(format_args!("replay: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool, Failure> {
    serve_if_asked().await?;
    let args = Args::parse();
    let trace = Trace::read(&args.file)?;
    say(format_args!(
        "{}: {} edits by {} authors, {} bytes in the end",
        args.file.display(),
        trace.edits.len(),
        trace.authors(),
        trace.end.len()
    ));
    let servers = Servers::start(args.stores).await?;
    let mut authors = Vec::new();
    for number in 0..trace.authors() {
        authors.push(Author { gig: servers.device(&format!("author-{number}")).await?, apart: Mode::Paused });
    }
    // Where two authors typed at one place at the same time, the text type goes by the order of their replicas.
    authors.sort_by_key(|author| author.gig.actor());

    let began = Instant::now();
    let typed = type_all(&args, &trace, &mut authors).await?;
    let synced = began.elapsed();
    let rate = |seconds: Duration| typed as f64 / seconds.as_secs_f64();
    say(format_args!(
        "typed, on disk and at every store in {:.1} s: {:.0} edits/s",
        synced.as_secs_f64(),
        rate(synced)
    ));

    let began = Instant::now();
    let reader = servers.device("reader").await?;
    reader.log(CHANNEL, "text", trace::PATH)?.until_len(typed, DEADLINE).await?;
    let read = began.elapsed();
    say(format_args!("read by a new device in {:.1} s: {:.0} edits/s", read.as_secs_f64(), rate(read)));

    let mut equal = true;
    for (number, author) in authors.into_iter().enumerate() {
        equal &= compare(&format!("author {number}"), &author.gig, &trace.end).await?;
        author.gig.close().await?;
    }
    equal &= compare("the new device", &reader, &trace.end).await?;
    reader.close().await?;
    Ok(equal)
}

/// A device on which somebody types.
struct Author {
    gig: Gig,
    /// What it does between sending and receiving.
    apart: Mode,
}

impl Author {
    fn text(&self) -> Result<Log, Failure> {
        Ok(self.gig.log(CHANNEL, "text", trace::PATH)?)
    }
}

/// Has the authors type everything, and brings everything to every store and every author. Returns how many edits there
/// are.
async fn type_all(args: &Args, trace: &Trace, authors: &mut [Author]) -> Result<usize, Failure> {
    let concurrent = authors.len() > 1;
    for author in &*authors {
        author.text()?.refresh(DEADLINE).await?;
        if concurrent {
            author.gig.set_mode(Mode::Paused);
        }
    }
    let bar = progress(trace.edits.len());
    let mut random = args.seed;
    for step in schedule::plan(trace)? {
        match step {
            Step::Type { author, edit } => {
                let splices = &trace.edits[edit].splices;
                authors[author].text()?.push(&json!({"splices": splices})).await?;
                bar.inc(1);
            }
            Step::Send { author } => {
                authors[author].gig.set_mode(Mode::SendOnly);
                authors[author].gig.flush(None, DEADLINE).await?;
                authors[author].part(args.offline, &mut random);
            }
            Step::Receive { author, count } => {
                authors[author].gig.set_mode(Mode::ReceiveOnly);
                authors[author].text()?.until_len(count, DEADLINE).await?;
                authors[author].part(args.offline, &mut random);
            }
        }
    }
    bar.finish_and_clear();
    for author in &*authors {
        author.gig.set_mode(Mode::Online);
        author.gig.flush(None, DEADLINE).await?;
    }
    for author in &*authors {
        author.text()?.until_len(trace.edits.len(), DEADLINE).await?;
    }
    Ok(trace.edits.len())
}

impl Author {
    /// Goes back to itself: by holding everything back, or now and then with closed connections for a stretch.
    fn part(&mut self, offline: bool, random: &mut u64) {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if offline && (*random >> 33).is_multiple_of(16) {
            self.apart = if self.apart == Mode::Offline { Mode::Paused } else { Mode::Offline };
        }
        self.gig.set_mode(self.apart);
    }
}

async fn compare(name: &str, gig: &Gig, end: &str) -> Result<bool, Failure> {
    let value = gig.get(CHANNEL, "text", trace::PATH).await?;
    let text = value.as_str().unwrap_or_default();
    let differs = text.bytes().zip(end.bytes()).position(|(a, b)| a != b);
    match (text == end, differs) {
        (true, _) => say(format_args!("{name}: equal, {} bytes", text.len())),
        (false, Some(at)) => say(format_args!("{name}: DIFFERENT from byte {at} on")),
        (false, None) => say(format_args!("{name}: DIFFERENT, {} bytes instead of {}", text.len(), end.len())),
    }
    Ok(text == end)
}

/// Makes a progress bar, which is drawn on a terminal only.
fn progress(edits: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} edits {per_sec} {eta}");
    ProgressBar::new(edits as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

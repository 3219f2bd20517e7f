//! Searches the model of the pruning rule: `model [--config NAME] [--rule NAME] [--quick|--long] [--values] [--states N]`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use gigfs_sim::model::{Config, Outcome, Rule, Size, Watch, search};

const USAGE: &str = "model [--config NAME] [--rule NAME] [--quick|--long] [--values] [--states N]
  --config NAME  one configuration (default: all for our rule; for a broken one, that which shows that it is)
  --rule NAME    one rule (default: ours, then each broken one)
  --quick        the small bounds that the tests search
  --long         the large bounds, which take many minutes and gigabytes
  --values       looks only for values that are wrong, not for logs that can be pruned no more
  --states N     worlds after which a search gives up (default 100000000)
It fails if our rule breaks, or if a broken one is not found out.";

struct Options {
    config: Option<String>,
    rule: Option<String>,
    size: Size,
    watch: Watch,
    states: usize,
}

fn main() -> ExitCode {
    let (options, rules) = match parse(std::env::args().skip(1)).and_then(choose) {
        Ok(chosen) => chosen,
        Err(why) => {
            _ = writeln!(std::io::stderr(), "{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // Each is searched, though one before it failed.
    let failed = rules.iter().filter(|rule| !as_it_must_be(&options, rule)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Searches for what breaks a rule. Our rule must hold in every configuration, a broken one must break in one.
fn as_it_must_be(options: &Options, rule: &Rule) -> bool {
    let ours = *rule == Rule::OURS;
    let configs: Vec<Config> = match (&options.config, ours) {
        (Some(name), _) => Config::named(name, options.size).into_iter().collect(),
        (None, true) => Config::all(options.size),
        (None, false) => {
            [Size::Quick, Size::Full].into_iter().filter_map(|size| Config::named(rule.shown_by, size)).collect()
        }
    };
    let mut holds = true;
    for config in &configs {
        let begun = Instant::now();
        let outcome = search(config, rule, options.watch, options.states);
        report(rule, config, &outcome, begun.elapsed().as_secs_f64());
        if outcome.counterexample.is_some() && !ours {
            return true;
        }
        holds &= outcome.complete;
    }
    if !ours {
        _ = writeln!(std::io::stdout(), "{} was NOT FOUND OUT", rule.name);
    }
    ours && holds
}

fn report(rule: &Rule, config: &Config, outcome: &Outcome, seconds: f64) {
    let verdict = match (&outcome.counterexample, outcome.complete) {
        (None, true) => "holds".to_owned(),
        (None, false) => "was not searched to its end".to_owned(),
        (Some(found), _) => format!("BREAKS: {}", found.what),
    };
    let (bounds, mut out) = (format!("{} ops {} checkpoints", config.ops, config.checkpoints), std::io::stdout());
    _ = writeln!(
        out,
        "{:23} {:27} {bounds:19} {:>9} states {:>10} transitions  depth {:>2} {seconds:>7.2} s  {verdict}",
        rule.name, config.name, outcome.states, outcome.transitions, outcome.depth,
    );
    for (at, line) in outcome.counterexample.iter().flat_map(|found| &found.script).enumerate() {
        _ = writeln!(out, "  {:>2}. {line}", at + 1);
    }
}

fn choose(options: Options) -> Result<(Options, Vec<Rule>), String> {
    if let Some(name) = options.config.as_ref().filter(|name| Config::named(name, options.size).is_none()) {
        let known: Vec<_> = Config::all(options.size).iter().map(|config| config.name).collect();
        return Err(format!("{name} is not a configuration; there are {}", known.join(", ")));
    }
    let all = std::iter::once(Rule::OURS).chain(Rule::BROKEN);
    let Some(name) = &options.rule else { return Ok((options, all.collect())) };
    match Rule::named(name) {
        Some(rule) => Ok((options, vec![rule])),
        None => {
            let known: Vec<_> = all.map(|rule| rule.name).collect();
            Err(format!("{name} is not a rule; there are {}", known.join(", ")))
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let (size, watch) = (Size::Full, Watch::All);
    let mut options = Options { config: None, rule: None, size, watch, states: 100_000_000 };
    while let Some(arg) = args.next() {
        let mut next = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--config" => options.config = Some(next()?),
            "--rule" => options.rule = Some(next()?),
            "--quick" => options.size = Size::Quick,
            "--long" => options.size = Size::Long,
            "--values" => options.watch = Watch::Values,
            "--states" => options.states = next()?.parse().map_err(|_| "--states needs a number".to_owned())?,
            _ => return Err(format!("{arg} is not an option")),
        }
    }
    Ok(options)
}

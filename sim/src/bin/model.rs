//! Searches the model of the pruning rule: `model [--config NAME] [--rule NAME] [--quick|--long] [--values] [--states N]`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use gigfs_sim::model::{Config, Rule, Size, Watch, search};

const USAGE: &str = "model [--config NAME] [--rule NAME|all] [--quick|--long] [--values] [--states N]
  --config NAME  one configuration (default: all)
  --rule NAME    one rule (default: ours, then every broken one until a configuration finds it out)
  --quick        the small bounds that the tests search
  --long         the large bounds, which take minutes and gigabytes
  --values       looks only for values that are wrong, not for logs that can be pruned no more
  --states N     worlds after which a search gives up (default 100000000)";

struct Options {
    config: Option<String>,
    rule: Option<String>,
    size: Size,
    watch: Watch,
    states: usize,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            _ = writeln!(std::io::stderr(), "{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let configs: Vec<Config> = Config::all(options.size)
        .into_iter()
        .filter(|config| options.config.as_ref().is_none_or(|name| config.name.contains(name.as_str())))
        .collect();
    let rules: Vec<Rule> = match &options.rule {
        Some(name) => Rule::named(name).into_iter().collect(),
        None => std::iter::once(Rule::OURS).chain(Rule::BROKEN).collect(),
    };
    let mut out = std::io::stdout();
    let mut ok = true;
    for rule in rules {
        let mut found = false;
        for config in &configs {
            let begun = Instant::now();
            let outcome = search(config, &rule, options.watch, options.states);
            _ = writeln!(
                out,
                "{:24} {:22} {} ops {} checkpoints {:>10} states {:>11} transitions  depth {:>2}  {:>7.2} s  {}",
                rule.name,
                config.name,
                config.ops,
                config.checkpoints,
                outcome.states,
                outcome.transitions,
                outcome.depth,
                begun.elapsed().as_secs_f64(),
                match (&outcome.counterexample, outcome.complete) {
                    (None, true) => "holds".to_owned(),
                    (None, false) => "not complete".to_owned(),
                    (Some(found), _) => found.what.clone(),
                },
            );
            if let Some(counterexample) = outcome.counterexample {
                for (at, line) in counterexample.script.iter().enumerate() {
                    _ = writeln!(out, "  {:>2}. {line}", at + 1);
                }
                found = true;
                if rule != Rule::OURS {
                    break;
                }
            }
        }
        ok &= found != (rule == Rule::OURS);
        if found == (rule == Rule::OURS) {
            _ = writeln!(out, "{}: {}", rule.name, if found { "BROKEN" } else { "NOT FOUND OUT" });
        }
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { config: None, rule: None, size: Size::Full, watch: Watch::All, states: 100_000_000 };
    while let Some(arg) = args.next() {
        let mut next = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--config" => options.config = Some(next()?),
            "--rule" => options.rule = Some(next()?).filter(|name| name != "all"),
            "--quick" => options.size = Size::Quick,
            "--long" => options.size = Size::Long,
            "--values" => options.watch = Watch::Values,
            "--states" => options.states = next()?.parse().map_err(|_| "--states needs a number".to_owned())?,
            _ => return Err(format!("{arg} is not an option")),
        }
    }
    Ok(options)
}

//! Rows as they are measured: printed at once for a person or a pipe, and all together as JSON.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::bench::load::Samples;
use crate::bench::machine::Machine;
use crate::failure::Failure;
use crate::output::Output;

/// What was measured so far.
pub(super) struct Report {
    output: Output,
    bar: ProgressBar,
    machine: Value,
    rows: Vec<Value>,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        let bar = match output.draws_progress() {
            true => {
                let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
                ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
            }
            false => ProgressBar::hidden(),
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { output, bar, machine: Value::Null, rows: Vec::new() }
    }

    /// Says on a terminal what is being measured.
    pub(super) fn step(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// Says what this is measured on.
    pub(super) fn machine(&mut self, machine: Machine) -> Result<(), Failure> {
        for line in machine.lines() {
            self.print(&format!("# {line}"))?;
        }
        self.row("fdatasync_4k_p50", micros(machine.sync.at(50)), "us")?;
        self.row("fdatasync_4k_p99", micros(machine.sync.at(99)), "us")?;
        self.machine = machine.json();
        Ok(())
    }

    /// Adds a row.
    pub(super) fn row(&mut self, name: &str, value: f64, unit: &str) -> Result<(), Failure> {
        self.print(&format!("{name} {} {unit}", rounded(value)))?;
        self.rows.push(json!({"name": name, "value": value, "unit": unit}));
        Ok(())
    }

    /// Adds the rows of a load: operations a second, and how long one took.
    pub(super) fn load(&mut self, name: &str, samples: &Samples, took: Duration) -> Result<(), Failure> {
        self.row(&format!("{name}_ops"), samples.len() as f64 / took.as_secs_f64(), "ops/s")?;
        self.times(name, samples)
    }

    /// Adds the rows of how long something took.
    pub(super) fn times(&mut self, name: &str, samples: &Samples) -> Result<(), Failure> {
        self.row(&format!("{name}_p50"), micros(samples.at(50)), "us")?;
        self.row(&format!("{name}_p99"), micros(samples.at(99)), "us")
    }

    fn print(&self, line: &str) -> Result<(), Failure> {
        match self.output.json {
            true => Ok(()),
            false => self.bar.suspend(|| self.output.line(line)),
        }
    }

    /// Prints what was not printed yet.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        match self.output.json {
            true => self.output.line(&json!({"machine": self.machine, "rows": self.rows}).to_string()),
            false => Ok(()),
        }
    }
}

pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Writes a number with no more digits than it can be trusted for.
fn rounded(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_keep_their_digits() {
        assert_eq!([123_456.7, 12.345, 0.123_45].map(rounded), ["123457", "12.35", "0.1235"]);
    }
}

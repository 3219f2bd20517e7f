//! Printing results: text for a person, JSON for a program.

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::failure::Failure;

/// Where and how results are printed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints a result: `value` in JSON mode, `text` otherwise.
    pub(crate) fn result(self, value: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.json {
            true => self.line(&value.to_string()),
            false => self.line(&text()),
        }
    }

    /// Prints one line. A reader that went away ends the command, quietly and in good order.
    pub(crate) fn line(self, line: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = match line.is_empty() {
            true => Ok(()),
            false => writeln!(out, "{line}").and_then(|()| out.flush()),
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::unread()),
            Err(error) => Err(Failure::machine("write the result", error)),
            Ok(()) => Ok(()),
        }
    }

    /// Tells a person something beside the result, on a terminal only.
    #[allow(clippy::print_stderr, reason = "notes for a person go beside the result")]
    pub(crate) fn note(self, note: &str) {
        if !self.json && std::io::stderr().is_terminal() {
            eprintln!("{note}");
        }
    }

    /// Tells whether progress may be drawn.
    pub(crate) fn draws_progress(self) -> bool {
        !self.json && std::io::stderr().is_terminal()
    }
}

/// Lays rows out in columns.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Writes microseconds since 1970 as a date of RFC 3339, in UTC.
pub(crate) fn rfc3339(micros: u64) -> String {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-compatible low-level date algorithms": civil_from_days.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(951_782_400_000_001), "2000-02-29T00:00:00.000001Z");
        assert_eq!(rfc3339(1_795_132_799_999_999), "2026-11-19T23:59:59.999999Z");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(columns(&rows), "a    bb\nccc  d");
    }
}

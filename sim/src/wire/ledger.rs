//! What was written to a log, and what its value must show of that in the end.
//!
//! Every write carries a token of its own, so that it can be counted in the value. A write is *sure* once it was durable at
//! its client or accepted by a store; one whose client vanished before that may be there or not, but not twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use gigfs_sim::Rng;

/// The types of the logs.
pub(crate) const KINDS: [&str; 6] = ["counter", "list", "map", "register", "set", "text"];

/// A write, by its number in the world. It is what its payload carries, too.
pub(crate) type Write = u64;

/// One log: its writes, and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) kind: &'static str,
    written: BTreeMap<Write, Written>,
    /// Writes whose client vanished with them, perhaps.
    unsure: BTreeSet<Write>,
}

/// What a write put in, and who took it out again.
#[derive(Debug, Default)]
struct Written {
    taken_out_by: Vec<Write>,
    /// Whether a removal of the whole log may have taken it away.
    swept: bool,
}

/// What is to be pushed.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) intent: Value,
    /// What it takes out of the value that its author sees.
    takes_out: Option<Write>,
    /// Whether it puts its number in.
    puts_in: bool,
}

impl Ledger {
    /// Begins a log of a type.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Makes write number `write` by an author who sees `seen`. Some writes take out what stands there.
    pub(crate) fn draft(&self, write: Write, seen: Option<&Value>, rng: &mut Rng) -> Draft {
        let shown = seen.map(|seen| self.shown(seen)).unwrap_or_default();
        let victim = (!shown.is_empty()).then(|| shown[rng.index(shown.len())]);
        // A splice of a text says where, and that may have moved since the author looked.
        let victim = victim.filter(|_| self.kind != "text" && rng.chance(20));
        let word = word(write);
        let puts_in = |intent| Draft { intent, takes_out: None, puts_in: true };
        match (self.kind, victim) {
            ("counter", _) => puts_in(json!({ "add": write })),
            ("register", _) => {
                Draft { intent: json!({ "set": word }), takes_out: shown.last().copied(), puts_in: true }
            }
            ("set", Some(out)) => takes_out(out, json!({ "remove": self::word(out) })),
            ("list", Some(out)) => takes_out(out, json!({ "remove_value": self::word(out) })),
            ("map", Some(out)) => takes_out(out, json!({ "remove": [self::word(out)] })),
            ("set", None) => puts_in(json!({ "add": word })),
            ("list", None) if rng.chance(50) => puts_in(json!({ "insert": [rng.index(shown.len() + 1), word] })),
            ("list", None) => puts_in(json!({ "append": word })),
            ("map", None) => puts_in(json!({ "set": { word: true } })),
            (_, _) => {
                let at = rng.index(shown.len() + 1) * WORD_CHARS;
                puts_in(json!({ "splice": [at, 0, word] }))
            }
        }
    }

    /// Takes note of a write that was pushed.
    pub(crate) fn pushed(&mut self, write: Write, draft: &Draft) {
        if draft.puts_in {
            self.written.insert(write, Written::default());
        }
        if let Some(out) = draft.takes_out.and_then(|out| self.written.get_mut(&out)) {
            out.taken_out_by.push(write);
        }
    }

    /// Takes note that a write's client vanished before anybody else had it for sure.
    pub(crate) fn vanished(&mut self, write: Write) {
        self.unsure.insert(write);
    }

    /// Takes note that the log was removed by an author who sees `seen`, or more of what was written so far if `racing`.
    ///
    /// A removal leaves what its author had not seen, and may leave all if it races with a prune.
    pub(crate) fn removed(&mut self, seen: &Value, racing: bool) {
        for write in self.shown(seen) {
            if let Some(written) = self.written.get_mut(&write) {
                written.swept = true;
            }
        }
        // With what took out what it may leave.
        self.written.values_mut().for_each(|written| written.swept |= !written.taken_out_by.is_empty());
        if racing {
            self.written.values_mut().for_each(|written| written.swept = true);
        }
    }

    /// Tells whether it can be followed what a removal of the log leaves: of a type whose value shows each write, and
    /// shows it whatever else is there. An edit of a list or a text may build on what was removed, and waits for it.
    pub(crate) fn shows_each_alone(&self) -> bool {
        matches!(self.kind, "map" | "set")
    }

    /// Checks the value that everybody shows in the end.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        match self.kind {
            "counter" => self.check_sum(value),
            "register" => self.check_last(value),
            _ => self.check_all(value),
        }
    }

    fn check_sum(&self, value: &Value) -> Result<(), String> {
        let sum = value.as_u64().ok_or_else(|| format!("the sum is {value}"))?;
        let (unsure, sure): (Vec<u64>, Vec<u64>) =
            self.written.keys().copied().partition(|write| self.unsure.contains(write));
        let mut sums = BTreeSet::from([sure.iter().sum::<u64>()]);
        for add in unsure {
            sums.extend(sums.iter().map(|sum| sum + add).collect::<Vec<_>>());
        }
        if sums.contains(&sum) {
            return Ok(());
        }
        let one_off: Vec<Write> =
            sure.iter().copied().filter(|add| sums.iter().any(|right| sum.abs_diff(*right) == *add)).collect();
        Err(format!(
            "the sum is {sum}, and should be one of {sums:?}; a write missing or twice may be one of {one_off:?}"
        ))
    }

    /// A register shows a write that nobody has overwritten who saw it.
    fn check_last(&self, value: &Value) -> Result<(), String> {
        let over = |written: &Written| written.taken_out_by.iter().any(|by| !self.unsure.contains(by));
        match self.shown(value).first() {
            None if self.written.keys().all(|write| self.unsure.contains(write)) => Ok(()),
            None => Err(format!("it shows {value}, which nobody wrote")),
            Some(write) => match self.written.get(write) {
                None => Err(format!("it shows write {write}, which nobody made")),
                Some(written) if over(written) => Err(format!("it shows write {write}, which was overwritten")),
                Some(_) => Ok(()),
            },
        }
    }

    fn check_all(&self, value: &Value) -> Result<(), String> {
        let shown = self.shown(value);
        let distinct: BTreeSet<Write> = shown.iter().copied().collect();
        if distinct.len() < shown.len() {
            let twice = distinct.iter().filter(|write| shown.iter().filter(|other| other == write).count() > 1);
            return Err(format!("it shows the writes {:?} more than once", twice.collect::<Vec<_>>()));
        }
        if let Some(strange) = distinct.iter().find(|write| !self.written.contains_key(write)) {
            return Err(format!("it shows write {strange}, which nobody made"));
        }
        if self.kind == "text" && value.as_str().map_or(0, |text| text.chars().count()) != shown.len() * WORD_CHARS {
            return Err(format!("it shows pieces of writes: {value}"));
        }
        let sure = |by: &Write| !self.unsure.contains(by);
        let (mut lost, mut back) = (Vec::new(), Vec::new());
        for (write, written) in &self.written {
            let taken_out = !written.taken_out_by.is_empty();
            let must_show = !self.unsure.contains(write) && !taken_out && !written.swept;
            if must_show && !distinct.contains(write) {
                lost.push(write);
            }
            if !written.swept && written.taken_out_by.iter().any(sure) && distinct.contains(write) {
                back.push(write);
            }
        }
        match (lost.is_empty(), back.is_empty()) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("it lacks the writes {lost:?}")),
            (true, false) => Err(format!("it shows the writes {back:?} again, which were taken out")),
        }
    }

    /// Returns the writes that a value shows, in its order.
    fn shown(&self, value: &Value) -> Vec<Write> {
        let number = |word: &str| word.strip_prefix('<')?.strip_suffix('>')?.parse().ok();
        match value {
            Value::String(text) if self.kind == "text" => {
                let chars: Vec<char> = text.chars().collect();
                chars.chunks(WORD_CHARS).filter_map(|word| number(&word.iter().collect::<String>())).collect()
            }
            Value::String(word) => number(word).into_iter().collect(),
            Value::Array(words) => words.iter().filter_map(|word| number(word.as_str()?)).collect(),
            Value::Object(members) => members.keys().filter_map(|word| number(word)).collect(),
            _ => Vec::new(),
        }
    }
}

fn takes_out(out: Write, intent: Value) -> Draft {
    Draft { intent, takes_out: Some(out), puts_in: false }
}

/// Characters of a word. All have as many, so that a text of them is never cut within one.
const WORD_CHARS: usize = 8;

fn word(write: Write) -> String {
    format!("<{write:06}>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(kind: &'static str, writes: &[Write]) -> Ledger {
        let mut ledger = Ledger::new(kind);
        for write in writes {
            let draft = Draft { intent: Value::Null, takes_out: None, puts_in: true };
            ledger.pushed(*write, &draft);
        }
        ledger
    }

    #[test]
    fn a_write_that_is_missing_twice_or_strange_is_found() {
        let ledger = wrote("list", &[1, 2]);
        assert_eq!(ledger.check(&json!(["<000002>", "<000001>"])), Ok(()));
        assert!(ledger.check(&json!(["<000002>"])).unwrap_err().contains("lacks the writes [1]"));
        assert!(ledger.check(&json!(["<000002>", "<000001>", "<000001>"])).unwrap_err().contains("more than once"));
        assert!(ledger.check(&json!(["<000002>", "<000001>", "<000003>"])).unwrap_err().contains("nobody"));
        let text = wrote("text", &[1, 2]);
        assert_eq!(text.check(&json!("<000002><000001>")), Ok(()));
        assert!(text.check(&json!("<000<000001>002>")).is_err());
    }

    #[test]
    fn a_sum_is_that_of_all_sure_writes_and_some_of_the_others() {
        let mut ledger = wrote("counter", &[1, 2, 4]);
        assert_eq!(ledger.check(&json!(7)), Ok(()));
        assert!(ledger.check(&json!(5)).is_err());
        ledger.vanished(2);
        assert_eq!((ledger.check(&json!(5)), ledger.check(&json!(7))), (Ok(()), Ok(())));
        assert!(ledger.check(&json!(9)).is_err());
    }

    #[test]
    fn what_was_taken_out_stays_out_and_a_register_shows_nothing_overwritten() {
        let mut set = wrote("set", &[1]);
        set.pushed(2, &takes_out(1, Value::Null));
        assert_eq!(set.check(&json!([])), Ok(()));
        assert!(set.check(&json!(["<000001>"])).is_err());
        let mut register = wrote("register", &[1]);
        register.pushed(2, &Draft { intent: Value::Null, takes_out: Some(1), puts_in: true });
        assert_eq!(register.check(&json!("<000002>")), Ok(()));
        assert!(register.check(&json!("<000001>")).is_err());
    }

    #[test]
    fn a_removal_may_take_away_what_its_author_saw_and_nothing_else() {
        let mut set = wrote("set", &[1, 2]);
        set.removed(&json!(["<000001>"]), false);
        assert_eq!(set.check(&json!(["<000002>"])), Ok(()));
        assert!(set.check(&json!(["<000001>"])).is_err());
    }
}

//! When to send and to receive, so that each edit is typed after exactly the edits that it was recorded after.
//!
//! An author sends just before typing on from a point that another author saw, and only once the others have received
//! what was sent before; an author receives just before the edit that saw more. Real histories can always be played so.

use gigfs_examples::Failure;

use crate::trace::Trace;

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An author types an edit.
    Type { author: usize, edit: usize },
    /// An author sends everything typed so far to every store.
    Send { author: usize },
    /// An author receives until so many edits are there.
    Receive { author: usize, count: usize },
}

/// What an author has come to.
#[derive(Clone, Default)]
struct Progress {
    /// Indexes of the author's edits.
    edits: Vec<usize>,
    typed: usize,
    sent: usize,
    /// How many edits of each author are there, the own ones aside.
    has: Vec<usize>,
    /// Counts of own edits at which another author saw them.
    seen_at: Vec<usize>,
}

/// Plans the whole history.
pub(crate) fn plan(trace: &Trace) -> Result<Vec<Step>, Failure> {
    let authors = trace.authors();
    let mut all = vec![Progress { has: vec![0; authors], ..Progress::default() }; authors];
    for (index, edit) in trace.edits.iter().enumerate() {
        all[edit.author].edits.push(index);
        for other in (0..authors).filter(|other| *other != edit.author) {
            all[other].seen_at.push(edit.seen[other]);
        }
    }
    for author in &mut all {
        author.seen_at.sort_unstable();
        author.seen_at.dedup();
    }
    let mut steps = Vec::with_capacity(trace.edits.len());
    loop {
        let before = steps.len();
        for author in 0..authors {
            advance(trace, &mut all, author, &mut steps);
        }
        if all.iter().all(|author| author.typed == author.edits.len()) {
            return Ok(steps);
        }
        if steps.len() == before {
            return Err("the history cannot be played by devices that send and receive everything they have".into());
        }
    }
}

/// Lets one author do all that can be done now.
fn advance(trace: &Trace, all: &mut [Progress], author: usize, steps: &mut Vec<Step>) {
    loop {
        let me = &all[author];
        let due = me.seen_at.iter().find(|count| **count > me.sent).copied() == Some(me.typed);
        let received =
            all.iter().enumerate().all(|(other, progress)| other == author || progress.has[author] == me.sent);
        if due && received {
            all[author].sent = me.typed;
            steps.push(Step::Send { author });
            continue;
        }
        let Some(edit) = me.edits.get(me.typed).copied() else { return };
        let wanted = &trace.edits[edit].seen;
        let lacks = (0..all.len()).filter(|other| *other != author && me.has[*other] != wanted[*other]);
        let lacks: Vec<usize> = lacks.collect();
        if lacks.is_empty() {
            if due {
                return;
            }
            all[author].typed += 1;
            steps.push(Step::Type { author, edit });
            continue;
        }
        if lacks.iter().any(|other| all[*other].sent != wanted[*other]) {
            return;
        }
        for other in lacks {
            all[author].has[other] = wanted[other];
        }
        let count = all[author].typed + all[author].has.iter().sum::<usize>();
        steps.push(Step::Receive { author, count });
    }
}

//! Recorded editing histories: JSON with `txns[]` of `parents`, `agent` and `patches[[position, deleted, inserted]]`, and
//! `endContent`. Positions count Unicode scalar values in the version that the parents name.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use flate2::bufread::GzDecoder;
use gigfs_examples::Failure;
use serde::Deserialize;

/// Where the text is kept.
pub(crate) const PATH: &str = "/paper";

/// A history: edits of one text by one or more authors.
pub(crate) struct Trace {
    pub(crate) edits: Vec<Edit>,
    pub(crate) end: String,
}

/// One edit.
pub(crate) struct Edit {
    pub(crate) author: usize,
    /// How many edits of each author it was typed after.
    pub(crate) seen: Vec<usize>,
    pub(crate) splices: Vec<(u64, u64, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    end_content: String,
    #[serde(default = "one")]
    num_agents: usize,
    txns: Vec<Transaction>,
}

#[derive(Deserialize)]
struct Transaction {
    parents: Option<Vec<usize>>,
    #[serde(default)]
    agent: usize,
    patches: Vec<(u64, u64, String)>,
}

fn one() -> usize {
    1
}

impl Trace {
    /// Reads a gzipped history.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let open = File::open(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let recorded: Recorded = serde_json::from_reader(BufReader::new(GzDecoder::new(BufReader::new(open))))
            .map_err(|error| format!("{} is not a recorded history: {error}", file.display()))?;
        let mut edits: Vec<Edit> = Vec::with_capacity(recorded.txns.len());
        let mut done = vec![0; recorded.num_agents];
        for (at, txn) in recorded.txns.into_iter().enumerate() {
            let parents = txn.parents.unwrap_or_else(|| at.checked_sub(1).into_iter().collect());
            let mut seen = vec![0; recorded.num_agents];
            for parent in parents {
                let parent = edits.get(parent).ok_or_else(|| format!("edit {at} names the later parent {parent}"))?;
                for (author, count) in seen.iter_mut().enumerate() {
                    *count = (*count).max(parent.seen[author] + usize::from(parent.author == author));
                }
            }
            let count = done.get_mut(txn.agent).ok_or_else(|| format!("edit {at} is by an unknown author"))?;
            if seen[txn.agent] != *count {
                return Err(format!(
                    "edit {at} was typed beside its own author's edits; one device cannot replay that"
                )
                .into());
            }
            *count += 1;
            edits.push(Edit { author: txn.agent, seen, splices: txn.patches });
        }
        Ok(Self { edits, end: recorded.end_content })
    }

    /// Returns how many authors there are.
    pub(crate) fn authors(&self) -> usize {
        self.edits.first().map_or(1, |edit| edit.seen.len())
    }
}

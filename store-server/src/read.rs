//! Reading a log in parts, each of which is of one moment.
//!
//! A base may be installed between two looks at the engine. So the log's header is read first and once more at the end, and
//! if the base or what it covers has changed meanwhile, the part is read anew: base, operations and header then belong
//! together, but for operations that arrived since, of which there may be more than the header counts.

use gigfs_core::api::LogHeader;
use gigfs_core::limits::READ_BYTES_MAX;
use gigfs_core::{Base, BaseId, Digest, LogName};
use gigfs_storage::{Engine, Page, StorageError, StoredOp, pruning};

/// A part of a log.
pub(crate) struct Part {
    /// The log's base, if it was wanted.
    pub(crate) base: Option<Base>,
    /// In order of arrival.
    pub(crate) ops: Vec<StoredOp>,
    /// The log as it stands.
    pub(crate) header: LogHeader,
    /// Whether there is more after this.
    pub(crate) more: bool,
}

/// Whether a part is to have the log's base.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// No.
    Nothing,
    /// If it is later than this one.
    LaterThan(Option<BaseId>),
}

/// Reads what arrived after an index, until `page` is full. A large base leaves no room for operations beside it.
pub(crate) fn part(
    engine: &dyn Engine,
    log: &LogName,
    after: u64,
    wanted: Wanted,
    page: Page,
) -> Result<Part, StorageError> {
    let header = || Ok(engine.tail(log)?.unwrap_or_default().header);
    let mut before = header()?;
    loop {
        let base = match wanted {
            Wanted::LaterThan(known) => pruning::base_for(engine, log, known)?,
            Wanted::Nothing => None,
        };
        let (ops, more) = match base.as_ref().is_some_and(|base| base.record.len() > READ_BYTES_MAX) {
            true => (Vec::new(), !engine.inventory(log, after, 1)?.is_empty()),
            false => {
                let ops = engine.read(log, after, page)?;
                let more = match ops.last() {
                    Some(last) => !engine.inventory(log, last.index, 1)?.is_empty(),
                    None => false,
                };
                (ops, more)
            }
        };
        let now = header()?;
        if ground(&before) == ground(&now) {
            return Ok(Part { base, ops, header: before, more });
        }
        before = now;
    }
}

/// What tells one base, and what is known of what it covers, from another.
fn ground(header: &LogHeader) -> Option<(BaseId, Digest)> {
    header.base.map(|base| (base.id, base.covered))
}

//! A yrs document that holds one text, and positions in it counted in characters.

use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{
    Doc, GetString, OffsetKind, Options, ReadTxn, StateVector, Text as _, TextRef, Transact, TransactionMut, Update,
};

use super::Splice;
use super::update::{self, Edit};

/// A document under one client id. It is given sound updates only, see [`update`].
#[derive(Debug)]
pub(super) struct Replica {
    doc: Doc,
    text: TextRef,
    /// Whether a character that UTF-16 counts as two was ever inserted. While it was not, positions need no mapping.
    astral: bool,
    /// Changes since the document was laid out in memory.
    changes: u32,
}

/// Changes after which a document is laid out again.
const CHANGES_MAX: u32 = 4096;

impl Replica {
    pub(super) fn new(client: u64) -> Self {
        let options = Options {
            offset_kind: OffsetKind::Utf16,
            skip_gc: false,
            ..Options::with_guid_and_client_id("".into(), ClientID::new(client))
        };
        let doc = Doc::with_options(options);
        let text = doc.get_or_insert_text(update::ROOT);
        Self { doc, text, astral: false, changes: 0 }
    }

    /// Returns a replica of the document that `update` holds, which has been read by [`update::Document`].
    pub(super) fn open(client: u64, update: &[u8], astral: bool) -> Result<Self, String> {
        let mut replica = Self::new(client);
        replica.integrate(update)?;
        replica.astral = astral;
        Ok(replica)
    }

    /// Returns another replica of the same document, which writes as `client`.
    pub(super) fn fork(&self, client: u64) -> Self {
        Self::open(client, &self.encode(), self.astral).expect("yrs reads what it has written itself")
    }

    /// Returns the client id under which it writes.
    pub(super) fn client(&self) -> u64 {
        self.doc.client_id().get()
    }

    /// Tells whether a fork would be faster to edit.
    ///
    /// To find a position, yrs walks the characters' blocks from the first on. Changes scatter them over the memory, and
    /// the walk then waits for it: a recorded paper takes three times as long to type without this.
    pub(super) fn is_scattered(&self) -> bool {
        self.changes > CHANGES_MAX
    }

    pub(super) fn apply(&mut self, edit: &Edit) -> Result<(), String> {
        self.integrate(&edit.bytes)?;
        self.astral |= edit.astral;
        self.changes += 1;
        Ok(())
    }

    fn integrate(&mut self, update: &[u8]) -> Result<(), String> {
        let update = Update::decode_v1(update).map_err(|error| error.to_string())?;
        self.doc.transact_mut().apply_update(update).map_err(|error| error.to_string())
    }

    /// Performs splices, each on the text that the one before has left, and returns the update that holds them alone.
    /// They must lie within the text, see [`Self::check`] and [`Self::clamp`].
    pub(super) fn edit(&mut self, splices: &[Splice]) -> Vec<u8> {
        self.changes += 1;
        self.astral |= splices.iter().any(|Splice(_, _, inserted)| update::has_astral(inserted));
        let mut txn = self.doc.transact_mut();
        for Splice(position, deleted, inserted) in splices {
            let (position, deleted) = self.units(&txn, *position, *deleted);
            if deleted > 0 {
                self.text.remove_range(&mut txn, position, deleted);
            }
            self.text.insert(&mut txn, position, inserted);
        }
        txn.encode_update_v1()
    }

    /// Maps a range of characters to one of UTF-16 units.
    fn units(&self, txn: &TransactionMut<'_>, position: u64, deleted: u64) -> (u32, u32) {
        if !self.astral {
            return (position as u32, deleted as u32);
        }
        let text = self.text.get_string(txn);
        let mut units = text.chars().map(|char| char.len_utf16() as u32);
        let before = units.by_ref().take(position as usize).sum();
        (before, units.take(deleted as usize).sum())
    }

    /// Refuses splices that do not lie within the text.
    pub(super) fn check(&self, splices: &[Splice]) -> Result<(), String> {
        let mut length = self.length();
        for Splice(position, deleted, inserted) in splices {
            if position.checked_add(*deleted).is_none_or(|end| end > length) {
                return Err(format!(
                    "the text has {length} characters, and the splice is about {deleted} from position {position} on"
                ));
            }
            length = length - deleted + inserted.chars().count() as u64;
        }
        Ok(())
    }

    /// Moves splices into the text where they reach beyond it.
    pub(super) fn clamp(&self, splices: Vec<Splice>) -> Vec<Splice> {
        let mut length = self.length();
        let clamp = |Splice(position, deleted, inserted): Splice| {
            let position = position.min(length);
            let deleted = deleted.min(length - position);
            length = length - deleted + inserted.chars().count() as u64;
            Splice(position, deleted, inserted)
        };
        splices.into_iter().map(clamp).collect()
    }

    /// Returns how many characters the text has.
    fn length(&self) -> u64 {
        match self.astral {
            true => self.to_text().chars().count() as u64,
            false => self.text.len(&self.doc.transact()).into(),
        }
    }

    pub(super) fn to_text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(&StateVector::default())
    }
}

//! A text that many may edit at once, on yrs, the Rust port of Yjs.
//!
//! **Concurrent** edits all hold: what was inserted stays together where it was inserted, what was deleted is gone, and
//! of two insertions at one place that of the smaller actor stands first. **Late arrival** changes nothing: edits commute,
//! and one that builds on an edit which has not arrived waits in the state and takes effect with it.
//!
//! A person types splices at positions; what is logged is the yrs update that holds this edit alone, whose ids mean the
//! same characters everywhere. A splice posted as typed is performed on the text of all operations ordered before it; it
//! does not commute, a late operation before it folds the log again, and it takes time in proportion to the text.
//!
//! **Ids.** yrs names each character by a client and a clock, so no two edits may use one client's clocks twice. The upper
//! 24 bits of a client id are the first of the actor's, so that the order of actors decides ties (that of the hashes where
//! two actors begin alike) and nobody can use the ids of another. The lower 29 are from a hash over the first operation that an author's document prepared; the next
//! document, after a restart or after an edit that was prepared and never logged, has others. A device that was restored
//! from a backup thus does not repeat ids even where it repeats (actor, seq).
//!
//! **Malice.** No bytes of a peer make an edit panic or apply halfway. A writer who forges an edit, well formed but between
//! neighbours that never stood side by side, can make replicas place it differently, since no arrangement of it is right;
//! they then compute different states and stop pruning the log, and no edit of others is lost.
//!
//! **State.** Deleted characters are kept as their count alone. Once an intent was prepared, the state holds the document
//! twice: as it is, and as the author's, which is the same until a prepared edit is applied.

mod replica;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use gigfs_core::{ActorId, Author, IntentError, Meta, PayloadError, Reducer, Sha, StateError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use replica::Replica;
use update::{Clocks, Document, Edit};

/// The text: `{"splice": [position, deleted, "inserted"]}`, or several in `splices`; the view is a string.
///
/// Positions and counts are in characters (Unicode scalar values).
#[derive(Debug, Clone, Copy, Default)]
pub struct Text;

/// One replacement, `[position, deleted, "inserted"]`: so many characters from a position on give way to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splice(pub u64, pub u64, pub String);

/// A change of a [`Text`], as it is typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextIntent {
    /// `{"splice": [position, deleted, "inserted"]}`.
    Splice(Splice),
    /// `{"splices": [splice, …]}`, each on the text that the one before has left.
    Splices(Vec<Splice>),
}

/// A change of a [`Text`], as it is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextChange {
    /// `{"yrs": "…"}`: a yrs update (lib0 v1, in base64) that holds this edit alone.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    Yrs(Vec<u8>),
    /// A splice as it was typed; one that reaches beyond the text is moved into it.
    Splice(Splice),
    /// Several of them.
    Splices(Vec<Splice>),
}

/// The state of a [`Text`].
#[derive(Debug)]
pub struct TextState {
    replica: Replica,
    /// How many ids of each client are in `replica`.
    clocks: Clocks,
    /// Edits that build on what has not arrived, by a client and how many of its ids they wait for.
    waiting: BTreeMap<(u64, u32), BTreeSet<Vec<u8>>>,
    /// Where intents are prepared; made with the first.
    author: Mutex<Option<AuthorReplica>>,
}

/// The document in which an author's edits are tried out before they are logged.
#[derive(Debug)]
struct AuthorReplica {
    actor: ActorId,
    replica: Replica,
    /// The last edit that was prepared, until it is applied. While it is not, this document is ahead of the state's.
    prepared: Option<Vec<u8>>,
}

impl TextState {
    fn new(replica: Replica, clocks: Clocks) -> Self {
        Self { replica, clocks, waiting: BTreeMap::new(), author: Mutex::new(None) }
    }

    /// Applies an edit, or keeps it until what it builds on is there.
    fn receive(&mut self, edit: Edit) -> Result<(), String> {
        if edit.is_taken(&self.clocks) {
            return Err("the edit's ids are those of another edit".to_owned());
        }
        match edit.lacks(&self.clocks) {
            Some(lacking) => self.wait(lacking, edit),
            None => {
                self.integrate(&edit)?;
                self.wake(edit);
            }
        }
        Ok(())
    }

    fn wait(&mut self, lacking: (u64, u32), edit: Edit) {
        self.waiting.entry(lacking).or_default().insert(edit.bytes);
    }

    fn integrate(&mut self, edit: &Edit) -> Result<(), String> {
        self.replica.apply(edit)?;
        if let Some(made) = edit.made {
            self.clocks.insert(made.client, made.end);
        }
        let author = self.author.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = author {
            match at.prepared.take_if(|prepared| *prepared == edit.bytes) {
                Some(_) => {}
                None if at.replica.apply(edit).is_err() => *author = None,
                None => {}
            }
        }
        Ok(())
    }

    /// Applies what waited for an edit, and what waited for that.
    fn wake(&mut self, edit: Edit) {
        let mut made: Vec<_> = edit.made.into_iter().collect();
        while let Some(span) = made.pop() {
            let woken = self.waiting.range((span.client, 0)..=(span.client, span.end));
            let keys: Vec<_> = woken.map(|(key, _)| *key).collect();
            let edits: Vec<_> = keys.iter().filter_map(|key| self.waiting.remove(key)).flatten().collect();
            for bytes in edits {
                // What waits was read before it was let in; of two edits with the same ids, the first stays.
                let Some(edit) = Edit::parse(&bytes).ok().filter(|edit| !edit.is_taken(&self.clocks)) else { continue };
                match edit.lacks(&self.clocks) {
                    Some(lacking) => self.wait(lacking, edit),
                    None if self.integrate(&edit).is_ok() => made.extend(edit.made),
                    None => {}
                }
            }
        }
    }

    /// Returns a client id of this actor that the text does not know yet.
    fn new_client(&self, actor: ActorId, seed: &[u8]) -> u64 {
        let mut hash = Sha::of(seed);
        loop {
            let client = client_id(actor, &hash);
            if !self.clocks.contains_key(&client) {
                return client;
            }
            hash = Sha::of(hash.as_bytes());
        }
    }

    fn author(&self) -> MutexGuard<'_, Option<AuthorReplica>> {
        self.author.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for TextState {
    fn clone(&self) -> Self {
        let replica = self.replica.fork(READER);
        Self { waiting: self.waiting.clone(), ..Self::new(replica, self.clocks.clone()) }
    }
}

impl Reducer for Text {
    type Intent = TextIntent;
    type Payload = TextChange;
    type State = TextState;

    fn name(&self) -> &str {
        "text"
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> TextState {
        TextState::new(Replica::new(READER), Clocks::new())
    }

    fn prepare(&self, state: &TextState, intent: TextIntent, author: &Author) -> Result<TextChange, IntentError> {
        let splices = match intent {
            TextIntent::Splice(splice) => vec![splice],
            TextIntent::Splices(splices) => splices,
        };
        state.replica.check(&splices).map_err(IntentError)?;
        let mut place = state.author();
        let usable = place.take().filter(|at| at.actor == author.actor && at.prepared.is_none());
        let at = place.insert(usable.unwrap_or_else(|| {
            let seed = format!("gigfs.text.client.1 {} {} {} {splices:?}", author.actor, author.seq, author.date);
            let client = state.new_client(author.actor, seed.as_bytes());
            AuthorReplica { actor: author.actor, replica: state.replica.fork(client), prepared: None }
        }));
        if at.replica.is_scattered() {
            at.replica = state.replica.fork(at.replica.client());
        }
        let bytes = at.replica.edit(&splices);
        at.prepared = Some(bytes.clone());
        Ok(TextChange::Yrs(bytes))
    }

    fn apply(&self, state: &mut TextState, payload: TextChange, meta: &Meta) -> Result<(), PayloadError> {
        let splices = match payload {
            TextChange::Yrs(bytes) => {
                let edit =
                    Edit::parse(&bytes).map_err(|error| PayloadError(format!("the edit is malformed: {error}")))?;
                if edit.made.is_some_and(|made| !is_of(made.client, meta.actor)) {
                    return Err(PayloadError("the edit's ids belong to another actor than its writer".to_owned()));
                }
                return state.receive(edit).map_err(PayloadError);
            }
            TextChange::Splice(splice) => vec![splice],
            TextChange::Splices(splices) => splices,
        };
        let splices = state.replica.clamp(splices);
        let client = state.new_client(meta.actor, meta.sha.as_bytes());
        let bytes = state.replica.fork(client).edit(&splices);
        Edit::parse(&bytes).and_then(|edit| state.receive(edit)).map_err(PayloadError)
    }

    fn commutes(&self, payload: &TextChange) -> bool {
        matches!(payload, TextChange::Yrs(_))
    }

    fn view(&self, state: &TextState) -> Value {
        state.replica.to_text().into()
    }

    /// Encodes the state: a version byte, the document's update and the waiting edits, each behind its length.
    fn encode_state(&self, state: &TextState) -> Vec<u8> {
        let mut out = vec![STATE_VERSION];
        let mut write = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        let document = state.replica.encode();
        write(&update::canonical(&document).unwrap_or(document));
        let waiting: BTreeSet<_> = state.waiting.values().flatten().collect();
        waiting.into_iter().for_each(|bytes| write(bytes));
        out
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<TextState, StateError> {
        let state =
            read_state(bytes).map_err(|error| StateError(format!("this is not the state of a text: {error}")))?;
        match self.encode_state(&state) == bytes {
            true => Ok(state),
            false => Err(StateError("this is not the state of a text as it is encoded; it was changed".to_owned())),
        }
    }
}

fn read_state(bytes: &[u8]) -> Result<TextState, String> {
    let mut rest = match bytes.split_first() {
        Some((&STATE_VERSION, rest)) => rest,
        _ => return Err(format!("it does not begin with version {STATE_VERSION}")),
    };
    let mut next = || {
        let (length, behind) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (part, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(part)
    };
    let document = next().ok_or("it ends too early")?;
    let Document { clocks, astral } = Document::parse(document)?;
    let mut state = TextState::new(Replica::open(READER, document, astral)?, clocks);
    while let Some(part) = next() {
        let edit = Edit::parse(part)?;
        let lacking = edit.lacks(&state.clocks).ok_or("an edit waits for nothing")?;
        state.wait(lacking, edit);
    }
    Ok(state)
}

/// Returns the client id whose upper bits are the actor's and whose lower bits are the hash's.
fn client_id(actor: ActorId, hash: &Sha) -> u64 {
    let [a, b, c, d, ..] = *hash.as_bytes();
    actor_bits(actor) << HASH_BITS | u64::from(u32::from_be_bytes([a, b, c, d])) >> (32 - HASH_BITS)
}

fn is_of(client: u64, actor: ActorId) -> bool {
    client >> HASH_BITS == actor_bits(actor)
}

/// Returns the first 24 bits of an actor id.
fn actor_bits(actor: ActorId) -> u64 {
    let [a, b, c, ..] = *actor.as_bytes();
    u64::from(u32::from_be_bytes([0, a, b, c]))
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map_err(|error| serde::de::Error::custom(format!("the edit is not base64: {error}")))
}

/// The bits of a client id that come from a hash; the other 24 of its 53 are the actor's. // persisted
const HASH_BITS: u32 = 29;
/// The client id of a document that nothing is written in.
const READER: u64 = 0;
/// The version of an encoded state. // persisted
const STATE_VERSION: u8 = 1;

#[cfg(test)]
mod tests;

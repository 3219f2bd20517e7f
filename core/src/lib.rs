//! The pure heart of gigfs.
//!
//! What lives here decides and moves no bytes: names, operations and their identity, oplogs and folds, the sync machine,
//! and the messages that clients and servers exchange. There is no tokio here, no file, no clock and no randomness, so
//! all of it runs in a browser and in the simulator as it runs in production.

mod admit;
mod checkpoint;
mod codec;
mod covers;
mod date;
mod error;
mod few;
mod fold;
mod id;
mod name;
mod op;
mod oplog;
mod reducer;
mod removal;

pub mod api;
pub mod base64_text;
pub mod commit;
pub mod json;
pub mod limits;
pub mod seal;
pub mod sync;
pub mod token;
pub mod wire;

pub use admit::{admit, refuse_unsigned, unsigned};
pub use checkpoint::{Base, BaseId, Checkpoint, CheckpointError};
pub use codec::DecodeError;
pub use covers::{Covers, Heads, Place};
pub use date::Date;
pub use error::{ErrorCode, ErrorKind, Refusal};
pub use fold::{Fold, Folded, Function, Kind, Logged, Reduced};
pub use id::{ActorId, BlobName, DeviceId, Digest, IdError, Incarnation, RunId, Seq, SessionId, Sha, StoreId};
pub use name::{ChannelName, LogName, NameError, Path, PathPrefix, TypeName, UserName};
pub use op::{Draft, Op, OpError, OrderKey, Payload, Signature};
pub use oplog::Oplog;
pub use reducer::{Author, IntentError, Meta, PayloadError, Reducer, StateError};

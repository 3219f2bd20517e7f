//! Every cap of the system, with its unit in the name. Edges enforce them before memory is spent.
//!
//! A refusal names the limit that it applied, so that a person can find it here.

/// Bytes of a user, channel or type name.
pub const NAME_BYTES_MAX: usize = 64;
/// Bytes of a path, slashes included.
pub const PATH_BYTES_MAX: usize = 1024;
/// Segments of a path.
pub const PATH_SEGMENTS_MAX: usize = 30;
/// Bytes of one segment of a path.
pub const PATH_SEGMENT_BYTES_MAX: usize = 255;

/// Bytes of one operation's payload, as it stands in the canonical form.
pub const OP_PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Heads that one operation names as what its author saw.
pub const OP_DEPS_MAX: usize = 64;
/// Bytes of one encoded operation record.
pub const OP_RECORD_BYTES_MAX: usize = OP_PAYLOAD_BYTES_MAX + OP_DEPS_MAX * 40 + 1024;
/// Bytes of one encoded checkpoint record.
pub const CHECKPOINT_RECORD_BYTES_MAX: usize = 3 * 1024 * 1024 + 768 * 1024;
/// Bytes of the content of one sealed payload: what its padding and its tag leave of [`OP_PAYLOAD_BYTES_MAX`].
pub const OP_SEALED_CONTENT_BYTES_MAX: usize = 258_047;
/// Levels of nesting in a JSON payload.
pub const JSON_DEPTH_MAX: usize = 64;
/// Members of objects and elements of arrays in a JSON payload, all levels together.
pub const JSON_MEMBERS_MAX: usize = 64 * 1024;
/// Levels of nesting in a JSON body or message, around and in the payloads that it holds.
pub const JSON_BODY_DEPTH_MAX: usize = JSON_DEPTH_MAX + 16;
/// Members of objects and elements of arrays in a JSON body or message to a server; no push that a client builds has more.
pub const JSON_BODY_MEMBERS_MAX: usize = 512 * 1024;

/// Bytes of the state in one checkpoint.
pub const CHECKPOINT_STATE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Bytes of a sealed state's content: what its padding and its tag leave of [`CHECKPOINT_STATE_BYTES_MAX`].
pub const CHECKPOINT_SEALED_CONTENT_BYTES_MAX: usize = 3_080_191;
/// Actors whose operations one checkpoint covers.
pub const CHECKPOINT_ACTORS_MAX: usize = 8 * 1024;
/// Operations of one actor that a checkpoint names: its last, and those on which nothing that is newly covered depends.
pub const CHECKPOINT_HEADS_MAX: usize = 64;

/// Operations that one checkpoint names as absent.
pub const CHECKPOINT_ABSENT_MAX: usize = 4 * 1024;

/// Bytes of a sealed name.
pub const SEALED_NAME_BYTES_MAX: usize = 1168;
/// Epochs of one channel's keys.
pub const CHANNEL_EPOCHS_MAX: usize = 1024;
/// Bytes of one sealed keyring, its wrapped keys included.
pub const KEYRING_BYTES_MAX: usize = 1024 * 1024;
/// Channels whose keys one keyring holds, those that others share included.
pub const KEYRING_CHANNELS_MAX: usize = 4096;
/// Fingerprints of others that one keyring holds.
pub const KEYRING_PINS_MAX: usize = 4096;
/// Bytes of one grant of a channel's keys.
pub const GRANT_BYTES_MAX: usize = 64 * 1024;

/// The largest integer that is exact in a JSON number everywhere (RFC 7493), 2^53 - 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Microseconds that an operation's date may be ahead of a store's clock.
pub const CLOCK_AHEAD_MICROS_MAX: u64 = 120 * 1_000_000;

/// Operations in one push message.
pub const PUSH_OPS_MAX: usize = 1024;
/// Bytes of one HTTP body or stream message.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Operations in one answer to a read; longer logs come in several.
pub const READ_OPS_MAX: usize = 4096;
/// Bytes of operation records after which an answer is cut and continued in the next.
pub const READ_BYTES_MAX: usize = 1024 * 1024;
/// Hashes in one page of a log's inventory.
pub const INVENTORY_SHAS_MAX: usize = 32 * 1024;
/// Logs in one page of a listing.
pub const LIST_LOGS_MAX: usize = 1000;
/// Logs that one stream watches by name; a client that wants more watches the channel.
pub const WATCHED_LOGS_MAX: usize = 4096;
/// Requests that one stream may have unanswered.
pub const STREAM_REQUESTS_MAX: usize = 4096;

/// Requests, and operations of pushes beyond one each, that one stream may have unanswered.
pub const STREAM_PLACES_MAX: usize = STREAM_REQUESTS_MAX + IN_FLIGHT_OPS_MAX;
/// Bytes of messages that wait for a client that reads slowly, beside the one that is being written.
pub const STREAM_QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Operations that a client has unanswered on one stream.
pub const IN_FLIGHT_OPS_MAX: usize = 4096;
/// Bytes of operation records that a client has unanswered on one stream.
pub const IN_FLIGHT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Operations in one push message that a client builds.
pub const CLIENT_PUSH_OPS_MAX: usize = 256;
/// Bytes of operation records after which a client starts the next push message.
pub const CLIENT_PUSH_BYTES_MAX: usize = 512 * 1024;

/// Bytes of one blob.
pub const BLOB_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Hashes in one question about blobs.
pub const BLOB_HAVE_MAX: usize = 4096;

/// Logs whose checkpoints one request commits.
pub const COMMIT_LOGS_MAX: usize = 256;
/// Checkpoints of one log that a store keeps while none of them is committed.
pub const CANDIDATES_MAX: usize = 16;
/// Bytes of one certificate or acknowledgement.
pub const CERTIFICATE_BYTES_MAX: usize = 4 * 1024;

/// Stores of one channel.
pub const CHANNEL_STORES_MAX: usize = 16;
/// Channels of one user.
pub const USER_CHANNELS_MAX: usize = 1024;
/// Guests of one channel.
pub const CHANNEL_GUESTS_MAX: usize = 256;
/// Channels of others that are shared with one user.
pub const USER_SHARED_MAX: usize = 128;
/// Live sessions of one user.
pub const USER_SESSIONS_MAX: usize = 1024;
/// Bytes of a session's description.
pub const SESSION_DESCRIPTION_BYTES_MAX: usize = 256;
/// Bytes of a store's or a table's URL.
pub const URL_BYTES_MAX: usize = 2048;

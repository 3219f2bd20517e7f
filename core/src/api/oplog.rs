//! Bodies of the store's routes: operations, logs and blobs.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::base64_text;
use crate::checkpoint::BaseId;
use crate::date::Date;
use crate::error::Refusal;
use crate::id::{ActorId, BlobName, Digest, Incarnation, Seq, Sha};
use crate::json;
use crate::name::{ChannelName, LogName, Path, TypeName, UserName};
use crate::op::{Draft, Op, Payload, Signature};

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// Names a log below a user in a query string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct LogQuery {
    /// The channel.
    #[cfg_attr(feature = "openapi", param(value_type = String))]
    pub channel: ChannelName,
    /// The type.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", param(value_type = String))]
    pub kind: TypeName,
    /// The path.
    #[cfg_attr(feature = "openapi", param(value_type = String))]
    pub path: Path,
}

impl LogQuery {
    /// Completes the log's name.
    pub fn log(self, user: UserName) -> LogName {
        LogName { user, channel: self.channel, kind: self.kind, path: self.path }
    }
}

/// Ciphertext in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SealedJson {
    /// The epoch of the channel key.
    pub epoch: u32,
    /// Nonce and ciphertext, base64url without padding.
    #[serde(with = "base64_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub bytes: Vec<u8>,
}

/// An operation in JSON. Either `payload` or `sealed` is there.
///
/// A push may leave out `actor`, `seq`, `date`, `deps` and `sha` together: the store then stamps the operation as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpJson {
    /// The identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub sha: Option<Sha>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub actor: Option<ActorId>,
    /// Its place among its actor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>))]
    pub seq: Option<Seq>,
    /// Its hybrid logical date in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>))]
    pub date: Option<Date>,
    /// The heads that its author saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub deps: Option<Vec<Sha>>,
    /// The plain payload, any JSON value, `null` included.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub payload: Option<Value>,
    /// The sealed payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedJson>,
    /// The signature over the sha, base64url without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// Reads a member that is there, `null` included, as `Some`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl OpJson {
    /// Tells whether the author left the stamping to the store.
    pub fn is_unstamped(&self) -> bool {
        self.actor.is_none() && self.seq.is_none() && self.date.is_none() && self.deps.is_none() && self.sha.is_none()
    }

    /// Returns the payload in its envelope.
    ///
    /// # Errors
    /// A sentence, if not exactly one of `payload` and `sealed` is there.
    pub fn payload(&self) -> Result<Payload, String> {
        match (&self.payload, &self.sealed) {
            (Some(value), None) => Ok(Payload::plain(value)),
            (None, Some(sealed)) => {
                Ok(Payload::Sealed { epoch: sealed.epoch, bytes: Bytes::from(sealed.bytes.clone()) })
            }
            _ => Err("an operation needs either \"payload\" or \"sealed\"".to_owned()),
        }
    }

    /// Returns the stamped fields, the claimed sha and the signature.
    ///
    /// # Errors
    /// A sentence that names what is missing or malformed.
    pub fn stamped(&self) -> Result<(Draft, Sha, Option<Signature>), String> {
        let (Some(actor), Some(seq), Some(date), Some(sha)) = (self.actor, self.seq, self.date, self.sha) else {
            return Err(
                "a stamped operation needs \"actor\", \"seq\", \"date\" and \"sha\"; leave out all of them and \
                        \"deps\" to have the store stamp it"
                    .to_owned(),
            );
        };
        let signature = match &self.signature {
            None => None,
            Some(text) => {
                let bytes = base64_text::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
                Some(Signature(bytes.ok_or("a signature must be 64 bytes in base64url")?))
            }
        };
        let deps = self.deps.clone().unwrap_or_default();
        Ok((Draft { actor, seq, date, deps, payload: self.payload()? }, sha, signature))
    }
}

impl OpJson {
    /// Puts an operation into JSON from its parts.
    pub fn from_parts(sha: Sha, draft: &Draft, signature: Option<&Signature>) -> Self {
        let (payload, sealed) = match &draft.payload {
            Payload::Plain(bytes) => (serde_json::from_slice(bytes).ok(), None),
            Payload::Sealed { epoch, bytes } => (None, Some(SealedJson { epoch: *epoch, bytes: bytes.to_vec() })),
        };
        Self {
            sha: Some(sha),
            actor: Some(draft.actor),
            seq: Some(draft.seq),
            date: Some(draft.date),
            deps: Some(draft.deps.clone()),
            payload,
            sealed,
            signature: signature.map(|signature| base64_text::encode(&signature.0)),
        }
    }
}

impl From<&Op> for OpJson {
    fn from(op: &Op) -> Self {
        Self::from_parts(op.sha(), op.draft(), op.signature())
    }
}

/// The body of `POST /user/:user/oplog`: one operation or many, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(untagged)]
pub enum PushBody {
    /// `{"ops": [...]}`
    Many {
        /// The operations, each after what it depends on.
        ops: Vec<OpJson>,
    },
    /// One operation.
    One(Box<OpJson>),
}

impl PushBody {
    /// Reads a body, so that an error names the field that is wrong.
    ///
    /// # Errors
    /// A sentence about what is not as it should be.
    pub fn parse(body: &[u8]) -> Result<Vec<OpJson>, String> {
        json::check_body(body).map_err(|what| format!("the body is too large: {what}"))?;
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let ops = match value {
            Value::Object(mut members) if members.contains_key("ops") => members.remove("ops").unwrap_or_default(),
            one @ Value::Object(_) => Value::Array(vec![one]),
            _ => return Err("the body is not a JSON object".to_owned()),
        };
        if let Some(odd) = ops.as_array().and_then(|ops| ops.iter().position(|op| !op.is_object())) {
            return Err(format!("number {} of \"ops\" is not an operation, which is a JSON object", odd + 1));
        }
        serde_json::from_value(ops)
            .map_err(|error| format!("the body is not an operation or {{\"ops\": [...]}}: {error}"))
    }
}

/// What became of one pushed operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum PushResult {
    /// On disk now.
    Accepted {
        /// Its identity.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        sha: Sha,
    },
    /// On disk already.
    Known {
        /// Its identity.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        sha: Sha,
    },
    /// Part of the committed checkpoint already.
    Covered {
        /// Its identity.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        sha: Sha,
    },
    /// Not stored, for this reason. The others of the batch are not affected.
    Refused(Refusal),
}

/// The answer to a push: one result an operation, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Pushed {
    /// In the order of the request.
    pub results: Vec<PushResult>,
}

/// What a store knows of a log without its operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct LogHeader {
    /// The committed checkpoint that the store has installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseHeader>,
    /// Number and exclusive or of the shas of the operations that the base does not cover.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub digest: Digest,
    /// The index that the newest arrival has in this store.
    pub last_index: u64,
    /// Bytes of the records of these operations.
    pub bytes: u64,
}

/// What a store knows of a log's base without its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct BaseHeader {
    /// Which checkpoint it is.
    #[serde(flatten)]
    pub id: BaseId,
    /// Number and exclusive or of the shas that the store has of what the base covers.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub covered: Digest,
    /// Whether those are all, so that the store can tell of any operation whether it is covered.
    pub complete: bool,
    /// Whether some replica computed another state for what the base covers.
    #[serde(default)]
    pub disputed: bool,
    /// Bytes of the checkpoint's record.
    pub bytes: u64,
    /// Bytes of covered operations and earlier checkpoints that the store keeps for a while.
    #[serde(default)]
    pub retained_bytes: u64,
}

/// A log's base in JSON, to be read by people and small programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct BaseJson {
    /// Which checkpoint it is.
    #[serde(flatten)]
    pub id: BaseId,
    /// The checkpoint that it builds on.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub parent: Option<Sha>,
    /// What folded the state.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub reducer: TypeName,
    /// The reducer's version.
    pub version: u32,
    /// After every operation that it covers.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub date: Date,
    /// The state: JSON where the reducer keeps it as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// The whole record, base64url without padding.
    pub record: String,
    /// The table's certificate.
    pub certificate: String,
}

/// An operation and its index in the log of this store, in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct IndexedOp {
    /// 1, 2, 3… in order of arrival; a cursor for `after`.
    pub index: u64,
    /// The operation.
    pub op: OpJson,
}

/// The answer to `GET /user/:user/oplog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct OplogPage {
    /// The life of the store's data that the indexes belong to.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub incarnation: Incarnation,
    /// The whole log's header.
    pub header: LogHeader,
    /// The log's base, in the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseJson>,
    /// Operations that the base does not cover, in order of arrival.
    pub ops: Vec<IndexedOp>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// A log in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ListedLog {
    /// The type.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: TypeName,
    /// The path.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: Path,
    /// In a sealed channel what it is called, for whoever has the keys; base64url without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_name: Option<String>,
    /// Its header.
    #[serde(flatten)]
    pub header: LogHeader,
}

/// The answer to `GET /user/:user/oplogs`: logs by type and path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct LogList {
    /// One page.
    pub logs: Vec<ListedLog>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// Asks which of these blobs a store lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct BlobHave {
    /// BLAKE3 names.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub blobs: Vec<BlobName>,
}

/// The blobs that the store lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct BlobMissing {
    /// In the order asked.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub missing: Vec<BlobName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_operation_or_several_and_nothing_else() {
        assert_eq!(PushBody::parse(br#"{"payload": null}"#).unwrap().len(), 1);
        assert_eq!(PushBody::parse(br#"{"ops": [{"payload": 0}, {"payload": ""}]}"#).unwrap().len(), 2);
        for bad in ["", "[]", "1", "[[]]", r#"{"ops": [[]]}"#, r#"{"ops": {}}"#, r#"{"paylod": 1}"#] {
            assert!(PushBody::parse(bad.as_bytes()).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_payload_of_null_is_there_and_one_that_is_left_out_is_not() {
        let parse = |text: &str| serde_json::from_str::<OpJson>(text).unwrap().payload();
        assert_eq!(parse(r#"{"payload": null}"#), Ok(Payload::plain(&Value::Null)));
        assert!(parse("{}").is_err());
    }
}

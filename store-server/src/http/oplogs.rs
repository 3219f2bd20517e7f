//! Routes of oplogs: push, read, list.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use gigfs_core::api::{
    BaseJson, IndexedOp, ListedLog, LogList, LogQuery, OpJson, OplogPage, PushBody, PushResult, Pushed,
};
use gigfs_core::limits::{LIST_LOGS_MAX, MESSAGE_BYTES_MAX, READ_BYTES_MAX, READ_OPS_MAX};
use gigfs_core::token::Permission;
use gigfs_core::{
    Base, BaseId, ChannelName, Checkpoint, Draft, ErrorCode, LogName, Path, PathPrefix, Payload, Refusal, TypeName,
    UserName, base64_text,
};
use gigfs_storage::{Page, StorageError, StoredOp};
use tokio::sync::oneshot;

use super::extract::{Asked, Bearer, Names, read_body};
use crate::commit::Reply;
use crate::read::{self, Wanted};
use crate::refusal::{self, Refused};
use crate::store::{Inner, Store};
use crate::{clock, name, push};

/// Stores one operation or many, each refused on its own. What is `accepted` or `known` is on disk.
#[utoipa::path(post, path = "/user/{user}/oplog", tag = "oplogs",
    params(("user" = String, Path, description = "The user"), LogQuery), security(("store_token" = [])),
    request_body = PushBody, responses((status = 200, body = Pushed), (status = 400, body = Refusal),
        (status = 401, body = Refusal), (status = 413, body = Refusal)))]
pub(crate) async fn push(
    State(store): State<Store>,
    names: Names,
    asked: Asked,
    Bearer(token): Bearer,
    body: Body,
) -> Result<Json<Pushed>, Refused> {
    asked.only(&["channel", "type", "path"])?;
    let log = log(names.user()?, &asked)?;
    let inner = &store.inner;
    let token = inner.access.pass(&inner.users, &token, &log.user, &log.channel, Permission::Write).await?;
    let used = inner.sessions.of(&token.claims);
    let body = read_body(&store, body, MESSAGE_BYTES_MAX).await?;
    let parse = move |_: &Inner| {
        let bad =
            |sentence| Refusal::new(ErrorCode::BadRequest, sentence).hint("GET /openapi.json shows what it takes");
        let ops = PushBody::parse(&body).map_err(bad)?;
        push::check_count(ops.len()).map(|()| ops)
    };
    let ops = store.blocking(parse).await?;
    used.wait_for(ops.len()).await;
    let admit = move |inner: &Inner| {
        let mut admitted = push::admit_json(&log, &ops, clock::date());
        admitted.look_up(&log, &*inner.engine).map_err(|error| refusal::storage(&error))?;
        Ok(admitted)
    };
    let admitted = store.blocking(admit).await?;
    Ok(Json(Pushed { results: commit(&store, admitted).await? }))
}

async fn commit(store: &Store, admitted: push::Admitted) -> Result<Vec<PushResult>, Refused> {
    let (reply, results) = oneshot::channel();
    store.inner.commits.push(admitted, Reply::Http(reply)).await?;
    Ok(results.await.map_err(|_| refusal::stopping())??)
}

/// Reads a log in the order in which its operations arrived here. The first page has the log's base, which stands for the
/// operations that it covers.
#[utoipa::path(get, path = "/user/{user}/oplog", tag = "oplogs",
    params(("user" = String, Path, description = "The user"), LogQuery,
        ("after" = Option<u64>, Query, description = "The index after which to begin; 0 if left out"),
        ("limit" = Option<u64>, Query, description = "At most so many operations")),
    security(("store_token" = [])), responses((status = 200, body = OplogPage), (status = 401, body = Refusal)))]
pub(crate) async fn get(
    State(store): State<Store>,
    names: Names,
    asked: Asked,
    Bearer(token): Bearer,
) -> Result<Json<OplogPage>, Refused> {
    asked.only(&["channel", "type", "path", "after", "limit"])?;
    let log = log(names.user()?, &asked)?;
    let after = asked.number("after")?.unwrap_or(0);
    let page = Page { ops: limit(&asked, READ_OPS_MAX)?, bytes: READ_BYTES_MAX };
    let inner = &store.inner;
    inner.access.pass(&inner.users, &token, &log.user, &log.channel, Permission::Read).await?;
    let wanted = if after == 0 { Wanted::LaterThan(None) } else { Wanted::Nothing };
    let part = store.read(move |engine| read::part(engine, &log, after, wanted, page)).await?;
    let ops = part.ops.iter().map(indexed).collect::<Result<_, _>>()?;
    let base = part.base.as_ref().map(in_json).transpose()?;
    let incarnation = store.inner.engine.incarnation();
    Ok(Json(OplogPage { incarnation, header: part.header, base, ops, more: part.more }))
}

/// Lists the logs of a channel by type and path.
#[utoipa::path(get, path = "/user/{user}/oplogs", tag = "oplogs",
    params(("user" = String, Path, description = "The user"),
        ("channel" = String, Query, description = "The channel"),
        ("prefix" = Option<String>, Query, description = "Only logs at or below this path"),
        ("after_type" = Option<String>, Query, description = "With after_path: only logs after this one"),
        ("after_path" = Option<String>, Query, description = "With after_type: only logs after this one"),
        ("limit" = Option<u64>, Query, description = "At most so many logs")),
    security(("store_token" = [])), responses((status = 200, body = LogList), (status = 401, body = Refusal)))]
pub(crate) async fn list(
    State(store): State<Store>,
    names: Names,
    asked: Asked,
    Bearer(token): Bearer,
) -> Result<Json<LogList>, Refused> {
    asked.only(&["channel", "prefix", "after_type", "after_path", "limit"])?;
    let user = names.user()?;
    let channel = asked.required("channel", |text| Ok(ChannelName::parse(text)?))?;
    let prefix = asked.optional("prefix", |text| Ok(PathPrefix::parse(text)?))?.unwrap_or_default();
    let after_type = asked.optional("after_type", |text| Ok(TypeName::parse(text)?))?;
    let after_path = asked.optional("after_path", |text| Ok(Path::parse(text)?))?;
    let after = match (after_type, after_path) {
        (Some(kind), Some(path)) => Some((kind, path)),
        (None, None) => None,
        _ => {
            let message = "after_type and after_path go together";
            return Err(Refused(
                Refusal::new(ErrorCode::BadRequest, message).hint("add the other one or leave out both"),
            ));
        }
    };
    let limit = limit(&asked, LIST_LOGS_MAX)?;
    let inner = &store.inner;
    inner.access.pass(&inner.users, &token, &user, &channel, Permission::Read).await?;
    let read = store.read(move |engine| {
        let after = after.as_ref().map(|(kind, path)| (kind, path));
        let mut found = engine.list(&user, &channel, &prefix, after, limit + 1)?;
        let more = found.len() > limit;
        found.truncate(limit);
        let listed = |(log, header): (LogName, _)| {
            let sealed_name = name::of(engine, &log)?.map(|sealed| base64_text::encode(&sealed));
            Ok(ListedLog { kind: log.kind, path: log.path, sealed_name, header })
        };
        Ok(LogList { logs: found.into_iter().map(listed).collect::<Result<_, StorageError>>()?, more })
    });
    Ok(Json(read.await?))
}

fn log(user: UserName, asked: &Asked) -> Result<LogName, Refused> {
    let query = LogQuery {
        channel: asked.required("channel", |text| Ok(ChannelName::parse(text)?))?,
        kind: asked.required("type", |text| Ok(TypeName::parse(text)?))?,
        path: asked.required("path", |text| Ok(Path::parse(text)?))?,
    };
    Ok(query.log(user))
}

/// Returns how many things an answer may hold: as many as asked for, at least one and at most `max`.
fn limit(asked: &Asked, max: usize) -> Result<usize, Refused> {
    let limit = asked.number("limit")?.map_or(max, |limit| usize::try_from(limit).unwrap_or(max));
    Ok(limit.clamp(1, max))
}

fn indexed(stored: &StoredOp) -> Result<IndexedOp, Refused> {
    let (draft, signature) = Draft::from_record(&stored.record).map_err(|error| {
        tracing::error!(sha = %stored.sha, %error, "a record cannot be read");
        Refusal::new(ErrorCode::StorageFailed, format!("the operation {} is damaged in this store", stored.sha))
            .hint("read it from another store of the channel")
    })?;
    Ok(IndexedOp { index: stored.index, op: OpJson::from_parts(stored.sha, &draft, signature.as_ref()) })
}

fn in_json(base: &Base) -> Result<BaseJson, Refused> {
    let checkpoint = Checkpoint::from_trusted(&base.record).map_err(|error| {
        tracing::error!(sha = %base.sha, %error, "a base cannot be read");
        Refusal::new(ErrorCode::StorageFailed, format!("the base {} is damaged in this store", base.sha))
            .hint("read it from another store of the channel")
    })?;
    let Checkpoint { generation, parent, reducer, version, date, state, .. } = checkpoint;
    let state = match state {
        Payload::Plain(bytes) => serde_json::from_slice(&bytes).ok(),
        Payload::Sealed { .. } => None,
    };
    let (id, record) = (BaseId { generation, sha: base.sha }, base64_text::encode(&base.record));
    Ok(BaseJson { id, parent, reducer, version, date, state, record, certificate: base.certificate.clone() })
}

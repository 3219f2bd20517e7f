//! The route of the register of committed checkpoints.

use axum::Json;
use axum::extract::State;
use gigfs_core::Refusal;
use gigfs_core::api::{CommitBody, CommitResults};
use gigfs_core::limits::MESSAGE_BYTES_MAX;

use super::extract::{Body, Params};
use super::refusal::Refused;
use crate::table::Table;
use crate::visit::Visit;

/// Commits checkpoints that all stores of the channel have acknowledged, or tells where logs' registers stand. For the user,
/// and for guests who may write in the channel.
#[utoipa::path(post, path = "/user/{user}/table/{channel}/checkpoint", tag = "checkpoints",
    params(("user", description = "The user"), ("channel", description = "The channel")), security(("session" = [])),
    request_body = CommitBody,
    responses((status = 200, body = CommitResults, description = "One answer a log, in the order of the request"),
        (status = 401, body = Refusal), (status = 403, body = Refusal), (status = 404, body = Refusal),
        (status = 413, body = Refusal, description = "Too many logs or acknowledgements")))]
pub(crate) async fn commit(
    State(table): State<Table>,
    params: Params,
    visit: Visit,
    Body(body): Body<CommitBody, COMMIT_BYTES_MAX>,
) -> Result<Json<CommitResults>, Refused> {
    Ok(Json(table.commit(&visit, &params.channel()?, body).await?))
}

/// Bytes of a request about the register. A large batch in a channel of many stores comes in several.
const COMMIT_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

//! The requests about a log's base: what may be asked, how large it may be, and how it is answered.

use std::sync::Arc;

use bytes::Bytes;
use gigfs_core::limits::INVENTORY_SHAS_MAX;
use gigfs_core::token::Permission;
use gigfs_core::wire::{ServerMessage, Tag, WireBase};
use gigfs_core::{ErrorCode, LogName, Refusal, Sha};
use tokio::sync::OwnedSemaphorePermit;

use super::Context;
use crate::base::Room;

/// What is to be decided.
pub(super) enum Decision {
    /// Whether a checkpoint is acknowledged.
    Acknowledge { sha: Sha, record: Bytes, epoch: u64 },
    /// Whether a checkpoint becomes the base.
    Install { base: WireBase, instead_of: Option<Sha> },
    /// What the base covers.
    Cover { base: Sha, shas: Vec<Sha> },
    /// Whether the base is disputed.
    Dispute { base: Sha },
}

impl Decision {
    /// Checks that the client may ask for it.
    pub(super) fn check(&self, context: &Context) -> Result<(), Refusal> {
        context.end.token().allows(Permission::Write)?;
        match self {
            Self::Cover { shas, .. } if shas.len() > INVENTORY_SHAS_MAX => {
                let message = format!("the list has {} shas and the limit is {INVENTORY_SHAS_MAX}", shas.len());
                Err(Refusal::new(ErrorCode::TooLarge, message).hint("send it in several messages"))
            }
            _ => Ok(()),
        }
    }

    /// Returns about how many bytes it brings.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Acknowledge { record, .. } => record.len(),
            Self::Install { base, .. } => base.record.len(),
            Self::Cover { shas, .. } => shas.len() * size_of::<Sha>(),
            Self::Dispute { .. } => 0,
        }
    }

    /// Makes the decision and answers.
    pub(super) async fn make(
        self,
        context: Arc<Context>,
        tag: Tag,
        log: LogName,
        room: Room,
        permit: OwnedSemaphorePermit,
    ) {
        let store = &context.store;
        let installed = |header| ServerMessage::Installed { tag, header };
        let made = match self {
            Self::Acknowledge { sha, record, epoch } => {
                let made = store.acknowledge(log, sha, record, epoch, room).await;
                made.map(|ack| ServerMessage::Acknowledged { tag, ack })
            }
            Self::Install { base, instead_of } => store.install(log, base, instead_of, room).await.map(installed),
            Self::Cover { base, shas } => store.cover(log, base, shas, room).await.map(installed),
            Self::Dispute { base } => store.dispute(log, base, room).await.map(installed),
        };
        drop(match made {
            Ok(message) => context.answer(message, permit).await,
            Err(refusal) => context.fail(tag, refusal, permit).await,
        });
    }
}

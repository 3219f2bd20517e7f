//! What logs of sealed channels are called: kept as it came, for logs that there are, and bounded.

use gigfs_core::limits::SEALED_NAME_BYTES_MAX;
use gigfs_core::token::Permission;
use gigfs_core::wire::{ClientMessage, LogRef, SUBPROTOCOL_CBOR, ServerMessage};
use gigfs_core::{ErrorCode, LogName};

use crate::world::{Stream, World, log, op};

impl Stream {
    async fn name(&mut self, log: &LogName, bytes: usize) -> Result<(), ErrorCode> {
        let sealed = vec![7; bytes].into();
        self.send(&ClientMessage::Name { tag: 1, log: LogRef::from(log), sealed }).await;
        match self.next().await {
            Some(ServerMessage::Named { tag: 1 }) => Ok(()),
            Some(ServerMessage::Failed { tag: 1, refusal }) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_name_is_kept_for_a_log_that_there_is_and_no_longer_than_it_may_be() {
    let world = World::start().await;
    let mut stream = world.stream().await.welcomed().await;
    assert_eq!(stream.name(&log("/a"), 48).await, Err(ErrorCode::NotFound), "it would take room for nothing");
    stream.pushed(&log("/a"), &[op(&log("/a"), 1)]).await.unwrap();
    assert_eq!(stream.name(&log("/a"), SEALED_NAME_BYTES_MAX).await, Ok(()));
    let sealed = vec![7; SEALED_NAME_BYTES_MAX + 1].into();
    stream.send(&ClientMessage::Name { tag: 2, log: LogRef::from(&log("/a")), sealed }).await;
    assert_eq!(stream.goodbye().await.0.code, ErrorCode::BadRequest, "nobody sends a longer one");
    let token = world.token_with(|claims| claims.permission = Permission::Read);
    let mut reader = world.stream_with(Some(SUBPROTOCOL_CBOR), &token).await.unwrap().welcomed().await;
    assert_eq!(reader.name(&log("/a"), 48).await, Err(ErrorCode::Forbidden));
}

//! What logs of sealed channels are called: kept as it came, for logs that there are, and bounded.

use gigfs_core::api::LogList;
use gigfs_core::limits::SEALED_NAME_BYTES_MAX;
use gigfs_core::seal::{ChannelKeys, Secret};
use gigfs_core::token::Permission;
use gigfs_core::wire::{ClientMessage, LogRef, SUBPROTOCOL_CBOR, ServerMessage};
use gigfs_core::{ErrorCode, LogName};
use reqwest::Method;

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

#[tokio::test]
async fn a_listing_gives_the_sealed_names_of_blinded_logs_and_of_no_others() {
    let world = World::start().await;
    let mut stream = world.stream().await.welcomed().await;
    let keys = ChannelKeys::new(Secret::from_bytes([1; 32]), Secret::from_bytes([2; 32]));
    let (plain, blind) = (log("/a"), keys.names().blind(&log("/a")).into_log());
    for log in [&plain, &blind] {
        stream.pushed(log, &[op(log, 1)]).await.unwrap();
        assert_eq!(stream.name(log, 48).await, Ok(()));
    }
    let listed = world.request(Method::GET, "/user/me/oplogs?channel=home").send().await.unwrap();
    let listed: LogList = listed.json().await.unwrap();
    let names =
        |log: &LogName| listed.logs.iter().find(|listed| listed.path == log.path).unwrap().sealed_name.is_some();
    assert_eq!((listed.logs.len(), names(&plain), names(&blind)), (2, false, true));
}

//! The messages of the stream, in CBOR and in JSON (`docs/wire.md`).

use std::fmt::Debug;

use gigfs_core::wire::{ClientMessage, Event, Message, ServerMessage, WireBase, WireOp};

/// What a store reads.
pub(crate) fn client_messages(bytes: &[u8]) {
    law(bytes, |message| match message {
        ClientMessage::Push { ops, .. } => ops.iter().for_each(op),
        ClientMessage::Install { base, .. } => open(base),
        ClientMessage::Watch { watched, .. } => _ = format!("{watched:?}"),
        _ => {}
    });
}

/// What a client reads.
pub(crate) fn server_messages(bytes: &[u8]) {
    law(bytes, |message| match message {
        ServerMessage::Ops { base, ops, .. } | ServerMessage::Retained { base, ops, .. } => {
            base.iter().for_each(open);
            ops.iter().for_each(|(_, indexed)| op(indexed));
        }
        ServerMessage::Event(Event { ops, .. }) => ops.iter().for_each(|(_, indexed)| op(indexed)),
        _ => {}
    });
}

fn law<M: Message + PartialEq + Debug>(bytes: &[u8], look: impl Fn(&M)) {
    if let Ok(message) = M::from_cbor(bytes) {
        let again = message.to_cbor();
        assert_eq!(M::from_cbor(&again).as_ref(), Ok(&message), "CBOR gives the message back");
        look(&message);
        // Records travel unread, so that one which is no operation has no JSON; what has any is read the same each time.
        if let Ok(text) = message.to_json()
            && let Ok(read) = M::from_json(&text)
        {
            assert_eq!(read.to_json().as_ref(), Ok(&text), "JSON gives the message back");
        }
    }
    if let Ok(text) = str::from_utf8(bytes)
        && gigfs_core::json::check_body(bytes).is_ok()
        && let Ok(message) = M::from_json(text)
    {
        look(&message);
        if let Ok(again) = message.to_json() {
            assert_eq!(M::from_json(&again).as_ref(), Ok(&message), "JSON gives the message back");
        }
        if let Ok(read) = M::from_cbor(&message.to_cbor()) {
            assert_eq!(read, message, "what came as JSON leaves as CBOR unchanged");
        }
    }
}

/// An operation that opens is the very one that was sent, in both encodings.
fn op(sent: &WireOp) {
    let Ok(op) = sent.open(&crate::log()) else { return };
    assert_eq!(WireOp::from(&op), *sent);
    let text = serde_json::to_string(sent).expect("what opens can be written as JSON");
    assert_eq!(serde_json::from_str::<WireOp>(&text).ok().as_ref(), Some(sent), "{text}");
}

fn open(base: &WireBase) {
    if let Ok(checkpoint) = base.open(&crate::log()) {
        assert_eq!(checkpoint.sha(&crate::log()), base.sha);
    }
}

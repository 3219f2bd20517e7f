//! Blobs over HTTP.

use gigfs_core::api::BlobMissing;
use gigfs_core::limits::{BLOB_BYTES_MAX, BLOB_HAVE_MAX};
use gigfs_core::{BlobName, ErrorCode};
use reqwest::Method;
use serde_json::json;

use crate::world::{World, refusal};

fn name(bytes: &[u8]) -> BlobName {
    BlobName::from_bytes(*blake3::hash(bytes).as_bytes())
}

fn path(name: &BlobName) -> String {
    format!("/user/me/blob/{name}?channel=home")
}

#[tokio::test]
async fn a_blob_is_stored_under_the_hash_of_its_bytes_once() {
    let world = World::start().await;
    for bytes in [&b""[..], b"hello", &vec![7; BLOB_BYTES_MAX]] {
        let path = path(&name(bytes));
        for status in [201, 200] {
            let answer = world.request(Method::PUT, &path).body(bytes.to_vec()).send().await.unwrap();
            assert_eq!(answer.status(), status);
        }
        let answer = world.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/octet-stream");
        assert_eq!(answer.bytes().await.unwrap(), bytes);
        let answer = world.request(Method::HEAD, &path).send().await.unwrap();
        assert_eq!(answer.headers()["content-length"], bytes.len().to_string().as_str());
    }
}

#[tokio::test]
async fn bytes_that_are_not_what_their_name_says_are_refused() {
    let world = World::start().await;
    let path = path(&name(b"hello"));
    let answer = world.request(Method::PUT, &path).body("hellO").send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::ShaMismatch);
    let answer = world.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::NotFound);
    assert_eq!(world.request(Method::HEAD, &path).send().await.unwrap().status(), 404);
    let large = vec![0; BLOB_BYTES_MAX + 1];
    let refused =
        refusal(world.request(Method::PUT, &self::path(&name(&large))).body(large).send().await.unwrap()).await;
    assert_eq!(refused.code, ErrorCode::TooLarge);
    assert!(refused.message.contains(&BLOB_BYTES_MAX.to_string()), "{refused:?}");
}

#[tokio::test]
async fn a_store_says_which_blobs_it_lacks() {
    let world = World::start().await;
    let (there, lacking) = (name(b"there"), name(b"lacking"));
    world.request(Method::PUT, &path(&there)).body("there").send().await.unwrap();
    let have = "/user/me/blob/have?channel=home";
    let ask = json!({ "blobs": [lacking, there] });
    let answer = world.request(Method::POST, have).json(&ask).send().await.unwrap();
    assert_eq!(answer.json::<BlobMissing>().await.unwrap().missing, [lacking]);
    let many = json!({ "blobs": vec![there; BLOB_HAVE_MAX + 1] });
    let answer = world.request(Method::POST, have).json(&many).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::TooLarge);
    let answer = world.request(Method::POST, have).json(&json!({ "blobs": ["../x"] })).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::BadRequest);
}

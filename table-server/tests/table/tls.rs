//! TLS: a self-signed certificate is made once, kept, and good for whoever trusts it.

use gigfs_core::ErrorCode;
use gigfs_core::api::Health;
use gigfs_table_server::Tls;
use reqwest::{Certificate, Client};

use crate::world::*;

#[tokio::test]
async fn a_self_signed_certificate_is_kept_and_serves_those_who_trust_it() {
    let mut world = World::start_with(|config| config.tls = Some(Tls::SelfSigned)).await;
    assert!(world.url.starts_with("https://127.0.0.1:"));
    let path = world.config.data_dir.join("tls-cert.pem");
    let pem = std::fs::read(&path).unwrap();
    let certificate = Certificate::from_pem(&pem).unwrap();
    let http = Client::builder().no_proxy().tls_certs_only([certificate]).build().unwrap();
    let ask =
        async |url: &str| http.get(format!("{url}/healthz")).send().await.unwrap().json::<Health>().await.unwrap();
    assert_eq!(ask(&world.url).await.role, "table");
    assert!(world.http.get(format!("{}/healthz", world.url)).send().await.is_err(), "nobody else trusts it");
    world.restart().await;
    assert_eq!(std::fs::read(&path).unwrap(), pem);
    assert_eq!(ask(&world.url).await.role, "table");
}

#[tokio::test]
async fn a_store_behind_a_certificate_of_its_own_is_reached_once_that_is_trusted() {
    // Another table stands in for the store: it can be reached, and then says that it is none.
    let store = World::start_with(|config| config.tls = Some(Tls::SelfSigned)).await;
    let trusted = store.config.data_dir.join("tls-cert.pem");
    let wary = World::start().await;
    let ann = wary.person("ann").await;
    let refusal = refused_as(ErrorCode::Unreachable, wary.try_mount(&ann, "notes", &store.url).await).await;
    assert!(refusal.message.contains("certificate"), "{refusal}");

    let world = World::start_with(|config| config.trusted_certificates = vec![trusted]).await;
    let ann = world.person("ann").await;
    let refusal = refused_as(ErrorCode::Unreachable, world.try_mount(&ann, "notes", &store.url).await).await;
    assert!(refusal.message.contains("it answers 404"), "{refusal}");
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = Tls::Files { certificate: dir.path().join("none.pem"), key: dir.path().join("none.key") };
    let config = gigfs_table_server::Config {
        data_dir: dir.path().join("table"),
        listen: ([127, 0, 0, 1], 0).into(),
        tls: Some(files),
        ..Default::default()
    };
    let error = gigfs_table_server::Server::bind(config).await.err().unwrap().to_string();
    assert!(error.contains("none.pem"), "{error}");
}

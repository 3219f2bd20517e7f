//! TLS with the certificate that a store makes for itself.

use gigfs_core::api::Health;
use gigfs_store_server::{Config, EngineKind, Server, Tls};

#[tokio::test]
async fn a_store_speaks_tls_with_a_certificate_that_it_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: folder.path().to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        engine: EngineKind::Memory,
        tls: Some(Tls::SelfSigned),
        ..Config::default()
    };
    let mut certificates = Vec::new();
    for _ in 0..2 {
        let server = Server::bind(config.clone()).await.unwrap();
        let url = format!("{}/healthz", server.public_url());
        assert!(url.starts_with("https://"));
        let running = tokio::spawn(server.run(std::future::pending()));
        let pem = std::fs::read(folder.path().join("tls-cert.pem")).unwrap();
        let trusted = reqwest::Certificate::from_pem(&pem).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([trusted]).build().unwrap();
        let health: Health = client.get(&url).send().await.unwrap().json().await.unwrap();
        assert_eq!(health.role, "store");
        let stranger = reqwest::Client::builder().no_proxy().build().unwrap();
        assert!(stranger.get(&url).send().await.is_err());
        certificates.push(pem);
        running.abort();
    }
    assert_eq!(certificates[0], certificates[1]);
}

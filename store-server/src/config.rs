//! What a person can set about a store, with the defaults. Checked at [`Server::bind`](crate::Server::bind).

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub use gigfs_serve::{Connections, Tls};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The settings of a store server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder that holds the oplogs, the blobs, the admin token and a self-signed certificate. It is created if it
    /// is not there, and one server at a time may use it. Default: `gigfs-store` in the working folder.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one. Default: `127.0.0.1:4421`.
    pub listen: SocketAddr,
    /// The URL under which tables and clients reach this store. Default: `http` or `https` and the address that the
    /// server listens on, which only serves where that address can be reached from.
    pub public_url: Option<String>,
    /// What keeps the oplogs. Default: `fjall`.
    pub engine: EngineKind,
    /// How to speak TLS. Default: not at all, which is for loopback and for running behind a proxy that does.
    pub tls: Option<Tls>,
    /// Files of PEM certificates to trust in tables, besides those that the system trusts. Default: none.
    pub trusted_certificates: Vec<PathBuf>,
    /// Networks that are not public and in which this server may connect to tables that somebody names, such as
    /// `192.168.1.0/24`. Default: every one for a server that listens on loopback and has no public URL elsewhere, and
    /// none for any other.
    pub private_networks: Option<Vec<IpNet>>,
    /// The addresses of proxies in front of this server, which are believed in what they say in `X-Forwarded-For`.
    /// Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// How many connections there may be, and how long the server waits for them.
    pub connections: Connections,
    /// Bytes that each user may keep for whom the owner has set nothing else. Default: as many as fit on the disk.
    pub user_quota: Option<u64>,
    /// Operations that one session may push in a second; twice as many at once. Whoever pushes faster waits. Default:
    /// 50,000.
    pub session_ops_per_second: NonZeroU32,
    /// Streams that one session may have open at a time; one serves a whole channel. Default: 2,048.
    pub session_streams: usize,
    /// Seconds after which a stream is closed whose client takes nothing of what waits for it. Default: 30.
    pub stream_seconds: u64,
    /// How long operations are kept after a base has covered them, and bases after a later one took their place, so that
    /// a base whose state is wrong can be repaired. In whole seconds. Default: 30 days.
    #[serde(with = "seconds")]
    pub retain: Duration,
    /// Whether to make a new signing key where the store's own is gone, and to go on without it. Default: no.
    pub new_signing_key: bool,
    /// Seconds that requests and streams under way get to finish when the server stops. Default: 5.
    pub shutdown_seconds: u64,
}

/// What keeps the oplogs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// On disk, in `oplogs` in the data folder.
    Fjall,
    /// In memory: everything ends with the server. For tests and demonstrations.
    Memory,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("gigfs-store"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4421)),
            public_url: None,
            engine: EngineKind::Fjall,
            tls: None,
            trusted_certificates: Vec::new(),
            private_networks: None,
            trusted_proxies: Vec::new(),
            connections: Connections::default(),
            user_quota: None,
            session_ops_per_second: NonZeroU32::new(50_000).expect("it is not 0"),
            session_streams: 2048,
            stream_seconds: 30,
            retain: Duration::from_secs(30 * 24 * 3600),
            new_signing_key: false,
            shutdown_seconds: 5,
        }
    }
}

/// A time in whole seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_written_as_addresses_with_the_bits_that_count() {
        let config: Config = serde_json::from_str(r#"{"private_networks": ["10.0.0.0/8", "fd12::/64"]}"#).unwrap();
        assert_eq!(config.private_networks.unwrap().len(), 2);
        assert!(serde_json::from_str::<Config>(r#"{"private_networks": ["10.0.0.0/33"]}"#).is_err());
    }

    #[test]
    fn an_empty_config_is_the_default_and_an_unknown_setting_is_named() {
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        let error = serde_json::from_str::<Config>(r#"{"prot": 1}"#).unwrap_err().to_string();
        assert!(error.contains("prot"), "{error}");
    }

    #[test]
    fn a_time_is_a_number_of_seconds() {
        let config: Config = serde_json::from_str(r#"{"retain": 90}"#).unwrap();
        assert_eq!(config.retain, Duration::from_secs(90));
        assert_eq!(serde_json::to_value(&config).unwrap()["retain"], 90);
    }

    #[test]
    fn the_engine_is_a_word() {
        let config: Config = serde_json::from_str(r#"{"engine": "memory"}"#).unwrap();
        assert_eq!(config.engine, EngineKind::Memory);
    }
}

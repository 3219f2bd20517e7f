//! What a person can set about a table, with the defaults. Checked at [`Server::bind`](crate::Server::bind).

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use gigfs_serve::{Connections, Tls};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The settings of a table server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder that holds the database, the admin token and a self-signed certificate. It is created if it is not
    /// there, and one server at a time may use it. Default: `gigfs-table` in the working folder.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 takes a free one. Default: `127.0.0.1:4420`.
    pub listen: SocketAddr,
    /// The URL under which stores and clients reach this table. Default: `http` or `https` and the address that the
    /// server listens on, which only serves where that address can be reached from.
    pub public_url: Option<String>,
    /// How to speak TLS. Default: not at all, which is for loopback and for running behind a proxy that does.
    pub tls: Option<Tls>,
    /// Files of PEM certificates to trust in stores, besides those that the system trusts. Default: none.
    pub trusted_certificates: Vec<PathBuf>,
    /// Networks that are not public and in which this server may connect to stores that somebody names, such as
    /// `192.168.1.0/24`. Default: every one for a server that listens on loopback and has no public URL elsewhere, and
    /// none for any other.
    pub private_networks: Option<Vec<IpNet>>,
    /// The addresses of proxies in front of this server, which are believed in what they say in `X-Forwarded-For`: those
    /// who log in are slowed by their own address then, and not by the proxy's. Default: none.
    pub trusted_proxies: Vec<IpNet>,
    /// How many connections there may be, and how long the server waits for them.
    pub connections: Connections,
    /// Seconds that a store token lives at most; it never outlives its session. Default: 3600.
    pub token_seconds: u64,
    /// Seconds that requests under way get to finish when the server stops. Default: 5.
    pub shutdown_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("gigfs-table"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4420)),
            public_url: None,
            tls: None,
            trusted_certificates: Vec::new(),
            private_networks: None,
            trusted_proxies: Vec::new(),
            connections: Connections::default(),
            token_seconds: 3600,
            shutdown_seconds: 5,
        }
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
    fn tls_is_a_word_or_two_files() {
        let word: Config = serde_json::from_str(r#"{"tls": "self_signed"}"#).unwrap();
        assert_eq!(word.tls, Some(Tls::SelfSigned));
        let files: Config = serde_json::from_str(r#"{"tls": {"files": {"certificate": "c", "key": "k"}}}"#).unwrap();
        assert_eq!(files.tls, Some(Tls::Files { certificate: "c".into(), key: "k".into() }));
    }
}

//! From where a request comes: the other end of the connection, or what a proxy says that the operator trusts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use ipnet::IpNet;

/// Returns the address of whoever sent a request. What a proxy adds to `X-Forwarded-For` is believed of `trusted` ones
/// only; anybody can write that header.
pub fn client_address(parts: &Parts, trusted: &[IpNet]) -> IpAddr {
    let ConnectInfo(peer) = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .copied()
        // The servers give every request one.
        .unwrap_or(ConnectInfo((Ipv4Addr::UNSPECIFIED, 0).into()));
    let is_proxy = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.ip().to_canonical();
    let lines = parts.headers.get_all("x-forwarded-for").iter();
    let said: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).collect();
    for next in said.into_iter().rev() {
        match next.trim().parse::<IpAddr>() {
            Ok(next) if is_proxy(&client) => client = next.to_canonical(),
            _ => break,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut request = Request::builder();
        for line in forwarded {
            request = request.header("x-forwarded-for", *line);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 9)));
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client_address(&parts, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_who_it_speaks_for() {
        assert_eq!(client("1.1.1.1", &["2.2.2.2"], &[]), "1.1.1.1");
        assert_eq!(client("1.1.1.1", &["2.2.2.2"], &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &["2.2.2.2"], &["10.0.0.0/8"]), "2.2.2.2");
        assert_eq!(client("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", &["2.2.2.2"], &["10.0.0.0/8"]), "2.2.2.2");
        assert_eq!(client("10.0.0.1", &["2.2.2.2", "3.3.3.3, 10.0.0.2"], &["10.0.0.0/8"]), "3.3.3.3");
    }

    #[test]
    fn what_a_client_writes_before_its_proxy_does_counts_for_nothing() {
        assert_eq!(client("10.0.0.1", &["9.9.9.9, 2.2.2.2"], &["10.0.0.0/8"]), "2.2.2.2");
        assert_eq!(client("10.0.0.1", &["2.2.2.2, nonsense"], &["10.0.0.0/8"]), "10.0.0.1");
    }
}

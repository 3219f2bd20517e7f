//! Checks that a checkpoint which a store shows was committed by the user's own table.

use gigfs_core::api::MountTable;
use gigfs_core::token::CertificateClaims;
use gigfs_core::wire::{ServerMessage, WireBase};
use gigfs_core::{ErrorCode, Refusal};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

/// Checks the certificate of the base that a message carries, if it carries one. What the certificate is about is checked
/// where the base is opened.
///
/// # Errors
/// [`Refusal`] if the table has not signed it: the store cannot be believed.
pub(crate) fn check(message: &ServerMessage, mounts: Option<&MountTable>) -> Result<(), Refusal> {
    let (ServerMessage::Ops { base: Some(base), .. } | ServerMessage::Retained { base: Some(base), .. }) = message
    else {
        return Ok(());
    };
    let table = mounts.ok_or_else(|| unsigned("no table is known here"))?;
    verify(base, table).map_err(|why| unsigned(&why))
}

fn verify(base: &WireBase, table: &MountTable) -> Result<(), String> {
    let key =
        DecodingKey::from_ed_pem(table.table_key.as_bytes()).map_err(|error| format!("the table's key: {error}"))?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_issuer(&[&table.table_id]);
    validation.set_required_spec_claims(&["iss", "sub"]);
    let claims = jsonwebtoken::decode::<CertificateClaims>(&base.certificate, &key, &validation);
    claims.map(|_| ()).map_err(|error| error.to_string())
}

fn unsigned(why: &str) -> Refusal {
    let message = format!("the store shows a checkpoint that the table has not certified: {why}");
    Refusal::new(ErrorCode::Forbidden, message)
        .hint("ask whoever runs the store; if the table was set up anew with another key, restore its old one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use gigfs_core::token::CertificateUse;
    use gigfs_core::{LogName, Seq, Sha};
    use jsonwebtoken::{EncodingKey, Header};

    /// The key pair of RFC 8410, section 10.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                       -----END PRIVATE KEY-----\n";
    const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                              -----END PUBLIC KEY-----\n";

    fn shown(certificate: String) -> ServerMessage {
        let base = WireBase { sha: Sha::of(b"checkpoint"), record: bytes::Bytes::new(), certificate };
        ServerMessage::Retained { tag: 1, base: Some(base), ops: Vec::new(), more: false }
    }

    fn signed(issuer: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
        let LogName { user, channel, kind, path } = LogName::parse("me", "home", "counter", "/a").unwrap();
        let claims = CertificateClaims {
            iss: issuer.to_owned(),
            sub: user,
            channel,
            kind,
            path,
            generation: Seq::FIRST,
            checkpoint: Sha::of(b"checkpoint"),
            iat: 1,
            usage: CertificateUse::Checkpoint,
        };
        jsonwebtoken::encode(&Header::new(algorithm), &claims, key).unwrap()
    }

    #[test]
    fn only_what_the_users_own_table_has_signed_is_believed() {
        let mounts = MountTable {
            user: gigfs_core::UserName::parse("me").unwrap(),
            table_id: "table".to_owned(),
            table_key: PUBLIC_KEY.to_owned(),
            epoch: 1,
            channels: Vec::new(),
        };
        let key = EncodingKey::from_ed_pem(KEY.as_bytes()).unwrap();
        let good = signed("table", &key, Algorithm::EdDSA);
        assert_eq!(check(&shown(good.clone()), Some(&mounts)), Ok(()));
        assert!(check(&shown(good.clone()), None).is_err(), "no table is known");

        let (head, signature) = good.rsplit_once('.').unwrap();
        let claims = head.split_once('.').unwrap().1;
        let none = format!("eyJhbGciOiJub25lIn0.{claims}.");
        let with_public_key = signed("table", &EncodingKey::from_secret(PUBLIC_KEY.as_bytes()), Algorithm::HS256);
        let of_another_head = signed("table", &key, Algorithm::EdDSA).replace(claims, &claims.replace('e', "f"));
        for (what, certificate) in [
            ("another table's", signed("other", &key, Algorithm::EdDSA)),
            ("no signature", format!("{head}.")),
            ("a cut signature", format!("{head}.{}", &signature[4..])),
            ("other claims", of_another_head),
            ("no algorithm", none),
            ("the public key as a secret", with_public_key),
            ("nothing", String::new()),
        ] {
            assert!(check(&shown(certificate), Some(&mounts)).is_err(), "{what}");
        }
    }
}

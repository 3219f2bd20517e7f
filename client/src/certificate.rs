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

//! Random bytes from the system.

use crate::error::Error;

/// Returns N random bytes.
///
/// # Errors
/// [`Error::System`] if the system has none.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::System(format!("the system has no random bytes: {error}")))?;
    Ok(bytes)
}

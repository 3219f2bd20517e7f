//! The bodies of the servers' routes, and of their answers to clients and to each other.

use std::fmt::Debug;

use gigfs_core::Refusal;
use gigfs_core::api::*;
use gigfs_core::json;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn law(bytes: &[u8]) {
    if json::check_body(bytes).is_err() {
        return;
    }
    // Stores' answers and bodies.
    same::<OplogPage>(bytes);
    same::<LogList>(bytes);
    same::<Pushed>(bytes);
    same::<LogHeader>(bytes);
    same::<BaseHeader>(bytes);
    same::<BlobHave>(bytes);
    same::<BlobMissing>(bytes);
    same::<ConfirmCode>(bytes);
    same::<NewQuota>(bytes);
    same::<UserRoom>(bytes);
    same::<Seal>(bytes);
    same::<Confirm>(bytes);
    same::<Confirmed>(bytes);
    // The table's.
    same::<MountTable>(bytes);
    same::<TableChanged>(bytes);
    same::<TokenStanding>(bytes);
    same::<PasswordParams>(bytes);
    same::<NewMaster>(bytes);
    same::<NewSession>(bytes);
    same::<CreatedSession>(bytes);
    same::<SessionList>(bytes);
    same::<AddStore>(bytes);
    same::<IdentityRecord>(bytes);
    same::<Guest>(bytes);
    same::<Guests>(bytes);
    same::<Shared>(bytes);
    same::<CommitBody>(bytes);
    same::<CommitResults>(bytes);
    same::<Refusal>(bytes);
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(body) = serde_json::from_slice::<T>(bytes) else { return };
    let again = serde_json::to_vec(&body).expect("what was read as JSON is written as JSON");
    assert_eq!(serde_json::from_slice::<T>(&again).ok().as_ref(), Some(&body));
}

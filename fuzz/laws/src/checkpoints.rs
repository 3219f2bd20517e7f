//! Checkpoints and bases (`docs/format.md` §4).

use std::convert::Infallible;

use gigfs_core::api::BaseJson;
use gigfs_core::commit;
use gigfs_core::{Checkpoint, Date, Digest, Sha};

pub(crate) fn law(bytes: &[u8]) {
    if let Ok(base) = serde_json::from_slice::<BaseJson>(bytes) {
        let again = serde_json::to_vec(&base).expect("a base has a JSON form");
        assert_eq!(serde_json::from_slice::<BaseJson>(&again).ok(), Some(base));
    }
    let log = crate::log();
    let Ok(read) = Checkpoint::from_trusted(bytes) else {
        assert!(Checkpoint::from_record(&log, bytes, Sha::of(bytes)).is_err(), "what cannot be read is no checkpoint");
        return;
    };
    let sha = read.sha(&log);
    let Ok((checkpoint, signature)) = Checkpoint::from_record(&log, bytes, sha) else { return };
    assert_eq!(checkpoint, read);
    assert_eq!(checkpoint.to_record(signature.as_ref()), bytes, "a checkpoint has one record");
    assert_eq!(checkpoint.check(), Ok(()));
    assert!(Checkpoint::from_record(&log, bytes, Sha::of(bytes)).is_err(), "another sha is refused");

    let heads: Vec<Sha> = checkpoint.covers.shas().copied().collect();
    let deps = |sha: &Sha| Ok::<_, Infallible>(heads.contains(sha).then(|| heads.clone()));
    let Ok(held) = checkpoint.follow(true, Digest::default(), deps);
    assert!(held.iter().all(|sha| heads.contains(sha) && checkpoint.absent.binary_search(sha).is_err()));
    let Ok(_) = commit::acknowledge(&checkpoint, None, Date::saturating(1_700_000_000_000_000), deps);
}

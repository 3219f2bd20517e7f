//! Names, paths, prefixes and ids, as texts and in query strings.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use gigfs_core::api::LogQuery;
use gigfs_core::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use gigfs_core::seal::BlindLog;
use gigfs_core::{
    ActorId, BlobName, ChannelName, DeviceId, Incarnation, LogName, Path, PathPrefix, SessionId, Sha, StoreId,
    TypeName, UserName,
};

pub(crate) fn law(bytes: &[u8]) {
    if let Ok(asked) = serde_urlencoded::from_bytes::<LogQuery>(bytes) {
        let text = serde_urlencoded::to_string(&asked).expect("names have a place in a URL");
        assert_eq!(serde_urlencoded::from_str::<LogQuery>(&text).ok(), Some(asked));
    }
    if let Ok(pairs) = serde_urlencoded::from_bytes::<Vec<(String, String)>>(bytes) {
        pairs.iter().for_each(|(_, value)| names(value));
    }
    if let Ok(text) = str::from_utf8(bytes) {
        names(text);
    }
}

fn names(text: &str) {
    same::<UserName>(text);
    same::<ChannelName>(text);
    same::<TypeName>(text);
    same::<Path>(text);
    same::<ActorId>(text);
    same::<DeviceId>(text);
    same::<StoreId>(text);
    same::<Incarnation>(text);
    same::<SessionId>(text);
    same::<Sha>(text);
    same::<BlobName>(text);
    if let Ok(name) = UserName::parse(text) {
        assert!(name.as_str().len() <= NAME_BYTES_MAX && !name.as_str().contains(['/', '\0']));
    }
    if let Ok(path) = Path::parse(text) {
        assert!(text.len() <= PATH_BYTES_MAX && !text.split('/').any(|segment| segment == ".."));
        let prefix = PathPrefix::parse(text).expect("a path is a prefix");
        assert!(prefix.covers(&path));
        let log = LogName { path, ..crate::log() };
        let text = serde_json::to_string(&log).expect("a log's name has a JSON form");
        assert_eq!(serde_json::from_str::<LogName>(&text).ok().as_ref(), Some(&log));
    }
    if let Ok(prefix) = PathPrefix::parse(text) {
        assert_eq!(PathPrefix::parse(prefix.as_str()).as_ref(), Ok(&prefix));
    }
    let mut parts = text.splitn(4, '\0');
    let mut part = || parts.next().unwrap_or_default();
    if let Ok(log) = LogName::parse(part(), part(), part(), part())
        && let Ok(blind) = BlindLog::parse(log.clone())
    {
        assert_eq!(blind.into_log(), log);
    }
}

/// What is parsed is shown as it was written.
fn same<T: FromStr + Display + Debug>(text: &str) {
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string(), text);
    }
}

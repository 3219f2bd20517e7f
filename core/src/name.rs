//! The names of users, channels, types, paths and logs, parsed once at the edge.
//!
//! Inside the system the type is the proof: a [`Path`] holds no `..`, no NUL and no empty segment, so it can be used
//! as a key, in a URL and in a message without looking at it again. Names are compared byte for byte.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_SEGMENT_BYTES_MAX, PATH_SEGMENTS_MAX};

/// Why a name was refused. The sentence says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("the {what} is empty; give it at least one character")]
    Empty {
        /// Which kind of name it was.
        what: &'static str,
    },
    /// The name is longer than its limit.
    #[error("the {what} has {bytes} bytes and the limit is {max}; shorten it")]
    TooLong {
        /// Which kind of name it was.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A character that this kind of name cannot hold.
    #[error("the {what} {name:?} holds {found:?}, which is not allowed there; {allowed}")]
    BadCharacter {
        /// Which kind of name it was.
        what: &'static str,
        /// The whole name.
        name: String,
        /// The character.
        found: char,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A path that does not begin with a slash.
    #[error("the path {path:?} must begin with \"/\"; write \"/{path}\"")]
    NotAbsolute {
        /// The path as given.
        path: String,
    },
    /// A path segment that is empty, `.` or `..`.
    #[error("the path {path:?} has the segment {segment:?}; a segment cannot be empty, \".\" or \"..\"")]
    BadSegment {
        /// The path as given.
        path: String,
        /// The segment.
        segment: String,
    },
    /// A path with more segments than the limit.
    #[error("the path has {segments} segments and the limit is {max}; use fewer levels")]
    TooDeep {
        /// How many there are.
        segments: usize,
        /// The limit.
        max: usize,
    },
}

const PLAIN: &str = "use a-z, A-Z, 0-9, \".\", \"_\" and \"-\", beginning with a letter or digit";

fn check_plain(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: name.len(), max: NAME_BYTES_MAX });
    }
    let allowed = |at: usize, c: char| c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '.' | '_' | '-'));
    match name.char_indices().find(|&(at, c)| !allowed(at, c)) {
        None => Ok(()),
        Some((_, found)) => Err(NameError::BadCharacter { what, name: name.to_owned(), found, allowed: PLAIN }),
    }
}

fn check_path(path: &str) -> Result<(), NameError> {
    let what = "path";
    if path.is_empty() {
        return Err(NameError::Empty { what });
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: path.len(), max: PATH_BYTES_MAX });
    }
    if let Some(found) = path.chars().find(|c| c.is_control()) {
        let allowed = "control characters cannot stand in a path";
        return Err(NameError::BadCharacter { what, name: path.to_owned(), found, allowed });
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(NameError::NotAbsolute { path: path.to_owned() });
    };
    let mut segments = 0;
    for segment in rest.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err(NameError::BadSegment { path: path.to_owned(), segment: segment.to_owned() });
        }
        if segment.len() > PATH_SEGMENT_BYTES_MAX {
            let what = "path segment";
            return Err(NameError::TooLong { what, bytes: segment.len(), max: PATH_SEGMENT_BYTES_MAX });
        }
        segments += 1;
    }
    if segments > PATH_SEGMENTS_MAX {
        return Err(NameError::TooDeep { segments, max: PATH_SEGMENTS_MAX });
    }
    Ok(())
}

/// Defines one parsed name: a shared string that only `parse` can make.
macro_rules! parsed_name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the name, or says what is wrong with it.
            ///
            /// # Errors
            /// [`NameError`] names the rule that the text breaks.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

parsed_name!(
    /// The name of a user at a table: 1 to 64 bytes of `[A-Za-z0-9._-]`, beginning with a letter or digit.
    UserName,
    |text| check_plain("user name", text)
);
parsed_name!(
    /// The name of a channel, a user's unit of mounting and sharing. Same characters as [`UserName`].
    ChannelName,
    |text| check_plain("channel name", text)
);
parsed_name!(
    /// The name of a type: which reducer reads the log. Same characters as [`UserName`].
    TypeName,
    |text| check_plain("type name", text)
);
parsed_name!(
    /// An absolute path: `/` and then segments divided by `/`. No segment is empty, `.` or `..`, and no character is a
    /// control character. One path may be a prefix of another.
    Path,
    check_path
);

/// A prefix for listings: `/` for everything, or a [`Path`] that names itself and all below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PathPrefix(Option<Path>);

impl PathPrefix {
    /// Parses `/`, an empty text, or a path with or without a slash at its end.
    ///
    /// # Errors
    /// [`NameError`] names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix('/').unwrap_or(text) {
            "" => Ok(Self(None)),
            path => Path::parse(path).map(|path| Self(Some(path))),
        }
    }

    /// Tells whether `path` is the prefix itself or lies below it, segment by segment.
    pub fn covers(&self, path: &Path) -> bool {
        let Some(prefix) = &self.0 else { return true };
        match path.as_str().strip_prefix(prefix.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// Returns the prefix as text; the one that covers everything is `/`.
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("/", Path::as_str)
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for PathPrefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PathPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The name of a log: whose it is, in which channel, read by which type, at which path.
///
/// The order is that of the fields, so the logs of a channel stand together and a prefix of paths is a range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogName {
    /// The user who owns the channel.
    pub user: UserName,
    /// The channel.
    pub channel: ChannelName,
    /// The type.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// The path.
    pub path: Path,
}

impl LogName {
    /// Parses the four parts of a log's name.
    ///
    /// # Errors
    /// [`NameError`] of the first part that breaks a rule.
    pub fn parse(user: &str, channel: &str, kind: &str, path: &str) -> Result<Self, NameError> {
        Ok(Self {
            user: UserName::parse(user)?,
            channel: ChannelName::parse(channel)?,
            kind: TypeName::parse(kind)?,
            path: Path::parse(path)?,
        })
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.channel, self.kind, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_folder_or_hide_in_control_characters() {
        for bad in ["", "a", "/", "/a/", "//a", "/a//b", "/..", "/a/../b", "/./a", "/a\0", "/a\n", "/a\u{7f}"] {
            assert!(Path::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["/a", "/a/b", "/a b", "/ä/☃", "/...", "/a..b", "/-", "/%2e%2e"] {
            assert_eq!(Path::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn limits_of_names_and_paths_hold_to_the_byte() {
        assert!(UserName::parse(&"a".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(UserName::parse(&"a".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert!(Path::parse(&format!("/{}", "s".repeat(PATH_SEGMENT_BYTES_MAX))).is_ok());
        assert!(Path::parse(&format!("/{}", "s".repeat(PATH_SEGMENT_BYTES_MAX + 1))).is_err());
        assert!(Path::parse(&"/s".repeat(PATH_SEGMENTS_MAX)).is_ok());
        assert!(Path::parse(&"/s".repeat(PATH_SEGMENTS_MAX + 1)).is_err());
    }

    #[test]
    fn a_name_is_plain_and_begins_with_a_letter_or_digit() {
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\0"] {
            assert!(ChannelName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "0", "a.b", "A_b-c.9"] {
            assert!(ChannelName::parse(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        let prefix = PathPrefix::parse("/notes/").unwrap();
        assert!(prefix.covers(&Path::parse("/notes").unwrap()));
        assert!(prefix.covers(&Path::parse("/notes/a").unwrap()));
        assert!(!prefix.covers(&Path::parse("/notesx").unwrap()));
        assert!(PathPrefix::default().covers(&Path::parse("/anything").unwrap()));
    }

    #[test]
    fn a_bad_name_in_json_is_refused_with_its_sentence() {
        let error = serde_json::from_str::<Path>("\"/a/../b\"").unwrap_err().to_string();
        assert!(error.contains("\"..\""), "{error}");
    }
}

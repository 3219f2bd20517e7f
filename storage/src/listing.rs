//! How a listing skips what a prefix does not cover, so that its cost is what it returns and one seek a type.
//!
//! Logs stand in the order (type, path). Below one type, a prefix covers its own path and then, after some neighbours
//! such as `/a-b` beside `/a`, all that begins with `/a/`.

use gigfs_core::{Path, PathPrefix, TypeName};

/// Where to go on reading: the least (type, path) of interest. Not names, only bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bound {
    pub(crate) kind: String,
    pub(crate) path: String,
}

/// What to do with a log that was met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is covered: take it and go on.
    Take,
    /// It is not: go on from here.
    Leap(Bound),
}

/// Returns where a listing begins.
pub(crate) fn start(after: Option<(&TypeName, &Path)>) -> Bound {
    match after {
        Some((kind, path)) => Bound { kind: kind.to_string(), path: format!("{path}\0") },
        None => Bound::default(),
    }
}

/// Decides about the log at (`kind`, `path`).
pub(crate) fn step(prefix: &PathPrefix, kind: &TypeName, path: &Path) -> Step {
    if prefix.covers(path) {
        return Step::Take;
    }
    let below = format!("{}/", prefix.as_str());
    let next = if path.as_str() < prefix.as_str() {
        Bound { kind: kind.to_string(), path: prefix.to_string() }
    } else if path.as_str() < below.as_str() {
        Bound { kind: kind.to_string(), path: below }
    } else {
        // No type holds a control character, so this stands after every path of this type and before the next type.
        Bound { kind: format!("{kind}\u{1}"), path: String::new() }
    };
    Step::Leap(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Step {
        step(&PathPrefix::parse("/b").unwrap(), &TypeName::parse("t").unwrap(), &Path::parse(path).unwrap())
    }

    fn leap(kind: &str, path: &str) -> Step {
        Step::Leap(Bound { kind: kind.into(), path: path.into() })
    }

    #[test]
    fn a_listing_leaps_over_neighbours_that_a_prefix_does_not_cover() {
        assert_eq!(at("/a"), leap("t", "/b"));
        assert_eq!(at("/b"), Step::Take);
        assert_eq!(at("/b-c"), leap("t", "/b/"));
        assert_eq!(at("/b/c"), Step::Take);
        assert_eq!(at("/b0"), leap("t\u{1}", ""));
    }
}

//! What was done by whom: a file of JSON lines in the data folder, to which lines are only ever added. One that is full is
//! put aside under another name, and a new one begun; of those, some are kept.
//!
//! An entry names users, sessions, channels, stores and addresses, and holds no secret: what it is made of has no place
//! for one. It is written once what it tells of has happened. It survives the end of the process, but not always that of
//! the machine, and a disk that takes no more of it keeps nobody from working.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use gigfs_core::token::Permission;
use gigfs_core::{ChannelName, SessionId, StoreId, UserName};
use parking_lot::Mutex;
use serde::Serialize;

/// The file of one server.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: Mutex<File>,
    /// Bytes after which the file is put aside.
    full: u64,
}

/// Something that was done.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A user was made.
    UserCreated {
        /// The user.
        user: &'a UserName,
    },
    /// Somebody proved a user's master and has a session, or the server's own process made one.
    LoggedIn {
        /// The user.
        user: &'a UserName,
        /// The session.
        session: SessionId,
        /// From where; nothing for the server's own process.
        from: Option<IpAddr>,
    },
    /// Somebody did not prove a user's master.
    LoginFailed {
        /// The user; nothing if there is none of that name, which may be a password in the wrong place.
        user: Option<&'a UserName>,
        /// From where.
        from: IpAddr,
    },
    /// A user has a new master, and no session any more.
    MasterReplaced {
        /// The user.
        user: &'a UserName,
        /// The revision of the keyring that came with it; nothing if the user has none.
        revision: Option<u64>,
        /// From where.
        from: IpAddr,
    },
    /// The admin gave a user another master, and the user has no session any more.
    MasterReset {
        /// The user.
        user: &'a UserName,
        /// From where.
        from: IpAddr,
    },
    /// A user's keyring has another revision.
    KeyringReplaced {
        /// The user.
        user: &'a UserName,
        /// Which one.
        revision: u64,
        /// The session.
        by: SessionId,
    },
    /// Somebody tried to be the admin and is not.
    AdminRefused {
        /// From where.
        from: IpAddr,
    },
    /// A session was ended.
    SessionRevoked {
        /// The user.
        user: &'a UserName,
        /// The session.
        session: SessionId,
        /// The session that ended it; nothing at a store, where the table does.
        by: Option<SessionId>,
    },
    /// A store was mounted on a channel, or has another URL there.
    StoreMounted {
        /// The user.
        user: &'a UserName,
        /// The channel.
        channel: &'a ChannelName,
        /// The store.
        store: StoreId,
        /// Where it is.
        url: &'a str,
        /// The session; nothing for the server's own process.
        by: Option<SessionId>,
    },
    /// A store was taken off a channel.
    StoreUnmounted {
        /// The user.
        user: &'a UserName,
        /// The channel.
        channel: &'a ChannelName,
        /// The store.
        store: StoreId,
        /// Whether it was given up with what only it had.
        abandoned: bool,
        /// The session.
        by: SessionId,
    },
    /// A channel was taken off the mount table.
    ChannelRemoved {
        /// The user.
        user: &'a UserName,
        /// The channel.
        channel: &'a ChannelName,
        /// The session.
        by: SessionId,
    },
    /// A user has another public identity.
    IdentityReplaced {
        /// The user.
        user: &'a UserName,
        /// The session.
        by: SessionId,
    },
    /// Another user is let into a channel, or what a guest may do there was said anew.
    ChannelShared {
        /// The owner.
        user: &'a UserName,
        /// The channel.
        channel: &'a ChannelName,
        /// With whom.
        guest: &'a UserName,
        /// What the guest may do.
        permission: Permission,
        /// Whether the guest may let others in.
        admin: bool,
        /// The session, the owner's or that of an admin.
        by: SessionId,
    },
    /// A channel was taken back from a guest.
    ChannelUnshared {
        /// The owner.
        user: &'a UserName,
        /// The channel.
        channel: &'a ChannelName,
        /// The guest.
        guest: &'a UserName,
        /// The session: the owner's, that of an admin, or the guest's.
        by: SessionId,
    },
    /// What was shared with a session in a channel was ended by the table.
    GuestRevoked {
        /// The owner.
        user: &'a UserName,
        /// The channel.
        channel: &'a ChannelName,
        /// The guest's session.
        session: SessionId,
    },
    /// A channel takes no more writes at a store, or takes them again.
    ChannelSealed {
        /// The user.
        user: &'a UserName,
        /// The channel.
        channel: &'a ChannelName,
        /// The store.
        store: StoreId,
        /// Whether it takes no more.
        sealed: bool,
    },
    /// A confirmation code was made for a user.
    CodeMade {
        /// The user.
        user: &'a UserName,
    },
    /// A table speaks for a user from now on.
    TableConfirmed {
        /// The user.
        user: &'a UserName,
        /// The table's id.
        table: &'a str,
        /// Where it is.
        url: &'a str,
    },
    /// All that a store keeps was copied.
    BackedUp {
        /// To where.
        folder: &'a Path,
    },
    /// A user may keep so much.
    QuotaSet {
        /// The user.
        user: &'a UserName,
        /// Bytes; nothing for what others may.
        bytes: Option<u64>,
    },
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    /// Microseconds since 1970.
    at: u64,
    #[serde(flatten)]
    event: Event<'a>,
}

impl Audit {
    /// Opens the file in a data folder. It is made, closed to others, if it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::open_until(folder, FILE_BYTES_MAX)
    }

    fn open_until(folder: &Path, full: u64) -> io::Result<Self> {
        let path = folder.join("audit.jsonl");
        let file = Mutex::new(append_to(&path)?);
        Ok(Self { path, file, full })
    }

    /// Adds a line.
    pub fn note(&self, event: Event<'_>) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let mut line = serde_json::to_vec(&Line { at, event }).expect("an event is plain JSON");
        line.push(b'\n');
        let mut file = self.file.lock();
        if let Err(error) = self.begin_anew_if_full(&mut file, line.len()) {
            tracing::error!(path = %self.path.display(), %error, "the audit log is full and cannot be put aside");
        }
        // One write a line, so that lines of two never mix, even where the file was copied away and emptied.
        if let Err(error) = file.write_all(&line) {
            tracing::error!(path = %self.path.display(), %error, ?event, "the audit log cannot be written; make room");
        }
    }

    /// Puts a full file aside, as `audit.jsonl.1`, each older one under the next number and the oldest away.
    fn begin_anew_if_full(&self, file: &mut File, more: usize) -> io::Result<()> {
        let bytes = file.metadata()?.len();
        if bytes == 0 || bytes + more as u64 <= self.full {
            return Ok(());
        }
        // It may be aside already, where a new one could not be begun.
        if self.path.try_exists()? {
            self.put_aside()?;
        }
        *file = append_to(&self.path)?;
        Ok(())
    }

    fn put_aside(&self) -> io::Result<()> {
        let aside = |number: usize| self.path.with_extension(format!("jsonl.{number}"));
        for number in (1..FILES_ASIDE_MAX).rev() {
            match fs::rename(aside(number), aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, aside(1))
    }
}

/// Opens a file to add to, which is made closed to others if it is not there.
fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Bytes of one file; about eighty thousand lines.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files that are kept beside the one that is written.
const FILES_ASIDE_MAX: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_and_never_replaced_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let user = UserName::parse("ann").unwrap();
        for bytes in [Some(1), None] {
            Audit::open(folder.path()).unwrap().note(Event::QuotaSet { user: &user, bytes });
        }
        let path = folder.path().join("audit.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (&lines[0]["event"], &lines[0]["user"], &lines[0]["bytes"]),
            (&"quota_set".into(), &"ann".into(), &1.into())
        );
        assert!(lines[1]["at"].as_u64() >= lines[0]["at"].as_u64() && lines[1]["bytes"].is_null());
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let user = UserName::parse("ann").unwrap();
        // About sixty bytes a line, so that each file holds some of them.
        for bytes in 0..1000 {
            // Each line by another process, so to say.
            let audit = Audit::open_until(folder.path(), 1000).unwrap();
            audit.note(Event::QuotaSet { user: &user, bytes: Some(bytes) });
        }
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let numbered = (1..=FILES_ASIDE_MAX).map(|number| format!("audit.jsonl.{number}"));
        assert_eq!(names, std::iter::once("audit.jsonl".to_owned()).chain(numbered).collect::<Vec<_>>());
        let mut seen = Vec::new();
        for name in names.iter().skip(1).rev().chain(&names[..1]) {
            let path = folder.path().join(name);
            assert!(path.metadata().unwrap().len() <= 1000);
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            }
            for line in fs::read_to_string(path).unwrap().lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                seen.push(line["bytes"].as_u64().unwrap());
            }
        }
        // What is kept is the end of it all, without a gap.
        assert!(seen.len() > 50 && seen.last() == Some(&999), "{seen:?}");
        assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seen:?}");
    }

    #[cfg(unix)]
    #[test]
    fn files_put_aside_stay_where_they_are_while_no_new_one_can_be_begun() {
        let folder = tempfile::tempdir().unwrap();
        let user = UserName::parse("ann").unwrap();
        let audit = Audit::open_until(folder.path(), 1000).unwrap();
        let note = |bytes| audit.note(Event::QuotaSet { user: &user, bytes: Some(bytes) });
        (0..30).for_each(note);
        let file = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let aside = file("audit.jsonl.1");
        let full = file("audit.jsonl");
        // What is opened by this name cannot be, and is not there to be put aside either.
        fs::rename(folder.path().join("audit.jsonl"), folder.path().join("full")).unwrap();
        std::os::unix::fs::symlink("/nowhere/audit.jsonl", folder.path().join("audit.jsonl")).unwrap();
        (30..60).for_each(note);
        assert_eq!(file("audit.jsonl.1"), aside);
        assert!(file("full").starts_with(&full) && file("full").contains("59"), "lines go where they can");
        fs::remove_file(folder.path().join("audit.jsonl")).unwrap();
        note(60);
        assert!(file("audit.jsonl").contains("60") && file("audit.jsonl.1") == aside);
    }
}

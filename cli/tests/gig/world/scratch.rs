//! A disk of the test's own: an ext4 file system in a file, whose power can be cut.
//!
//! The cut is `EXT4_IOC_SHUTDOWN` without a flush of the log: what was not synced is gone, and nothing more is written. It
//! takes root, a loop device, mkfs.ext4 and perl. Before each cut it is made sure, twice, that the file system is this one.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use super::DEADLINE;

/// A mounted file system in a file.
pub(crate) struct Scratch {
    folder: TempDir,
    device: u64,
}

impl Scratch {
    /// Makes and mounts one of so many bytes. Where that cannot be done, it says so, and there is none.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        let mut scratch = Self { folder: TempDir::new().unwrap(), device: 0 };
        fs::File::create(scratch.image()).unwrap().set_len(bytes).unwrap();
        fs::create_dir(scratch.path()).unwrap();
        let made = ran(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(scratch.image()));
        if let Err(why) = made.and_then(|()| ran(Command::new("perl").arg("-v"))).and_then(|()| scratch.mount()) {
            println!("skipped: there is no disk to cut the power of: {why}");
            return None;
        }
        fs::write(scratch.path().join(MARKER), scratch.image().display().to_string()).unwrap();
        scratch.sync();
        Some(scratch)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&mut self) -> Result<(), String> {
        ran(Command::new("mount").args(["-o", "loop"]).args([self.image(), self.path()]))?;
        self.device = device(&self.path());
        Ok(())
    }

    fn sync(&self) {
        fs::File::open(self.path()).unwrap().sync_all().unwrap();
        fs::File::open(self.path().join(MARKER)).unwrap().sync_all().unwrap();
    }

    /// Makes sure that what is mounted here is the test's own image and nothing else.
    fn guard(&self) {
        assert_ne!(self.device, device(self.folder.path()), "nothing is mounted");
        assert_eq!(self.device, device(&self.path()), "something else is mounted");
        let marker = fs::read_to_string(self.path().join(MARKER)).unwrap();
        assert_eq!(marker, self.image().display().to_string(), "it is marked as another one");
        let (major, minor) = ((self.device >> 8) & 0xfff, (self.device & 0xff) | ((self.device >> 12) & 0xfff00));
        let backing = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file")).unwrap();
        assert_eq!(Path::new(backing.trim()), self.image().canonicalize().unwrap(), "it is backed by something else");
    }

    /// Cuts the power.
    pub(crate) fn cut(&self) {
        self.guard();
        ran(Command::new("perl").args(["-e", CUT]).arg(self.path()).arg(self.device.to_string())).unwrap();
    }

    /// Lets nothing be written any more, as a kernel does that has met an error.
    pub(crate) fn make_read_only(&self) {
        self.guard();
        ran(Command::new("mount").args(["-o", "remount,abort"]).arg(self.path())).unwrap();
    }

    /// Turns the power on again. Whoever had files open has to be gone.
    pub(crate) fn again(&mut self) {
        self.unmount();
        self.mount().unwrap();
        self.guard();
    }

    fn unmount(&self) {
        let since = Instant::now();
        while let Err(why) = ran(Command::new("umount").arg(self.path())) {
            assert!(since.elapsed() < DEADLINE, "{why}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.device != 0 && device(&self.path()) == self.device {
            // Nothing of it is needed any more, whoever still holds it.
            _ = ran(Command::new("umount").arg("-l").arg(self.path()));
        }
    }
}

fn device(path: &Path) -> u64 {
    fs::metadata(path).unwrap().st_dev()
}

fn ran(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

const MARKER: &str = "the-power-of-this-disk-may-be-cut";
/// Shuts down the file system that the first argument is the root of, if its device is the second. 2 is NOLOGFLUSH.
const CUT: &str = r#"
    open(my $root, "<", $ARGV[0]) or die "open: $!";
    (stat $root)[0] == $ARGV[1] or die "another device";
    my $how = pack("L", 2);
    ioctl($root, 0x8004587d, $how) or die "ioctl: $!";
"#;

//! A store whose disk is full, on a real file system: nothing that was acknowledged is lost, and it goes on once there is room.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{Apart, Device, Lines, Process, free, start_logged};

/// A store on a file system of a few megabytes, which nobody else sees.
struct Small {
    process: Process,
    _lines: Lines,
    url: String,
    /// The file system, as this process reaches it.
    disk: PathBuf,
    _folder: TempDir,
}

impl Small {
    fn start() -> Self {
        let (folder, listen) = (TempDir::new().unwrap(), free(1).to_string());
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let gig = Device::new().command([""]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount -t tmpfs -o size=96m none \"$0\" && exec \"$@\""]).arg(&disk);
        command.arg(gig.get_program()).args(["--json", "store", "--listen", &listen, "--data"]).arg(disk.join("store"));
        command.stdout(std::process::Stdio::piped());
        let (process, lines) = start_logged(&mut command, &folder.path().join("log"));
        let told: Value = serde_json::from_str(&lines.next().expect("it takes root to mount")).unwrap();
        // What is mounted there shows below the process that sees it.
        let disk = PathBuf::from(format!("/proc/{}/root{}", process.id(), disk.display()));
        Self { process, _lines: lines, url: told["url"].as_str().unwrap().to_owned(), disk, _folder: folder }
    }

    /// Writes a file until no byte more fits.
    fn fill(&self) -> PathBuf {
        let ballast = self.disk.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        let piece = [1; 4096];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
        ballast
    }

    fn mount_for(&self, device: &Device) {
        let token = self.disk.join("store/admin-token");
        let code = ["--json", "store", "code", "me", "--url", &self.url, "--admin-token", token.to_str().unwrap()];
        let code = device.run(code).json()["code"].as_str().unwrap().to_owned();
        device.run(["store", "add", "home", &self.url, "--code", &code]).ok();
    }
}

fn append(device: &Device, number: usize) -> Value {
    let long = format!("{number} {}", "x".repeat(200_000));
    let intent = json!({ "append": long }).to_string();
    device.run_with(["--json", "push", "home", "list", "/a", "-"], intent.as_bytes()).json()
}

#[test]
#[ignore = "mounts a small file system in a namespace of its own, which takes root"]
fn a_store_whose_disk_is_full_loses_nothing_and_goes_on_once_there_is_room() {
    let world = Apart::with_stores(0);
    let mut small = Small::start();
    small.mount_for(&world.device);
    assert_eq!(append(&world.device, 0)["accepted"], 1);
    let ballast = small.fill();
    // What the engine had set aside takes some more, and then nothing does.
    let mut count = 1;
    let refused = loop {
        let pushed = append(&world.device, count);
        count += 1;
        if pushed["accepted"] == 0 {
            break pushed;
        }
        assert!(count < 1000, "the disk is never full");
    };
    let store = refused["stores"].as_object().unwrap().values().next().unwrap();
    assert_eq!(store["refusal"]["code"], "insufficient_storage", "{refused}");
    assert_eq!(world.device.run(["flush", "--timeout", "1"]).code, Some(6));
    assert_eq!(world.device.get("list", "/a").as_array().unwrap().len(), count);
    let others = Device::logged_in(&world).get("list", "/a");
    assert_eq!(others.as_array().unwrap().len(), count - 1, "what was acknowledged can be read all the time");

    fs::remove_file(ballast).unwrap();
    world.device.run(["flush", "--timeout", "20"]).ok();
    assert_eq!(Device::logged_in(&world).get("list", "/a").as_array().unwrap().len(), count);
    assert_eq!(small.process.stop(), Some(0));
}

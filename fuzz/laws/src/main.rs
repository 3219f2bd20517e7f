//! Writes what the fuzzer begins with, and replays what it found, without a fuzzer.
//!
//!     gigfs-laws targets
//!     gigfs-laws seeds FOLDER
//!     gigfs-laws replay TARGET FILE…

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["targets"] => {
            gigfs_laws::LAWS.iter().for_each(|(target, _)| println!("{target}"));
            Ok(())
        }
        ["seeds", folder] => seeds(Path::new(folder)),
        ["replay", target, ref files @ ..] if !files.is_empty() => files.iter().try_for_each(|file| {
            gigfs_laws::hold(target, &fs::read(file)?);
            println!("{target} holds for {file}");
            Ok(())
        }),
        _ => {
            eprintln!("usage: gigfs-laws targets | seeds FOLDER | replay TARGET FILE…");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn seeds(folder: &Path) -> io::Result<()> {
    for (at, seed) in gigfs_laws::seeds().iter().enumerate() {
        let folder = folder.join(seed.target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{at:03}")), &seed.bytes)?;
    }
    Ok(())
}

//! Offline-first notes: two devices edit apart, meet, and nothing is lost.
//!
//!     cargo run --release -p gigfs-examples --bin notes -- --demo
//!
//! Without `--demo` it is a small terminal app on the notes of this folder, which other terminals may open too:
//!
//!     cargo run --release -p gigfs-examples --bin notes -- --folder my-notes

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use gigfs::{Gig, Mode};
use gigfs_examples::{CHANNEL, Failure, Servers, say, serve_if_asked};
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(30);
const HELP: &str = "commands: ls | show NAME | write NAME TEXT | append NAME TEXT | rm NAME | help | quit";

#[derive(Parser)]
struct Args {
    /// Show two devices that edit apart and meet, on servers of their own.
    #[arg(long)]
    demo: bool,
    /// Where the notes are kept.
    #[arg(long, default_value = "notes")]
    folder: PathBuf,
}

/// Notes: a map of names, and a text for each.
struct Notes {
    gig: Gig,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    serve_if_asked().await?;
    let args = Args::parse();
    match args.demo {
        true => demo().await,
        false => terminal(args.folder).await,
    }
}

async fn demo() -> Result<(), Failure> {
    let servers = Servers::start(1).await?;
    let phone = Notes { gig: servers.device("phone").await? };
    let laptop = Notes { gig: servers.device("laptop").await? };

    phone.write("shopping", "milk\n").await?;
    phone.gig.flush(None, DEADLINE).await?;
    laptop.until("shopping", "milk\n").await?;
    say("both devices have the note \"shopping\": milk");

    phone.gig.set_mode(Mode::Offline);
    laptop.gig.set_mode(Mode::Offline);
    phone.append("shopping", "bread\n").await?;
    laptop.append("shopping", "tea\n").await?;
    laptop.write("ideas", "a sync engine").await?;
    say(format_args!("apart, the phone reads {:?}", phone.read("shopping").await?));
    say(format_args!("apart, the laptop reads {:?}", laptop.read("shopping").await?));

    phone.gig.set_mode(Mode::Online);
    laptop.gig.set_mode(Mode::Online);
    phone.gig.flush(None, DEADLINE).await?;
    laptop.gig.flush(None, DEADLINE).await?;
    let both = |text: &str| ["milk", "bread", "tea"].iter().all(|line| text.contains(line));
    let here = phone.until_text("shopping", both).await?;
    let there = laptop.until_text("shopping", both).await?;
    if here != there {
        return Err(format!("the devices differ: {here:?} and {there:?}").into());
    }
    say(format_args!("together, both read {here:?}"));
    say(format_args!("and the phone has the laptop's new note: {:?}", phone.read("ideas").await?));
    phone.gig.close().await?;
    laptop.gig.close().await?;
    Ok(())
}

async fn terminal(folder: PathBuf) -> Result<(), Failure> {
    let notes = Notes { gig: Gig::builder().local(folder).open().await? };
    say(HELP);
    let stdin = std::io::stdin();
    loop {
        if stdin.is_terminal() {
            std::io::stderr().write_all(b"> ")?;
        }
        let mut line = String::new();
        if stdin.lock().read_line(&mut line)? == 0 {
            break;
        }
        let mut words = line.trim().splitn(3, ' ');
        let (command, name, text) = (words.next().unwrap_or(""), words.next(), words.next());
        let done = match (command, name, text) {
            ("", ..) => Ok(()),
            ("quit", ..) => break,
            ("ls", ..) => notes.list().await.map(|names| names.iter().for_each(say)),
            ("show", Some(name), _) => notes.read(name).await.map(say),
            ("write", Some(name), Some(text)) => notes.write(name, text).await,
            ("append", Some(name), Some(text)) => notes.append(name, &format!("\n{text}")).await,
            ("rm", Some(name), _) => notes.remove(name).await,
            _ => {
                say(HELP);
                Ok(())
            }
        };
        if let Err(error) = done {
            say(format_args!("that did not work: {error}"));
        }
    }
    Ok(notes.gig.close().await?)
}

impl Notes {
    /// Replaces a note's text by the edit that makes the fewest changes at its two ends.
    async fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let old: Vec<char> = self.read(name).await?.chars().collect();
        let new: Vec<char> = text.chars().collect();
        let before = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let after = old[before..].iter().rev().zip(new[before..].iter().rev()).take_while(|(a, b)| a == b).count();
        let inserted: String = new[before..new.len() - after].iter().collect();
        self.splice(name, before, old.len() - before - after, &inserted).await
    }

    async fn append(&self, name: &str, text: &str) -> Result<(), Failure> {
        let length = self.read(name).await?.chars().count();
        self.splice(name, length, 0, text).await
    }

    async fn splice(&self, name: &str, at: usize, deleted: usize, inserted: &str) -> Result<(), Failure> {
        let mut edit = self.gig.push(CHANNEL, "text", &path(name), json!({"splice": [at, deleted, inserted]})).await?;
        self.gig.push(CHANNEL, "set", "/names", json!({"add": name})).await?;
        edit.durable().await;
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        self.gig.push(CHANNEL, "set", "/names", json!({"remove": name})).await?;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>, Failure> {
        let names = self.gig.get(CHANNEL, "set", "/names").await?;
        Ok(names.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }

    async fn read(&self, name: &str) -> Result<String, Failure> {
        let text = self.gig.get(CHANNEL, "text", &path(name)).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    async fn until(&self, name: &str, wanted: &str) -> Result<String, Failure> {
        self.until_text(name, |text| text == wanted).await
    }

    async fn until_text(&self, name: &str, done: impl Fn(&str) -> bool) -> Result<String, Failure> {
        let log = self.gig.log(CHANNEL, "text", &path(name))?;
        let text = log.until(|value| value.as_str().is_some_and(&done), DEADLINE).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }
}

fn path(name: &str) -> String {
    format!("/notes/{name}")
}

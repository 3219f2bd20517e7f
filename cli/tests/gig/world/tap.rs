//! A wire in front of a server: it keeps everything that goes over it, and can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Passes connections on to a server, and keeps what both sides said.
pub(crate) struct Tap {
    pub(crate) url: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    is_cut: bool,
    /// How much the server may still say before the wire is cut.
    answers_left: Option<usize>,
    connections: Vec<Connection>,
}

/// What went over one connection.
struct Connection {
    there: Vec<u8>,
    back: Vec<u8>,
    /// Both ends, to be closed when the wire is cut.
    ends: [TcpStream; 2],
}

impl Tap {
    pub(crate) fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let (server, kept) = (server.trim_start_matches("http://").to_owned(), shared.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                carry(client, &server, &kept);
            }
        });
        Self { url, shared }
    }

    /// Ends all connections, and every new one at once.
    pub(crate) fn cut(&self) {
        self.shared.lock().unwrap().cut();
    }

    /// Lets so many answers of the server through, and then cuts the wire: the next one is made, and nobody hears it.
    pub(crate) fn cut_after(&self, answers: usize) {
        self.shared.lock().unwrap().answers_left = Some(answers);
    }

    /// Lets everything through again.
    pub(crate) fn mend(&self) {
        let mut shared = self.shared.lock().unwrap();
        (shared.is_cut, shared.answers_left) = (false, None);
    }

    /// Returns the first lines of all HTTP requests.
    pub(crate) fn request_lines(&self) -> Vec<String> {
        let shared = self.shared.lock().unwrap();
        let heard: Vec<u8> = shared.connections.iter().flat_map(|connection| &connection.there).copied().collect();
        let text = String::from_utf8_lossy(&heard);
        let lines = text.lines().filter(|line| line.ends_with("HTTP/1.1"));
        // A body has no end of line, so the next request stands right behind it.
        let methods = ["GET ", "POST ", "PUT ", "DELETE "];
        let begin = |line: &str| methods.iter().filter_map(|method| line.rfind(method)).max().unwrap();
        lines.map(|line| line[begin(line)..].to_owned()).collect()
    }

    /// Returns the binary messages of the WebSocket that was opened last: those to the server, and those from it.
    pub(crate) fn last_messages(&self) -> [Vec<Vec<u8>>; 2] {
        let shared = self.shared.lock().unwrap();
        let of = |said: &Vec<u8>| messages(&said[head_end(said)..]);
        let is_stream = |last: &&Connection| last.back.starts_with(b"HTTP/1.1 101");
        let last = shared.connections.iter().rev().find(is_stream).expect("a stream was opened");
        [of(&last.there), of(&last.back)]
    }

    /// Returns all that was said, each side of each connection by itself: HTTP as it was, and behind an upgrade what the
    /// frames hold, without their masks and heads.
    pub(crate) fn said(&self) -> Vec<Vec<u8>> {
        let shared = self.shared.lock().unwrap();
        let sides = shared.connections.iter().flat_map(|connection| [&connection.there, &connection.back]);
        sides.map(|said| readable(said)).collect()
    }
}

impl Shared {
    fn cut(&mut self) {
        self.is_cut = true;
        for end in self.connections.iter().flat_map(|connection| &connection.ends) {
            // It may be closed already.
            _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Keeps what the server said. Tells whether it goes on to the client.
    fn answered(&mut self, connection: usize, bytes: &[u8]) -> bool {
        match &mut self.answers_left {
            Some(0) => self.cut(),
            Some(left) => *left -= 1,
            None => {}
        }
        self.connections[connection].back.extend(bytes);
        !self.is_cut
    }
}

fn carry(client: TcpStream, server: &str, kept: &Arc<Mutex<Shared>>) {
    let mut shared = kept.lock().unwrap();
    if shared.is_cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server) else { return };
    let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
    let at = shared.connections.len();
    shared.connections.push(Connection { there: Vec::new(), back: Vec::new(), ends });
    let (from, to, of_client, of_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap(), kept.clone(), kept.clone());
    thread::spawn(move || {
        pass(from, to, |bytes| {
            of_client.lock().unwrap().connections[at].there.extend(bytes);
            true
        });
    });
    thread::spawn(move || pass(server, client, |bytes| of_server.lock().unwrap().answered(at, bytes)));
}

/// Passes on what one side says, as long as `keep` says so.
fn pass(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8]) -> bool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !keep(&bytes[..count]) || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other side may have gone first.
    _ = to.shutdown(Shutdown::Both);
}

/// Returns what one side said, with the frames behind an upgrade opened.
fn readable(said: &[u8]) -> Vec<u8> {
    let end = head_end(said);
    let head = String::from_utf8_lossy(&said[..end]).to_ascii_lowercase();
    // Either would hide what is said, and neither is used.
    assert!(!head.contains("sec-websocket-extensions") && !head.contains("content-encoding"), "{head}");
    match head.contains("upgrade: websocket") {
        true => {
            let contents = frames(&said[end..]).into_iter().flat_map(|frame| frame.content);
            said[..end].iter().copied().chain(contents).collect()
        }
        false => said.to_vec(),
    }
}

/// Returns where the head of an HTTP message ends; the beginning if it does not.
fn head_end(said: &[u8]) -> usize {
    said.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4)
}

/// A frame of a WebSocket (RFC 6455, 5.2).
struct Frame {
    is_binary: bool,
    content: Vec<u8>,
}

/// Returns whole messages that are binary. None here are sent in parts.
fn messages(said: &[u8]) -> Vec<Vec<u8>> {
    frames(said).into_iter().filter(|frame| frame.is_binary).map(|frame| frame.content).collect()
}

/// Returns what is in the frames of a WebSocket; of one that was cut off, what there is of it.
fn frames(mut said: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = said {
        let (is_masked, short) = (second & 0x80 != 0, usize::from(second & 0x7f));
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if is_masked { 4 } else { 0 };
        let Some((head, rest)) = rest.split_at_checked(length_bytes + mask_bytes) else { break };
        let (length, mask) = head.split_at(length_bytes);
        let length = match length {
            [] => short,
            length => length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        };
        let (content, rest) = rest.split_at(length.min(rest.len()));
        let content = match mask {
            [] => content.to_vec(),
            mask => content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect(),
        };
        frames.push(Frame { is_binary: first & 0x0f == 2, content });
        said = rest;
    }
    frames
}

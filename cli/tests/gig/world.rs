//! Processes of `gig` as a test has them: servers, commands, and followers, each with folders of its own.
//!
//! Everything that is started here is killed when it is dropped, and everything that is waited for has a deadline.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gigfs::Table;
use gigfs_core::UserName;
use serde_json::Value;
use tempfile::TempDir;

mod curl;
mod live;
mod random;
mod scratch;
mod tap;

pub(crate) use curl::Curl;
pub(crate) use live::{Live, tokens};
pub(crate) use random::Random;
pub(crate) use scratch::Scratch;
pub(crate) use tap::Tap;

/// How long anything may take that a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A process that dies with its handle.
pub(crate) struct Process(Child);

impl Process {
    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // Both fail only if it is gone already.
        _ = self.0.kill();
        _ = self.0.wait();
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to stop, and returns its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success(), "the process had ended before it was asked to");
        self.0.wait().unwrap().code()
    }

    /// Waits until it ends by itself, and returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The lines that a process prints, as they come.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    pub(crate) fn of(out: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let Ok(line) = line else { return };
                // A test that is over reads no more, but the pipe is emptied so that the process goes on.
                _ = sender.send(line);
            }
        });
        Self(receiver)
    }

    /// Waits for the next line; there is none once the process has closed its output.
    pub(crate) fn next(&self) -> Option<String> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing was printed for {DEADLINE:?}"),
        }
    }

    /// Waits for a line of JSON of which `done` says so.
    pub(crate) fn until(&self, done: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.next().expect("the process ended before it printed what was waited for");
            let value = serde_json::from_str(&line).unwrap();
            if done(&value) {
                return value;
            }
        }
    }

    /// Returns everything that is printed until the process closes its output.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Returns what it printed, if it went well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Returns what it printed as JSON, if it went well.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// One device: a profile and its data.
pub(crate) struct Device {
    folder: TempDir,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// Makes a device that is logged in.
    pub(crate) fn logged_in(servers: &impl Login) -> Self {
        let device = Self::new();
        device.log_in(servers).ok();
        device
    }

    pub(crate) fn log_in(&self, servers: &impl Login) -> Ran {
        let (url, password) = servers.login();
        self.run_with(["login", &url, "--user", "me", "--password-stdin"], password.as_bytes())
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gig"));
        for name in ["GIG_LOG", "GIG_DATA", "GIG_LISTEN", "GIG_ADMIN_TOKEN_FILE", "CARGO"] {
            command.env_remove(name);
        }
        command.env("GIG_HOME", self.home()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Ran {
        self.run_with(args, b"")
    }

    /// Runs a command to its end, with something on its standard input.
    pub(crate) fn run_with<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I, input: &[u8]) -> Ran {
        Self::finish(self.command(args), input)
    }

    /// Runs a command that logs everything.
    pub(crate) fn run_traced<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I, input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.env("GIG_LOG", "trace");
        Self::finish(command, input)
    }

    fn finish(mut command: Command, input: &[u8]) -> Ran {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        // A command that reads nothing closes its end early.
        thread::spawn(move || _ = stdin.write_all(&input));
        let (out, err) = (text_of(child.stdout.take().unwrap()), text_of(child.stderr.take().unwrap()));
        let mut process = Process(child);
        let late = |_| panic!("{command:?} did not end within {DEADLINE:?}");
        let (out, err) =
            (out.recv_timeout(DEADLINE).unwrap_or_else(late), err.recv_timeout(DEADLINE).unwrap_or_else(late));
        let ran = Ran { code: process.ended(), out, err };
        assert!(!ran.err.contains("panicked"), "{command:?}: {ran:?}");
        ran
    }

    /// Runs `gig --json get home KIND PATH` and returns the value.
    #[track_caller]
    pub(crate) fn get(&self, kind: &str, path: &str) -> Value {
        self.run(["--json", "get", "home", kind, path]).json()["value"].take()
    }

    /// Runs `gig --json push home KIND PATH INTENT`.
    #[track_caller]
    pub(crate) fn push(&self, kind: &str, path: &str, intent: &str) -> Value {
        self.run(["--json", "push", "home", kind, path, intent]).json()
    }

    /// Runs `gig --json on …`, which goes on until it is dropped or killed.
    pub(crate) fn on(&self, kind: &str, paths: &[&str]) -> (Process, Lines) {
        let args = ["--json", "on", "home", kind].into_iter().chain(paths.iter().copied());
        start(&mut self.command(args))
    }

    /// Returns the device's profile as it is on disk.
    pub(crate) fn profile(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.home().join("profile.json")).unwrap()).unwrap()
    }

    /// Returns the table with the device's session, for a client in this process.
    pub(crate) fn table(&self) -> Table {
        let profile = self.profile();
        let text = |name: &str| profile[name].as_str().unwrap().to_owned();
        let user = UserName::parse(&text("user")).unwrap();
        Table::new(&text("table"), user, &[]).unwrap().with_session(&text("token"))
    }

    /// Opens a client in this process that keeps nothing.
    pub(crate) async fn client(&self) -> gigfs::Gig {
        gigfs::Gig::builder().table(self.table()).in_the_clear().open().await.unwrap()
    }
}

fn text_of(mut out: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth showing.
        _ = out.read_to_end(&mut bytes);
        _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Starts a process whose standard error goes to a file.
pub(crate) fn start_logged(command: &mut Command, log: &Path) -> (Process, Lines) {
    let mut child = command.stderr(std::fs::File::create(log).unwrap()).spawn().unwrap();
    let lines = Lines::of(child.stdout.take().unwrap());
    (Process(child), lines)
}

/// Starts a process whose standard output is read as it comes. Its standard error goes to the test's.
pub(crate) fn start(command: &mut Command) -> (Process, Lines) {
    let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
    let lines = Lines::of(child.stdout.take().unwrap());
    (Process(child), lines)
}

/// Where to log in, and with which password.
pub(crate) trait Login {
    fn login(&self) -> (String, String);
}

/// `gig up`.
pub(crate) struct Up {
    process: Process,
    folder: TempDir,
    /// The device that `gig up` logs in.
    pub(crate) device: Device,
    pub(crate) table: String,
    pub(crate) store: String,
    listen: SocketAddr,
}

impl Up {
    /// Starts it with a first channel in the clear.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--plain"])
    }

    /// Starts it as a newcomer does: the first channel is sealed.
    pub(crate) fn sealed() -> Self {
        Self::start_with(&[])
    }

    fn start_with(flags: &[&str]) -> Self {
        let (folder, device, listen) = (TempDir::new().unwrap(), Device::new(), free(2));
        let (process, table, store) = Self::spawn(&device, folder.path(), listen, flags);
        Self { process, folder, device, table, store, listen }
    }

    fn spawn(device: &Device, data: &Path, listen: SocketAddr, flags: &[&str]) -> (Process, String, String) {
        let (data, listen) = (data.to_str().unwrap(), listen.to_string());
        let args = ["--json", "up", "--data", data, "--listen", &listen];
        let (process, lines) = start(&mut device.command(args.iter().chain(flags)));
        let told: Value = serde_json::from_str(&lines.next().expect("gig up did not start")).unwrap();
        let url = |name: &str| told[name].as_str().unwrap().to_owned();
        (process, url("table"), url("store"))
    }

    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.process.stop()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.process.ended()
    }

    /// Starts it again on the same data and ports.
    pub(crate) fn again(&mut self) {
        self.again_on(self.listen);
    }

    /// Starts it again on the same data and other ports.
    pub(crate) fn again_elsewhere(&mut self) {
        self.again_on(free(2));
    }

    fn again_on(&mut self, listen: SocketAddr) {
        let (process, table, store) = Self::spawn(&self.device, self.folder.path(), listen, &[]);
        (self.process, self.table, self.store, self.listen) = (process, table, store, listen);
    }
}

impl Login for Up {
    fn login(&self) -> (String, String) {
        let first: Value =
            serde_json::from_slice(&std::fs::read(self.data().join("first-login.json")).unwrap()).unwrap();
        (self.table.clone(), first["password"].as_str().unwrap().to_owned())
    }
}

/// `gig table` or `gig store`.
pub(crate) struct Server {
    role: &'static str,
    process: Process,
    folder: TempDir,
    admin: Device,
    listen: SocketAddr,
    pub(crate) url: String,
}

impl Server {
    fn table(token_seconds: &str) -> Self {
        // Set for this start only.
        Self::start("table", &[("GIG_TABLE_TOKEN_SECONDS", token_seconds)])
    }

    pub(crate) fn store() -> Self {
        Self::start("store", &[])
    }

    /// Starts a table with other settings of its connections.
    pub(crate) fn table_with(connections: &str) -> Self {
        Self::start("table", &[("GIG_TABLE_CONNECTIONS", connections)])
    }

    /// Starts a store with other settings of its connections.
    pub(crate) fn store_with(connections: &str) -> Self {
        Self::start("store", &[("GIG_STORE_CONNECTIONS", connections)])
    }

    /// Starts a table or a store whose data is somewhere in a folder.
    pub(crate) fn start_in(role: &'static str, place: &Path) -> Self {
        Self::start_on(TempDir::new_in(place).unwrap(), role, &[])
    }

    fn start(role: &'static str, settings: &[(&str, &str)]) -> Self {
        Self::start_on(TempDir::new().unwrap(), role, settings)
    }

    fn start_on(folder: TempDir, role: &'static str, settings: &[(&str, &str)]) -> Self {
        let (admin, listen) = (Device::new(), free(1));
        let (process, url) = Self::spawn(role, &admin, folder.path(), listen, settings);
        Self { role, process, folder, admin, listen, url }
    }

    fn spawn(
        role: &str,
        admin: &Device,
        data: &Path,
        listen: SocketAddr,
        settings: &[(&str, &str)],
    ) -> (Process, String) {
        let args = ["--json", role, "--data", data.to_str().unwrap(), "--listen", &listen.to_string()];
        let (process, lines) = start(admin.command(args).env("GIG_LOG", "error").envs(settings.iter().copied()));
        let told: Value = serde_json::from_str(&lines.next().expect("the server did not start")).unwrap();
        (process, told["url"].as_str().unwrap().to_owned())
    }

    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it in good order.
    pub(crate) fn stop(&mut self) {
        assert_eq!(self.process.stop(), Some(0));
    }

    /// Starts it, to see it fail.
    pub(crate) fn does_not_start(&self) -> Ran {
        let listen = self.listen.to_string();
        self.admin.run(["--json", self.role, "--data", self.data().to_str().unwrap(), "--listen", &listen])
    }

    /// Starts it again on the same data and port, with these settings.
    pub(crate) fn again_with(&mut self, settings: &[(&str, &str)]) {
        (self.process, self.url) = Self::spawn(self.role, &self.admin, self.folder.path(), self.listen, settings);
    }

    /// Starts it again on the same data and port.
    pub(crate) fn again(&mut self) {
        (self.process, self.url) = Self::spawn(self.role, &self.admin, self.folder.path(), self.listen, &[]);
    }

    /// Returns its admin token.
    pub(crate) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.data().join("admin-token")).unwrap().trim().to_owned()
    }

    /// Runs a command of its admin, which takes a URL and the admin token.
    pub(crate) fn admin(&self, args: &[&str], input: &str) -> Ran {
        let token = self.folder.path().join("admin-token");
        let of_admin = ["--url", &self.url, "--admin-token", token.to_str().unwrap()];
        self.admin.run_with(args.iter().chain(&of_admin), input.as_bytes())
    }

    /// Returns a code with which a user mounts this store.
    pub(crate) fn code(&self) -> String {
        self.code_of("me")
    }

    /// Returns a code with which this user mounts this store.
    pub(crate) fn code_of(&self, user: &str) -> String {
        self.admin(&["--json", "store", "code", user], "").json()["code"].as_str().unwrap().to_owned()
    }

    /// Mounts this store on the channel `home`.
    pub(crate) fn mount(&self, device: &Device) {
        self.mount_at(device, &self.url);
    }

    /// Mounts this store on the channel `home`, under a URL that leads to it.
    pub(crate) fn mount_at(&self, device: &Device, url: &str) {
        device.run(["store", "add", "home", url, "--code", &self.code(), "--plain"]).ok();
    }
}

/// A table with the user `me`, and stores, each a process of its own.
pub(crate) struct Apart {
    pub(crate) table: Server,
    pub(crate) stores: Vec<Server>,
    pub(crate) device: Device,
}

pub(crate) const PASSWORD: &str = "correct horse battery staple";

impl Apart {
    pub(crate) fn with_stores(count: usize) -> Self {
        Self::start(count, "3600")
    }

    /// Has tokens that run out this soon.
    pub(crate) fn with_token_seconds(count: usize, seconds: &str) -> Self {
        Self::start(count, seconds)
    }

    /// Has one store, whose data is somewhere in a folder.
    pub(crate) fn with_store_in(place: &Path) -> Self {
        let mut world = Self::start(0, "3600");
        world.stores.push(Server::start_in("store", place));
        world.stores[0].mount(&world.device);
        world
    }

    fn start(count: usize, token_seconds: &str) -> Self {
        let table = Server::table(token_seconds);
        table.admin(&["table", "add-user", "me", "--password-stdin"], PASSWORD).ok();
        let device = Device::new();
        device.run_with(["login", &table.url, "--user", "me", "--password-stdin"], PASSWORD.as_bytes()).ok();
        let stores: Vec<Server> = (0..count).map(|_| Server::store()).collect();
        stores.iter().for_each(|store| store.mount(&device));
        Self { table, stores, device }
    }
}

impl Login for Apart {
    fn login(&self) -> (String, String) {
        (self.table.url.clone(), PASSWORD.to_owned())
    }
}

/// Finds ports in a row that nobody listens on, below those that the system gives to outgoing connections: a server
/// that is killed finds its port free when it comes back. They are tried by connecting: a socket that listened here, if only for a
/// moment, could live on for another in a process that another thread is just starting.
pub(crate) fn free(count: u16) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 12_000;
    loop {
        let offset = NEXT.fetch_add(count, Ordering::Relaxed).wrapping_add((std::process::id() % 1_000) as u16 * 12);
        let first = FIRST + offset % (PORTS - count);
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if (first..first + count).all(|port| TcpStream::connect(at(port)).is_err()) {
            return at(first);
        }
    }
}

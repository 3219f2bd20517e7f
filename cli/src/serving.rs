//! Running servers: both at once with everything set up, or each alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use gigfs::{LoggedIn, Table, UserKeys};
use gigfs_core::api::{AddStore, NewSession};
use gigfs_core::{ChannelName, UserName};
use gigfs_store_server::{self as store_server, Ended};
use gigfs_table_server as table_server;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;

use crate::account::{SESSION_SECONDS, machine_name};
use crate::args::{Command, ServeArgs, UpArgs};
use crate::failure::{Exit, Failure};
use crate::keyring;
use crate::output::Output;
use crate::profile::{Home, Profile, create_private_folder, write_private};
use crate::stop::Stop;

/// The user and the channel that `gig up` makes.
const FIRST_USER: &str = "me";
const FIRST_CHANNEL: &str = "home";
/// What the first start writes for a person to log in with elsewhere.
const FIRST_LOGIN: &str = "first-login.json";

/// There once the user has the password of [`FIRST_LOGIN`].
const USER_MADE: &str = "user-made";

/// The password that the first start makes.
#[derive(Clone, Serialize, Deserialize)]
struct FirstLogin {
    table: String,
    user: UserName,
    password: String,
}

/// Sends logs to standard error: a server's from `info` on, a command's from `warn` on, or as `GIG_LOG` says.
pub(crate) fn set_up_logs(command: &Command) {
    let serving = matches!(command, Command::Table { action: None, .. } | Command::Store { action: None, .. });
    let default = if serving { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("GIG_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // The library prints the whole request that opens a stream, and each frame on it: both hold tokens.
    let filter = filter.add_directive("tungstenite::handshake=off".parse().expect("it is a directive"));
    let filter = filter.add_directive("tungstenite::protocol=off".parse().expect("it is a directive"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Runs a table and a store until it is told to stop.
pub(crate) async fn up(home: &Home, output: Output, args: UpArgs) -> Result<(), Failure> {
    let data = args.data.unwrap_or_else(|| home.folder().join("server"));
    create_private_folder(&data)?;
    let private_networks = networks_of_up(args.listen.ip(), args.allow_network);
    let store_config = store_server::Config {
        data_dir: data.join("store"),
        listen: next_port(args.listen)?,
        private_networks: private_networks.clone(),
        ..store_server::Config::default()
    };
    let store = store_server::Server::bind(store_config.clone()).await.map_err(|error| cannot_serve(&error))?;
    let table = table_server::Server::bind(table_server::Config {
        data_dir: data.join("table"),
        listen: args.listen,
        private_networks,
        ..table_server::Config::default()
    });
    let table = table.await.map_err(|error| cannot_serve(&error))?;

    let mut stop_asked = Stop::listen()?;
    let stop = watch::Sender::new(false);
    let (table_url, store_url) = (table.public_url().to_owned(), store.public_url().to_owned());
    let (at_table, at_store) = (table.table(), store.store());
    let mut servers = JoinSet::new();
    servers.spawn(run_store(store, store_config, stop.subscribe()));
    let table_run = table.run(stopped(stop.subscribe()));
    servers.spawn(async { table_run.await.map_err(|error| cannot_serve(&error)) });
    let mut ended = Ok(());
    let ready = tokio::select! {
        ready = get_ready(home, &data, &table_url, &at_table, &at_store, args.plain) => ready.map(|()| true),
        Some(run) = servers.join_next() => { ended = flat(run); Ok(false) }
        () = stop_asked.asked() => Ok(false),
    };
    // The store closes its data once nobody holds it.
    drop(at_store);
    let told =
        json!({"table": table_url, "store": store_url, "data": data, "user": FIRST_USER, "channel": FIRST_CHANNEL});
    let runs = match ready {
        Ok(true) => output.result(&told, || welcome(home, &table_url, &store_url, &data)).map(|()| true),
        ready => ready,
    };
    if let Ok(true) = runs {
        tokio::select! {
            () = stop_asked.asked() => {}
            Some(run) = servers.join_next() => ended = flat(run),
        }
    }
    // What one of them cannot do alone, both stop doing.
    stop.send_replace(true);
    while let Some(run) = servers.join_next().await {
        ended = ended.and(flat(run));
    }
    ended?;
    runs.map(|_| ())
}

/// Runs a store until it is told to stop. When it has met damage in its data, it is opened again, which mends the data.
async fn run_store(
    mut server: store_server::Server,
    mut config: store_server::Config,
    stop: watch::Receiver<bool>,
) -> Result<(), Failure> {
    config.listen = server.local_addr();
    while server.run(stopped(stop.clone())).await.map_err(|error| cannot_serve(&error))? == Ended::Damaged {
        if *stop.borrow() {
            break;
        }
        server = store_server::Server::bind(config.clone()).await.map_err(|error| cannot_serve(&error))?;
    }
    Ok(())
}

/// Completes when it is told to, or when nobody is left to tell it.
async fn stopped(mut stop: watch::Receiver<bool>) {
    _ = stop.wait_for(|stop| *stop).await;
}

/// Makes sure of the first user, the first channel and a login, whatever an earlier start came to.
async fn get_ready(
    home: &Home,
    data: &Path,
    table_url: &str,
    table: &table_server::Table,
    store: &store_server::Store,
    plain: bool,
) -> Result<(), Failure> {
    let user = UserName::parse(FIRST_USER)?;
    let channel = ChannelName::parse(FIRST_CHANNEL)?;
    let made = data.join(USER_MADE).exists();
    let first = first_login(&data.join(FIRST_LOGIN), made, table_url, &user)?;
    if let Some(first) = first.clone().filter(|_| !made) {
        let master = tokio::task::spawn_blocking(move || gigfs::password::new_master(&first.password));
        let master = master.await.map_err(|error| Failure::machine("make the first user", error))??;
        match table.create_user(&user, master).await {
            Ok(()) | Err(table_server::CreateUserError::Exists { .. }) => {}
            Err(error) => return Err(Failure::machine("make the first user", error)),
        }
        write_private(&data.join(USER_MADE), b"")?;
    }
    store.create_user(&user).await.map_err(|error| Failure::machine("make room at the store", error))?;
    let code = store.confirm_code(&user).await.map_err(|error| Failure::machine("mount the store", error))?.code;
    let add = AddStore { store_url: store.public_url().to_owned(), code: Some(code) };
    table.add_store(&user, &channel, add).await.map_err(|error| Failure::machine("mount the store", error))?;
    let logged_in = home.read()?;
    if let Some(profile) = &logged_in
        && profile.table != table_url
        && Table::new(table_url, profile.user.clone(), &[])?.with_session(&profile.token).session().await.is_ok()
    {
        // It is this table's session from when the table listened elsewhere.
        home.write(&Profile { table: table_url.to_owned(), ..profile.clone() })?;
        if home.has_keys(&profile.user)? {
            home.keep_keys(table_url, &home.keys(profile)?)?;
        }
    }
    let profile = home.read()?;
    let own = profile.as_ref().is_none_or(|profile| profile.table == table_url && profile.user == user);
    if own && (profile.is_none() || !home.has_keys(&user)?) {
        log_in_here(home, table_url, table, &user, profile, first).await?;
    }
    if own && home.has_keys(&user)? {
        keyring::settle(home, &home.profile()?, &channel, plain).await?;
    }
    Ok(())
}

/// Logs this device in, with the keys of the first user as long as the first password is good and still there. Without it the
/// device has a session and no keys, and asks for a login where it needs them.
async fn log_in_here(
    home: &Home,
    table_url: &str,
    table: &table_server::Table,
    user: &UserName,
    profile: Option<Profile>,
    first: Option<FirstLogin>,
) -> Result<(), Failure> {
    let session = NewSession { timeout: SESSION_SECONDS, description: format!("gig up on {}", machine_name()) };
    let at_table = Table::new(table_url, user.clone(), &[])?;
    let logged_in = match &first {
        Some(first) => at_table.log_in(&first.password, &session).await.map(Some),
        None => Ok(None),
    };
    let created = match logged_in {
        Ok(Some(LoggedIn { created, root })) => {
            let at_table = at_table.with_session(&created.token);
            let kept = home.record(table_url, user)?;
            let opened = UserKeys::open_and_publish(&at_table, &root, kept.as_ref()).await?;
            home.keep_keys(table_url, &opened.keys)?;
            if let Some(old) = profile {
                // It may have ended already.
                _ = at_table.revoke(old.session).await;
            }
            created
        }
        // The first password is not known here, or is not good any more.
        Ok(None) | Err(gigfs::Error::Refused { .. }) if profile.is_some() => return Ok(()),
        Ok(None) | Err(gigfs::Error::Refused { .. }) => {
            let created = table.create_session(user, session).await;
            created.map_err(|error| Failure::machine("log this device in", error))?
        }
        Err(error) => return Err(error.into()),
    };
    home.write(&Profile {
        table: table_url.to_owned(),
        user: user.clone(),
        session: created.session.id,
        token: created.token,
        trust: None,
    })
}

/// Keeps the first login on disk with the table's present URL, and returns it as long as it is known. It is written before
/// its user is made, so the password is never lost.
fn first_login(file: &Path, made: bool, table_url: &str, user: &UserName) -> Result<Option<FirstLogin>, Failure> {
    let kept: Option<FirstLogin> = std::fs::read(file).ok().and_then(|json| serde_json::from_slice(&json).ok());
    let password = match &kept {
        Some(kept) => kept.password.clone(),
        None if made => return Ok(None),
        None => random_password()?,
    };
    let first = FirstLogin { table: table_url.to_owned(), user: user.clone(), password };
    if kept.is_none_or(|kept| kept.table != first.table) {
        let json =
            serde_json::to_vec_pretty(&first).map_err(|error| Failure::machine("write the first login", error))?;
        write_private(file, &json)?;
    }
    Ok(Some(first))
}

/// Makes a password of 120 random bits, in letters and digits that are not mistaken for others.
fn random_password() -> Result<String, Failure> {
    const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| Failure::machine("make a password", error))?;
    let letters: Vec<char> = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    Ok(letters.chunks(6).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-"))
}

fn welcome(home: &Home, table_url: &str, store_url: &str, data: &Path) -> String {
    let gig = match std::env::var_os("CARGO") {
        Some(_) => "cargo run --release --",
        None => "gig",
    };
    let gig = match home.is_default() {
        true => gig.to_owned(),
        false => format!("{gig} --home {}", home.folder().display()),
    };
    format!(
        "table  {table_url}\n\
         store  {store_url}\n\
         data   {}  (password for other devices: {FIRST_LOGIN})\n\
         \n\
         Try, in another terminal:\n\
         \n\
         \x20 {gig} push {FIRST_CHANNEL} counter /visits '{{\"add\":1}}'\n\
         \x20 {gig} get {FIRST_CHANNEL} counter /visits\n\
         \x20 {gig} on {FIRST_CHANNEL} counter /visits\n\
         \n\
         Ctrl-C stops both servers.",
        data.display()
    )
}

/// Runs a table server until it is told to stop.
pub(crate) async fn table(output: Output, args: ServeArgs) -> Result<(), Failure> {
    let config = settings(table_server::Config::default(), "GIG_TABLE_", args)?;
    let server = table_server::Server::bind(config).await.map_err(|error| cannot_serve(&error))?;
    let mut stop = Stop::listen()?;
    announce(output, "table", server.public_url(), server.admin_token_path())?;
    server.run(async move { stop.asked().await }).await.map_err(|error| cannot_serve(&error))
}

/// Runs a store server until it is told to stop.
pub(crate) async fn store(output: Output, args: ServeArgs) -> Result<(), Failure> {
    let config = settings(store_server::Config::default(), "GIG_STORE_", args)?;
    let server = store_server::Server::bind(config.clone()).await.map_err(|error| cannot_serve(&error))?;
    let mut stop_asked = Stop::listen()?;
    let stop = watch::Sender::new(false);
    let told_to_stop = stop.subscribe();
    tokio::spawn(async move {
        stop_asked.asked().await;
        stop.send_replace(true);
    });
    announce(output, "store", server.public_url(), server.admin_token_path())?;
    run_store(server, config, told_to_stop).await
}

fn announce(output: Output, role: &str, url: &str, admin_token: &Path) -> Result<(), Failure> {
    output.result(&json!({"role": role, "url": url, "admin_token_file": admin_token}), || {
        format!("{role}  {url}\nadmin token  {}", admin_token.display())
    })
}

/// Puts settings together: flags, then environment, then file, then defaults.
fn settings<C: Serialize + for<'de> Deserialize<'de>>(defaults: C, env: &str, args: ServeArgs) -> Result<C, Failure> {
    let mut figment = Figment::from(Serialized::defaults(defaults));
    if let Some(file) = &args.config {
        if !file.is_file() {
            return Err(Failure::usage(format!("there is no settings file {}", file.display())));
        }
        figment = figment.merge(Toml::file(file));
    }
    figment = figment.merge(Env::prefixed(env));
    let path = |path: PathBuf| Value::from(path.to_string_lossy());
    let tls = match (args.tls_self_signed, args.tls_cert, args.tls_key) {
        (true, ..) => Some(json!("self_signed")),
        (false, Some(certificate), Some(key)) => {
            Some(json!({"files": {"certificate": path(certificate), "key": path(key)}}))
        }
        _ => None,
    };
    let flags = [
        ("data_dir", args.data.map(path)),
        ("listen", args.listen.map(|listen| json!(listen))),
        ("public_url", args.public_url.map(Value::from)),
        ("tls", tls),
        ("private_networks", (!args.allow_network.is_empty()).then(|| json!(args.allow_network))),
    ];
    for (name, value) in flags {
        if let Some(value) = value {
            figment = figment.merge((name, value));
        }
    }
    figment.extract().map_err(|error| Failure::usage(format!("a setting is wrong: {error}")))
}

/// Returns the networks that the two servers may connect to: what they do by themselves on loopback, and elsewhere what
/// a person allows, and the one address at which they reach each other.
fn networks_of_up(listen: IpAddr, allowed: Vec<IpNet>) -> Option<Vec<IpNet>> {
    if listen.is_loopback() && allowed.is_empty() {
        return None;
    }
    let own = match listen {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Some(allowed.into_iter().chain([IpNet::from(own)]).collect())
}

fn next_port(address: SocketAddr) -> Result<SocketAddr, Failure> {
    let port = match address.port() {
        0 => 0,
        port => port
            .checked_add(1)
            .ok_or_else(|| Failure::usage("the store needs the port after 65535; listen below it"))?,
    };
    Ok(SocketAddr::new(address.ip(), port))
}

fn cannot_serve(error: &dyn std::error::Error) -> Failure {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if !message.contains(&cause.to_string()) {
            message.push_str(&format!(": {cause}"));
        }
        source = cause.source();
    }
    let failure = Failure::new(Exit::Machine, "cannot_serve", message.clone());
    match message.contains("in use") {
        true => failure.hint("stop what listens there, or listen elsewhere with --listen HOST:PORT"),
        false => failure,
    }
}

fn flat(run: Result<Result<(), Failure>, tokio::task::JoinError>) -> Result<(), Failure> {
    run.unwrap_or_else(|error| Err(Failure::machine("run the servers", error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn servers_that_listen_to_others_reach_each_other_and_what_a_person_allows() {
        let networks = |listen: &str, allowed: &[&str]| {
            networks_of_up(listen.parse().unwrap(), allowed.iter().map(|text| net(text)).collect())
        };
        assert_eq!(networks("127.0.0.1", &[]), None, "the servers' own default is for loopback");
        assert_eq!(networks("0.0.0.0", &[]), Some(vec![net("127.0.0.1/32")]));
        assert_eq!(networks("::", &[]), Some(vec![net("::1/128")]));
        assert_eq!(networks("192.168.1.5", &[]), Some(vec![net("192.168.1.5/32")]));
        let both = Some(vec![net("10.0.0.0/8"), net("127.0.0.1/32")]);
        assert_eq!(networks("127.0.0.1", &["10.0.0.0/8"]), both);
    }
}

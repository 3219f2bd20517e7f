//! Logging in and out, and sessions.

use std::io::{BufRead, IsTerminal};

use gigfs::{LoggedIn, Table, UserKeys};
use gigfs_core::SessionId;
use gigfs_core::api::{NewMaster, NewSession};
use serde_json::json;

use crate::args::{AdminArgs, LoginArgs, SessionAction, one_beginning_with};
use crate::failure::{Exit, Failure};
use crate::output::{Output, columns, rfc3339};
use crate::profile::{Home, Profile, read_text};

/// How long a device stays logged in, in seconds: a year.
pub(crate) const SESSION_SECONDS: u64 = 365 * 24 * 3600;

pub(crate) async fn login(home: &Home, output: Output, args: LoginArgs) -> Result<(), Failure> {
    nobody_else(home, &args)?;
    let trust = args.trust.as_deref().map(read_text).transpose()?;
    let table = Table::new(&args.url, args.user.clone(), &certificates(trust.as_deref()))?;
    let password = password(args.password_stdin, &format!("Password of {} at {}", args.user, args.url))?;
    enter(home, output, args, table, &password, trust).await
}

/// Refuses to log in where somebody else is.
pub(crate) fn nobody_else(home: &Home, args: &LoginArgs) -> Result<(), Failure> {
    match home.read()? {
        Some(known)
            if known.user != args.user || known.table.trim_end_matches('/') != args.url.trim_end_matches('/') =>
        {
            let message = format!("{} is logged in here already, at {}", known.user, known.table);
            let hint = "log out first with `gig logout`, or use another profile with GIG_HOME";
            Err(Failure::new(Exit::Refused, "conflict", message).hint(hint))
        }
        _ => Ok(()),
    }
}

/// Begins a session with a password, opens or makes the keyring, and keeps both here.
pub(crate) async fn enter(
    home: &Home,
    output: Output,
    args: LoginArgs,
    table: Table,
    password: &str,
    trust: Option<String>,
) -> Result<(), Failure> {
    let kept = home.record(table.url(), &args.user)?;
    let description = args.description.unwrap_or_else(machine_name);
    let LoggedIn { created, root } =
        table.log_in(password, &NewSession { timeout: SESSION_SECONDS, description }).await?;
    let table = table.with_session(&created.token);
    let opened = match UserKeys::open_and_publish(&table, &root, kept.as_ref()).await {
        Ok(opened) => opened,
        Err(error) => {
            // Nobody will use the session. If it cannot be ended, it runs out.
            _ = table.revoke(created.session.id).await;
            return Err(error.into());
        }
    };
    home.keep_keys(table.url(), &opened.keys)?;
    let profile = Profile {
        table: table.url().to_owned(),
        user: args.user,
        session: created.session.id,
        token: created.token,
        trust,
    };
    home.write(&profile)?;
    let told = json!({
        "user": profile.user, "table": profile.table, "session": profile.session,
        "keyring": if opened.created { "created" } else { "opened" },
        "fingerprint": opened.keys.fingerprint().to_string(),
    });
    output.result(&told, || format!("logged in as {} at {}", profile.user, profile.table))?;
    if opened.created {
        output.note("a keyring was made for you; `gig recovery-code` prints what opens it if you forget the password");
    }
    Ok(())
}

pub(crate) async fn logout(home: &Home, output: Output, forget: bool) -> Result<(), Failure> {
    let profile = home.profile()?;
    if !forget {
        match profile.table()?.revoke(profile.session).await.map_err(Failure::from) {
            Ok(()) => {}
            Err(failure) if failure.exit() == Exit::LogIn => {}
            Err(failure) if failure.exit() == Exit::Retry => {
                return Err(failure.hint("try again, or only forget the session here with `gig logout --forget`"));
            }
            Err(failure) => return Err(failure),
        }
    }
    home.forget()?;
    output.result(&json!({"user": profile.user}), || {
        format!("{} is logged out; the data on this device stays", profile.user)
    })
}

pub(crate) async fn whoami(home: &Home, output: Output) -> Result<(), Failure> {
    let profile = home.profile()?;
    let session = match profile.table()?.session().await {
        Ok(session) => Some(session),
        Err(gigfs::Error::Unreachable { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let value = json!({
        "user": profile.user, "table": profile.table, "home": home.folder(),
        "session": profile.session, "expires": session.as_ref().map(|session| session.expires),
    });
    output.result(&value, || {
        let standing = match &session {
            Some(session) => format!("until {}", rfc3339(session.expires * 1_000_000)),
            None => "the table cannot be reached now".to_owned(),
        };
        format!("{} at {} (session {}, {standing})", profile.user, profile.table, short(&profile.session))
    })
}

pub(crate) async fn passwd(home: &Home, output: Output, from_stdin: bool) -> Result<(), Failure> {
    let profile = home.profile()?;
    let old = password(from_stdin, "Old password")?;
    let new = match from_stdin {
        true => password(true, "")?,
        false => new_password()?,
    };
    let kept = home.record(&profile.table, &profile.user)?;
    let record = profile.table()?.change_password(&old, &new, kept.as_ref()).await?;
    if let Some(record) = record {
        home.keep_record(&profile.table, &profile.user, &record)?;
    }
    home.forget()?;
    output.result(&json!({"user": profile.user}), || {
        "the password is changed; every device has to log in again".to_owned()
    })
}

pub(crate) async fn session(home: &Home, output: Output, action: SessionAction) -> Result<(), Failure> {
    let table = home.profile()?.table()?;
    let list = table.sessions().await?;
    match action {
        SessionAction::Ls => output.result(&json!(list), || {
            let row = |session: &gigfs_core::api::SessionInfo| {
                let here = if session.current { "this one" } else { "" };
                vec![
                    short(&session.id),
                    rfc3339(session.expires * 1_000_000),
                    session.description.clone(),
                    here.to_owned(),
                ]
            };
            columns(&list.sessions.iter().map(row).collect::<Vec<_>>())
        }),
        SessionAction::Revoke { session } => {
            let ids: Vec<SessionId> = list.sessions.iter().map(|session| session.id).collect();
            let id = one_beginning_with(&session, &ids, "session").map_err(Failure::usage)?;
            table.revoke(id).await?;
            output.result(&json!({"revoked": id}), || format!("session {} is ended", short(&id)))
        }
    }
}

/// Creates a user at a table, as its admin.
pub(crate) async fn add_user(
    output: Output,
    user: gigfs_core::UserName,
    admin: AdminArgs,
    from_stdin: bool,
) -> Result<(), Failure> {
    let (table, token, master) = as_admin(&user, &admin, from_stdin)?;
    table.create_user(&token, &master).await?;
    output.result(&json!({"user": user, "table": table.url()}), || {
        format!("{user} can log in now with `gig login {} --user {user}`", table.url())
    })
}

/// Gives a user another password at a table, as its admin.
pub(crate) async fn reset_password(
    output: Output,
    user: gigfs_core::UserName,
    admin: AdminArgs,
    from_stdin: bool,
) -> Result<(), Failure> {
    let (table, token, master) = as_admin(&user, &admin, from_stdin)?;
    table.reset_master(&token, &master).await?;
    output.result(&json!({"user": user, "table": table.url()}), || {
        format!("{user} gets back in now with `gig recover {} --user {user}` and the recovery code", table.url())
    })
}

/// Returns the table as a user's, its admin token, and the master of a new password.
fn as_admin(
    user: &gigfs_core::UserName,
    admin: &AdminArgs,
    from_stdin: bool,
) -> Result<(Table, String, NewMaster), Failure> {
    let (token, trust) = credentials(admin)?;
    let table = Table::new(&admin.url, user.clone(), &trust)?;
    let password = match from_stdin {
        true => password(true, "")?,
        false => new_password()?,
    };
    Ok((table, token, gigfs::password::new_master(&password)?))
}

/// Reads an admin's token, and the certificates that are to be trusted.
pub(crate) fn credentials(admin: &AdminArgs) -> Result<(String, Vec<Vec<u8>>), Failure> {
    let token = read_text(&admin.admin_token)?.trim().to_owned();
    let trust = admin.trust.as_deref().map(read_text).transpose()?;
    Ok((token, certificates(trust.as_deref())))
}

/// Returns the certificates that a person named, as the client takes them.
pub(crate) fn certificates(trust: Option<&str>) -> Vec<Vec<u8>> {
    trust.iter().map(|pem| pem.as_bytes().to_vec()).collect()
}

/// Reads a password from standard input, or asks for it on the terminal.
pub(crate) fn password(from_stdin: bool, prompt: &str) -> Result<String, Failure> {
    if from_stdin {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|error| Failure::machine("read the password", error))?;
        let line = line.trim_end_matches(['\n', '\r']).to_owned();
        return match line.is_empty() {
            true => Err(Failure::usage("no password came on standard input")),
            false => Ok(line),
        };
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for a password; use --password-stdin"));
    }
    let asked = dialoguer::Password::new().with_prompt(prompt).interact();
    asked.map_err(|error| Failure::machine("ask for the password", error))
}

pub(crate) fn new_password() -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for a password; use --password-stdin"));
    }
    let asked = dialoguer::Password::new()
        .with_prompt("New password")
        .with_confirmation("New password again", "The two differ.")
        .interact();
    asked.map_err(|error| Failure::machine("ask for the password", error))
}

/// Returns what this machine is called, or something to call it.
pub(crate) fn machine_name() -> String {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    match name.trim() {
        "" => "a device".to_owned(),
        name => name.to_owned(),
    }
}

/// Returns the beginning of an id, which is enough for a person.
pub(crate) fn short(id: &impl std::fmt::Display) -> String {
    id.to_string().chars().take(8).collect()
}

//! The user's keyring on this device: the recovery code, getting back in with it, and the identity.

use std::io::IsTerminal;

use gigfs::core::seal::{RecoveryCode, Sealing};
use gigfs::{SealMode, Table, UserKeys};
use gigfs_core::{ChannelName, UserName};
use serde_json::json;

use crate::account::{self, certificates};
use crate::args::LoginArgs;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::profile::{Home, Profile};

/// Makes a new recovery code and prints it, this once.
pub(crate) async fn recovery_code(home: &Home, output: Output) -> Result<(), Failure> {
    let profile = home.profile()?;
    let (table, keys) = (profile.table()?, home.keys(&profile)?);
    if !output.json && !std::io::stdout().is_terminal() {
        let message = "a recovery code is not printed into a pipe or a file; nothing was changed";
        return Err(
            Failure::usage(message).hint("run it on a terminal, or with --json if a program is to have the code")
        );
    }
    let code = keys.recovery_code(&table).await?;
    home.keep_changed(&profile.table, &keys)?;
    let told = json!({"user": profile.user, "recovery_code": *code.reveal(), "revision": keys.revision()});
    output.result(&told, || {
        format!(
            "{}\n\n\
             Write it down and keep it where no device is: it opens the keyring of {} when the password is forgotten,\n\
             for whoever has it. It is not shown again. A code that was made before is not good any more.",
            *code.reveal(),
            profile.user
        )
    })
}

/// Opens the keyring with a recovery code after the table's admin gave the user another password, and logs in.
pub(crate) async fn recover(home: &Home, output: Output, args: LoginArgs) -> Result<(), Failure> {
    account::nobody_else(home, &args)?;
    let trust = args.trust.as_deref().map(crate::profile::read_text).transpose()?;
    let table = Table::new(&args.url, args.user.clone(), &certificates(trust.as_deref()))?;
    let given = account::password(args.password_stdin, "Password that the table's admin gave you")?;
    let typed = account::password(args.password_stdin, "Recovery code")?;
    let code: RecoveryCode = typed.parse().map_err(|error: gigfs::core::seal::TypedError| {
        Failure::usage(error.to_string()).hint("nothing was changed")
    })?;
    let new = match args.password_stdin {
        true => account::password(true, "")?,
        false => account::new_password()?,
    };
    let kept = home.record(table.url(), &args.user)?;
    UserKeys::recover(&table, &given, &code, &new, kept.as_ref()).await?;
    account::enter(home, output, args, table, &new, trust).await
}

/// Prints the fingerprint of the user's identity, which others compare.
pub(crate) async fn identity(home: &Home, output: Output) -> Result<(), Failure> {
    let profile = home.profile()?;
    let keys = refreshed(home, &profile).await?;
    let fingerprint = keys.fingerprint().to_string();
    let told = json!({"user": profile.user, "fingerprint": fingerprint, "revision": keys.revision()});
    output.result(&told, || format!("{}  {fingerprint}", profile.user))
}

/// Forgets which fingerprint was compared with another user's.
pub(crate) async fn unpin(home: &Home, output: Output, user: &UserName) -> Result<(), Failure> {
    let profile = home.profile()?;
    let (table, keys) = (profile.table()?, home.keys(&profile)?);
    keys.refresh(&table).await?;
    let Some(fingerprint) = keys.unpin(&table, user).await? else {
        let message = format!("no fingerprint of {user} was compared");
        return Err(Failure::new(Exit::Refused, "not_found", message).hint("`gig share` and `gig accept` take it"));
    };
    home.keep_changed(&profile.table, &keys)?;
    output.result(&json!({"user": user, "forgotten": fingerprint.to_string()}), || {
        format!("{fingerprint} is not {user}'s any more; the next `gig share` or `gig accept` takes --fingerprint")
    })
}

/// Settles how a channel is sealed that there was not before: it is, unless it is to be in the clear. A channel of that name
/// that was of the other kind is not made over.
pub(crate) async fn settle_new(
    home: &Home,
    profile: &Profile,
    channel: &ChannelName,
    plain: bool,
) -> Result<(), Failure> {
    let keys = refreshed(home, profile).await?;
    let mode = if plain { SealMode::Plain } else { SealMode::Sealed };
    keys.ensure(&profile.table()?, channel, mode).await.map_err(|error| {
        let other = if plain { "without --plain" } else { "with --plain" };
        Failure::from(error).hint(format!("nothing was changed; make it {other}, or under another name"))
    })?;
    home.keep_changed(&profile.table, &keys)
}

/// Settles how a channel is sealed before anything is mounted on it: it is, unless it is to be in the clear. What was settled
/// before stays.
pub(crate) async fn settle(home: &Home, profile: &Profile, channel: &ChannelName, plain: bool) -> Result<(), Failure> {
    let settled = |keys: &UserKeys| match keys.channel(channel) {
        Some(Sealing::Plain) => true,
        Some(Sealing::Sealed(_)) => !plain,
        None => false,
    };
    if settled(&home.keys(profile)?) {
        return Ok(());
    }
    let keys = refreshed(home, profile).await?;
    if settled(&keys) {
        return Ok(());
    }
    let mode = if plain { SealMode::Plain } else { SealMode::Sealed };
    keys.ensure(&profile.table()?, channel, mode).await?;
    home.keep_changed(&profile.table, &keys)
}

/// Returns the keys that this device keeps, with what other devices have changed if the table can be reached.
async fn refreshed(home: &Home, profile: &Profile) -> Result<UserKeys, Failure> {
    let keys = home.keys(profile)?;
    match keys.refresh(&profile.table()?).await {
        Ok(_) => home.keep_changed(&profile.table, &keys)?,
        Err(gigfs::Error::Unreachable { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(keys)
}

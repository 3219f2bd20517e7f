//! The command line as a person types it.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use gigfs_core::{ChannelName, UserName};

mod serving;

pub(crate) use serving::{AdminArgs, Quota, RunningStore, ServeArgs, StoreAction, TableAction, UpArgs};

/// Keeps an app's data one on every device and server.
#[derive(Debug, Parser)]
#[command(name = "gig", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Print JSON, for programs: results on standard output, errors on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The folder of the profile: who is logged in, and the data of this device.
    #[arg(long, global = true, env = "GIG_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Whose channels are meant, if not your own: somebody's who shares them with you (see `gig shared`).
    #[arg(long, global = true, value_name = "OWNER")]
    pub(crate) of: Option<UserName>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  it failed for a reason of the machine, such as a full disk
  2  the command line is wrong
  3  a server cannot be reached or is busy; try again later
  4  log in first, or again
  5  refused: change what was asked for
  6  some store still lacks something; it stays queued and goes out later
  7  damage was found";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a table and a store on this machine, ready to use.
    Up(UpArgs),
    /// Run a table server alone.
    #[command(args_conflicts_with_subcommands = true)]
    Table {
        #[command(flatten)]
        serve: ServeArgs,
        #[command(subcommand)]
        action: Option<TableAction>,
    },
    /// Run a store server alone, or say which stores a channel has.
    #[command(args_conflicts_with_subcommands = true)]
    Store {
        #[command(flatten)]
        serve: ServeArgs,
        #[command(subcommand)]
        action: Option<StoreAction>,
    },
    /// Log this device in to a table.
    Login(LoginArgs),
    /// End this device's session.
    Logout {
        /// Only forget the session here, for a table that does not answer any more. It stays valid until it expires.
        #[arg(long)]
        forget: bool,
    },
    /// Say who is logged in, and where.
    Whoami,
    /// Change the password, which ends every session. Keys and data stay as they are.
    #[command(visible_alias = "password")]
    Passwd {
        /// Read the old and the new password from standard input, a line each.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Make a new recovery code and print it, in place of the one before: what opens your keyring when the password is
    /// forgotten.
    RecoveryCode,
    /// Get back in with a recovery code, after the table's admin gave you another password. Asks for that password, the code,
    /// and a new password; with --password-stdin it reads them in this order, a line each.
    Recover(LoginArgs),
    /// Print the fingerprint of your identity, for others to compare.
    Identity,
    /// Share a channel with another user of the table, or change what somebody may do in it.
    Share(ShareArgs),
    /// Take somebody off a channel: what is written from now on is closed to them. What they have read, they have.
    Unshare {
        /// The channel.
        channel: ChannelName,
        /// Who.
        user: UserName,
    },
    /// List the channels that others share with you, or with whom a channel of yours is shared.
    Shared {
        /// A channel of yours.
        channel: Option<ChannelName>,
    },
    /// Begin to use a channel that somebody shares with you: keep its keys.
    Accept {
        /// Who shares it.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
        /// The owner's fingerprint, as `gig identity` prints it there. Needed the first time; compare it with the owner.
        #[arg(long)]
        fingerprint: Option<String>,
        /// Use the channel in the clear if the table has no keys of it, because the owner says that it is.
        #[arg(long)]
        plain: bool,
    },
    /// Forget the fingerprint that was compared with another user's, because that user has made a new identity.
    Unpin {
        /// Who.
        user: UserName,
    },
    /// List, make and remove channels.
    Channel {
        #[command(subcommand)]
        action: ChannelAction,
    },
    /// List and end sessions.
    Session {
        #[command(subcommand)]
        action: SessionAction,
    },
    /// Write to a log.
    Push(PushArgs),
    /// Print the value of a log.
    Get(LogArgs),
    /// Print the values of logs, and again whenever they change.
    On(OnArgs),
    /// List the logs of a channel.
    Ls {
        /// The channel.
        channel: ChannelName,
        /// Only logs at or below this path.
        #[arg(default_value = "/")]
        prefix: String,
    },
    /// Print what a log stands on and the operations since, and what keeps it from being pruned.
    Log(LogArgs),
    /// Fold what was written into a checkpoint that every store keeps in place of it. Nothing that is written late is lost.
    Prune(PruneArgs),
    /// Remove a log. What somebody writes who does not know of it yet brings back that alone.
    Rm(LogArgs),
    /// Say what is stored where, what waits, and why.
    Status,
    /// Wait until every store has everything.
    Flush {
        /// Only this channel.
        channel: Option<ChannelName>,
        /// Seconds to wait at most.
        #[arg(long, default_value_t = 60)]
        timeout: u64,
    },
    /// Measure how fast this is here, in rows of name, value and unit: with a table and a store of its own on loopback, or in a
    /// channel that there is.
    Bench(BenchArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The table server.
    pub(crate) url: String,
    /// Who you are there.
    #[arg(long)]
    pub(crate) user: UserName,
    /// Read the password from standard input instead of asking for it.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// What the session will be listed as [default: this machine's name].
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// A certificate in PEM to trust beside the public ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("role").required(true)))]
pub(crate) struct ShareArgs {
    /// The channel.
    pub(crate) channel: ChannelName,
    /// With whom.
    pub(crate) user: UserName,
    /// Let them read only.
    #[arg(long, group = "role")]
    pub(crate) read: bool,
    /// Let them read and write.
    #[arg(long, group = "role")]
    pub(crate) write: bool,
    /// Let them read and write, and let others in who are no admins (with --of and your name).
    #[arg(long, group = "role")]
    pub(crate) admin: bool,
    /// Their fingerprint, as `gig identity` prints it there. Needed the first time; compare it with them.
    #[arg(long)]
    pub(crate) fingerprint: Option<String>,
}

impl Command {
    /// Tells whether the command reads, writes or shares the logs of a channel, and so may be about another user's.
    pub(crate) fn is_about_logs(&self) -> bool {
        use Command::{Flush, Get, Log, Ls, On, Prune, Push, Rm, Share, Shared, Status, Unshare};
        let shares = matches!(self, Share(_) | Unshare { .. } | Shared { channel: Some(_) });
        let writes = matches!(self, Push(_) | Prune(_) | Rm(_) | Flush { .. });
        let reads = matches!(self, Get(_) | On(_) | Ls { .. } | Log(_) | Status);
        shares || writes || reads
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChannelAction {
    /// List your channels.
    Ls,
    /// Make a channel on the stores of another one.
    Add {
        /// The new channel.
        channel: ChannelName,
        /// Use the stores of this channel [default: every store that you use].
        #[arg(long, value_name = "CHANNEL")]
        like: Option<ChannelName>,
        /// Leave it in the clear, for `curl` and for public data: whoever runs its stores can read it.
        #[arg(long)]
        plain: bool,
    },
    /// Take a channel out of your mount table. What its stores hold stays there.
    Rm {
        /// The channel.
        channel: ChannelName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionAction {
    /// List your sessions.
    Ls,
    /// End a session, here and at every store.
    Revoke {
        /// The session's id, as `gig session ls` prints it, or the beginning of it.
        session: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The channel.
    pub(crate) channel: String,
    /// The type: register, counter, set, map, list or text.
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
    /// The path, such as /visits.
    pub(crate) path: String,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// The channel.
    pub(crate) channel: ChannelName,
    /// Only logs of this type.
    #[arg(value_name = "TYPE", requires = "path")]
    pub(crate) kind: Option<String>,
    /// Only the log at this path.
    pub(crate) path: Option<String>,
    /// Compute the state of the log's checkpoint again from what the stores still keep, and take its place with what comes
    /// out. For a log that was pruned by a device with a faulty reducer; run it on one that is right.
    #[arg(long, requires = "path")]
    pub(crate) repair: bool,
    /// Seconds to wait at most for each log.
    #[arg(long, default_value_t = 30)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// What to write, in JSON: {"set": v}, {"add": n}, {"append": v}, {"splice": [position, deleted, "inserted"]} …
    /// "-" reads it from standard input.
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) intent: String,
}

#[derive(Debug, Args)]
pub(crate) struct OnArgs {
    /// The channel.
    pub(crate) channel: String,
    /// The type.
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
    /// The paths.
    #[arg(required = true)]
    pub(crate) paths: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Measure in this channel of yours instead, with the stores that it has. What is written for it is removed afterwards.
    #[arg(long)]
    pub(crate) channel: Option<ChannelName>,
    /// The folder to make a temporary one in: what is measured is the disk that it is on [default: the system's own].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Measure little of each, in some seconds. The figures are rough.
    #[arg(long, conflicts_with = "heavy")]
    pub(crate) short: bool,
    /// Measure with 100,000 logs and 2 million operations too, and with a million logs, which takes many minutes and gigabytes.
    #[arg(long)]
    pub(crate) heavy: bool,
    /// Seconds that one load lasts at most.
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Measure this part only. May be repeated.
    #[arg(long, value_name = "PART")]
    pub(crate) only: Vec<BenchPart>,
}

/// A part of what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchPart {
    /// Pushes until they are on a store's disk.
    Ack,
    /// Pushes until they are told on another connection.
    Prop,
    /// Pushes until they are told to all of many subscribers.
    Subscribers,
    /// Reading logs.
    Get,
    /// Pushes on a device without a network.
    Push,
    /// Folding logs.
    Fold,
    /// Coming back after having missed something.
    CatchUp,
    /// Starting the store, and what it takes in memory and on disk.
    Open,
}

/// Finds the one id that begins with what a person typed.
pub(crate) fn one_beginning_with<T: std::fmt::Display + Copy>(typed: &str, ids: &[T], what: &str) -> Result<T, String> {
    if typed.is_empty() {
        return Err(format!("the {what} is empty; type the beginning of its id"));
    }
    let fits: Vec<T> = ids.iter().copied().filter(|id| id.to_string().starts_with(typed)).collect();
    match fits[..] {
        [one] => Ok(one),
        [] => Err(format!("no {what} begins with {typed:?}")),
        _ => Err(format!("{} {what}s begin with {typed:?}; type more of it", fits.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_with_a_unit_or_the_default() {
        for (text, bytes) in
            [("0", 0), ("1500", 1500), ("2k", 2048), ("500M", 500 << 20), ("20G", 20 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(text.parse(), Ok(Quota(Some(bytes))), "{text}");
        }
        assert_eq!("default".parse(), Ok(Quota(None)));
        for bad in ["", "G", "-1", "1.5G", "1X", "1 G", "99999999999T", "\u{e9}"] {
            assert!(bad.parse::<Quota>().is_err(), "{bad:?} was accepted");
        }
    }
}

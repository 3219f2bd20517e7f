//! What a person types to run servers, and to administer them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use gigfs_core::limits::INTEGER_MAX;
use gigfs_core::{ChannelName, UserName};
use ipnet::IpNet;

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The folder for the servers' data [default: GIG_HOME/server].
    #[arg(long, env = "GIG_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where the table listens; the store takes the port after it.
    #[arg(long, env = "GIG_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:4420")]
    pub(crate) listen: SocketAddr,
    /// A network that is not public and in which the servers may connect to others that somebody names, such as
    /// 192.168.1.0/24. May be repeated [default: every one while they listen on loopback].
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow_network: Vec<IpNet>,
    /// Leave the first channel in the clear, for `curl` and for public data: whoever runs its stores can read it.
    #[arg(long)]
    pub(crate) plain: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A TOML file of settings; flags and environment come before it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The folder for the server's data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// The URL under which others reach this server.
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// A certificate chain in PEM, for TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Speak TLS with a certificate that the server makes for itself.
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) tls_self_signed: bool,
    /// A network that is not public and in which this server may connect to others that somebody names, such as
    /// 192.168.1.0/24. May be repeated [default: every one while it listens on loopback and has no public URL].
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow_network: Vec<IpNet>,
}

/// How to reach a server as its admin.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The server.
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// The file that holds its admin token, `admin-token` in its data folder.
    #[arg(long, value_name = "FILE", env = "GIG_ADMIN_TOKEN_FILE")]
    pub(crate) admin_token: PathBuf,
    /// A certificate in PEM to trust beside the public ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
}

/// How to reach a store that runs, as its admin, if that is wanted.
#[derive(Debug, Args)]
pub(crate) struct RunningStore {
    /// A store that runs.
    #[arg(long, value_name = "URL", requires = "admin_token")]
    pub(crate) url: Option<String>,
    /// The file that holds its admin token, `admin-token` in its data folder.
    #[arg(long, value_name = "FILE", env = "GIG_ADMIN_TOKEN_FILE")]
    pub(crate) admin_token: Option<PathBuf>,
    /// A certificate in PEM to trust beside the public ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TableAction {
    /// Create a user at a table, as its admin.
    AddUser {
        /// The new user.
        user: UserName,
        #[command(flatten)]
        admin: AdminArgs,
        /// Read the password from standard input instead of asking for it.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give a user who forgot the password another one, as the table's admin, which ends every session. It does not open the
    /// user's keyring: that takes the user's recovery code and `gig recover`.
    ResetPassword {
        /// The user.
        user: UserName,
        #[command(flatten)]
        admin: AdminArgs,
        /// Read the password from standard input instead of asking for it.
        #[arg(long)]
        password_stdin: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreAction {
    /// List the stores of your channels.
    Ls,
    /// Mount a store on a channel, with a code from the store's admin.
    Add {
        /// The channel; it is made if it is new.
        channel: ChannelName,
        /// Where the store is.
        url: String,
        /// The code that `gig store code` printed. Not needed for a store that you use already.
        #[arg(long)]
        code: Option<String>,
        /// Leave a new channel in the clear, for `curl` and for public data: whoever runs its stores can read it.
        #[arg(long)]
        plain: bool,
    },
    /// Take a store off a channel, after the other stores have all that it has.
    Rm {
        /// The channel.
        channel: ChannelName,
        /// The store's id, as `gig store ls` prints it, or the beginning of it.
        store: String,
        /// Do not drain it first. What only it has is then lost to the channel.
        #[arg(long)]
        abandon: bool,
    },
    /// Say how much a user keeps at a store, as its admin, or set how much it may be.
    Quota {
        /// The user.
        user: UserName,
        /// The new limit, in bytes or with K, M, G or T (1024 each); "default" for what the store gives to others.
        #[arg(value_name = "SIZE")]
        size: Option<Quota>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Look at every byte that a store keeps, and say what is damaged: in a data folder that no store has open, or, with
    /// --url, while the store runs. Nothing is changed: a store mends what is damaged when it starts.
    Verify {
        /// The store's data folder, or a backup.
        #[arg(value_name = "DIR", required_unless_present = "url", conflicts_with = "url")]
        folder: Option<PathBuf>,
        #[command(flatten)]
        admin: RunningStore,
    },
    /// Copy all that a store keeps into a folder on its machine while it runs, as its admin.
    Backup {
        /// The folder; it is made.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Make a store's data folder out of a backup, for `gig store --data` to start on. What the store took since is brought
    /// back by the devices and other stores of its channels.
    Restore {
        /// The backup.
        #[arg(value_name = "DIR")]
        backup: PathBuf,
        /// The data folder; it is made.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Make room for a user at a store, as its admin, and print the code to mount it with.
    Code {
        /// The user.
        user: UserName,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// A quota as a person types it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota(pub(crate) Option<u64>);

impl FromStr for Quota {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self(None));
        }
        let (digits, unit) = match text.char_indices().last() {
            Some((at, unit)) if !unit.is_ascii_digit() => (&text[..at], Some(unit)),
            _ => (text, None),
        };
        let shift = match unit.map(|unit| unit.to_ascii_uppercase()) {
            None => Some(0),
            Some('K') => Some(10),
            Some('M') => Some(20),
            Some('G') => Some(30),
            Some('T') => Some(40),
            Some(_) => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
        let wrong = || "write a number of bytes, such as 500M or 20G, or \"default\"".to_owned();
        bytes.filter(|bytes| *bytes <= INTEGER_MAX).map(|bytes| Self(Some(bytes))).ok_or_else(wrong)
    }
}

//! `gig`, the command line of gigfs.
//!
//! Each command is a few calls of the client library or of a server; what is worth testing lives there. Errors become
//! sentences and exit codes in one place (`failure`).

mod account;
mod args;
mod bench;
mod data;
mod failure;
mod keyring;
mod mounting;
mod output;
mod profile;
mod pruning;
mod serving;
mod sharing;
mod standing;
mod stop;
mod upkeep;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command, TableAction};
use failure::{Exit, Failure};
use output::Output;
use profile::Home;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return told_by_clap(&error),
    };
    let output = Output { json: cli.json };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(cli, output)),
        Err(error) => Err(Failure::machine("start", error)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(failure.report(output.json)),
    }
}

/// Prints the help that was asked for, or what is wrong with the command line, as JSON if that was asked for.
fn told_by_clap(error: &clap::Error) -> ExitCode {
    let as_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && as_json {
        let text = error.render().to_string();
        let sentence = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return ExitCode::from(Failure::usage(sentence).report(true));
    }
    // Whoever was to read it is gone.
    _ = error.print();
    if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS }
}

async fn run(cli: Cli, output: Output) -> Result<(), Failure> {
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "gig", &mut script);
        return output.line(String::from_utf8_lossy(&script).trim_end());
    }
    serving::set_up_logs(&cli.command);
    if let Some(owner) = cli.of.as_ref().filter(|_| !cli.command.is_about_logs()) {
        let message =
            format!("--of {owner} means channels that {owner} shares, and this command is about your own things");
        return Err(Failure::usage(message).hint("leave --of out, or log in as whoever is meant"));
    }
    let home = &Home::find(cli.home, cli.of)?;
    match cli.command {
        Command::Up(args) => serving::up(home, output, args).await,
        Command::Table { serve, action: None } => serving::table(output, serve).await,
        Command::Table { action: Some(TableAction::AddUser { user, admin, password_stdin }), .. } => {
            account::add_user(output, user, admin, password_stdin).await
        }
        Command::Table { action: Some(TableAction::ResetPassword { user, admin, password_stdin }), .. } => {
            account::reset_password(output, user, admin, password_stdin).await
        }
        Command::Store { serve, action: None } => serving::store(output, serve).await,
        Command::Store { action: Some(action), .. } => mounting::store(home, output, action).await,
        Command::Login(args) => account::login(home, output, args).await,
        Command::Logout { forget } => account::logout(home, output, forget).await,
        Command::Whoami => account::whoami(home, output).await,
        Command::Passwd { password_stdin } => account::passwd(home, output, password_stdin).await,
        Command::RecoveryCode => keyring::recovery_code(home, output).await,
        Command::Recover(args) => keyring::recover(home, output, args).await,
        Command::Identity => keyring::identity(home, output).await,
        Command::Share(args) => sharing::share(home, output, args).await,
        Command::Unshare { channel, user } => sharing::unshare(home, output, &channel, &user).await,
        Command::Shared { channel } => sharing::shared(home, output, channel).await,
        Command::Accept { owner, channel, fingerprint, plain } => {
            sharing::accept(home, output, (owner, channel), fingerprint, plain).await
        }
        Command::Unpin { user } => keyring::unpin(home, output, &user).await,
        Command::Channel { action } => mounting::channel(home, output, action).await,
        Command::Session { action } => account::session(home, output, action).await,
        Command::Push(args) => data::push(home, output, args).await,
        Command::Get(args) => data::get(home, output, args).await,
        Command::On(args) => data::on(home, output, args).await,
        Command::Ls { channel, prefix } => data::ls(home, output, &channel, &prefix).await,
        Command::Log(args) => pruning::log(home, output, args).await,
        Command::Prune(args) => pruning::prune(home, output, args).await,
        Command::Rm(args) => pruning::remove(home, output, args).await,
        Command::Status => standing::status(home, output).await,
        Command::Flush { channel, timeout } => standing::flush(home, output, channel, timeout).await,
        Command::Bench(args) => bench::bench(home, output, args).await,
        Command::Completions { .. } => Ok(()),
    }
}

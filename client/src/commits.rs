//! The task that asks the table to commit checkpoints: what comes within a moment goes in one request a channel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gigfs_core::api::{CommitBody, CommitResult, Proposal};
use gigfs_core::limits::COMMIT_LOGS_MAX;
use gigfs_core::sync::Event;
use gigfs_core::{ChannelName, ErrorCode, LogName, Refusal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::shared::Shared;
use crate::table::Table;

/// A question to the table about one log.
pub(crate) type Asked = (LogName, Proposal);

/// How long others are waited for that may go in the same request.
const GATHER: Duration = Duration::from_millis(20);
/// How long the table has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Acknowledgements in one request, each of some hundred bytes.
const REQUEST_ACKS_MAX: usize = 2_000;

/// Asks the table, request by request, until the client is closed.
pub(crate) async fn run(shared: Arc<Shared>, table: Option<Table>, mut inbox: mpsc::UnboundedReceiver<Asked>) {
    while let Some(first) = inbox.recv().await {
        sleep(GATHER).await;
        let mut by_channel: BTreeMap<ChannelName, Vec<Asked>> = BTreeMap::new();
        let mut next = Some(first);
        while let Some((log, proposal)) = next {
            by_channel.entry(log.channel.clone()).or_default().push((log, proposal));
            next = inbox.try_recv().ok();
        }
        for (channel, asked) in by_channel {
            for request in requests(asked) {
                ask(&shared, table.as_ref(), &channel, request).await;
            }
        }
    }
}

/// Divides questions into requests of bounded size.
fn requests(asked: Vec<Asked>) -> Vec<Vec<Asked>> {
    let mut requests: Vec<Vec<Asked>> = Vec::new();
    let mut acks = 0;
    for (log, proposal) in asked {
        acks += proposal.acks.len();
        match requests.last_mut() {
            Some(last) if last.len() < COMMIT_LOGS_MAX && acks <= REQUEST_ACKS_MAX => last.push((log, proposal)),
            _ => {
                acks = proposal.acks.len();
                requests.push(vec![(log, proposal)]);
            }
        }
    }
    requests
}

async fn ask(shared: &Arc<Shared>, table: Option<&Table>, channel: &ChannelName, asked: Vec<Asked>) {
    let (logs, proposals): (Vec<LogName>, Vec<Proposal>) = asked.into_iter().unzip();
    let answer = match table {
        Some(table) => {
            let body = CommitBody { logs: proposals };
            let late =
                |_| Err(Error::Unreachable { server: "the table".to_owned(), why: "it does not answer".to_owned() });
            timeout(ANSWER_TIMEOUT, table.commit(channel, &body)).await.unwrap_or_else(late)
        }
        None => Err(Error::System("this client has no table".to_owned())),
    };
    let results: Vec<Result<CommitResult, Refusal>> = match answer {
        Ok(results) => results.logs.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error.to_refusal()); logs.len()],
    };
    let unanswered = || Err(Refusal::new(ErrorCode::Internal, "the table answered fewer questions than it was asked"));
    let mut results = results.into_iter();
    shared.act(|replica, now| {
        for log in logs {
            let result = results.next().unwrap_or_else(unanswered);
            replica.handle(now, Event::Committed { log, result });
        }
    });
    shared.progressed();
}

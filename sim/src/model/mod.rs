//! The pruning rule alone, small enough to look at every world that it can come into.
//!
//! Two clients, one or two stores and a table share one log. A world is plain data (`world`); what each of them does is in
//! `act`, one point of the rule in one place; `step` lists everything that can happen next; [`search()`] takes every step
//! from every world, breadth first, and `heal` makes each world whole and says what is wrong with it. Nothing here knows the
//! code that the rule is built into, and nothing is random. A [`Rule`] without one of its points must be found out: that is the
//! check of the checker.
//!
//! # What may happen
//! Clients write, push to one store and read from one store, whole or (in the configurations named *partial*) operation by
//! operation in any order; they propose, have stores acknowledge, ask the table to commit, install, and tell stores and are
//! told what is under a base, each as a step of its own. A message that is late is a step that is taken late, since a sender keeps
//! what it sends, and an acknowledgement counts for ever. A client may propose whenever nothing that it holds is in doubt:
//! being in step with its stores saves it work, and nothing here relies on it. On top of this a configuration has plans of what
//! happens once, in order, at any time: stores join, leave, are abandoned or come back; a device, a store or the table goes
//! back to its backup. Two of these may go on at the same time.
//!
//! # What is owed
//! A replica *ought* to hold whatever it has held, as an operation or under its base; a store ought to hold, besides,
//! whatever a checkpoint covers that was committed while it belonged to the channel; and what a store held that was removed in
//! order, those that stay ought to hold. Only nature takes away from this: a replica that goes back to a backup ought to hold what
//! the backup holds, and an abandoned store nothing. An operation is *owed* as long as any replica ought to hold it. So an
//! operation that one store had acknowledged and that nobody else had is gone when that store goes back behind it: no rule
//! can bring it back, and none is asked to. In the same way, who ought to be able to say what the newest committed checkpoint
//! covers is remembered, and where all of them were taken back, an operation may stay in doubt for ever: kept by who has
//! it, shown as such, and folded by nobody, since whoever folded it might count it twice.
//!
//! # What must hold
//! In every world, no client counts an operation twice. Once everything is delivered that can be, from every world:
//! - each client's value has each owed operation exactly once, and all show the same;
//! - all have installed the newest committed checkpoint, nothing is in doubt, and a store that was told to leave has left;
//! - what is left above the base can be pruned: proposed, acknowledged by all stores, and committed;
//! - the committed checkpoints are one chain.
//!
//! # What it found in our own rule
//! The first form of the rule did not say these; without each, a search ends with a counterexample:
//! 1. *The greatest covered seq of an actor may not belong to a head* (`without-greatest-seq`). A device that was restored, did
//!    not notice, and read its own later operation a2 before it wrote a1' leaves a1' as its only head, whose seq is below a2's.
//!    Who takes the heads' greatest seq for the greatest covered one takes a2 for not covered, and counts it twice.
//! 2. *A store leaves when those that stay, and it itself, have the checkpoint that the register names*
//!    (`without-register-first`). A checkpoint that is committed and not yet installed is no operation and no base: a drain
//!    of both leaves it behind, and the register names for ever what nobody has.
//! 3. *Clients keep the list of covered shas too* (`without-client-list`). If only stores do, the restore of a channel's only
//!    store takes the list from everybody, and from then on no store can acknowledge and nobody can resolve a doubt.
//! 4. *A restored table begins a new term* (`without-term`). Epochs are of a term. A store that has acknowledged anything in a
//!    term installs nothing that was certified in an earlier one; a store that joins knows the term (`without-join-term`);
//!    a client installs what a store has installed (`without-store-first`). Without these, a certificate that was on its way
//!    when the table went back meets another checkpoint of the same generation. The table believes a certificate of an earlier term
//!    that names more than its register, and certifies that anew, until it has committed something in its own term. What its register
//!    names it certifies anew as well: stores refuse the old certificate.
//! 5. *What hangs in the air is left above a checkpoint.* An operation that arrived before one that it depends on, and whose
//!    author then lost that one, can never be covered, as what is covered is closed under `deps`. A client proposes what is
//!    closed, instead of nothing. What is written on top of such an operation is not covered either.
//! 6. *Who was told that an operation is not covered passes that on with it* (`without-vouching`). A client that has such an
//!    answer folds the operation. If the store that gave it goes back to a backup and has an incomplete list from then on, it refuses
//!    the operation for now, which is for ever, and other clients never see what this one shows.
//!
//! # What it does not look at
//! More than one backup of one thing, two clients and two stores that are all taken back, a table whose mount table goes back
//! with its register, states that differ for one covered set, reducers of different versions, and channels that no table knows
//! (points 8 and 9 of the rule).

mod act;
mod config;
mod heal;
mod rule;
mod search;
mod set;
mod step;
mod world;

pub use config::{Config, Size};
pub use rule::Rule;
pub use search::{Counterexample, Outcome, Watch, search};

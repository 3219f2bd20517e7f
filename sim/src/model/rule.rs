//! The rule, and what is left of it when one of its points is taken away.

/// Which points of the rule hold. [`Rule::OURS`] has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What is different about it.
    pub about: &'static str,
    /// The configuration that shows that it is broken, if it is.
    pub shown_by: &'static str,
    /// Point 1: a store acknowledges only a checkpoint whose parent is its own base.
    pub(super) ack_base: bool,
    /// Point 1: a store acknowledges only what covers operations that it holds.
    pub(super) ack_ops: bool,
    /// Point 2: the table has a register, which moves from parent to child.
    pub(super) register: bool,
    /// Point 2: the acknowledgements are those of all stores of the current epoch, and name that epoch.
    pub(super) epoch: bool,
    /// Point 2: a restored table begins a new term; who acknowledges in it installs nothing from an earlier one.
    pub(super) term: bool,
    /// Point 2: a store that joins does so in the present term.
    pub(super) join_term: bool,
    /// Point 3: stores discard under committed checkpoints only.
    pub(super) committed_only: bool,
    /// Point 4: a committed checkpoint is installed without its operations.
    pub(super) install_freely: bool,
    /// Point 4: a client installs what one of its stores has installed, and nothing before.
    pub(super) store_first: bool,
    /// Point 5: what is covered is decided by the sha, not by (actor, seq).
    pub(super) by_sha: bool,
    /// Point 5: a checkpoint names each actor's greatest covered seq, also where the operation that has it is no head.
    pub(super) greatest_seq: bool,
    /// Point 5: stores keep the shas of what is covered.
    pub(super) list: bool,
    /// Point 5: a client does not fold what may be covered before a store has said that it is not.
    pub(super) doubt: bool,
    /// Point 5: clients keep them too, as far as they know them.
    pub(super) client_list: bool,
    /// Point 5: who was told that an operation is not covered passes that on with it.
    pub(super) vouch: bool,
    /// Point 6: a client keeps its own operations until a committed base covers them.
    pub(super) keep_own: bool,
    /// Point 7: a store that leaves takes no more writes.
    pub(super) seal: bool,
    /// Point 7: a store that leaves is drained into the others.
    pub(super) drain: bool,
    /// Point 7: a store leaves only when all that stay have the checkpoint that the register names.
    pub(super) register_first: bool,
    /// Of GiG.fs: a checkpoint replaces whatever is older than itself, the newest one wins, and there is no register.
    pub(super) by_date: bool,
}

impl Rule {
    /// The rule of gigfs.
    pub const OURS: Self = Self {
        name: "ours",
        shown_by: "",
        about: "the rule of gigfs",
        ack_base: true,
        ack_ops: true,
        register: true,
        epoch: true,
        term: true,
        join_term: true,
        committed_only: true,
        install_freely: true,
        store_first: true,
        by_sha: true,
        greatest_seq: true,
        list: true,
        doubt: true,
        client_list: true,
        vouch: true,
        keep_own: true,
        seal: true,
        drain: true,
        register_first: true,
        by_date: false,
    };

    /// The rules that are broken, each of which the search must find out.
    pub const BROKEN: [Self; 20] = [
        Self {
            name: "gigfs",
            shown_by: "static-1",
            about: "a checkpoint replaces every operation older than itself",
            by_date: true,
            register: false,
            ..Self::OURS
        },
        Self {
            name: "leaderless",
            shown_by: "static-1",
            about: "a client commits by itself, with the acknowledgements of all stores that it knows",
            register: false,
            epoch: false,
            ..Self::OURS
        },
        Self {
            name: "without-ack-base-check",
            shown_by: "table-restore-1",
            about: "a store acknowledges a checkpoint whose parent is not its base",
            ack_base: false,
            ..Self::OURS
        },
        Self {
            name: "without-held-ops",
            shown_by: "device-restore-1",
            about: "a store acknowledges a checkpoint of operations that it does not hold",
            ack_ops: false,
            ..Self::OURS
        },
        Self {
            name: "without-epoch",
            shown_by: "swap-abandon-device-restore",
            about: "acknowledgements of the stores that the client knows suffice, of whatever epoch",
            epoch: false,
            ..Self::OURS
        },
        Self {
            name: "without-term",
            shown_by: "table-restore-1",
            about: "a restored table goes on as if nothing had happened",
            term: false,
            ..Self::OURS
        },
        Self {
            name: "without-join-term",
            shown_by: "table-restore-join",
            about: "a store joins without knowing the term",
            join_term: false,
            ..Self::OURS
        },
        Self {
            name: "without-store-first",
            shown_by: "table-restore-1",
            about: "a client installs a checkpoint once the table has told it, before any store has",
            store_first: false,
            ..Self::OURS
        },
        Self {
            name: "without-commit",
            shown_by: "device-restore-1",
            about: "a store discards what a checkpoint covers when it acknowledges it",
            committed_only: false,
            ..Self::OURS
        },
        Self {
            name: "without-free-install",
            shown_by: "static-1",
            about: "a checkpoint is installed only by who holds what it newly covers",
            install_freely: false,
            ..Self::OURS
        },
        Self {
            name: "without-sha",
            shown_by: "device-restore-1",
            about: "what is covered is decided by (actor, seq)",
            by_sha: false,
            ..Self::OURS
        },
        Self {
            name: "without-greatest-seq",
            shown_by: "device-restore-partial",
            about: "a checkpoint names only those of an actor's operations that no later one of it depends on",
            greatest_seq: false,
            ..Self::OURS
        },
        Self {
            name: "without-list",
            shown_by: "static-1",
            about: "stores forget the shas of what is covered",
            list: false,
            ..Self::OURS
        },
        Self {
            name: "without-doubt",
            shown_by: "static-1",
            about: "a client folds whatever it cannot prove to be covered",
            doubt: false,
            ..Self::OURS
        },
        Self {
            name: "without-client-list",
            shown_by: "swap-abandon",
            about: "clients forget the shas of what is covered, and only stores keep them",
            client_list: false,
            ..Self::OURS
        },
        Self {
            name: "without-vouching",
            shown_by: "both-restore",
            about: "a store believes no client that an operation is not covered",
            vouch: false,
            ..Self::OURS
        },
        Self {
            name: "without-keeping-own-ops",
            shown_by: "abandon",
            about: "a client drops its own operations once one store has accepted them",
            keep_own: false,
            ..Self::OURS
        },
        Self {
            name: "without-seal",
            shown_by: "leave-device-restore",
            about: "a store that leaves takes writes until it is gone",
            seal: false,
            ..Self::OURS
        },
        Self {
            name: "without-drain",
            shown_by: "leave-device-restore",
            about: "a store that leaves is not drained",
            drain: false,
            ..Self::OURS
        },
        Self {
            name: "without-register-first",
            shown_by: "swap-device-restore",
            about: "a store leaves before those that stay have what the register names",
            register_first: false,
            ..Self::OURS
        },
    ];

    /// Finds a rule by its name.
    pub fn named(name: &str) -> Option<Self> {
        std::iter::once(Self::OURS).chain(Self::BROKEN).find(|rule| rule.name == name)
    }
}

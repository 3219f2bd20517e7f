//! The configurations: how many of everything, and what is going to happen to them.

use super::set::Set;
use super::world::World;

/// Something that happens to a replica, or that a person does. Each plan's events happen in their order, at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A store is added to the channel, empty.
    Join(usize),
    /// A store is told to leave: it takes no more writes.
    Leave(usize),
    /// It has been drained, and the table removes it.
    Remove(usize),
    /// A store is removed that will never answer.
    Abandon(usize),
    BackUpDevice(usize),
    /// A device goes back to its backup, does not notice, and uses its (actor, seq) again.
    RestoreDevice(usize),
    /// A device goes back to its backup, notices, and has a new actor.
    RestoreDeviceAnew(usize),
    BackUpStore(usize),
    RestoreStore(usize),
    BackUpTable,
    RestoreTable,
}

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Seconds in a debug build.
    Quick,
    /// Seconds in a release build.
    Full,
    /// Minutes in a release build, and gigabytes.
    Long,
}

/// A small world with its bounds.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// What it is called on the command line.
    pub name: &'static str,
    /// How many operations are written at most.
    pub ops: usize,
    /// How many checkpoints are proposed at most.
    pub checkpoints: usize,
    /// Both, for each size of a search.
    bounds: [(usize, usize); 3],
    pub(super) stores: Set,
    pub(super) plans: [&'static [Event]; 2],
    /// Operations arrive one by one and in any order, at stores and at clients.
    pub(super) partial: bool,
    /// Nothing is said of one client that is not said of the other.
    pub(super) same_clients: bool,
    /// Nothing is said of one store that is not said of the other.
    pub(super) same_stores: bool,
}

use Event::{
    Abandon, BackUpDevice, BackUpStore, BackUpTable, Join, Leave, Remove, RestoreDevice, RestoreDeviceAnew,
    RestoreStore, RestoreTable,
};

const ONE: Set = Set::of(0);
const TWO: Set = Set::BOTH;
const NOTHING: [&[Event]; 2] = [&[], &[]];

const BASE: Config = Config {
    name: "",
    ops: 0,
    checkpoints: 0,
    bounds: [(0, 0); 3],
    stores: ONE,
    plans: NOTHING,
    partial: false,
    same_clients: true,
    same_stores: false,
};

impl Config {
    const TABLE: [Self; 24] = [
        Self { name: "static-1", bounds: [(2, 2), (3, 2), (3, 3)], ..BASE },
        Self { name: "static-2", bounds: [(2, 2), (3, 2), (3, 3)], stores: TWO, same_stores: true, ..BASE },
        Self { name: "partial-1", bounds: [(2, 2), (3, 2), (3, 3)], partial: true, ..BASE },
        Self {
            name: "partial-2",
            bounds: [(2, 2), (2, 3), (3, 2)],
            stores: TWO,
            same_stores: true,
            partial: true,
            ..BASE
        },
        Self { name: "join", bounds: [(2, 1), (2, 2), (3, 2)], plans: [&[Join(1)], &[]], ..BASE },
        Self {
            name: "leave",
            bounds: [(2, 1), (2, 2), (3, 2)],
            stores: TWO,
            plans: [&[Leave(1), Remove(1)], &[]],
            ..BASE
        },
        Self { name: "abandon", bounds: [(2, 1), (2, 2), (3, 2)], stores: TWO, plans: [&[Abandon(1)], &[]], ..BASE },
        Self {
            name: "abandon-return",
            bounds: [(1, 1), (2, 2), (2, 2)],
            stores: TWO,
            plans: [&[Abandon(1), Join(1)], &[]],
            ..BASE
        },
        Self { name: "swap", bounds: [(2, 1), (2, 2), (2, 3)], plans: [&[Join(1), Leave(0), Remove(0)], &[]], ..BASE },
        Self { name: "swap-abandon", bounds: [(2, 1), (2, 2), (2, 3)], plans: [&[Join(1), Abandon(0)], &[]], ..BASE },
        Self {
            name: "store-restore-1",
            bounds: [(2, 2), (3, 2), (3, 3)],
            plans: [&[BackUpStore(0), RestoreStore(0)], &[]],
            ..BASE
        },
        Self {
            name: "store-restore-2",
            bounds: [(2, 1), (2, 2), (3, 2)],
            stores: TWO,
            plans: [&[BackUpStore(1), RestoreStore(1)], &[]],
            ..BASE
        },
        Self {
            name: "device-restore-1",
            bounds: [(2, 2), (3, 2), (3, 3)],
            plans: [&[BackUpDevice(0), RestoreDevice(0)], &[]],
            same_clients: false,
            ..BASE
        },
        Self {
            name: "device-restore-2",
            bounds: [(2, 1), (2, 2), (3, 2)],
            stores: TWO,
            plans: [&[BackUpDevice(0), RestoreDevice(0)], &[]],
            same_clients: false,
            same_stores: true,
            ..BASE
        },
        Self {
            name: "device-restore-partial",
            bounds: [(3, 1), (3, 2), (3, 2)],
            plans: [&[BackUpDevice(0), RestoreDevice(0)], &[]],
            partial: true,
            same_clients: false,
            ..BASE
        },
        Self {
            name: "device-restore-anew",
            bounds: [(2, 2), (3, 2), (3, 3)],
            plans: [&[BackUpDevice(0), RestoreDeviceAnew(0)], &[]],
            same_clients: false,
            ..BASE
        },
        Self {
            name: "leave-device-restore",
            bounds: [(1, 1), (2, 2), (2, 2)],
            stores: TWO,
            plans: [&[Leave(1), Remove(1)], &[BackUpDevice(0), RestoreDevice(0)]],
            same_clients: false,
            ..BASE
        },
        Self {
            name: "swap-device-restore",
            bounds: [(1, 1), (2, 1), (2, 1)],
            plans: [&[Join(1), Leave(0), Remove(0)], &[BackUpDevice(0), RestoreDevice(0)]],
            same_clients: false,
            ..BASE
        },
        Self {
            name: "swap-abandon-device-restore",
            bounds: [(1, 1), (2, 1), (2, 1)],
            plans: [&[Join(1), Abandon(0)], &[BackUpDevice(0), RestoreDevice(0)]],
            same_clients: false,
            ..BASE
        },
        Self {
            name: "join-device-restore",
            bounds: [(1, 1), (2, 2), (2, 2)],
            plans: [&[Join(1)], &[BackUpDevice(0), RestoreDevice(0)]],
            same_clients: false,
            ..BASE
        },
        Self {
            name: "both-restore",
            bounds: [(2, 1), (3, 1), (3, 2)],
            plans: [&[BackUpStore(0), RestoreStore(0)], &[BackUpDevice(0), RestoreDevice(0)]],
            same_clients: false,
            ..BASE
        },
        Self {
            name: "table-restore-1",
            bounds: [(2, 2), (3, 2), (3, 3)],
            plans: [&[BackUpTable, RestoreTable], &[]],
            ..BASE
        },
        Self {
            name: "table-restore-2",
            bounds: [(2, 1), (2, 2), (2, 2)],
            stores: TWO,
            plans: [&[BackUpTable, RestoreTable], &[]],
            same_stores: true,
            ..BASE
        },
        Self {
            name: "table-restore-join",
            bounds: [(1, 1), (2, 2), (2, 2)],
            plans: [&[BackUpTable, RestoreTable], &[Join(1)]],
            ..BASE
        },
    ];

    /// Returns all configurations with the bounds of a size.
    pub fn all(size: Size) -> Vec<Self> {
        let sized = |config: Self| {
            let (ops, checkpoints) = config.bounds[size as usize];
            Self { ops, checkpoints, ..config }
        };
        Self::TABLE.into_iter().map(sized).collect()
    }

    /// Finds a configuration by its name.
    pub fn named(name: &str, size: Size) -> Option<Self> {
        Self::all(size).into_iter().find(|config| config.name == name)
    }

    pub(super) fn begin(&self) -> World {
        World::begin(self.stores)
    }

    /// The one world that stands for all that differ from this one only in names.
    pub(super) fn canonical(&self, world: World) -> World {
        let mut least = world;
        if self.same_clients {
            least = least.min(world.with_clients_swapped());
        }
        if self.same_stores {
            let stores = world.with_stores_swapped();
            least = least.min(stores);
            if self.same_clients {
                least = least.min(stores.with_clients_swapped());
            }
        }
        least
    }
}

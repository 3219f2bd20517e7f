//! Reads yrs updates (lib0 v1) before yrs does, so that bytes of a peer or a disk reach it only when they are sound.
//!
//! yrs trusts its input: hostile bytes can make it allocate without bound or panic halfway through a change. What a
//! [`Text`](super::Text) writes is a small part of what an update may hold: strings in one root, and deletions. This
//! reads that part, refuses the rest, and tells which ids an update makes and which it needs, so that yrs is only given
//! updates whose needs are met.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::limits::INTEGER_MAX;

/// The name of the one root that a text lives in. // persisted
pub(super) const ROOT: &str = "text";
/// The ids that one client may have made; yrs counts them in 31 bits.
const CLOCK_MAX: u32 = i32::MAX as u32;

/// How many ids each client has made: the clocks from 0 to this, exclusive.
pub(super) type Clocks = BTreeMap<u64, u32>;

/// One edit, as it is logged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edit {
    /// The update itself.
    pub(super) bytes: Vec<u8>,
    /// The ids that it makes, if it inserts anything.
    pub(super) made: Option<Span>,
    /// What must be there before it.
    needs: Clocks,
    /// Whether it inserts a character beyond the basic plane, which UTF-16 counts as two.
    pub(super) astral: bool,
}

/// A range of ids of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) client: u64,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What a whole document's update holds.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) clocks: Clocks,
    pub(super) astral: bool,
}

impl Edit {
    /// Reads an edit: at most one client's insertions, and deletions.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let parsed = Parsed::read(bytes, Holds::Edit)?;
        let mut needs = Clocks::new();
        let mut need = |client, end: u32| {
            let most = needs.entry(client).or_insert(end);
            *most = end.max(*most);
        };
        let mut made = None;
        for run in &parsed.runs {
            need(run.client, run.start);
            let mut end = run.start;
            for block in &run.blocks {
                for id in block.beside() {
                    match id.client == run.client && (run.start..end).contains(&id.clock) {
                        true => {}
                        false if id.client == run.client && id.clock >= end => return Err(FORWARD.to_owned()),
                        false => need(id.client, id.clock + 1),
                    }
                }
                end += block.len;
            }
            made = Some(Span { client: run.client, start: run.start, end });
        }
        for deleted in &parsed.deleted {
            match made {
                Some(made) if made.client == deleted.client && deleted.end > made.start => {
                    if deleted.end > made.end {
                        return Err(FORWARD.to_owned());
                    }
                }
                _ => need(deleted.client, deleted.end),
            }
        }
        needs.retain(|_, end| *end > 0);
        Ok(Self { bytes: bytes.to_vec(), made, needs, astral: parsed.astral })
    }

    /// Returns a client and how many ids of it the edit waits for, or `None` when all that it needs is there.
    pub(super) fn lacks(&self, clocks: &Clocks) -> Option<(u64, u32)> {
        let lacking = |(client, end): &(&u64, &u32)| clocks.get(*client).is_none_or(|known| known < *end);
        self.needs.iter().find(lacking).map(|(client, end)| (*client, *end))
    }

    /// Tells whether ids that the edit makes are already there.
    pub(super) fn is_taken(&self, clocks: &Clocks) -> bool {
        self.made.is_some_and(|made| clocks.get(&made.client).is_some_and(|known| *known > made.start))
    }
}

impl Document {
    /// Reads the update of a whole document: it makes every id from 0 on, and needs nothing from outside.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let parsed = Parsed::read(bytes, Holds::Document)?;
        let clocks = parsed.integrate()?;
        let known = |deleted: &Span| clocks.get(&deleted.client).is_some_and(|end| deleted.end <= *end);
        match parsed.deleted.iter().all(known) {
            true => Ok(Self { clocks, astral: parsed.astral }),
            false => Err("it deletes what it does not hold".to_owned()),
        }
    }
}

const FORWARD: &str = "it refers to an id that it has not made yet";

/// What an update may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// One client's insertions, whole.
    Edit,
    /// Many clients' insertions from the first on, some reduced to their length because they were deleted.
    Document,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id {
    client: u64,
    clock: u32,
}

/// Characters that were inserted together.
#[derive(Debug)]
struct Block<'a> {
    /// In UTF-16 units, each an id.
    len: u32,
    left: Option<Id>,
    right: Option<Id>,
    /// `None` where only the count is left of deleted characters.
    text: Option<&'a str>,
}

impl Block<'_> {
    fn beside(&self) -> impl Iterator<Item = Id> {
        self.left.into_iter().chain(self.right)
    }
}

/// One client's blocks.
#[derive(Debug)]
struct Run<'a> {
    client: u64,
    start: u32,
    blocks: Vec<Block<'a>>,
}

#[derive(Debug)]
struct Parsed<'a> {
    runs: Vec<Run<'a>>,
    deleted: Vec<Span>,
    astral: bool,
}

impl<'a> Parsed<'a> {
    fn read(bytes: &'a [u8], holds: Holds) -> Result<Self, String> {
        let mut reader = Reader(bytes);
        let mut parsed = Self { runs: Vec::new(), deleted: Vec::new(), astral: false };
        let mut clients = BTreeSet::new();
        for _ in 0..reader.number()? {
            let count = reader.number()?;
            let client = reader.client()?;
            let start = reader.clock()?;
            let fits = match holds {
                Holds::Edit => clients.is_empty(),
                Holds::Document => start == 0,
            };
            if count == 0 || !fits || !clients.insert(client) {
                return Err("it does not hold whole runs of one client each".to_owned());
            }
            let run = reader.run(client, start, count, holds, &mut parsed.astral)?;
            parsed.runs.push(run);
        }
        let mut clients = BTreeSet::new();
        for _ in 0..reader.number()? {
            let client = reader.client()?;
            if !clients.insert(client) {
                return Err("it names a client twice".to_owned());
            }
            let mut last = 0;
            for at in 0..reader.number()? {
                let start = reader.clock()?;
                let end = start.saturating_add(reader.clock()?);
                if end > CLOCK_MAX || start == end || (at > 0 && start <= last) {
                    return Err("its deletions are not in order".to_owned());
                }
                last = end;
                parsed.deleted.push(Span { client, start, end });
            }
        }
        match reader.0.is_empty() {
            true => Ok(parsed),
            false => Err("bytes follow its end".to_owned()),
        }
    }

    /// Checks that the blocks can be integrated in some order, and returns the ids that are there in the end.
    fn integrate(&self) -> Result<Clocks, String> {
        let runs: BTreeMap<u64, &Run<'_>> = self.runs.iter().map(|run| (run.client, run)).collect();
        let mut done: BTreeMap<u64, (usize, u32)> = runs.keys().map(|client| (*client, (0, 0))).collect();
        let mut waiting: BTreeMap<u64, BTreeSet<(u32, u64)>> = BTreeMap::new();
        let mut ready: Vec<u64> = runs.keys().copied().collect();
        let mut left = runs.len();
        while let Some(client) = ready.pop() {
            let (mut at, mut clock) = done[&client];
            let blocks = &runs[&client].blocks;
            let mut lacking = None;
            while let Some(block) = blocks.get(at) {
                let known = |client: u64| done.get(&client).map_or(0, |(_, clock)| *clock);
                let there = |id: &Id| id.clock < if id.client == client { clock } else { known(id.client) };
                lacking = block.beside().find(|id| !there(id));
                if lacking.is_some() {
                    break;
                }
                clock += block.len;
                at += 1;
            }
            done.insert(client, (at, clock));
            match lacking {
                Some(id) => {
                    waiting.entry(id.client).or_default().insert((id.clock, client));
                }
                None => left -= 1,
            }
            if let Some(waiting) = waiting.get_mut(&client) {
                while waiting.first().is_some_and(|(wanted, _)| *wanted < clock) {
                    ready.extend(waiting.pop_first().map(|(_, client)| client));
                }
            }
        }
        match left {
            0 => Ok(done.into_iter().map(|(client, (_, clock))| (client, clock)).collect()),
            _ => Err("it refers to ids that it does not hold".to_owned()),
        }
    }
}

/// Reads lib0 v1 from what is left of the bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn run(&mut self, client: u64, start: u32, count: u64, holds: Holds, astral: &mut bool) -> Result<Run<'a>, String> {
        let mut blocks = Vec::new();
        let mut end = start;
        for _ in 0..count {
            let block = self.block(holds, astral)?;
            end = end.checked_add(block.len).filter(|end| *end <= CLOCK_MAX).ok_or("it makes too many ids")?;
            blocks.push(block);
        }
        Ok(Run { client, start, blocks })
    }

    fn block(&mut self, holds: Holds, astral: &mut bool) -> Result<Block<'a>, String> {
        let info = self.byte()?;
        let left = (info & LEFT != 0).then(|| self.id()).transpose()?;
        let right = (info & RIGHT != 0).then(|| self.id()).transpose()?;
        if left.is_none() && right.is_none() && (self.number()? != 1 || self.string()? != ROOT) {
            return Err("it is not about the text".to_owned());
        }
        let (len, text) = match info & !(LEFT | RIGHT) {
            STRING => {
                let text = self.string()?;
                *astral |= has_astral(text);
                (text.encode_utf16().count() as u32, Some(text))
            }
            DELETED if holds == Holds::Document => (self.clock()?, None),
            other => return Err(format!("it holds something else than text, of kind {other}")),
        };
        match len {
            0 => Err("it holds an empty block".to_owned()),
            len => Ok(Block { len, left, right, text }),
        }
    }

    fn id(&mut self) -> Result<Id, String> {
        Ok(Id { client: self.client()?, clock: self.clock()? })
    }

    fn client(&mut self) -> Result<u64, String> {
        let client = self.number()?;
        if client > INTEGER_MAX { Err("a client id has more than 53 bits".to_owned()) } else { Ok(client) }
    }

    fn clock(&mut self) -> Result<u32, String> {
        let clock = self.number()?;
        u32::try_from(clock).ok().filter(|clock| *clock < CLOCK_MAX).ok_or_else(|| "a clock is too large".to_owned())
    }

    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number is too long".to_owned())
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let length = usize::try_from(self.number()?).map_err(|_| CUT)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| "its text is not UTF-8".to_owned())
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (byte, rest) = self.0.split_first().ok_or(CUT)?;
        self.0 = rest;
        Ok(*byte)
    }
}

const CUT: &str = "it ends too early";

/// Marks in a block's first byte: it has a left neighbour, it has a right one, what it holds.
const LEFT: u8 = 0x80;
const RIGHT: u8 = 0x40;
const DELETED: u8 = 1;
const STRING: u8 = 4;

/// Returns the one spelling of a document's update.
///
/// Where yrs cuts a client's characters into blocks depends on the order in which edits arrived. Here every block is as
/// long as it can be: cut only where a character does not follow the one before, or was inserted against another neighbour.
pub(super) fn canonical(update: &[u8]) -> Result<Vec<u8>, String> {
    let mut parsed = Parsed::read(update, Holds::Document)?;
    parsed.runs.sort_by_key(|run| std::cmp::Reverse(run.client));
    let mut out = Writer(Vec::with_capacity(update.len()));
    out.number(parsed.runs.len() as u64);
    for run in &parsed.runs {
        let mut clock = 0;
        let blocks = run.blocks.chunk_by(|block, next| {
            clock += block.len;
            let last = Id { client: run.client, clock: clock - 1 };
            next.left == Some(last) && next.right == block.right && next.text.is_some() == block.text.is_some()
        });
        let blocks: Vec<_> = blocks.collect();
        out.number(blocks.len() as u64);
        out.number(run.client);
        out.number(0);
        blocks.into_iter().for_each(|block| out.block(block));
    }
    let deleted: Vec<_> = parsed.deleted.chunk_by(|span, next| span.client == next.client).collect();
    out.number(deleted.len() as u64);
    for spans in deleted {
        out.number(spans[0].client);
        out.number(spans.len() as u64);
        for span in spans {
            out.number(span.start.into());
            out.number((span.end - span.start).into());
        }
    }
    Ok(out.0)
}

/// Writes lib0 v1.
struct Writer(Vec<u8>);

impl Writer {
    /// Writes blocks that follow each other as one.
    fn block(&mut self, parts: &[Block<'_>]) {
        let Block { left, right, text, .. } = &parts[0];
        let mark = |id: &Option<Id>, mark| if id.is_some() { mark } else { 0 };
        self.0.push(mark(left, LEFT) | mark(right, RIGHT) | if text.is_some() { STRING } else { DELETED });
        for id in parts[0].beside() {
            self.number(id.client);
            self.number(id.clock.into());
        }
        if left.is_none() && right.is_none() {
            self.number(1);
            self.string(&[ROOT]);
        }
        match text {
            Some(_) => self.string(&parts.iter().filter_map(|part| part.text).collect::<Vec<_>>()),
            None => self.number(parts.iter().map(|part| u64::from(part.len)).sum()),
        }
    }

    fn string(&mut self, parts: &[&str]) {
        self.number(parts.iter().map(|part| part.len() as u64).sum());
        parts.iter().for_each(|part| self.0.extend_from_slice(part.as_bytes()));
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// Tells whether UTF-16 counts some character of `text` as two.
pub(super) fn has_astral(text: &str) -> bool {
    text.bytes().any(|byte| byte >= 0xf0)
}

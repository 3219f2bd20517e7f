//! Attempts to log in, slowed for a user and for an address once several have failed.
//!
//! An attempt counts while it is looked at, and goes on counting unless it was right: once attempts are slowed, many at
//! once get no further than one after the other, and a right one changes nothing for whoever is guessing. A user of whom there is none is
//! counted like any other, so the answers do not tell. The delay of an address grows beyond that of a user: an address
//! that guesses is soon kept out for longer than the user, who gets in from another one meanwhile. Where a user has
//! logged in before, guesses from elsewhere delay nobody.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gigfs_core::{ErrorCode, Refusal, UserName};
use parking_lot::Mutex;

use crate::connections::network;

/// Too many attempts have failed; the next one is looked at after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts to log in have failed; the next is looked at in {} s", self.seconds())]
pub struct TooManyAttempts {
    /// How long to wait.
    pub retry_after: Duration,
}

impl TooManyAttempts {
    /// Returns the whole seconds to wait, at least one.
    pub fn seconds(&self) -> u64 {
        self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0)
    }
}

impl From<TooManyAttempts> for Refusal {
    fn from(refused: TooManyAttempts) -> Self {
        Self::new(ErrorCode::TooManyAttempts, refused.to_string())
            .hint("wait, and check the user name and the password; devices that are logged in are not affected")
            .retry_after(refused.seconds())
    }
}

/// All attempts that are remembered. Cheap to clone. Times are those since it was made.
#[derive(Debug, Clone)]
pub struct Attempts {
    memory: Arc<Mutex<Memory>>,
    since: Instant,
}

/// An attempt that was let through. It has failed when it is dropped, unless it was right.
#[must_use = "an attempt that was right is to be taken back"]
#[derive(Debug)]
pub struct Attempt {
    attempts: Attempts,
    user: Option<UserName>,
    address: IpAddr,
    has_failed: bool,
}

#[derive(Debug, Default)]
struct Memory {
    users: Failures<UserName>,
    addresses: Failures<IpAddr>,
    /// From where users have logged in, and when last.
    familiar: BTreeMap<(UserName, IpAddr), Duration>,
}

/// What has failed, by whom.
#[derive(Debug)]
struct Failures<K>(BTreeMap<K, Failed>);

#[derive(Debug, Clone, Copy)]
struct Failed {
    count: u32,
    /// Those that are being looked at.
    under_way: u32,
    /// When the last one was let through.
    last: Duration,
}

/// How delays grow.
struct Growth {
    /// Attempts that may fail without a delay.
    free: u32,
    /// The longest delay.
    most: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { memory: Arc::default(), since: Instant::now() }
    }
}

impl Attempts {
    /// Returns the present time.
    pub fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// Lets an attempt through, of somebody who wants to be this user; without one, of the admin.
    ///
    /// # Errors
    /// [`TooManyAttempts`] says when the next one is let through. It costs nothing to ask too early.
    pub fn begin(&self, user: Option<&UserName>, address: IpAddr, now: Duration) -> Result<Attempt, TooManyAttempts> {
        let address = network(address);
        let mut memory = self.memory.lock();
        let for_address = memory.addresses.delay(&address, &ADDRESS, now);
        let is_familiar = |user: &UserName| memory.familiar.contains_key(&(user.clone(), address));
        let for_user = match user {
            Some(user) if !is_familiar(user) => memory.users.delay(user, &USER, now),
            _ => Duration::ZERO,
        };
        let retry_after = for_address.max(for_user);
        if retry_after > Duration::ZERO {
            return Err(TooManyAttempts { retry_after });
        }
        memory.addresses.begin(address, now);
        if let Some(user) = user {
            memory.users.begin(user.clone(), now);
        }
        Ok(Attempt { attempts: self.clone(), user: user.cloned(), address, has_failed: true })
    }
}

impl Attempt {
    /// Takes the attempt back: it was right, or was not about the master at all.
    pub fn take_back(mut self) {
        self.has_failed = false;
    }

    /// Takes the attempt back, and remembers that the user logs in from there.
    pub fn was_right(self, now: Duration) {
        if let Some(user) = self.user.clone() {
            let familiar = &mut self.attempts.memory.lock().familiar;
            if familiar.len() >= FAMILIAR_MAX {
                forget_half(familiar, |last| *last);
            }
            familiar.insert((user, self.address), now);
        }
        self.take_back();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut memory = self.attempts.memory.lock();
        memory.addresses.end(&self.address, self.has_failed);
        if let Some(user) = &self.user {
            memory.users.end(user, self.has_failed);
        }
    }
}

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Failures<K> {
    fn delay(&self, key: &K, growth: &Growth, now: Duration) -> Duration {
        let Some(failed) = self.0.get(key).filter(|failed| !failed.is_forgotten(now)) else { return Duration::ZERO };
        let delay = match failed.count > growth.free {
            true => growth.delay(failed.count.saturating_add(failed.under_way)),
            // Many may log in at once, and rightly.
            false if failed.under_way < UNDER_WAY_MAX => return Duration::ZERO,
            false => growth.delay(growth.free + 1),
        };
        (failed.last + delay).saturating_sub(now)
    }

    fn begin(&mut self, key: K, now: Duration) {
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, failed| !failed.is_forgotten(now));
            if self.0.len() >= REMEMBERED_MAX {
                forget_half(&mut self.0, |failed| (failed.count, failed.last));
            }
        }
        let failed = self.0.entry(key).or_insert(Failed { count: 0, under_way: 0, last: now });
        if failed.is_forgotten(now) {
            failed.count = 0;
        }
        failed.under_way += 1;
        failed.last = now;
    }

    fn end(&mut self, key: &K, has_failed: bool) {
        let Some(failed) = self.0.get_mut(key) else { return };
        failed.under_way = failed.under_way.saturating_sub(1);
        failed.count = failed.count.saturating_add(u32::from(has_failed));
        if failed.count == 0 && failed.under_way == 0 {
            self.0.remove(key);
        }
    }
}

impl Failed {
    fn is_forgotten(&self, now: Duration) -> bool {
        now >= self.last + FORGOTTEN_AFTER
    }
}

impl Growth {
    /// A second after the first that counts, and twice as long after each further one.
    fn delay(&self, failed: u32) -> Duration {
        match failed.checked_sub(self.free + 1) {
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1_u64 << beyond.min(16)).min(self.most),
        }
    }
}

/// Forgets the half of the entries that matter least.
fn forget_half<K: Ord + Clone, V, R: Ord>(entries: &mut BTreeMap<K, V>, rank: impl Fn(&V) -> R) {
    let mut ranked: Vec<(R, K)> = entries.iter().map(|(key, value)| (rank(value), key.clone())).collect();
    ranked.sort();
    for (_, key) in ranked.drain(..entries.len() / 2) {
        entries.remove(&key);
    }
}

const USER: Growth = Growth { free: 10, most: Duration::from_secs(30) };
const ADDRESS: Growth = Growth { free: 10, most: Duration::from_secs(15 * 60) };
/// Without a further failure for so long, it is as if there had been none.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// Attempts that are looked at at once, of one user or from one address, while they are not slowed.
const UNDER_WAY_MAX: u32 = 64;
/// Users, and addresses, that are remembered.
const REMEMBERED_MAX: usize = 16 * 1024;
/// Users' addresses that are remembered.
const FAMILIAR_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;

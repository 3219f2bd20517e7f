//! Chance that can be replayed.

/// A sequence of numbers that a seed decides (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    /// Takes the seed from `GIG_SEED`, or one that the process id decides, and prints it so that a failure can be replayed.
    pub(crate) fn seeded(test: &str) -> Self {
        let given = std::env::var("GIG_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        println!("replay with: GIG_SEED={seed} cargo test -p gigfs-cli --test gig {test}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

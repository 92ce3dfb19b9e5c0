//! Seeds of random tests: the same in each run, so that a run fails for what was changed, and others where
//! they are asked for.

use std::ops::RangeInclusive;

/// Variable that asks for other seeds: one, or two with a dash.
const ASKED: &str = "LOCKSTEP_TEST_SEEDS";
const USUAL: u64 = 1;

/// The seeds that were asked for, or these.
///
/// # Panics
/// Where what was asked for is none.
pub fn seeds_or(usual: RangeInclusive<u64>) -> RangeInclusive<u64> {
    let Ok(asked) = std::env::var(ASKED) else { return usual };
    let (first, last) = asked.split_once('-').unwrap_or((&asked, &asked));
    let number = |text: &str| {
        text.parse().unwrap_or_else(|_| panic!("{ASKED}={asked} is no seed, nor two with a dash"))
    };
    number(first)..=number(last)
}

/// The seed of a test that runs one, printed: the first that was asked for, or the usual one.
///
/// # Panics
/// As [`seeds_or`].
pub fn seed() -> u64 {
    let seed = *seeds_or(USUAL..=USUAL).start();
    println!("seed {seed}");
    seed
}

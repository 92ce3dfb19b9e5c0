//! Options that an operator may turn.

use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Policy of reads, in configuration. All of it can be changed while the application runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadOptions {
    /// Share of keys that HybridRead answers from the target.
    pub canary_percent: Share,
    /// Share of reads that are made on both stores and compared: of DualWrite's, and of those of HybridRead
    /// that the target answers.
    pub shadow_percent: Share,
    /// Age of the oldest pending key from which HybridRead goes back to the source by itself.
    pub max_staleness_ms: u64,
    /// Shortest time between two questions of an instance how old that key is.
    pub standing_poll_ms: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            canary_percent: Share::ALL,
            // Enough to meet every query of a busy application within minutes, and a hundredth of the cost of
            // reading twice.
            shadow_percent: Share::of_basis_points(100),
            max_staleness_ms: 5_000,
            standing_poll_ms: 1_000,
        }
    }
}

/// A share from 0 to 100 percent, kept to a hundredth of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(u32);

/// A number that is no share.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} is not a percentage from 0 to 100")]
pub struct NotAShare(f64);

const WHOLE: u32 = 10_000;

impl Share {
    /// Nothing.
    pub const NONE: Share = Share(0);
    /// Everything.
    pub const ALL: Share = Share(WHOLE);

    /// A share in percent; a hundredth of a percent is the least that counts.
    ///
    /// ```
    /// use lockstep::Share;
    ///
    /// assert_eq!(Share::percent(100.0)?, Share::ALL);
    /// assert!(Share::percent(2.5)? < Share::percent(2.51)?);
    /// assert!(Share::percent(101.0).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When it is not from 0 to 100.
    pub fn percent(percent: f64) -> Result<Self, NotAShare> {
        if (0.0..=100.0).contains(&percent) {
            Ok(Self((percent * 100.0).round() as u32))
        } else {
            Err(NotAShare(percent))
        }
    }

    pub(super) const fn of_basis_points(points: u32) -> Self {
        Self(points)
    }

    pub(super) fn basis_points(self) -> u32 {
        self.0
    }

    /// Whether the key with this hash is within the share: always the same answer, and a larger share
    /// has every key of a smaller one.
    pub(super) fn covers(self, hash: u64) -> bool {
        // The high bits, scaled: every bit of the hash counts alike, and nothing is divided.
        ((u128::from(hash) * u128::from(WHOLE)) >> 64) < u128::from(self.0)
    }

    /// Whether chance says so.
    pub(super) fn draw(self) -> bool {
        match self.0 {
            0 => false,
            WHOLE.. => true,
            points => rand::rng().random_range(0..WHOLE) < points,
        }
    }
}

impl TryFrom<f64> for Share {
    type Error = NotAShare;
    fn try_from(percent: f64) -> Result<Self, NotAShare> {
        Self::percent(percent)
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> f64 {
        f64::from(share.0) / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_and_nothing_else() {
        for (percent, points) in [(0.0, 0), (0.01, 1), (12.5, 1_250), (100.0, WHOLE)] {
            assert_eq!(Share::percent(percent).map(Share::basis_points), Ok(points));
            assert!((f64::from(Share(points)) - percent).abs() < 1e-9);
        }
        for percent in [-0.1, 100.1, f64::NAN] {
            assert!(Share::percent(percent).is_err(), "{percent}");
        }
    }

    #[test]
    fn options_read_as_percent_and_refuse_what_they_do_not_know() {
        let read: ReadOptions =
            serde_json::from_str(r#"{"canary_percent": 2.5, "max_staleness_ms": 100}"#).expect("options");
        assert_eq!(read.canary_percent, Share(250));
        assert_eq!((read.max_staleness_ms, read.standing_poll_ms), (100, 1_000));
        assert!(serde_json::from_str::<ReadOptions>(r#"{"canary": 1}"#).is_err());
        assert!(serde_json::from_str::<ReadOptions>(r#"{"canary_percent": 101}"#).is_err());
    }
}

//! Lag of the target, asked by its readers: cheap enough for every second of every instance.

use std::time::Duration;

use lockstep_core::{Doing, Result};

use super::Source;
use crate::sql;

/// Most pending keys that one question counts. The set has no index on age, on purpose, as it churns; a set
/// of this size takes milliseconds to look through, and one that is larger is behind whatever its age.
const LOOKED_AT_MAX: i64 = 50_000;

/// Facts about one table that a reader of the target needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Age of the oldest pending key.
    pub oldest: Oldest,
    /// Whether rows are set aside that no operator has acknowledged: the target does not have them.
    pub dead_letters: bool,
}

/// Age of the oldest pending key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Oldest {
    /// Nothing is pending.
    None,
    /// This old.
    Age(Duration),
    /// There are too many for their age to be looked up, or their age cannot be known.
    TooMany,
}

impl Source {
    /// Returns how far a table of the target is behind.
    ///
    /// A mark of the future was made before the source's clock was set back, and how old it is cannot be
    /// told: then the target counts as behind, whatever the others say, until it is delivered.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn standing(&self, table: &str) -> Result<Standing> {
        let (keys, oldest_s, of_future, dead_letters): (i64, f64, bool, bool) = sql::query_as(
            "SELECT pg_catalog.count(*), coalesce(extract(epoch
                FROM pg_catalog.clock_timestamp() - pg_catalog.min(marked_at)), 0)::float8,
                    coalesce(pg_catalog.max(marked_at) > pg_catalog.clock_timestamp() + interval '1 second',
                        false),
                    EXISTS (SELECT 1 FROM lockstep.dead_letters WHERE table_name = $1 AND acknowledged_at IS NULL)
             FROM (SELECT marked_at FROM lockstep.pending WHERE table_name = $1
                   -- A mark to be: its key may be a phantom's.
                   UNION ALL SELECT made_at FROM lockstep.intents WHERE table_name = $1 LIMIT $2) AS p",
        )
        .bind(table)
        .bind(LOOKED_AT_MAX + 1)
        .fetch_one(self.pool())
        .await
        .doing("asking how far the target is behind")?;
        let oldest = match keys {
            0 => Oldest::None,
            _ if of_future => Oldest::TooMany,
            1..=LOOKED_AT_MAX => {
                Oldest::Age(Duration::try_from_secs_f64(oldest_s.max(0.0)).unwrap_or(Duration::MAX))
            }
            _ => Oldest::TooMany,
        };
        Ok(Standing { oldest, dead_letters })
    }
}

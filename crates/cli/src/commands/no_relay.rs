//! Sentence of a comparison where a key waits for a relay and none runs.
//!
//! 1. An operator gives `validate`, and no relay runs. 2. A key is pending, so the comparison waits for it,
//! for the whole settle time-out. 3. Nothing is said, and in the end a key was "still on the way".

use std::time::Duration;

use lockstep_postgres::{Source, TableBinding};

use crate::Context;
use crate::ui::count;

/// Interval between looks, and age from which a key waits for a relay: an application delivers its own
/// changes in less.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Returns the result of `comparing`, and says once, while it goes on, that keys wait and no relay runs.
pub(super) async fn told_beside<T>(
    context: &Context,
    source: &Source,
    tables: &[TableBinding],
    comparing: impl Future<Output = T>,
) -> T {
    tokio::pin!(comparing);
    let telling = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // A source that does not answer is for the comparison to say.
            if let Ok(Some(said)) = what_waits(source, tables).await {
                context.ui.warn(&said);
                return;
            }
        }
    };
    tokio::select! {
        biased;
        done = &mut comparing => return done,
        () = telling => {}
    }
    comparing.await
}

/// Returns the sentence on keys that wait, where no relay runs.
async fn what_waits(source: &Source, tables: &[TableBinding]) -> lockstep_core::Result<Option<String>> {
    if source.relays().await?.iter().any(lockstep_postgres::RelayRow::is_live) {
        return Ok(None);
    }
    for binding in tables {
        let lag = source.lag(binding.name()).await?;
        if lag.keys > 0 && lag.oldest_s >= LOOK_EVERY.as_secs_f64() {
            return Ok(Some(sentence(binding.name(), lag.keys.unsigned_abs(), lag.oldest_s)));
        }
    }
    Ok(None)
}

fn sentence(table: &str, keys: u64, oldest_s: f64) -> String {
    let keys = if keys == 1 { "1 key waits".to_owned() } else { format!("{} keys wait", count(keys)) };
    format!(
        "{table}: {keys} for delivery, the oldest for {oldest_s:.0} s, and no relay runs: this comparison \
         waits for one. Run `cargo xtask relay` beside it, or give --no-relay, which counts what is \
         pending at once"
    )
}

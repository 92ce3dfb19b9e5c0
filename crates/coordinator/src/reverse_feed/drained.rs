//! Whether everything that was written before now has come through.
//!
//! An answer without records proves nothing: DynamoDB gives such answers in the midst of a shard. So markers
//! are written, and waited for. 1. A marker is written after every write that matters. 2. Within a shard,
//! records are in the order in which its partition took the writes. 3. So a shard that has shown a marker of
//! this round has shown everything before it. Which shard a marker goes to is not ours to choose; markers are
//! spread over the hashes of their keys, and more of them are written until every shard has shown one, or is
//! closed and was read to its end. A shard that split meanwhile is closed, and its children have to show one
//! as well; one that is closed and has no child yet is waited for, as its child may be listed late.
//!
//! Who asks must have made sure that nothing more is written, requests under way included: leases are over or
//! acknowledged.

use std::time::Duration;

use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_core::{Kind, Result as StoreResult};
use lockstep_dynamo::Backoff;
use lockstep_dynamo::streams::{Shard, StreamError, TableStream, childless};
use lockstep_postgres::TableBinding;
use serde::Serialize;
use tokio::time::Instant;

use crate::error::Result;
use crate::options::Migration;

/// How often it is looked at how far the feed has come, and how often more markers are written.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const MARKERS_EVERY: Duration = Duration::from_millis(500);
/// Markers of one go: with eight a shard, one of a thousand shards is missed in three goes.
const MARKERS_PER_SHARD: usize = 8;
/// Most markers of a round. A shard that none of this number has met holds a single hot key; then the answer
/// is no.
const MARKERS_MAX: u32 = 20_000;
const REQUESTS_IN_FLIGHT: usize = 64;
/// How often shards are listed: DynamoDB answers ten such questions a second, for all callers together.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// Number of markers that are taken away at once.
const FEW_MARKERS: u32 = 64;

/// How far the feed of a table is through.
#[derive(Clone, Debug, Serialize)]
pub struct Drained {
    /// Whether everything that was written before the question has come through.
    pub through: bool,
    /// What is missing, if anything.
    pub waits_for: Vec<String>,
    /// Shards that the stream has.
    pub shards: usize,
    /// Markers that were written.
    pub markers: u32,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Waits, for at most `within`, until everything that was written to a table before this call has been
/// applied by its feed, which runs here or elsewhere.
///
/// # Errors
/// The stores'. That it is not through in time is no error but an answer.
///
/// # Cancel safety
/// Markers may be left behind; they are tombstones, which every reader passes over, and the next round
/// overwrites them.
#[crate::boxed]
pub async fn drained(migration: &Migration, binding: &TableBinding, within: Duration) -> Result<Drained> {
    let stream = migration.target.enable_stream(&binding.target_name).await?;
    drained_of(migration, binding, &stream, within).await
}

/// The same for several tables at once, given the wait for each. That each was through at some moment is not
/// enough: an item of one table that is settled last may drag rows of another along, which was through.
pub(crate) async fn all_drained<F>(
    migration: &Migration,
    within: Duration,
    wait: impl Fn(usize, Duration) -> F,
) -> Result<Vec<Drained>>
where
    F: Future<Output = Result<Drained>>,
{
    let ends = Instant::now() + within;
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        let mut drained = try_join_all((0..migration.tables.len()).map(|at| wait(at, left))).await?;
        let is_through = drained.iter().all(|table| table.through);
        let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
        if !is_through || migration.source.reverse_left(&names).await? == 0 {
            return Ok(drained);
        }
        if Instant::now() >= ends {
            for table in &mut drained {
                table.through = false;
                table.waits_for = vec!["cascades or triggers change rows again and again".to_owned()];
            }
            return Ok(drained);
        }
    }
}

/// The same for a caller that knows which stream is on.
pub(crate) async fn drained_of(
    migration: &Migration,
    binding: &TableBinding,
    stream: &TableStream,
    within: Duration,
) -> Result<Drained> {
    let begun = Instant::now();
    let ends = begun + within;
    let round = format!("{:032x}", rand::random::<u128>());
    let (mut markers, mut written_at) = (0, None::<Instant>);
    let mut listed = list(stream, begun.checked_sub(LIST_EVERY).unwrap_or(begun), ends).await?;
    let (through, waits_for, shards) = loop {
        let Some((listed_at, shards)) = &listed else {
            break (false, vec!["the shards of its stream could not be listed in time".to_owned()], 0);
        };
        let missing = missing(migration, binding, shards, &round).await?;
        if missing.shards.is_empty() && missing.others.is_empty() {
            if *listed_at >= begun {
                break (true, Vec::new(), shards.len());
            }
            // By shards of a moment ago. What was split since must have come through as well.
            listed = list(stream, begun, ends).await?;
            continue;
        }
        if Instant::now() >= ends {
            let of_shards = missing
                .shards
                .iter()
                .map(|shard| format!("shard {shard} has not come so far; does a reverse feed run?"));
            break (false, of_shards.chain(missing.others).collect(), shards.len());
        }
        let due = written_at.is_none_or(|at| at.elapsed() >= MARKERS_EVERY);
        if due && !missing.shards.is_empty() && markers < MARKERS_MAX {
            // Closed shards take none.
            let more = u32::try_from(MARKERS_PER_SHARD * missing.open.max(1)).unwrap_or(MARKERS_MAX);
            write(migration, binding, markers..markers + more, &round).await?;
            markers += more;
            written_at = Some(Instant::now());
        }
        if listed_at.elapsed() >= LIST_EVERY {
            let before = Instant::now().checked_sub(LIST_EVERY).unwrap_or(begun);
            listed = list(stream, before, ends).await?.or(listed);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    if markers <= FEW_MARKERS {
        remove(migration, binding, markers).await;
    } else {
        // No writer waits for that in a pause.
        let (migration, binding) = (migration.clone(), binding.clone());
        tokio::spawn(async move { remove(&migration, &binding, markers).await });
    }
    let took_ms = begun.elapsed().as_millis() as u64;
    Ok(Drained { through, waits_for, shards, markers, took_ms })
}

struct Missing {
    shards: Vec<String>,
    others: Vec<String>,
    /// Shards that are not known to be closed.
    open: usize,
}

/// What has not come through yet.
async fn missing(
    migration: &Migration,
    binding: &TableBinding,
    shards: &[Shard],
    round: &str,
) -> Result<Missing> {
    let source = &migration.source;
    let read = source.reverse_shards(binding.name()).await?;
    let through = |shard: &&Shard| match read.get(&shard.id) {
        Some((finished, marker)) => *finished || marker.as_deref() == Some(round),
        None => false,
    };
    let open =
        shards.iter().filter(|shard| read.get(&shard.id).is_none_or(|(finished, _)| !finished)).count();
    let finished = read.iter().filter(|(_, (finished, _))| *finished).map(|(id, _)| id.clone()).collect();
    let mut others: Vec<String> = Vec::new();
    for shard in childless(shards, &finished) {
        others.push(format!("shard {} is closed, and what follows it is not listed yet", shard.id));
    }
    // First: they become items to be read again.
    let riders = source.riders(binding.name()).await?;
    if riders > 0 {
        others.push(format!("{riders} rows that a cascade or a trigger has changed in PostgreSQL alone"));
    }
    if let Some(standing) = source.reverse_standing(binding.name()).await?
        && standing.again > 0
    {
        let why = standing.again_why.unwrap_or_default();
        others.push(format!(
            "{} items whose rows PostgreSQL would not have ({why}); `dead-letters` lists those that stay so",
            standing.again
        ));
    }
    let shards = shards.iter().filter(|shard| !through(shard)).map(|shard| shard.id.clone()).collect();
    Ok(Missing { shards, others, open })
}

/// The shards as they were at `since` or later, and when that was; `None` where there is no answer until
/// `ends`.
async fn list(
    stream: &TableStream,
    since: Instant,
    ends: Instant,
) -> StoreResult<Option<(Instant, Vec<Shard>)>> {
    let shards = || async {
        stream.shards_since(since).await.map_err(|error| match error {
            StreamError::Store(error) => error,
            other => lockstep_core::Error::target(Kind::Unavailable, "listing shards", other.to_string()),
        })
    };
    // Once at least, however short the time.
    let ends = ends.max(Instant::now() + Duration::from_millis(500));
    match tokio::time::timeout_at(ends, Backoff::patient().retry(shards)).await {
        Ok(listed) => listed.map(Some),
        Err(_) => Ok(None),
    }
}

async fn write(
    migration: &Migration,
    binding: &TableBinding,
    numbers: std::ops::Range<u32>,
    round: &str,
) -> Result<()> {
    let schema = &binding.table.target();
    let (target, table) = (&migration.target, &binding.target_name);
    let put = |number| Backoff::brief().retry(move || target.put_marker(table, schema, number, round));
    stream::iter(numbers)
        .map(|number| Ok(put(number)))
        .try_buffer_unordered(REQUESTS_IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

/// Takes the markers away. One that stays is a tombstone, and the next round takes it up.
async fn remove(migration: &Migration, binding: &TableBinding, markers: u32) {
    let schema = binding.table.target();
    let gone = stream::iter(0..markers)
        .map(|number| migration.target.remove_marker(&binding.target_name, &schema, number));
    let failed = gone
        .buffer_unordered(REQUESTS_IN_FLIGHT)
        .filter(|gone| std::future::ready(gone.is_err()))
        .count()
        .await;
    if failed > 0 {
        tracing::debug!(table = binding.name(), failed, "markers were left behind");
    }
}

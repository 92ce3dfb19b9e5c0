//! Whether everything that was written before now has come through.
//!
//! An answer without records proves nothing: DynamoDB gives such answers in the midst of a shard. So markers
//! are written, and waited for. 1. A marker is written after every write that matters. 2. Within a shard,
//! records are in the order in which its partition took the writes. 3. So a shard that has shown a marker of
//! this round has shown everything before it. We cannot choose the shard that a marker goes to; markers are
//! spread over the hashes of their keys, and more of them are written until every shard has shown one, or is
//! closed and was read to its end. A shard that split meanwhile is closed, and its children have to show one
//! as well; one that is closed and has no child yet is waited for, as its child may be listed late. So may
//! the second of its two children: every marker has to be seen, and those that the second one took are not.
//!
//! What was written while a stream was off is in no stream. Where the feed has noted such a loss, markers
//! prove nothing of what was lost, and the answer is no until the whole target was read.
//!
//! Who asks must have made sure that nothing more is written, requests under way included: leases are over or
//! acknowledged.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use lockstep_core::{Kind, Result as StoreResult};
use lockstep_dynamo::Backoff;
use lockstep_dynamo::streams::{Shard, StreamError, TableStream};
use lockstep_postgres::TableBinding;
use serde::Serialize;
use tokio::time::Instant;

use super::missing::missing;
use crate::error::Result;
use crate::options::MigrationContext;

/// Interval between looks at how far the feed has come, and the one at which more markers are written.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const MARKERS_EVERY: Duration = Duration::from_millis(500);
/// Markers of one go: with eight a shard, one of a thousand shards is missed in three goes.
const MARKERS_PER_SHARD: usize = 8;
/// Fewest markers of a go. A shard that is not listed is found by the markers that it took; one of two that
/// are alike is missed by all of these once in 65,000 times.
const MARKERS_MIN: usize = 16;
/// Most markers of a round. A shard that none of this number has met holds a single hot key; then the answer
/// is no.
const MARKERS_MAX: u32 = 20_000;
const REQUESTS_IN_FLIGHT: usize = 64;
/// Tables that DynamoDB is asked about at once.
const TABLES_IN_FLIGHT: usize = 16;
/// Interval at which shards are listed: DynamoDB answers ten such questions a second, for all callers
/// together.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// Number of markers that are taken away at once.
const FEW_MARKERS: u32 = 64;

/// Result of the wait until the feed of a table is through.
#[derive(Clone, Debug, Serialize)]
pub struct Drained {
    /// Whether everything that was written before the question has come through.
    pub through: bool,
    /// Sentences that say what is missing, if anything.
    pub waits_for: Vec<String>,
    /// Shards that the stream has.
    pub shards: usize,
    /// Markers that were written.
    pub markers: u32,
    /// Milliseconds that it took.
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
pub async fn drained(
    migration: &MigrationContext,
    binding: &TableBinding,
    within: Duration,
) -> Result<Drained> {
    let stream = migration.target.enable_stream(&binding.target_name).await?;
    let mut drained = round(migration, &[binding], &[stream], within).await?;
    Ok(drained.remove(0))
}

/// Returns the same for all tables at once, given their streams, in their order. That each was through at
/// some moment is not enough: an item of one table that is done last may drag rows of another along, which
/// was through.
pub(crate) async fn all_drained(
    migration: &MigrationContext,
    streams: &[TableStream],
    within: Duration,
) -> Result<Vec<Drained>> {
    let ends = Instant::now() + within;
    let tables: Vec<&TableBinding> = migration.tables.iter().collect();
    let names: Vec<&str> = migration.tables.iter().map(TableBinding::name).collect();
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        let mut drained = round(migration, &tables, streams, left).await?;
        let is_through = drained.iter().all(|table| table.through);
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

/// Returns the streams of all tables, in their order; those that are off are switched on.
pub(crate) async fn streams(migration: &MigrationContext) -> Result<Vec<TableStream>> {
    let enable = |binding: &TableBinding| {
        let name = binding.target_name.clone();
        async move { migration.target.enable_stream(&name).await }
    };
    let enabled = migration.tables.iter().map(enable).collect::<Vec<_>>();
    Ok(stream::iter(enabled).buffered(TABLES_IN_FLIGHT).try_collect().await?)
}

/// One table of a round.
struct Waiting<'a> {
    binding: &'a TableBinding,
    stream: &'a TableStream,
    /// Shards of the table, and when they were listed.
    listed: Option<(Instant, Vec<Shard>)>,
    markers: u32,
    written_at: Option<Instant>,
    drained: Option<Drained>,
}

impl Waiting<'_> {
    fn end(&mut self, begun: Instant, waits_for: Vec<String>) {
        let shards = self.listed.as_ref().map_or(0, |(_, shards)| shards.len());
        let took_ms = begun.elapsed().as_millis() as u64;
        let (through, markers) = (waits_for.is_empty(), self.markers);
        self.drained = Some(Drained { through, waits_for, shards, markers, took_ms });
    }
}

/// Answer that a table needs before it is looked at once more.
enum Need {
    /// List of its shards as they are at this moment or later.
    List(Instant),
    /// This number of markers more.
    Markers(u32),
}

/// Sees each of these tables through for at most `within`. All are looked at by one statement, and what
/// DynamoDB is asked of one table waits for no other's answer.
async fn round(
    migration: &MigrationContext,
    tables: &[&TableBinding],
    streams: &[TableStream],
    within: Duration,
) -> Result<Vec<Drained>> {
    let begun = Instant::now();
    let ends = begun + within;
    let round = format!("{:032x}", rand::random::<u128>());
    let waiting = tables.iter().zip(streams).map(|(&binding, stream)| Waiting {
        binding,
        stream,
        listed: None,
        markers: 0,
        written_at: None,
        drained: None,
    });
    let mut waiting: Vec<Waiting<'_>> = waiting.collect();
    let lately = || Instant::now().checked_sub(LIST_EVERY).unwrap_or(begun);
    let needs = (0..waiting.len()).map(|at| (at, Need::List(lately()))).collect();
    meet(migration, &mut waiting, needs, &round, ends).await?;
    loop {
        let open: Vec<usize> = (0..waiting.len()).filter(|at| waiting[*at].drained.is_none()).collect();
        if open.is_empty() {
            break;
        }
        let names: Vec<&str> = open.iter().map(|at| waiting[*at].binding.name()).collect();
        let read = migration.source.reverse_drains(&names, &round).await?;
        let (mut needs, mut is_to_wait) = (Vec::new(), false);
        for (at, read) in open.into_iter().zip(read) {
            let table = &mut waiting[at];
            let Some((listed_at, shards)) = &table.listed else {
                table.end(begun, vec!["the shards of its stream could not be listed in time".to_owned()]);
                continue;
            };
            let (listed_at, missing) = (*listed_at, missing(read, shards, &round, table.markers));
            if missing.shards.is_empty() && missing.others.is_empty() {
                if listed_at >= begun {
                    table.end(begun, missing.lost);
                } else {
                    // By shards of a moment ago. The children of a shard that was split since must have come
                    // through as well.
                    needs.push((at, Need::List(begun)));
                }
                continue;
            }
            if Instant::now() >= ends {
                let of_shards = missing
                    .shards
                    .iter()
                    .map(|shard| format!("shard {shard} has not come so far; does a reverse feed run?"));
                table.end(begun, of_shards.chain(missing.others).collect());
                continue;
            }
            is_to_wait = true;
            let due = table.written_at.is_none_or(|at| at.elapsed() >= MARKERS_EVERY);
            if due && !missing.shards.is_empty() && table.markers < MARKERS_MAX {
                // Closed shards take none.
                needs.push((at, Need::Markers(markers_of_a_go(missing.open))));
            }
            if listed_at.elapsed() >= LIST_EVERY {
                needs.push((at, Need::List(lately())));
            }
        }
        meet(migration, &mut waiting, needs, &round, ends).await?;
        if is_to_wait {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    take_away(migration, &waiting, &round).await;
    Ok(waiting.into_iter().filter_map(|table| table.drained).collect())
}

/// Asks DynamoDB for what tables need, with a bound on how many are asked at once.
async fn meet(
    migration: &MigrationContext,
    waiting: &mut [Waiting<'_>],
    needs: Vec<(usize, Need)>,
    round: &str,
    ends: Instant,
) -> Result<()> {
    let mut asked: Vec<BoxFuture<'_, Result<(usize, Met)>>> = Vec::with_capacity(needs.len());
    for (at, need) in needs {
        let Waiting { binding, stream, markers, .. } = &waiting[at];
        let (binding, stream, from) = (*binding, *stream, *markers);
        asked.push(match need {
            Need::List(since) => {
                async move { Ok((at, Met::Listed(list(stream, since, ends).await?))) }.boxed()
            }
            Need::Markers(more) => async move {
                write(migration, binding, from..from + more, round).await?;
                Ok((at, Met::Written(more)))
            }
            .boxed(),
        });
    }
    let met: Vec<(usize, Met)> = stream::iter(asked).buffer_unordered(TABLES_IN_FLIGHT).try_collect().await?;
    for (at, met) in met {
        let table = &mut waiting[at];
        match met {
            Met::Listed(listed) => table.listed = listed.or(table.listed.take()),
            Met::Written(more) => {
                table.markers += more;
                table.written_at = Some(Instant::now());
            }
        }
    }
    Ok(())
}

/// Answer to a [`Need`].
enum Met {
    Listed(Option<(Instant, Vec<Shard>)>),
    Written(u32),
}

/// Returns how many markers one go writes, with this number of open shards.
fn markers_of_a_go(open: usize) -> u32 {
    u32::try_from((MARKERS_PER_SHARD * open).max(MARKERS_MIN)).unwrap_or(MARKERS_MAX)
}

/// Takes the markers of a round away, and what the feed has noted of them.
async fn take_away(migration: &MigrationContext, waiting: &[Waiting<'_>], round: &str) {
    let names: Vec<&str> = waiting.iter().map(|table| table.binding.name()).collect();
    if let Err(error) = migration.source.forget_markers(&names, round).await {
        tracing::debug!("the markers that came through are kept until the next round: {error}");
    }
    let left: Vec<(TableBinding, u32)> =
        waiting.iter().map(|table| (table.binding.clone(), table.markers)).collect();
    let all: u32 = left.iter().map(|(_, markers)| markers).sum();
    let migration = migration.clone();
    let gone = async move {
        for (binding, markers) in left {
            remove(&migration, &binding, markers).await;
        }
    };
    if all <= FEW_MARKERS {
        gone.await;
    } else {
        // No writer waits for that in a pause.
        tokio::spawn(gone);
    }
}

/// Returns the shards as they were at `since` or later, and when that was; `None` where there is no answer
/// until `ends`.
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
    migration: &MigrationContext,
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
async fn remove(migration: &MigrationContext, binding: &TableBinding, markers: u32) {
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

//! One item that is noted to be read again: what it is now, and what is to be done about it.

use lockstep_core::{AnyRow, Attributes, Doing, Error, Result, Version, is_tombstone, version_of};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::FedTable;
use super::accepted::noted_of;
use super::entry::{Entry, State, row_at};
use super::epochs::Epochs;
use super::remember::{Guard, remember};
use crate::binding::text_digest_sql;
use crate::sql;

/// An item to be read again.
#[derive(Clone, Debug, sqlx_macros::FromRow)]
pub struct Again {
    /// Key of the item, as [`place`](lockstep_core::place) prints it.
    pub place: String,
    /// Source key of its row, as PostgreSQL prints it, where it is known.
    pub key: Option<String>,
    /// Version that the note is of, where it says so.
    pub(super) version: Option<i64>,
    /// Version of it that was remembered when it was listed, before its item was read.
    known: Option<i64>,
}

/// State of a place in the target now: its item, or `None` when there is none.
#[derive(Clone, Debug)]
pub struct ItemNow {
    /// Item that was asked for.
    pub again: Again,
    /// The item.
    pub item: Option<Attributes>,
}

/// Next thing to do about an item that was read again.
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// Nothing, but where another live item has the key of its row in another text.
    Heirs,
    /// The end of a note of a state that PostgreSQL has not had, as its item is gone. `removed` says that the
    /// stream tells of DynamoDB having removed it.
    End { removed: bool },
    /// Note that has gone: the feed took it, and may have made another since.
    Gone,
    /// To be read again, for this reason.
    Later(String),
    /// To be read again: its version is of an epoch that never began.
    Foreign,
    /// The row becomes this one; it rode along, or was only early.
    Put {
        row: Box<dyn AnyRow>,
        version: Version,
        ridden: bool,
        /// To be remembered, so that it is compared before the way back: the stream does not bring it. It
        /// rode along; or nothing is known of it. 1. A reverse backfill forgets what is known of a place
        /// without an item. 2. Meanwhile one has come there, and its record was read, and is noted.
        compared: bool,
    },
    /// The row is to go.
    Delete,
    /// The row is one that a trigger made, and that the target does not have.
    Unmake,
}

/// A note as it stands: the version that is remembered of its item, the version that it is of, and whether
/// its row rode along, was made by a trigger, lost its item to DynamoDB, and has a version of another
/// program; then whether its table lost history.
type Noted = (Option<i64>, Option<i64>, bool, bool, bool, bool, bool);

/// Reads a note as it stands, and holds it until the transaction ends.
async fn noted(connection: &mut PgConnection, name: &str, place: &str) -> Result<Option<Noted>> {
    let sql = format!(
        "SELECT (SELECT p.version FROM lockstep.reverse_places p WHERE p.table_name = a.table_name AND {} =
            {of_note}),
                a.version, a.ridden, a.made, a.removed, a.foreign_version,
                EXISTS (SELECT FROM lockstep.reverse_tables t
                        WHERE t.table_name = a.table_name AND t.lost_at IS NOT NULL)
         FROM lockstep.reverse_again a WHERE a.table_name = $1 AND {of_note} = {} FOR UPDATE",
        text_digest_sql("p.place"),
        text_digest_sql("$2::text"),
        of_note = text_digest_sql("a.place"),
    );
    sql::query_as(AssertSqlSafe(sql))
        .bind(name)
        .bind(place)
        .fetch_optional(&mut *connection)
        .await
        .doing("looking at a note again")
}

/// Decides about one item, and holds its note until the transaction ends.
pub(super) async fn look(
    connection: &mut PgConnection,
    table: &FedTable,
    epochs: &Epochs,
    found: &ItemNow,
) -> Result<Next> {
    // The feed may have had a newer state of this item since it was read. It takes this note out before it
    // writes the row, so who holds the note has the row to himself; and a note made again since is recognised
    // by its version.
    //
    // Where it waits for the feed, it finds no note at all: 1. The feed takes the note out, and PostgreSQL
    // refuses the newer state, so that it makes another. 2. This waits for the note. 3. The feed commits. The
    // note is gone, and the other is later than this statement's snapshot. 4. What would be taken out by its
    // place now is the other one, and the stream does not bring that state again.
    let noted = noted(connection, table.binding.name(), &found.again.place).await?;
    let Some((known, of, ridden, made, removed, foreign, lost)) = noted else { return Ok(Next::Gone) };
    // It became one of a newer state after it was listed, and the item may have been read before: of a state
    // that no row can be, or of a version that is none of ours, the feed keeps nothing but the note.
    if of != found.again.version && of != Some(noted_of(found.item.as_ref())) {
        return Ok(Next::Later("it changed while it was read".to_owned()));
    }
    let Some(item) = &found.item else {
        // Nothing is there: expired, which is retention, or removed by hand, which was counted. Both leave
        // the row of the last state, which is PostgreSQL's where the note is of no state that it lacks.
        // An item of another program's version that goes otherwise holds up the way back by that.
        return Ok(match (made, of) {
            (true, _) => Next::Unmake,
            (false, Some(_)) if removed || !foreign => Next::End { removed },
            (false, _) => Next::Heirs,
        });
    };
    // An item without a version was written by hand; what is there is what there is.
    let version = version_of(item).unwrap_or(Version::INITIAL_LOAD);
    if epochs.is_ahead(version) {
        return Ok(Next::Foreign);
    }
    if known > Some(version.0) && version_of(item).is_some() {
        // Until a loss is repaired, the item may be an older one that came back. 1. The feed brings
        // version 9 of it. 2. Its table is restored from a backup that has version 5. 3. Taken for one
        // that was put again, it would be put over the row, which is the only copy of version 9.
        if lost {
            return Ok(Next::Later("PostgreSQL has had a later state of it than DynamoDB has".to_owned()));
        }
        if known != found.again.known {
            return Ok(Next::Later("it changed while it was read".to_owned()));
        }
        remember_less(connection, table, &found.again.place, (version, !is_tombstone(item))).await?;
    }
    let is_old = version_of(item).is_some_and(|version| !epochs.may_be_news(version));
    let compared = ridden || (known.is_none() && version_of(item).is_some());
    match (is_old, is_tombstone(item)) {
        // The record was old: the source has written the row since.
        (true, _) if !ridden => Ok(Next::Nothing),
        // The row of a dead letter has a tombstone of the source's, and stays.
        (true, true) => Ok(if made { Next::Unmake } else { Next::Heirs }),
        // PostgreSQL would not let its row go, or it went late.
        (false, true) => Ok(Next::Delete),
        // If it is to go, its tombstone is still in the stream and comes after this. One that came from the
        // source is what PostgreSQL had before something changed the row in a transaction of the feed.
        (_, false) => Ok(match row_at(&*table.binding.table, item, item) {
            Ok(row) => Next::Put { row, version, ridden, compared },
            Err(why) => Next::Later(why),
        }),
    }
}

/// Has the row of an item that the stream does not bring compared with it before the way back, as those that
/// it brings are.
pub(super) async fn compare_later(
    connection: &mut PgConnection,
    table: &FedTable,
    found: &ItemNow,
    row: Box<dyn AnyRow>,
    version: Version,
) -> Result<()> {
    let key = row.key().map_err(|why| Error::unholdable(table.binding.name(), &why))?;
    let entry =
        Entry { place: found.again.place.clone(), version, state: State::Live(row, key), into_empty: false };
    remember(connection, table, &[entry], Guard::AtLeast).await.map(drop)
}

/// Remembers a version of an item that is below the one that is known: that one was known before the item was
/// read, and versions of an item only go up, so it is of an item that has gone.
///
/// 1. A reverse backfill reads an item at version 7, and has to wait. 2. The item expires, and the feed
/// forgets it. 3. The backfill has version 7 remembered. 4. The row is put again, at the first version of the
/// epoch. Held against the 7, that and all that follows would be passed over, by a backfill as well.
async fn remember_less(
    connection: &mut PgConnection,
    table: &FedTable,
    place: &str,
    (version, live): (Version, bool),
) -> Result<()> {
    sql::query(AssertSqlSafe(format!(
        "UPDATE lockstep.reverse_places SET version = $3, live = $4, touched = pg_catalog.pg_current_xact_id()
         WHERE table_name = $1 AND {} = {}",
        text_digest_sql("place"),
        text_digest_sql("$2::text"),
    )))
    .bind(table.binding.name())
    .bind(place)
    .bind(version.0)
    .bind(live)
    .execute(connection)
    .await
    .doing("remembering the version of an item that was put again")
    .map(drop)
}

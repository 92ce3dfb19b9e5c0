//! Queries: many rows in order, from whichever store answers, with the same answer from both.
//!
//! Words: a [`Query`] says what is asked, once for each store. A [`Selection`] is a query on a store handle,
//! to be consumed as a stream, page by page, or counted. A *lane* is one partition being read; *groups* of
//! lanes follow one another in the order of the query. A *position* is the key of the last row delivered, and
//! all that is needed to go on in either store: that is how a query whose target fails half way goes on in
//! the source without a duplicate or a gap.
//!
//! In reading order: this file, `time_range`, `partitions`, `selection` (what callers hold), `walk` (which
//! store, batch by batch), `source_side`, `target_side`, `lane` and `place`, `cursor`, `counting`, `compare`.
//!
//! What holds for every query:
//! - **Order** is total: by the query's columns, then by what these leave out of the primary key, so both
//!   stores agree on ties. Texts and labels go by their bytes. Text order of the target's sort key must be
//!   the order of those columns; zero-padded ids are not negative.
//! - **Without a sort key** the target keeps no order: a partition of such an index is read as a whole for
//!   each page, and its first two thousand rows are put in order in memory. It is for short partitions.
//! - **Freshness**: the target's table is read strongly consistent. Its *indexes are eventually consistent*,
//!   always: a row just written may be missing for a moment, and one just changed may be seen as it was, also
//!   by its own writer. An index that holds keys only needs a second read, of the items themselves, which is
//!   strongly consistent.
//! - **Expiry**: a row past its expiry is not answered, by either store and in any phase; see [`Store::get`].
//! - **Snapshots**: each batch is read from the store that is due then. Rows that were read ahead with the
//!   batch before are of use only in the same epoch, within the bound on staleness, and while this process
//!   has not written the table since; else they are read afresh. A row that moves while a query runs may be
//!   seen in its old place, its new one, both, or neither; rows that do not move are seen exactly once.
//! - **Misses**: in HybridRead an empty answer of the target is asked for again in the source.

mod compare;
mod counting;
mod cursor;
mod lane;
mod partitions;
mod place;
mod selection;
mod source_side;
mod target_side;
mod time_range;
mod walk;

pub use cursor::Cursor;
pub use partitions::Partitions;
pub use selection::{Page, Selection};
pub use time_range::TimeRange;

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_core::{Column, Index, MigratableTable, Row, SK};
use lockstep_postgres::quote_identifier;
use sqlx::Arguments;
use sqlx::postgres::PgArguments;

use super::Store;
use super::reads::hash_of_text;

/// Most rows of one batch: with rows of a kilobyte or two, as much as one page of DynamoDB.
pub(super) const BATCH_ROWS_MAX: usize = 500;

/// A question, said once for each store. Newest first, that is descending, unless [`Query::ascending`].
///
/// Both halves must describe the same rows; that is what the table crates' queries are tested for.
pub struct Query<T: MigratableTable> {
    name: &'static str,
    order: &'static [&'static str],
    ascending: bool,
    conditions: Vec<String>,
    arguments: PgArguments,
    index: Option<Index>,
    partitions: Partitions,
    range: TimeRange,
    keep: Option<Keep<T::Row>>,
}

type Keep<R> = Arc<dyn Fn(&R) -> bool + Send + Sync>;

impl<T: MigratableTable> Query<T> {
    /// A query of everything, which is not yet asked of any partition.
    ///
    /// ```no_run
    /// # use lockstep::{AttributeValue, MigratableTable, Query, Selection, Store};
    /// # use lockstep::store::query::Partitions;
    /// /// The documents of a customer, newest first: what both stores are asked, said once.
    /// fn of_customer<Docs: MigratableTable>(documents: &Store<Docs>, id: i64) -> Selection<Docs> {
    ///     let partition = Partitions::one(AttributeValue::S(format!("CUST#{id}")));
    ///     let query = Query::new("of_customer", &["created_at", "id"], partition);
    ///     documents.select(query.matching("customer_id", &id))
    /// }
    /// ```
    ///
    /// `order` names columns of
    /// [`MigratableTable::Key`], the most significant first, whose order is that of the target's sort key.
    ///
    /// # Panics
    /// When a column of `order` is not part of the key, which is a mistake in the program.
    pub fn new(name: &'static str, order: &'static [&'static str], partitions: Partitions) -> Self {
        for column in order {
            assert!(
                T::Key::COLUMNS.iter().any(|c| c.name == *column),
                "{column} is not part of the key of {}",
                T::NAME
            );
        }
        Self {
            name,
            order,
            ascending: false,
            conditions: Vec::new(),
            arguments: PgArguments::default(),
            index: None,
            partitions,
            range: TimeRange::ALL,
            keep: None,
        }
    }

    /// Source: only rows whose `column` is this. Said for several columns, all of them.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Query};
    /// # fn example<Documents: MigratableTable>(of_customer: Query<Documents>, state: &str) {
    /// // DynamoDB's half has to say the same, by its partition or by what is kept.
    /// let query = of_customer.matching("customer_id", &7_i64).matching("state", &state.to_owned());
    /// # }
    /// ```
    #[must_use]
    pub fn matching(self, column: &'static str, value: &impl Column) -> Self {
        self.compared(column, "=", value)
    }

    /// Both: only rows whose `column` is within `range`. The target's sort key must begin with this column as
    /// [`fixed_width`](lockstep_core::fixed_width) writes it, followed by `#`.
    ///
    /// ```no_run
    /// # use chrono::{DateTime, Utc};
    /// # use lockstep::store::query::TimeRange;
    /// # use lockstep::{MigratableTable, Query};
    /// # fn example<Payments: MigratableTable>(of_customer: Query<Payments>, since: DateTime<Utc>) {
    /// let query = of_customer.within("payment_date", TimeRange::of(since..));
    /// # }
    /// ```
    ///
    /// # Panics
    /// When the table has no sort key, which is a mistake in the program.
    #[must_use]
    pub fn within(mut self, column: &'static str, range: TimeRange) -> Self {
        assert!(T::TARGET.sort.is_some(), "{} has no sort key, so no range of {column}", T::NAME);
        if let Some(from) = range.from() {
            self = self.compared(column, ">=", &from);
        }
        if let Some(before) = range.before() {
            self = self.compared(column, "<", &before);
        }
        self.range = range;
        self
    }

    /// Target: the partitions are those of an index. One without a sort key is read by whole partitions.
    ///
    /// ```no_run
    /// # use lockstep::store::query::Partitions;
    /// # use lockstep::{AttributeValue, Index, KeyAttribute, KeyType, MigratableTable, Projected, Query, SK};
    /// const BY_LOAN: Index = Index {
    ///     name: "by_loan",
    ///     partition: KeyAttribute { name: "GSI1PK", key_type: KeyType::S },
    ///     sort: Some(KeyAttribute { name: SK, key_type: KeyType::S }),
    ///     projection: Projected::All,
    /// };
    ///
    /// /// The payments for a loan: in PostgreSQL by a column, in DynamoDB by an index.
    /// fn of_loan<Payments: MigratableTable>(loan_id: i64) -> Query<Payments> {
    ///     let partition = Partitions::one(AttributeValue::S(format!("LOAN#{loan_id}")));
    ///     let query = Query::new("of_loan", &["payment_date", "payment_id"], partition);
    ///     query.matching("loan_id", &loan_id).on(BY_LOAN)
    /// }
    /// ```
    ///
    /// # Panics
    /// When the index is sorted by something else than the table's own sort key, which is a mistake in the
    /// program: positions are sort keys of the table.
    #[must_use]
    pub fn on(mut self, index: Index) -> Self {
        assert!(index.sort.is_none_or(|sort| sort.name == SK), "index {} is not sorted by {SK}", index.name);
        self.index = Some(index);
        self
    }

    /// Both: oldest first.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Query, Result, Store};
    /// # async fn example<Payments: MigratableTable>(
    /// #     payments: Store<Payments>, of_customer: Query<Payments>,
    /// # ) -> Result<()> {
    /// let oldest = payments.select(of_customer.ascending()).first().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ascending(mut self) -> Self {
        self.ascending = true;
        self
    }

    /// Both: only rows of which `keep` says so, after they were read. What is left out was read all the same.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Query};
    /// # fn example<Payments: MigratableTable>(
    /// #     of_customer: Query<Payments>, is_open: fn(&Payments::Row) -> bool,
    /// # ) {
    /// // For what no key says, and few rows are left out by.
    /// let open = of_customer.keeping(is_open);
    /// # }
    /// ```
    #[must_use]
    pub fn keeping(mut self, keep: impl Fn(&T::Row) -> bool + Send + Sync + 'static) -> Self {
        self.keep = Some(Arc::new(keep));
        self
    }

    fn compared(mut self, column: &'static str, operator: &str, value: &impl Column) -> Self {
        debug_assert!(T::Row::COLUMNS.iter().any(|c| c.name == column), "{} has no column {column}", T::NAME);
        value.bind(&mut self.arguments);
        self.conditions.push(format!("s.{} {operator} ${}", quote_identifier(column), self.arguments.len()));
        self
    }

    /// Stands for what is asked, whatever the page: canaries and cursors go by it.
    fn hash(&self) -> u64 {
        hash_of_text(&format!("{}\0{}\0{}", self.name, self.partitions.subject(), self.ascending))
    }

    fn keeps(&self, row: &T::Row) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep(row))
    }
}

impl<T: MigratableTable> std::fmt::Debug for Query<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its values stay out of logs (R36).
        f.debug_struct("Query")
            .field("name", &self.name)
            .field("conditions", &self.conditions)
            .finish_non_exhaustive()
    }
}

impl<T: MigratableTable> Store<T> {
    /// Binds a query to this handle. Nothing is asked yet.
    ///
    /// ```no_run
    /// # use lockstep::{MigratableTable, Query, Store};
    /// # fn example<Payments: MigratableTable>(payments: Store<Payments>, of_a_customer: Query<Payments>) {
    /// let newest_first = payments.select(of_a_customer);
    /// let both = (newest_first.first(), newest_first.count()); // one selection may be read several times
    /// # }
    /// ```
    pub fn select(&self, query: Query<T>) -> Selection<T> {
        Selection::new(self.clone(), query)
    }
}

/// A partition key, as an error message or a hash shows it.
fn text_of(value: &AttributeValue) -> &str {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text,
        _ => "",
    }
}

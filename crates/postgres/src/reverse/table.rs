//! A table as the feed writes it.

use lockstep_core::{Doing, Error, Kind, Result};

use super::numbered::FedNumber;
use super::spelled::Decimals;
use crate::binding::{list, quote_identifier, text_digest_sql};
use crate::sequences::numbered_columns;
use crate::sql;
use crate::{Source, TableBinding};

/// Most parameters of one statement (PostgreSQL's protocol counts them in 16 bits).
const PARAMETERS_MAX: usize = 65_535;
/// Most rows of one upsert. PostgreSQL parses and plans a long list of rows for about as long as it inserts
/// them; a statement of as many rows each time is planned once a session. Longer ones gain little more, and
/// their plans stay in the memory of each session, for each table.
const ROWS_MAX: usize = 64;

/// A table with the statement that upserts its rows.
#[derive(Clone, Debug)]
pub struct FedTable {
    pub(super) binding: TableBinding,
    /// Places, among all columns, of those that a statement may give a value to.
    inserted: Vec<usize>,
    names: String,
    conflict: String,
    /// The role may write in the replica role.
    pub(super) silent: bool,
    /// Statements over keys, each of which fails where a row refers to nothing.
    pub(super) references: Vec<String>,
    /// Columns that a sequence numbers, upwards.
    pub(super) numbers: Vec<FedNumber>,
    /// Foreign keys refer to this table at all, and to other columns than its key.
    referred_to: (bool, bool),
    /// A unique constraint is checked by a trigger, which the replica role keeps from firing.
    checks_late: bool,
    decimals: Decimals,
    /// An item of it may have another text of its key than its row.
    pub(super) has_loose_key: bool,
    /// The target lost history: a version of an item may be below one that its row has had.
    pub(super) lost_history: bool,
}

impl FedTable {
    /// Names of it on both sides.
    pub fn binding(&self) -> &TableBinding {
        &self.binding
    }

    /// Names of the columns that PostgreSQL computes by itself, whatever it is given.
    pub fn computed(&self) -> impl Iterator<Item = &'static str> {
        let columns = self.binding.table.columns().iter().enumerate();
        columns.filter(|(at, _)| !self.inserted.contains(at)).map(|(_, column)| column.name)
    }

    /// Returns it as one whose target lost history: an item at a version below the one that is remembered is
    /// none that was put again since, and its row stays as the later version made it.
    pub fn of_lost_history(self) -> Self {
        Self { lost_history: true, ..self }
    }

    /// Tells whether an item may have another text of its key than PostgreSQL prints of its row.
    pub fn has_loose_key(&self) -> bool {
        self.has_loose_key
    }

    /// Names of the columns whose values PostgreSQL keeps as they are spelled, whatever an item says.
    pub fn kept(&self) -> &[&'static str] {
        &self.decimals.kept
    }

    /// Whether rows may be taken away and put again in one transaction, without anything being dragged along
    /// or left unchecked.
    pub(super) fn can_displace(&self) -> bool {
        match self.referred_to {
            (false, _) => true,
            (true, to_others) => self.silent && !to_others,
        }
    }

    /// Whether a row may be written while nothing fires.
    pub(super) fn can_write_alone(&self) -> bool {
        self.silent && !self.checks_late
    }

    /// Most rows of one upsert.
    pub(super) fn rows_max(&self) -> usize {
        (PARAMETERS_MAX / self.binding.table.columns().len().max(1)).min(ROWS_MAX)
    }

    /// The upsert of `rows` rows, each with all its columns as parameters.
    ///
    /// `OVERRIDING SYSTEM VALUE`: a key that is `GENERATED ALWAYS AS IDENTITY` keeps the number that the
    /// target knows.
    pub(super) fn upsert_sql(&self, rows: usize) -> String {
        let columns = self.binding.table.columns().len();
        let row = |row: usize| {
            format!(
                "({})",
                list(self.inserted.iter().map(|at| self.binding.parameter_sql(*at, row * columns + at + 1)))
            )
        };
        format!(
            "INSERT INTO {} AS s ({}) OVERRIDING SYSTEM VALUE VALUES {} {}",
            self.binding.relation.sql(),
            self.names,
            list((0..rows).map(row)),
            self.conflict
        )
    }

    /// The statement after [`FedTable::upsert_sql`], of the same parameters, that spells the keys of those
    /// rows as their items do; `None` where a key has one spelling.
    pub(super) fn spell_sql(&self, rows: usize) -> Option<String> {
        let (columns, key) = (self.binding.table.columns(), self.binding.primary_key());
        let places: Vec<usize> =
            key.filter_map(|name| columns.iter().position(|column| column.name == name)).collect();
        let values = |row: usize| {
            let value = |at: &usize| self.binding.parameter_sql(*at, row * columns.len() + at + 1);
            format!("({})", list(places.iter().map(value)))
        };
        self.decimals.spell_sql(&self.binding, rows, values)
    }
}

impl Source {
    /// Reads what the feed must know of a table besides its codec: which columns PostgreSQL computes itself,
    /// and what is around it.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`] where the table is not there.
    #[crate::boxed]
    pub async fn fed_table(&self, binding: &TableBinding) -> Result<FedTable> {
        let doing = format!("describing {}", binding.relation);
        let found: Vec<(String, bool, bool)> = sql::query_as(
            "SELECT attname::text, attgenerated <> '', attidentity = 'a' FROM pg_attribute
             WHERE attrelid = pg_catalog.to_regclass($1)::oid AND attnum > 0 AND NOT attisdropped",
        )
        .bind(binding.relation.sql())
        .fetch_all(self.pool())
        .await
        .doing(&doing)?;
        if found.is_empty() {
            return Err(Error::source(Kind::Misconfigured, doing, "there is no such table"));
        }
        let is = |name: &str, what: fn(&(String, bool, bool)) -> bool| {
            found.iter().any(|c| c.0 == name && what(c))
        };
        let columns = binding.table.columns();
        let inserted: Vec<usize> = (0..columns.len()).filter(|at| !is(columns[*at].name, |c| c.1)).collect();
        let names = list(inserted.iter().map(|at| quote_identifier(columns[*at].name)));
        let key: Vec<&str> = binding.primary_key().collect();
        // An identity column that is no key cannot be set in an update, and never changes.
        let updated = inserted
            .iter()
            .map(|at| columns[*at].name)
            .filter(|name| !key.contains(name) && !is(name, |c| c.2));
        let updated = list(updated.map(|name| format!("{0} = excluded.{0}", quote_identifier(name))));
        let then = if updated.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {updated}") };
        let conflict =
            format!("ON CONFLICT ({}) DO {then}", list(key.iter().map(|name| quote_identifier(name))));
        let around = self.surroundings(binding).await?;
        let mut connection = self.pool().acquire().await.doing(&doing)?;
        let numbers = numbered_columns(&mut connection, binding).await?;
        drop(connection);
        Ok(FedTable {
            binding: binding.clone(),
            inserted,
            names,
            conflict,
            silent: self.may_silence().await?,
            references: self.reference_checks(binding).await?,
            numbers: numbers.into_iter().filter_map(|found| FedNumber::of(found, binding)).collect(),
            referred_to: around.referred_to,
            checks_late: around.checks_late,
            decimals: self.decimals(binding).await?,
            has_loose_key: self.has_loose_key(binding).await?,
            lost_history: false,
        })
    }
}

/// The condition that a row is of table `$1` and of one of the places `$2`.
pub(super) fn among() -> String {
    format!(
        "table_name = $1 AND {} = ANY (ARRAY(SELECT {} FROM pg_catalog.unnest($2::text[]) AS asked))",
        text_digest_sql("place"),
        text_digest_sql("asked")
    )
}

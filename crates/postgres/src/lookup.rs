//! Looking single keys up: the row, whether it is pending, whether it is a dead letter, all in one snapshot.

use lockstep_core::{Doing, Error, Fields, Result, SourceKey, Version};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments as _, AssertSqlSafe};

use super::binding::{digest_sql, list, quote_identifier, quote_literal};
use super::{KeyBound, Source, TableBinding};
use crate::fault::of_sqlx;
use crate::sql;

/// State of one key in the source at one moment.
pub struct KeyState {
    /// The version under which it is pending, if it is.
    pub pending: Option<Version>,
    /// Whether it is a dead letter.
    pub dead_letter: bool,
    /// Whether several rows have this key: it lost its unique index, and they are one item.
    pub is_shared: bool,
    row: PgRow,
    exists: bool,
}

/// Returns the version under which a key is pending, by its mark or by the open intent of a strict write.
fn pending_sql(key: &str) -> String {
    format!(
        "coalesce(p.version, (SELECT pg_catalog.max(i.repair_version) FROM lockstep.intents i
            WHERE i.table_name = $1 AND {} = {}))",
        digest_sql("i.key"),
        digest_sql(key),
    )
}

/// Columns before the row's own. They are read by their place: 1. A table has a column called `exists`. 2.
/// The driver gives the last column of a name, which is the table's. 3. A row whose item is lost is taken for
/// none, and the verdict says consistent.
const ROW_AT: usize = 4;

impl KeyState {
    fn of(row: PgRow) -> Self {
        Self {
            pending: row.get::<Option<i64>, _>(0).map(Version),
            dead_letter: row.get(1),
            exists: row.get(2),
            is_shared: false,
            row,
        }
    }

    /// Returns one state a key that was asked, however many rows it has. 1. A unique index is dropped, and
    /// one of ten keys that are looked up has two rows. 2. There are eleven answers. 3. The keys after it
    /// are held against rows of others.
    fn of_each(rows: Vec<PgRow>) -> Vec<Self> {
        let mut states: Vec<Self> = Vec::with_capacity(rows.len());
        let mut last = None;
        for row in rows {
            let number: i32 = row.get(3);
            match states.last_mut().filter(|_| last == Some(number)) {
                Some(state) => state.is_shared = true,
                None => states.push(Self::of(row)),
            }
            last = Some(number);
        }
        states
    }

    /// Tells whether a row with exactly this key exists.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Runs `read` over the row's fields, if it exists.
    pub fn with_fields<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        self.exists.then(|| Fields::of_query(&self.row, ROW_AT, read))
    }
}

/// Source keys that are bound, and never spelled into a statement: a text that came from an item may hold
/// what no statement can, as a NUL, and then PostgreSQL refuses the value and not the whole message.
///
/// A relation with columns `n` and `key` whose parameters begin at `first`; [`bind_keys`] adds them.
pub(super) fn keys_sql(binding: &TableBinding, first: usize) -> String {
    with_keys_sql(binding, first, &[("n", "int")])
}

/// The same with these columns, of these types, in the place of `n`: first a parameter for each of them, an
/// array, then what [`bind_key_columns`] adds. To join what goes with the keys to them by `n` takes
/// PostgreSQL a quarter of what it needs to remember a page of items.
pub(super) fn with_keys_sql(binding: &TableBinding, first: usize, beside: &[(&str, &str)]) -> String {
    let columns = binding.table.key_columns();
    let names = beside.iter().map(|(name, _)| (*name).to_owned());
    let names = names.chain((0..columns.len()).map(|at| format!("k{at}")));
    let arrays =
        beside.iter().enumerate().map(|(at, (_, sql_type))| format!("${}::{sql_type}[]", first + at));
    let of_keys = (0..columns.len()).map(|at| format!("${}::text[]", first + beside.len() + at));
    let parts =
        columns.iter().enumerate().map(|(at, c)| (c.key_expression)(&format!("u.k{at}::{}", c.sql_type)));
    format!(
        "(SELECT {}, pg_catalog.jsonb_build_array({}) AS key FROM unnest({}, {}) AS u ({}))",
        list(beside.iter().map(|(name, _)| format!("u.{name}"))),
        list(parts),
        list(arrays),
        list(of_keys),
        list(names)
    )
}

/// Adds the parameters of [`keys_sql`]: numbered keys, each as one literal a key column.
pub(super) fn bind_keys<'a>(
    arguments: &mut PgArguments,
    binding: &TableBinding,
    keys: impl Iterator<Item = (usize, &'a Vec<String>)>,
) -> Result<()> {
    let (numbers, keys): (Vec<i32>, Vec<_>) = keys.map(|(n, key)| (n as i32, key)).unzip();
    arguments.add(numbers).map_err(|error| of_sqlx("binding keys", sqlx::Error::Encode(error)))?;
    bind_key_columns(arguments, binding, keys.into_iter())
}

/// Adds the parameters of [`with_keys_sql`] after those of its columns: keys, each as one literal a key
/// column.
pub(super) fn bind_key_columns<'a>(
    arguments: &mut PgArguments,
    binding: &TableBinding,
    keys: impl Iterator<Item = &'a Vec<String>>,
) -> Result<()> {
    let mut columns = vec![Vec::new(); binding.table.key_columns().len()];
    for key in keys {
        for (column, literal) in columns.iter_mut().zip(key) {
            column.push(literal.as_str());
        }
    }
    let added = columns.into_iter().try_for_each(|column| arguments.add(column));
    added.map_err(|error| of_sqlx("binding keys", sqlx::Error::Encode(error)))
}

/// Tells whether PostgreSQL can have a key: no text of its own holds a NUL. One that cannot be said is of an
/// item without a row.
pub(super) fn is_sayable(key: &[String]) -> bool {
    key.iter().all(|literal| !literal.contains('\0'))
}

/// Tells whether PostgreSQL refused a text because its type has no such value: not what a CHECK of a domain
/// says, which rows of before it may break.
fn is_no_value(error: &Error) -> bool {
    let codes = ["22P02", "22P03", "22P05", "22003", "22007", "22008", "22009", "22021"];
    error.sqlstate().is_some_and(|code| codes.contains(&code.as_str()))
}

/// Rows that are asked for by their own keys.
const ASKED_FOR: i64 = 1_000;

impl Source {
    /// Counts the rows, of some of the table, that are not found by the key that they print, or all of them
    /// where none of these keys reads as one of the table.
    ///
    /// A comparison takes a row that is not found by its key for one that was deleted meanwhile, and a
    /// relay delivers it as a deletion. So a key that is compared otherwise than it is printed, whatever
    /// the reason, would empty the target, and a comparison would say consistent.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn unfindable_rows(&self, binding: &TableBinding) -> Result<i64> {
        let doing = format!("looking for rows of {} by their keys", binding.relation);
        let sql = format!(
            "SELECT printed.key::text, ({}) IS TRUE FROM (SELECT * FROM {} LIMIT $1) AS s
                 CROSS JOIN LATERAL (SELECT {} AS key) AS printed",
            binding.row_of_key_sql("s", "printed.key"),
            binding.relation.sql(),
            binding.key_sql("s"),
        );
        let asked = sql::query_as(AssertSqlSafe(sql)).persistent(false).bind(ASKED_FOR);
        let rows: Vec<(String, bool)> = asked.fetch_all(self.pool()).await.doing(&doing)?;
        // Some may be of values that no key can have, as a time that is infinite.
        let reads =
            |key: &str| SourceKey::parse(key).is_ok_and(|key| binding.table.literals_of_key(&key).is_ok());
        if !rows.is_empty() && !rows.iter().any(|(key, _)| reads(key)) {
            return Ok(rows.len() as i64);
        }
        Ok(rows.iter().filter(|(_, is_found)| !is_found).count() as i64)
    }
}

impl Source {
    /// Looks up source keys, given as one SQL literal a key column; the answer is in the order of `keys`.
    ///
    /// A row is found only under its whole key: one whose key columns have moved on does not answer to its
    /// old key.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn look_up(&self, binding: &TableBinding, keys: &[Vec<String>]) -> Result<Vec<KeyState>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let columns = binding.table.key_columns();
        let sql = format!(
            "SELECT {pending}, x.key IS NOT NULL, s.{first_key} IS NOT NULL, asked.n, {row}
             FROM pg_catalog.generate_series(0, {last}) AS asked (n) LEFT JOIN {rows} AS k USING (n)
             LEFT JOIN lockstep.pending p ON p.table_name = $1 AND {of_mark} = {digest}
             LEFT JOIN lockstep.dead_letters x ON x.table_name = $1 AND {of_letter} = {digest}
             LEFT JOIN {relation} AS s ON {same_row} ORDER BY asked.n",
            pending = pending_sql("k.key"),
            of_mark = digest_sql("p.key"),
            of_letter = digest_sql("x.key"),
            digest = digest_sql("k.key"),
            first_key = quote_identifier(columns[0].name),
            row = binding.columns_sql("s"),
            last = keys.len() - 1,
            rows = keys_sql(binding, 2),
            relation = binding.relation.sql(),
            same_row = binding.row_of_key_sql("s", "k.key"),
        );
        let doing = "looking keys up";
        let mut arguments = PgArguments::default();
        arguments.add(binding.name()).map_err(|error| of_sqlx(doing, sqlx::Error::Encode(error)))?;
        bind_keys(&mut arguments, binding, keys.iter().enumerate().filter(|(_, key)| is_sayable(key)))?;
        let found =
            sql::query_with(AssertSqlSafe(sql), arguments).fetch_all(self.pool()).await.doing(doing)?;
        Ok(KeyState::of_each(found))
    }

    /// Looks up the row of a primary key, with the standing of the key it has now; `None` when there is no
    /// such row. For rows whose whole key cannot be formed.
    ///
    /// A primary key that is none of the table's has no row: 1. A role marks `["abc"]` of a table whose key
    /// is a number. 2. A comparison looks at what was marked. 3. An error here would keep it from all the
    /// other keys, at every comparison.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn look_up_row(
        &self,
        binding: &TableBinding,
        primary_key: &KeyBound,
    ) -> Result<Option<KeyState>> {
        let doing = "looking a row up";
        if primary_key.len() != binding.table.primary_key_columns() || !is_sayable(primary_key) {
            return Ok(None);
        }
        let types = binding.table.key_columns().iter().map(|column| column.sql_type);
        let literals = list(
            primary_key.iter().zip(types).map(|(literal, t)| format!("{}::{t}", quote_literal(literal))),
        );
        let sql = format!(
            "SELECT {pending}, x.key IS NOT NULL, true, 0, {row}
             FROM {relation} AS s
             LEFT JOIN lockstep.pending p ON p.table_name = $1 AND {of_mark} = {digest}
             LEFT JOIN lockstep.dead_letters x ON x.table_name = $1 AND {of_letter} = {digest}
             WHERE ({primary_key}) = ({literals})",
            pending = pending_sql(&binding.key_sql("s")),
            row = binding.columns_sql("s"),
            relation = binding.relation.sql(),
            of_mark = digest_sql("p.key"),
            of_letter = digest_sql("x.key"),
            digest = digest_sql(&binding.key_sql("s")),
            primary_key = binding.primary_key_sql("s"),
        );
        let found = sql::query(AssertSqlSafe(sql))
            .persistent(false)
            .bind(binding.name())
            .fetch_optional(self.pool())
            .await
            .doing(doing);
        match found {
            // What the row holds may be what does not read, so the key is asked for by itself.
            Err(error) if is_no_value(&error) => {
                let asked = sql::query(AssertSqlSafe(format!("SELECT {literals}"))).persistent(false);
                match asked.execute(self.pool()).await.doing(doing) {
                    Err(of_key) if is_no_value(&of_key) => Ok(None),
                    Err(other) => Err(other),
                    Ok(_) => Err(error),
                }
            }
            found => Ok(found?.map(KeyState::of)),
        }
    }

    /// Returns the source keys of the rows with this primary key, typed as people type it: one text a column.
    /// Where the primary key is the whole source key, it is that whether there is a row or not.
    ///
    /// # Errors
    /// [`Kind::Invalid`](lockstep_core::Kind::Invalid) for a text that is no value of its column; the
    /// driver's.
    #[crate::boxed]
    pub async fn whole_keys(
        &self,
        binding: &TableBinding,
        primary_key: &[String],
    ) -> Result<Vec<Vec<String>>> {
        const DOING: &str = "looking for the row of a key";
        let wrong = |why: String| Error::source(lockstep_core::Kind::Invalid, DOING, why);
        let columns = binding.table.key_columns();
        let width = binding.table.primary_key_columns();
        if primary_key.len() != width || !is_sayable(primary_key) {
            let names: Vec<&str> = columns.iter().take(width).map(|column| column.name).collect();
            return Err(wrong(format!(
                "a key of {} is a value of {}",
                binding.name(),
                names.join(", and one of ")
            )));
        }
        if width == columns.len() {
            // Spelled as capture spells it: `007` is 7.
            let named = self.source_keys(binding, &[primary_key.to_vec()]).await?;
            return named
                .iter()
                .map(|key| binding.table.literals_of_key(key).map_err(|reason| wrong(reason.to_string())))
                .collect();
        }
        let places =
            list((1..=width).zip(columns).map(|(n, column)| format!("${n}::text::{}", column.sql_type)));
        let sql = format!(
            "SELECT ({})::text FROM {} AS s WHERE ({}) = ({places})",
            binding.key_sql("s"),
            binding.relation.sql(),
            binding.primary_key_sql("s"),
        );
        let mut asked = sql::query_scalar::<String>(AssertSqlSafe(sql));
        for text in primary_key {
            asked = asked.bind(text);
        }
        let found = asked.fetch_all(self.pool()).await.doing(DOING)?;
        let key_of = |text: &String| {
            let key = lockstep_core::SourceKey::parse(text).map_err(|error| wrong(error.to_string()))?;
            binding.table.literals_of_key(&key).map_err(|reason| wrong(reason.to_string()))
        };
        found.iter().map(key_of).collect()
    }

    /// Tells whether the row of a primary key is a dead letter. For rows whose whole key cannot be formed.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn is_dead_letter(&self, binding: &TableBinding, primary_key: &KeyBound) -> Result<bool> {
        let types = binding.table.key_columns().iter().map(|column| column.sql_type);
        let literals = list(
            primary_key.iter().zip(types).map(|(literal, t)| format!("{}::{t}", quote_literal(literal))),
        );
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} AS s JOIN lockstep.dead_letters x ON x.table_name = $1 AND {} = {}
                            WHERE ({}) = ({literals}))",
            binding.relation.sql(),
            digest_sql("x.key"),
            digest_sql(&binding.key_sql("s")),
            binding.primary_key_sql("s"),
        );
        sql::query_scalar(AssertSqlSafe(sql))
            .bind(binding.name())
            .fetch_one(self.pool())
            .await
            .doing("looking a dead letter up")
    }
}

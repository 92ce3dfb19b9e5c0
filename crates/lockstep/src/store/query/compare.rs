//! Asking both stores the same and comparing the answers: what a shadow read does, and a gate may do.

use std::time::Duration;

use lockstep_core::{Error, MigratableTable, Result, Row, SourceKey};

use super::cursor::source_key;
use super::place::Place;
use super::selection::Selection;
use super::target_side::TargetReader;
use crate::store::reads::Comparison;

/// Tries before a difference is believed: an index may lag, and a row may change between the two answers.
const TRIES: u32 = 4;
/// Pause before the second try; doubled for each further one. Indexes lag by milliseconds, seldom by more.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The result of one try.
enum Found<K> {
    Same,
    /// These keys differ, and how the first of them does.
    Differ(Vec<K>, String),
}

impl<T: MigratableTable> Selection<T> {
    /// Asks both stores for the first `rows_max` rows and compares them by value and in order.
    ///
    /// A difference is believed only when it is there every time, and none of its keys is pending: lag is not
    /// drift.
    ///
    /// ```no_run
    /// # use lockstep::store::reads::Comparison;
    /// # use lockstep::{MigratableTable, Result, Selection};
    /// # async fn example<Payments: MigratableTable>(selection: Selection<Payments>) -> Result<()> {
    /// match selection.compare(50).await? {
    ///     Comparison::Agree => println!("both stores answer the same"),
    ///     Comparison::Differ(what) => eprintln!("{}: {what}", Payments::NAME),
    ///     Comparison::NotComparable => println!("a row is on its way; ask again later"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of the store that did not answer.
    ///
    /// # Cancel safety
    /// Reading has no effect.
    pub async fn compare(&self, rows_max: usize) -> Result<Comparison> {
        let mut pause = FIRST_PAUSE;
        let mut verdict = Comparison::Agree;
        for nth in 0..TRIES {
            if nth > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            match self.compare_once(rows_max).await? {
                Found::Same => return Ok(Comparison::Agree),
                Found::Differ(keys, what) => {
                    let pending = self.is_any_on_its_way(&keys).await?;
                    verdict = if pending { Comparison::NotComparable } else { Comparison::Differ(what) };
                }
            }
        }
        Ok(verdict)
    }

    /// The first rows that the target has.
    pub(in crate::store) async fn read_target(&self, rows_max: usize) -> Result<Vec<T::Row>> {
        TargetReader::new(&self.store, &self.query, None)?.batch(&self.store, &self.query, rows_max).await
    }

    /// The first rows that the source has, without those that cannot be held.
    pub(in crate::store) async fn read_source(&self, rows_max: usize) -> Result<Vec<T::Row>> {
        Ok(self.query.source_rows(&self.store, None, rows_max).await?.into_iter().flatten().collect())
    }

    async fn compare_once(&self, rows_max: usize) -> Result<Found<T::Key>> {
        let (store, query) = (&self.store, &self.query);
        let theirs = self.read_target(rows_max).await?;
        let read = query.source_rows(store, None, rows_max).await?;
        let (ours_is_whole, some_unreadable) =
            (read.len() < rows_max, read.iter().any(std::result::Result::is_err));
        let read = read.into_iter().flatten();
        let ours: Vec<T::Row> = read.filter(|row| !store.is_expired(row) && query.keeps(row)).collect();
        let theirs_is_whole = theirs.len() < rows_max;
        let place = |row: &T::Row| Place::of(store, query, &T::key(row)).map(|(place, _)| place);
        let (mut ours, mut theirs) = (ours.into_iter().peekable(), theirs.into_iter().peekable());
        let (mut keys, mut what) = (Vec::new(), None);
        loop {
            // A row beyond the end of a part is neither missing nor extra.
            let (a, b) = (ours.peek(), theirs.peek());
            let (take_a, take_b) = match (a, b) {
                (None, None) => break,
                (None, Some(_)) if !ours_is_whole => break,
                (Some(_), None) if !theirs_is_whole => break,
                (None, Some(_)) => (false, true),
                (Some(_), None) => (true, false),
                (Some(a), Some(b)) => match place(a)?.cmp(&place(b)?) {
                    std::cmp::Ordering::Equal => (true, true),
                    order => (order.is_lt() == query.ascending, order.is_gt() == query.ascending),
                },
            };
            let (a, b) = (ours.next_if(|_| take_a), theirs.next_if(|_| take_b));
            let differs = match (&a, &b) {
                (Some(a), Some(b)) => match a.differing(b) {
                    columns if columns.is_empty() => continue,
                    columns => format!("a row differs in {}", columns.join(", ")),
                },
                (Some(_), None) => "a row is missing in the target".to_owned(),
                _ => "a row is in the target only".to_owned(),
            };
            let unholdable = match &a {
                Some(row) => store.table().encode(row).is_err(),
                None => some_unreadable,
            };
            let differing: Vec<T::Key> = a.iter().chain(&b).map(T::key).collect();
            if unholdable && self.is_set_aside(&differing).await? {
                continue;
            }
            keys.extend(differing);
            what.get_or_insert(differs);
        }
        Ok(what.map_or(Found::Same, |what| Found::Differ(keys, what)))
    }

    /// Says whether the row of the first of `keys` is a dead letter: that it is not in the target, or as it
    /// was, is known then.
    async fn is_set_aside(&self, keys: &[T::Key]) -> Result<bool> {
        let Some(key) = keys.first() else { return Ok(false) };
        let mut primary_key = key.literals().map_err(|reason| Error::unholdable(T::NAME, &reason))?;
        primary_key.truncate(T::PRIMARY_KEY_COLUMNS);
        self.store.shared.source.is_dead_letter(&self.store.shared.binding, &primary_key).await
    }

    async fn is_any_on_its_way(&self, keys: &[T::Key]) -> Result<bool> {
        let shared = &self.store.shared;
        let keys: Result<Vec<SourceKey>, _> = keys.iter().map(source_key::<T>).collect();
        let keys = keys.map_err(|reason| Error::unholdable(T::NAME, &reason))?;
        Ok(!shared.source.pending_among(T::NAME, &keys).await?.is_empty())
    }
}

//! Errors of a coordinator, by what they mean to the operator.

use lockstep_core::{Advice, Phase, Side};
use lockstep_postgres::{Shape, Source, TableBinding, columns_in, columns_of, unknown_columns};

use crate::gate::GateReport;
use crate::loss::Loss;

/// An error of the coordinator.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// A store did not do as asked.
    #[error(transparent)]
    Store(#[from] lockstep_core::Error),
    /// A gate said no; everything is as it was.
    #[error("refused: {}", .0.refusals())]
    Refused(GateReport),
    /// Stopped on request; the same command goes on where it stopped.
    #[error("interrupted; run the same command again to go on")]
    Interrupted,
    /// More dead letters in one run than allowed.
    #[error(
        "{table}: {found} rows were set aside, more than {} = {allowed}; look at them with {}, then repair \
         the rows or raise the bound, and run the same command again",
        Advice::BackfillErrorsMax,
        Advice::DeadLetters
    )]
    TooManyErrors {
        /// The table of the last one.
        table: String,
        /// Number of rows that cannot be held.
        found: u64,
        /// The bound.
        allowed: u64,
    },
    /// An import from S3 waits for an operator, or has failed.
    #[error("the import of {table}: {why}")]
    ImportFailed {
        /// The table.
        table: String,
        /// Description of what happened, and of what to do.
        why: String,
    },
    /// The source schema is not the one that was captured.
    #[error(
        "{table}: its key has changed since capture was installed, and its items lie by the one before. \
         Undo the change, or \
         end this migration ({}, then {}) and start it again with a table that knows the new key. \
         Captured:\n{captured}\nNow:\n{now}",
        Advice::RollbackToPostgresOnly,
        Advice::Uninstall
    )]
    SchemaChanged {
        /// The table.
        table: String,
        /// Shape of the table when capture was installed.
        captured: String,
        /// Shape of the table now.
        now: String,
    },
    /// A store has lost history: going on would take lost states for newer ones, or acknowledged ones for
    /// written.
    #[error(
        "{}. Nothing is moved until this is repaired: run {}, which says what is safe and what to run{}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        Advice::Doctor,
        of_a_copy(.0)
    )]
    HistoryLost(Vec<Loss>),
    /// The barrier could not be acquired.
    #[error(
        "the step to {to} did not get the barrier in {tries} tries of {lock_timeout_ms} ms: a write transaction is open for long \
         (look for old xact_start in pg_stat_activity, and into pg_prepared_xacts, whose transactions no \
         session shows). Nothing was changed; try again"
    )]
    BarrierBusy {
        /// Phase that the step leads to.
        to: Phase,
        /// Number of tries.
        tries: u32,
        /// Each for how long.
        lock_timeout_ms: u64,
    },
    /// Writes would have had to wait for too long.
    #[error(
        "the step to {to} would have stopped writes for longer than {} = {allowed_ms} ms: {why}. Everything is as \
         it was, and writes go on. Try again when that is over, or allow a longer pause",
        Advice::PauseMax
    )]
    PauseMissed {
        /// Phase that the step leads to.
        to: Phase,
        /// The bound, in milliseconds.
        allowed_ms: u64,
        /// Description of what the step waited for.
        why: String,
    },
    /// A step that moves the truth failed, and could not be undone or finished either.
    #[error(
        "the step was given up ({why}), and could not be settled: {unsettled}. Applications may be unable to write until it is: run the \
         same command again as soon as both stores answer"
    )]
    Unsettled {
        /// Reason why it was given up.
        why: String,
        /// Reason why it could not be settled.
        unsettled: String,
    },
    /// Steps go one at a time.
    #[error("{from} and {to} are not neighbours; steps go one phase at a time")]
    NotAdjacent {
        /// Phase in which the migration stands.
        from: Phase,
        /// Phase that the step leads to.
        to: Phase,
    },
    /// An instance renews its lease and does not acknowledge the phase.
    #[error(
        "{instance} goes on without having acknowledged epoch {epoch} (it has acknowledged {}): no step may begin while it may \
         serve by an older phase. Stop or restart it, and run the same command again",
        acknowledged.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string())
    )]
    InstanceBehind {
        /// Name of the instance.
        instance: String,
        /// Epoch that it serves by, as far as it said.
        acknowledged: Option<i64>,
        /// Epoch that it should serve by.
        epoch: lockstep_core::Epoch,
    },
    /// A task of ours panicked, which is a bug.
    #[error("a task panicked: {0}")]
    Panicked(String),
}

impl From<tokio::task::JoinError> for CoordinatorError {
    fn from(error: tokio::task::JoinError) -> Self {
        if error.is_cancelled() {
            Self::Interrupted
        } else {
            Self::Panicked(lockstep_core::PANICKED.to_owned())
        }
    }
}

/// Shorthand of this crate.
pub type Result<T, E = CoordinatorError> = std::result::Result<T, E>;

/// Number of times that partitions that keep coming are taken in before a caller is told to try again.
const TAKEN_IN_AT_MOST: u32 = 5;

/// Asks, after rows of a table were read, whether it still is what was `captured` before they were. Partitions
/// that came meanwhile are taken in first.
///
/// The table is read again after each look at the record, never before it: 1. We read the partitions. 2. One
/// more is made, and another process records it. 3. By the record it would have gone.
///
/// Gives the fingerprint that it has now.
///
/// # Errors
/// As [`require_shape`].
pub(crate) async fn require_shape_now(
    source: &Source,
    binding: &TableBinding,
    captured: &str,
) -> Result<String> {
    let mut now = source.fingerprint(binding).await?;
    let mut captured = captured.to_owned();
    for _ in 0..TAKEN_IN_AT_MOST {
        if !matches!(Shape::of(&captured, &now), Shape::Grown(_)) {
            break;
        }
        captured = source.record_shape(binding).await?.unwrap_or_default();
        now = source.fingerprint(binding).await?;
    }
    require_shape(binding, &captured, &now)?;
    Ok(now)
}

/// Reads something of a table. Where that fails because of what became of the table, the error says so: 1. A
/// column that is read was dropped. 2. PostgreSQL says that it does not exist, and not what leads on.
pub(crate) async fn read_of_the_shape<T>(
    source: &Source,
    binding: &TableBinding,
    captured: &str,
    reading: impl Future<Output = lockstep_core::Result<T>>,
) -> Result<T> {
    match reading.await {
        Err(error) if error.kind == lockstep_core::Kind::Misconfigured => {
            require_shape_now(source, binding, captured).await?;
            Err(error.into())
        }
        read => Ok(read?),
    }
}

/// Refuses a table that has a column which this build does not know as it is, and which the migration has
/// taken.
fn require_known(binding: &TableBinding, now: &str) -> Result<()> {
    let unknown = unknown_columns(&columns_in(now, binding), binding);
    if unknown.is_empty() {
        return Ok(());
    }
    let doing = format!("reading {}", binding.relation);
    let message = format!(
        "the migration has taken {}, which this build does not know, and each row would go without it; \
         run the build that the table is of now (a declared table is read again at each start)",
        unknown.join(" and ")
    );
    Err(lockstep_core::Error::source(lockstep_core::Kind::Misconfigured, doing, message).into())
}

/// Refuses a source table that is not the one that was captured, or that hides rows.
///
/// # Errors
/// [`CoordinatorError::SchemaChanged`]; [`Kind::Refused`](lockstep_core::Kind::Refused) where values were
/// rewritten, or rows cannot be seen.
pub(crate) fn require_shape(binding: &TableBinding, captured: &str, now: &str) -> Result<()> {
    let shape = Shape::of(captured, now);
    let Some(wrong) = shape.wrong() else { return require_known(binding, now) };
    if shape == Shape::Changed {
        let (captured, now) = (columns_of(captured).to_owned(), columns_of(now).to_owned());
        return Err(CoordinatorError::SchemaChanged { table: binding.name().to_owned(), captured, now });
    }
    let doing = format!("reading {}", binding.relation);
    let kind = match shape {
        Shape::Grown(_) => lockstep_core::Kind::Busy,
        _ => lockstep_core::Kind::Refused,
    };
    Err(lockstep_core::Error::source(kind, doing, format!("{wrong}; {}", shape.next())).into())
}

/// Advice for a PostgreSQL that has lost nothing, and is a copy of one that has gone on.
fn of_a_copy(losses: &[Loss]) -> String {
    let is_sources = losses.iter().any(|loss| loss.side() == Side::Source);
    let copy = Advice::UninstallCopy;
    if is_sources { format!(". In a copy of a database that is in use: {copy}") } else { String::new() }
}

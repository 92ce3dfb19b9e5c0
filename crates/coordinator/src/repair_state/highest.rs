//! Highest numbers that DynamoDB has counted: by its items, its marks and its record.

use futures::future::try_join_all;
use lockstep_core::{Epoch, Error as StoreError, Kind, TargetRecord, Version};
use lockstep_dynamo::Backoff;
use lockstep_postgres::{KnownMarks, Source, SourceTransaction, TableBinding};

use crate::error::{CoordinatorError, Result};
use crate::gate::Observer;
use crate::loss::{Continuity, Found};
use crate::options::MigrationContext;

/// Returns the highest version that any item or mark of any table has. Reads every item.
///
/// # Errors
/// [`Kind::Unavailable`] where a table could not be asked; the stores'.
pub(super) async fn highest_version(
    migration: &MigrationContext,
    histories: &Continuity,
    segments: usize,
    observer: &dyn Observer,
) -> Result<Version> {
    let mut highest = Version::INITIAL_LOAD;
    for table in &histories.tables {
        if let Found::Unknown(why) = &table.found {
            let doing = format!("asking what {} has seen", table.name);
            return Err(StoreError::target(Kind::Unavailable, doing, why.clone()).into());
        }
        if let Found::There { mark: Some(mark), .. } = &table.found {
            highest = highest.max(mark.version);
        }
    }
    for binding in &migration.tables {
        if histories
            .tables
            .iter()
            .any(|table| table.name == binding.name() && !matches!(table.found, Found::Gone))
        {
            observer.note(&format!("looking for the highest version in {}", binding.target_name));
            highest = highest.max(of_table(migration, binding, segments).await?);
        }
    }
    Ok(highest)
}

/// Returns the highest epoch that either store knows of having been in DynamoDB.
///
/// # Errors
/// As [`highest_version`].
pub(super) async fn highest_epoch(
    migration: &MigrationContext,
    histories: &Continuity,
    record: Option<&TargetRecord>,
    segments: usize,
    observer: &dyn Observer,
) -> Result<Epoch> {
    let of_items = highest_version(migration, histories, segments, observer).await?.epoch();
    let noted = migration.source.newest_target_epoch().await?;
    let known = [Some(of_items), noted, record.map(|record| record.epoch)];
    Ok(known.into_iter().flatten().fold(Epoch::FIRST, Epoch::max))
}

async fn of_table(migration: &MigrationContext, binding: &TableBinding, segments: usize) -> Result<Version> {
    let segments = segments.max(1);
    let of_segment = |segment| async move {
        let (mut highest, mut start) = (Version::INITIAL_LOAD, None);
        loop {
            let page = || {
                migration.target.highest_version_page(
                    &binding.target_name,
                    (segment, segments),
                    start.clone(),
                )
            };
            let (of_page, next) = Backoff::patient().retry(page).await?;
            highest = highest.max(of_page);
            start = next;
            if start.is_none() {
                return Ok::<_, CoordinatorError>(highest);
            }
        }
    };
    let all = try_join_all((0..segments).map(of_segment)).await?;
    Ok(all.into_iter().max().unwrap_or(Version::INITIAL_LOAD))
}

/// Takes the marks that were found for the newest that were made.
///
/// # Errors
/// The driver's.
pub(super) async fn accept_marks(
    transaction: &mut SourceTransaction,
    histories: &Continuity,
) -> lockstep_core::Result<()> {
    for table in &histories.tables {
        let found = match &table.found {
            Found::There { mark: Some(mark), .. } => mark.number,
            _ => 0,
        };
        let marks =
            KnownMarks { marking: table.known.marking.max(found), marked: found.min(table.known.marked) };
        Source::accept_marks(transaction, &table.name, marks).await?;
    }
    Ok(())
}

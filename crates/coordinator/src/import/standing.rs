//! Whether an import is under way, and the error of one that failed.

use lockstep_postgres::{ImportRow, TableBinding};

use crate::error::{CoordinatorError, Result};
use crate::options::MigrationContext;

/// Imports that are not over yet.
pub(crate) async fn under_way(
    migration: &MigrationContext,
    binding: &TableBinding,
) -> Result<Option<ImportRow>> {
    let import = migration.source.import(binding.name()).await?;
    Ok(import.filter(|import| import.state != "done"))
}

pub(super) fn failed(binding: &TableBinding, why: impl Into<String>) -> CoordinatorError {
    CoordinatorError::ImportFailed { table: binding.name().to_owned(), why: why.into() }
}

//! Names of the triggers of a table and of their function.

use super::TableBinding;
use super::binding::quote_identifier;
use crate::sql;

/// Returns the name of the trigger that refuses `TRUNCATE`.
pub(crate) fn truncate_trigger_name(binding: &TableBinding) -> String {
    format!("zz_lockstep_truncate_{}", binding.name())
}

/// Returns the name of the trigger that captures rows.
pub(crate) fn trigger_name(binding: &TableBinding) -> String {
    // Triggers of one kind fire in the order of their names: last, so that what other triggers write is
    // captured after them.
    format!("zz_lockstep_capture_{}", binding.name())
}

/// Returns the function that captures the rows of a table, as SQL takes it.
pub(crate) fn function_name(binding: &TableBinding) -> String {
    let function = quote_identifier(&format!("capture_{}", binding.name()));
    format!("{}.{function}", sql::control_schema())
}

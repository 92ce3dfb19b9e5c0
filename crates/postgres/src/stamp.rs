//! Stamp on the layout of a table whose columns were taken, at which builds of before stop.

/// End of the layout of a table whose columns were taken while the migration went on. Builds of before that
/// could be done compare layouts alone, letter by letter, and stop at one that has it.
///
/// 1. Applications of such a build run, and a column is taken by a newer one. 2. They know of the new epoch,
/// and of no columns. 3. One of them puts a row without the column in that epoch, at once, and its mark goes.
pub(super) const STAMP: &str = " columns=taken";

/// Takes the stamp from a layout.
pub(super) fn unstamp(layout: &mut String) {
    if layout.ends_with(STAMP) {
        layout.truncate(layout.len() - STAMP.len());
    }
}

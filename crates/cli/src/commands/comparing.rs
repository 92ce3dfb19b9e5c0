//! Comparisons that several processes share, as `status` shows them.

use lockstep_coordinator::Status;

use crate::report::table;

/// Tells of the comparisons under way, one a line; empty where there is none.
pub(super) fn comparisons(status: &Status) -> String {
    if status.comparisons.is_empty() {
        return String::new();
    }
    let rows = status.comparisons.iter().map(|c| {
        let pieces = format!("{} of {}", c.pieces_read, c.pieces);
        vec![c.table.clone(), c.leader.clone(), pieces, c.workers.join("; ")]
    });
    format!("\n{}", table(&["comparison of", "led by", "pieces read", "workers"], rows))
}

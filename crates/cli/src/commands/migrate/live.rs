//! Writers while rows are moved.

use crate::Context;
use crate::demo::Writers;
use crate::exit::Failure;
use crate::stores::Stores;

/// Starts writers that together do `per_second` operations; none for 0.
///
/// # Errors
/// Where other tables move than the demonstration's.
pub(in crate::commands) fn start(
    context: &Context,
    stores: &Stores,
    per_second: u32,
    seed: u64,
) -> anyhow::Result<Option<Box<dyn Writers>>> {
    if per_second == 0 {
        return Ok(None);
    }
    let Some(demo) = context.demo() else {
        return Err(Failure::usage(
            "live writers know the sample's tables only: leave --live-writes out, and let your own \
            applications write",
        ));
    };
    demo.write(context, stores, per_second, seed).map(Some)
}

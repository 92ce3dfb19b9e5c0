//! Facts that a page states beside its items.

use lockstep_core::Attributes;
use serde::Deserialize;

/// Cursor and cost of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageEnd {
    /// Start of the next page; `None` at the end of the segment.
    pub next: Option<Attributes>,
    /// Read units consumed, where the endpoint tells.
    pub capacity_units: f64,
}

/// Consumed capacity as the endpoint writes it.
#[derive(Deserialize)]
pub(super) struct Consumed {
    #[serde(rename = "CapacityUnits")]
    pub(super) units: Option<f64>,
}

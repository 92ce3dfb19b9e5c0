//! Dollars that copying may cost (R50). Values only.

/// Dollars that may be spent, and what write units cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spending {
    /// Dollars after which nothing is copied, where no setting says otherwise.
    pub cap_usd: Option<f64>,
    /// Dollars of a million write units.
    pub write_units_million_usd: f64,
}

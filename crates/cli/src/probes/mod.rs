//! Handles on the stores of the sample's tables, for the live writers of `migrate`. No check and no gate is
//! here.

pub mod handles;

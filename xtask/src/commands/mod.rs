//! The chores of this checkout: everything else is the product's.

pub mod bench;
pub mod ci;
pub mod mutants;
pub mod soak;

//! What the gates ask of the two reference tables: canary reads, the marked rows of a test operation, and handles on their
//! stores.

pub mod canary;
pub mod handles;
pub mod marked;

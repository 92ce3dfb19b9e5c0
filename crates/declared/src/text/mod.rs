//! Texts of PostgreSQL, spelled in the one way in which items and keys hold them.

pub(crate) mod decimal;
pub(crate) mod float;
pub(crate) mod time;

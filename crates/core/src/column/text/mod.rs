//! Values as text, spelled in the one way in which items and keys hold them: of tables in Rust and of
//! declared ones alike, so that one column makes one attribute whichever way its table is moved.

pub mod array;
pub mod decimal;
pub mod document;
pub mod float;
pub mod hex;
pub mod interval;
pub mod time;

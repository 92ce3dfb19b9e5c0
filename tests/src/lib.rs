//! lockstep-tests

pub mod faults;

//! Names that no column may have.

/// What the items of Lockstep call their own attributes: the keys, the expiry and the bookkeeping.
pub const RESERVED_ATTRIBUTES: [&str; 6] = ["PK", "SK", "ttl", "_v", "_w", "_deleted"];

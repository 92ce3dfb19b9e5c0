//! Names that no column may have.

/// Names of the attributes of Lockstep's own: the keys, the expiry, the bookkeeping, and those that only
/// items that are no row's have. Equal to the list of the core, which a test of `lockstep-migrate` holds: a
/// macro is not to be built with a database driver for the sake of nine names.
pub const RESERVED_ATTRIBUTES: [&str; 9] =
    ["PK", "SK", "ttl", "_v", "_w", "_deleted", "_mark", "_marker", "_probe"];

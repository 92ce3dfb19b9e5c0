//! Stored times, and a clock that may have been set since they were stored.
//!
//! 1. The server's clock is ahead by an hour for some seconds: time is set, or a node with another clock
//!    takes over. 2. A time is stored. 3. The clock is right again. For an hour what was stored then is
//!    younger than nothing: a verdict never grows old, the next mark is never due, a lease never ends. So a
//!    stored time that lies ahead is never fresh. Each condition on the age of a stored time is made here;
//!    a record whose time lies ahead is replaced where its kind allows.

/// Returns the expression that tells whether a stored time lies ahead, by more than two sessions that ask one
/// after the other may differ.
pub(crate) fn is_ahead(time: &str) -> String {
    format!("({time} > pg_catalog.clock_timestamp() + interval '1 second')")
}

/// Returns a stored time of a role's as one that this program can hold: one of the years that PostgreSQL
/// counts from, and none that lies ahead. The guard of the table sees to it, and rows of before it are there.
pub(crate) fn sayable(time: &str) -> String {
    format!("greatest(least({time}, pg_catalog.clock_timestamp()), '2000-01-01 00:00:00+00'::timestamptz)")
}

/// Returns the expression that tells whether a stored time is younger than `age`, an interval. One that lies
/// ahead is not.
pub(crate) fn is_younger(time: &str, age: &str) -> String {
    format!("({time} > pg_catalog.clock_timestamp() - {age} AND NOT {})", is_ahead(time))
}

/// Returns the expression that tells whether a stored time is at least as old as `age`, an interval. One that
/// lies ahead is.
pub(crate) fn is_past(time: &str, age: &str) -> String {
    format!("({time} <= pg_catalog.clock_timestamp() - {age} OR {})", is_ahead(time))
}

/// Returns the age of a stored time in seconds. One that lies ahead is older than any bound.
pub(crate) fn age_s(time: &str) -> String {
    format!(
        "(CASE WHEN {} THEN 'Infinity'::float8
          ELSE greatest(0, extract(epoch FROM pg_catalog.clock_timestamp() - {time}))::float8 END)",
        is_ahead(time)
    )
}

/// Returns the expression that tells whether the lease of worker `row` lasts. Its length is not stored; it
/// was counted from its renewal, so one that was renewed in a time to come may end at any time to come, and
/// is over.
pub(crate) fn worker_is_live(row: &str) -> String {
    format!(
        "({row}.lease_until > pg_catalog.clock_timestamp() AND NOT {})",
        is_ahead(&format!("{row}.renewed_at"))
    )
}

/// Expression for the time at which a shard was last seen to have no more, where that can be told: of a time
/// that lies ahead by more than clocks of a fleet differ it cannot, and it counts as seen long ago.
pub(crate) fn shard_seen_at() -> &'static str {
    "(CASE WHEN empty_at > pg_catalog.clock_timestamp() + interval '1 minute'
      THEN coalesce(newest_at, 'epoch'::timestamptz)
      ELSE greatest(newest_at, empty_at) END)"
}

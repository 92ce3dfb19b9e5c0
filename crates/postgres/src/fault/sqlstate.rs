//! Meaning of an error of PostgreSQL, by its SQLSTATE: one table (PostgreSQL documentation, appendix A).
//!
//! A code that is not in it is an outage (I18): it is tried again and told of, and nothing is concluded from
//! it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lockstep_core::Advice::{SourceConnectionsMax, SourceUrl};
use lockstep_core::Kind;

/// Whole codes come before their classes.
const TABLE: &[(&str, Kind)] = &[
    // Locks: another try may find them free.
    ("55P03", Kind::Busy),
    ("40P01", Kind::Busy),
    ("40001", Kind::Busy),
    // The server goes away, has just come, or has no room.
    ("08", Kind::Unavailable),
    ("53", Kind::Unavailable),
    ("57", Kind::Unavailable),
    ("58", Kind::Unavailable),
    ("XX", Kind::Unavailable),
    ("F0", Kind::Unavailable),
    // It ended a transaction of ours: idle for too long, or open for too long.
    ("25P03", Kind::Unavailable),
    ("25P04", Kind::Unavailable),
    // Read-only: a replica, as every node is for a while after a failover, or a disk that is full.
    ("25006", Kind::Unavailable),
    // A pooler gave the session to another, or took its statements.
    ("26", Kind::Unavailable),
    // Roles that may come in, and their rights.
    ("28", Kind::Denied),
    ("42501", Kind::Denied),
    // Objects that must be there, and are not.
    ("3D", Kind::Misconfigured),
    ("3F000", Kind::Misconfigured),
    ("42P01", Kind::Misconfigured),
    ("42703", Kind::Misconfigured),
    ("42883", Kind::Misconfigured),
    // The statement or its data, which another try would not change.
    ("0A", Kind::Invalid),
    ("20", Kind::Invalid),
    ("21", Kind::Invalid),
    ("22", Kind::Invalid),
    ("23", Kind::Invalid),
    ("24", Kind::Invalid),
    ("25", Kind::Invalid),
    ("27", Kind::Invalid),
    ("2B", Kind::Invalid),
    ("2F", Kind::Invalid),
    ("34", Kind::Invalid),
    ("38", Kind::Invalid),
    ("39", Kind::Invalid),
    ("3B", Kind::Invalid),
    ("42", Kind::Invalid),
    ("44", Kind::Invalid),
    ("54", Kind::Invalid),
    ("55", Kind::Invalid),
    ("P0", Kind::Invalid),
];

/// Returns the meaning of a SQLSTATE.
pub(super) fn kind(code: &str) -> Kind {
    let known = |exact: bool| {
        TABLE.iter().find(|(known, _)| if exact { *known == code } else { code.starts_with(known) })
    };
    known(true).or_else(|| known(false)).map_or(Kind::Unavailable, |(_, kind)| *kind)
}

/// Routines of PostgreSQL that refuse for the server's own sake under a code that is also of a statement:
/// transaction numbers have run out, or the queue of notifications is full.
const OF_THE_SERVER: &[&str] =
    &["GetNewTransactionId", "GetNewMultiXactId", "PreCommit_Notify", "asyncQueueAddEntries"];

/// Returns the meaning of a SQLSTATE that PostgreSQL raised in `routine`, `fatal` where it ended the session
/// by it. 1. A database is stopped before its transaction numbers run out, or lets no session in. 2. The
/// codes are those of a value that is too long, and of an object in a wrong state. 3. Taken for the row's,
/// they end relay and feed, and the server comes back an hour later.
pub(super) fn kind_of(code: &str, fatal: bool, routine: Option<&str>) -> Kind {
    match kind(code) {
        Kind::Invalid if fatal && (code.starts_with("54") || code.starts_with("55")) => Kind::Unavailable,
        Kind::Invalid if routine.is_some_and(|name| OF_THE_SERVER.contains(&name)) => Kind::Unavailable,
        kind => kind,
    }
}

/// Advice for the reader of the message.
pub(super) fn advise(code: &str) -> String {
    match code {
        "25006" => {
            format!(
                "; this node takes no writes: after a failover it passes, else point \
                {SourceUrl} at the writer, or look whether its disk is full"
            )
        }
        // Where it comes from is known to who connects.
        "28P01" => "; was the password changed?".to_owned(),
        "53300" => format!("; raise max_connections, or lower {SourceConnectionsMax}"),
        _ => String::new(),
    }
}

/// Counts of this process: refusals by a node that takes no writes, and refused passwords. A pool of
/// connections looks at these, wherever the error came up.
static READ_ONLY: AtomicU64 = AtomicU64::new(0);
static PASSWORDS: AtomicU64 = AtomicU64::new(0);

/// Counts what those who keep connections must know of.
pub(super) fn notice(code: &str) {
    match code {
        "25006" => drop(READ_ONLY.fetch_add(1, Relaxed)),
        "28P01" | "28000" => drop(PASSWORDS.fetch_add(1, Relaxed)),
        _ => {}
    }
}

/// Returns how often a node of PostgreSQL has refused a write in this process because it takes none.
pub(crate) fn read_only_refusals() -> u64 {
    READ_ONLY.load(Relaxed)
}

/// Returns how often PostgreSQL has refused a password in this process.
pub(crate) fn passwords_refused() -> u64 {
    PASSWORDS.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_for_a_server_to_be_away_is_an_outage() {
        let away = [
            "08000", "08003", "08006", "08P01", "25006", "25P03", "25P04", "26000", "53000", "53100",
            "53200", "53300", "57000", "57014", "57P01", "57P02", "57P03", "57P04", "57P05", "58000",
            "58030", "XX000", "XX001",
        ];
        for code in away {
            assert_eq!(kind(code), Kind::Unavailable, "{code}");
        }
    }

    #[test]
    fn a_code_of_no_known_class_is_an_outage() {
        for code in ["", "99999", "HV000", "QQ123"] {
            assert_eq!(kind(code), Kind::Unavailable, "{code}");
        }
    }

    #[test]
    fn what_another_try_would_not_change_is_told_from_what_a_person_must_change() {
        let listed = [
            ("22001", Kind::Invalid),
            ("23505", Kind::Invalid),
            ("42601", Kind::Invalid),
            ("P0001", Kind::Invalid),
            ("55000", Kind::Invalid),
            ("0A000", Kind::Invalid),
            ("25P02", Kind::Invalid),
            ("42501", Kind::Denied),
            ("28P01", Kind::Denied),
            ("28000", Kind::Denied),
            ("42P01", Kind::Misconfigured),
            ("3D000", Kind::Misconfigured),
            ("55P03", Kind::Busy),
            ("40001", Kind::Busy),
            ("40P01", Kind::Busy),
        ];
        for (code, expected) in listed {
            assert_eq!(kind(code), expected, "{code}");
        }
    }

    #[test]
    fn what_the_server_refuses_for_itself_is_told_from_what_a_statement_asked() {
        let kinds = [
            (("54000", false, Some("GetNewTransactionId")), Kind::Unavailable),
            (("54000", false, Some("GetNewMultiXactId")), Kind::Unavailable),
            (("54000", false, Some("PreCommit_Notify")), Kind::Unavailable),
            (("55000", true, Some("InitPostgres")), Kind::Unavailable),
            (("54000", false, Some("index_form_tuple")), Kind::Invalid),
            (("54000", false, None), Kind::Invalid),
            (("55000", false, Some("nextval_internal")), Kind::Invalid),
            (("42704", true, Some("find_option")), Kind::Invalid),
            (("28P01", true, Some("auth_failed")), Kind::Denied),
            (("3D000", true, Some("InitPostgres")), Kind::Misconfigured),
        ];
        for ((code, fatal, routine), expected) in kinds {
            assert_eq!(kind_of(code, fatal, routine), expected, "{code} {routine:?}");
        }
    }

    #[test]
    fn a_keeper_of_connections_can_tell_that_a_node_or_a_password_was_refused() {
        let before = (read_only_refusals(), passwords_refused());
        notice("25006");
        notice("28P01");
        notice("23505");
        assert!(read_only_refusals() > before.0 && passwords_refused() > before.1);
    }
}

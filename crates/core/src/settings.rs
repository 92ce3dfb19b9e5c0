//! Settings that operators turn while a migration runs (R49): their names, and the values each takes. Where
//! they are kept, the store of the control record says; who follows them, each name says. Then those in force
//! ([`Settings`]), and what leads one up by itself ([`Ramp`]).

mod in_force;
mod ramp;

pub use in_force::Settings;
pub use ramp::Ramp;

use serde_json::{Value, json};

/// The values that a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Takes {
    /// A percentage from 0 to 100, kept to a hundredth.
    Percent,
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// An amount of dollars, 0 or more.
    Dollars,
    /// `best_effort` or `strict`.
    Mode,
    /// `true`; what is false is taken back.
    Yes,
    /// Names of roles, with commas between them.
    Roles,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knob {
    /// Name of the setting.
    pub name: &'static str,
    /// Values that it takes.
    pub takes: Takes,
    /// Description of what follows it, in a line.
    pub about: &'static str,
}

const fn knob(name: &'static str, takes: Takes, about: &'static str) -> Knob {
    Knob { name, takes, about }
}

/// Share of keys that HybridRead answers from the target.
pub const CANARY_PERCENT: &str = "canary_percent";
/// Share of reads that are repeated on the other store and compared.
pub const SHADOW_PERCENT: &str = "shadow_percent";
/// Age of a pending key from which HybridRead goes back to the source by itself.
pub const MAX_STALENESS_MS: &str = "max_staleness_ms";
/// Setting that says which store decides whether a write of DualWrite happened.
pub const DUAL_WRITE: &str = "dual_write";
/// The same in HybridRead.
pub const HYBRID_READ: &str = "hybrid_read";
/// Most write units a second of backfill and relay together, of which changes get theirs first.
pub const WRITE_UNITS_PER_S_MAX: &str = "write_units_per_s_max";
/// Most write units a second of each relay.
pub const RELAY_WRITE_UNITS_PER_S_MAX: &str = "relay_write_units_per_s_max";
/// Most read units a second of each comparison.
pub const VALIDATE_READ_UNITS_PER_S_MAX: &str = "validate_read_units_per_s_max";
/// Sessions at work in the source above which the initial load moves more slowly.
pub const SOURCE_ACTIVE_SESSIONS_MAX: &str = "source_active_sessions_max";
/// Megabytes that a replica of the source is behind, above which the initial load moves more slowly.
pub const SOURCE_REPLICA_LAG_MB_MAX: &str = "source_replica_lag_mb_max";
/// Megabytes of write-ahead log a second of the source, above which the initial load moves more slowly.
pub const SOURCE_WAL_MB_PER_S_MAX: &str = "source_wal_mb_per_s_max";
/// Dollars after which what can be stopped is stopped.
pub const SPEND_CAP_USD: &str = "spend_cap_usd";
/// Differences in ten minutes of HybridRead after which reads go back to the source.
pub const MISMATCHES_MAX: &str = "mismatches_max";
/// Roles whose reports count for nothing.
pub const DISTRUSTED_REPORTERS: &str = "distrusted_reporters";
/// Milliseconds within which 99 of 100 answers of a store are to come.
pub const LATENCY_MS_MAX: &str = "latency_ms_max";
/// Marks that were delivered and that PostgreSQL keeps, above which the pending set is bloated.
pub const PENDING_DEAD_MAX: &str = "pending_dead_max";
/// Prefix of the names of settings that pause something.
pub const PAUSE: &str = "pause.";
/// Prefix of the names of settings that lead another one up a ramp.
pub const RAMP: &str = "ramp.";

/// All of them.
pub const KNOBS: &[Knob] = &[
    knob(CANARY_PERCENT, Takes::Percent, "applications: share of keys that HybridRead answers from DynamoDB"),
    knob(
        SHADOW_PERCENT,
        Takes::Percent,
        "applications: share of reads that are made on both stores and compared",
    ),
    knob(
        MAX_STALENESS_MS,
        Takes::Whole(1, 3_600_000),
        "applications: age of a waiting change from which HybridRead reads PostgreSQL",
    ),
    knob(DUAL_WRITE, Takes::Mode, "applications: how DualWrite writes DynamoDB"),
    knob(HYBRID_READ, Takes::Mode, "applications: how HybridRead writes DynamoDB"),
    knob(
        WRITE_UNITS_PER_S_MAX,
        Takes::Whole(1, 1_000_000_000),
        "backfill and relay: most write units a second, over all tables; changes take theirs first",
    ),
    knob(
        RELAY_WRITE_UNITS_PER_S_MAX,
        Takes::Whole(1, 1_000_000_000),
        "relay and repair: most write units a second of each relay",
    ),
    knob(
        VALIDATE_READ_UNITS_PER_S_MAX,
        Takes::Whole(1, 1_000_000_000),
        "comparisons: most read units a second of each",
    ),
    knob(
        SOURCE_ACTIVE_SESSIONS_MAX,
        Takes::Whole(1, 100_000),
        "backfill: sessions at work in PostgreSQL above which it slows down",
    ),
    knob(
        SOURCE_REPLICA_LAG_MB_MAX,
        Takes::Whole(1, 1_000_000_000),
        "backfill: megabytes that a replica is behind, above which it slows down",
    ),
    knob(
        SOURCE_WAL_MB_PER_S_MAX,
        Takes::Whole(1, 1_000_000),
        "backfill: megabytes of write-ahead log a second of PostgreSQL, above which it slows down",
    ),
    knob(SPEND_CAP_USD, Takes::Dollars, "daemon: dollars after which copying and comparing stop"),
    knob(
        MISMATCHES_MAX,
        Takes::Whole(0, 1_000_000),
        "daemon: differences in ten minutes of HybridRead after which it steps back to DualWrite",
    ),
    knob(
        DISTRUSTED_REPORTERS,
        Takes::Roles,
        "gates and daemon: roles whose reports of shadow reads and writes count for nothing",
    ),
    knob(
        LATENCY_MS_MAX,
        Takes::Whole(1, 60_000),
        "alerts: milliseconds within which 99 of 100 answers of a store are to come",
    ),
    knob(
        PENDING_DEAD_MAX,
        Takes::Whole(1_000, 1_000_000_000),
        "alerts: delivered marks that PostgreSQL keeps in the pending set, above which it is bloated",
    ),
    knob("pause.relay", Takes::Yes, "daemon and relays: they deliver nothing; changes wait in PostgreSQL"),
    knob("pause.reverse-feed", Takes::Yes, "daemon and reverse feeds: they bring nothing back to PostgreSQL"),
    knob("pause.sampling", Takes::Yes, "daemon: compares no samples"),
    knob("pause.backfill", Takes::Yes, "backfill: copies nothing until it is resumed"),
    knob("pause.validation", Takes::Yes, "comparisons: read nothing of DynamoDB until they are resumed"),
];

/// Longest reason that the journal is given, in characters.
pub const REASON_CHARS_MAX: usize = 500;

/// Tells whether the journal takes a reason: it is not too long, and holds no control character.
pub fn is_reason(text: &str) -> bool {
    text.chars().count() <= REASON_CHARS_MAX && !text.chars().any(char::is_control)
}

/// Returns the settings that there are, for programs.
pub fn known() -> Value {
    KNOBS
        .iter()
        .map(|knob| json!({ "name": knob.name, "takes": knob.takes(), "about": knob.about, "kind": knob.takes.kind() }))
        .collect()
}

/// A setting by its name.
///
/// # Errors
/// The names that there are instead.
pub fn of_name(name: &str) -> Result<&'static Knob, String> {
    KNOBS.iter().find(|knob| knob.name == name).ok_or_else(|| {
        let names: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
        format!("there is no setting of this name; there are: {}", names.join(", "))
    })
}

impl Takes {
    /// Returns the kind of the value, in a word.
    fn kind(self) -> &'static str {
        match self {
            Self::Percent => "percent",
            Self::Whole(..) => "whole",
            Self::Dollars => "dollars",
            Self::Mode => "mode",
            Self::Yes => "yes",
            Self::Roles => "roles",
        }
    }
}

impl Knob {
    /// Returns a value as it is kept.
    ///
    /// # Errors
    /// The values that it takes, where the value is something else.
    pub fn checked(&self, value: &Value) -> Result<Value, String> {
        let within = |least: f64, most: f64| value.as_f64().filter(|v| (least..=most).contains(v));
        let kept = match self.takes {
            Takes::Percent => within(0.0, 100.0).map(|v| Value::from((v * 100.0).round() / 100.0)),
            Takes::Whole(least, most) => {
                value.as_u64().filter(|v| (least..=most).contains(v)).map(Value::from)
            }
            Takes::Dollars => within(0.0, 1e12).map(Value::from),
            Takes::Mode => {
                value.as_str().filter(|mode| ["best_effort", "strict"].contains(mode)).map(Value::from)
            }
            Takes::Yes => (value == &Value::Bool(true)).then(|| value.clone()),
            Takes::Roles => value.as_str().and_then(roles).map(Value::from),
        };
        kept.ok_or_else(|| format!("`{}` is {}", self.name, self.takes()))
    }

    /// Returns a value as a person types it.
    ///
    /// # Errors
    /// As [`Knob::checked`].
    pub fn typed(&self, text: &str) -> Result<Value, String> {
        let value = match self.takes {
            Takes::Mode => Value::from(text.replace('-', "_")),
            Takes::Roles => Value::from(text),
            _ => serde_json::from_str(text.trim_end_matches('%')).unwrap_or_else(|_| Value::from(text)),
        };
        self.checked(&value)
    }

    /// Returns the values that it takes, in words.
    pub fn takes(&self) -> String {
        match self.takes {
            Takes::Percent => "a percentage from 0 to 100".to_owned(),
            Takes::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Takes::Dollars => "an amount of dollars, 0 or more".to_owned(),
            Takes::Mode => "best_effort or strict".to_owned(),
            Takes::Yes => "true; take it back to end it".to_owned(),
            Takes::Roles => "names of roles, with commas between them".to_owned(),
        }
    }
}

/// Names of roles as they are kept: those of PostgreSQL have at most 63 bytes each.
fn roles(text: &str) -> Option<String> {
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_one = |name: &&str| !name.is_empty() && name.len() <= 63 && !name.contains(char::is_control);
    (names.len() <= 100 && names.iter().all(is_one)).then(|| names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_takes_what_its_name_says_and_nothing_else() {
        let typed = |name: &str, text: &str| of_name(name).and_then(|knob| knob.typed(text));
        assert_eq!(typed("canary_percent", "5%"), Ok(json!(5.0)));
        assert_eq!(typed("canary_percent", "2.505"), Ok(json!(2.51)));
        assert_eq!(typed("hybrid_read", "best-effort"), Ok(json!("best_effort")));
        assert_eq!(typed("pause.relay", "true"), Ok(json!(true)));
        assert_eq!(typed("distrusted_reporters", "app, 7"), Ok(json!("app,7")));
        for (name, text) in [
            ("canary_percent", "101"),
            ("canary_percent", "NaN"),
            ("max_staleness_ms", "0"),
            ("max_staleness_ms", "1.5"),
            ("hybrid_read", "sometimes"),
            ("spend_cap_usd", "-1"),
            ("pause.relay", "false"),
            ("distrusted_reporters", ""),
            ("distrusted_reporters", "app, "),
            ("no", "1"),
        ] {
            assert!(typed(name, text).is_err(), "{name} {text}");
        }
    }
}

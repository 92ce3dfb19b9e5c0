//! What operators turn while a migration runs (R49): the names there are, and what each takes. Where they are
//! kept, the store of the control record says; who follows them, each name says.

use serde_json::{Map, Value, json};

/// What a setting takes.
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
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What follows it, in a line.
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
/// Who decides whether a write of DualWrite happened.
pub const DUAL_WRITE: &str = "dual_write";
/// The same in HybridRead.
pub const HYBRID_READ: &str = "hybrid_read";
/// Most write units a second of backfill and relay together, of which changes get theirs first.
pub const WRITE_UNITS_PER_S_MAX: &str = "write_units_per_s_max";
/// Most write units a second of each relay.
pub const RELAY_WRITE_UNITS_PER_S_MAX: &str = "relay_write_units_per_s_max";
/// Most read units a second of each comparison.
pub const VALIDATE_READ_UNITS_PER_S_MAX: &str = "validate_read_units_per_s_max";
/// Sessions at work in the source above which history moves more slowly.
pub const SOURCE_ACTIVE_SESSIONS_MAX: &str = "source_active_sessions_max";
/// Megabytes that a replica of the source is behind, above which history moves more slowly.
pub const SOURCE_REPLICA_LAG_MB_MAX: &str = "source_replica_lag_mb_max";
/// Dollars after which what can be stopped is stopped.
pub const SPEND_CAP_USD: &str = "spend_cap_usd";
/// Differences in ten minutes of HybridRead after which reads go back to the source.
pub const MISMATCHES_MAX: &str = "mismatches_max";
/// Roles whose reports count for nothing.
pub const DISTRUSTED_REPORTERS: &str = "distrusted_reporters";
/// Milliseconds within which 99 of 100 answers of a store are to come.
pub const LATENCY_MS_MAX: &str = "latency_ms_max";
/// What the names of settings begin with that pause something.
pub const PAUSE: &str = "pause.";
/// What the names of settings begin with that lead another one up a ramp.
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
    knob("pause.relay", Takes::Yes, "daemon: delivers nothing; changes wait in PostgreSQL"),
    knob("pause.reverse-feed", Takes::Yes, "daemon: brings nothing back to PostgreSQL"),
    knob("pause.sampling", Takes::Yes, "daemon: compares no samples"),
    knob("pause.backfill", Takes::Yes, "backfill: copies nothing until it is resumed"),
];

/// Longest reason that the journal is given, in characters.
pub const REASON_CHARS_MAX: usize = 500;

/// Whether the journal takes a reason: it is not too long, and holds no control character.
pub fn is_reason(text: &str) -> bool {
    text.chars().count() <= REASON_CHARS_MAX && !text.chars().any(char::is_control)
}

/// What there is to set, for programs.
pub fn known() -> Value {
    KNOBS
        .iter()
        .map(|knob| json!({ "name": knob.name, "takes": knob.takes(), "about": knob.about, "kind": knob.takes.kind() }))
        .collect()
}

/// A setting by its name.
///
/// # Errors
/// What there is instead.
pub fn of_name(name: &str) -> Result<&'static Knob, String> {
    KNOBS.iter().find(|knob| knob.name == name).ok_or_else(|| {
        let names: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
        format!("there is no setting of this name; there are: {}", names.join(", "))
    })
}

impl Takes {
    /// What kind of value it is, in a word.
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
    /// A value as it is kept.
    ///
    /// # Errors
    /// What it takes, where it is something else.
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

    /// A value as a person types it.
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

    /// What it takes, in words.
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

/// The settings in force, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// Those of a control record that count at `now_s`, in seconds since 1970 by the clock of the store that
    /// keeps them: each is `{"value": …, "until": seconds or null}`. What this version does not know, or
    /// what does not hold what its name takes, counts for nothing.
    pub fn in_force(kept: &Value, now_s: f64) -> Self {
        let counts =
            |entry: &Value| entry.get("until").and_then(Value::as_f64).is_none_or(|until| until > now_s);
        let known = kept.as_object().into_iter().flatten().filter(|(_, entry)| counts(entry));
        Self(
            known
                .filter_map(|(name, entry)| {
                    let value = of_name(name).ok()?.checked(entry.get("value")?).ok()?;
                    Some((name.clone(), value))
                })
                .collect(),
        )
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    /// A whole number.
    pub fn whole(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    /// A word.
    pub fn word(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Whether it is set to true.
    pub fn is_on(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Value::Bool(true))
    }
}

/// A plan by which a percentage rises, one step after the other, each after a gate.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// The percentages, rising.
    pub steps: Vec<f64>,
    /// How long each holds before the next is asked for, in seconds.
    pub hold_s: u64,
    /// Which of them is in force, from 0.
    pub at: usize,
    /// Since when, in seconds since 1970.
    pub since_s: f64,
}

/// Most steps of a ramp.
const RAMP_STEPS_MAX: usize = 20;

impl Ramp {
    /// A ramp at its beginning.
    ///
    /// # Errors
    /// What its steps and its pause have to be.
    pub fn new(steps: Vec<f64>, hold_s: u64, since_s: f64) -> Result<Self, String> {
        let rising = steps.windows(2).all(|pair| pair[0] < pair[1]);
        let percentages = steps.iter().all(|step| (0.0..=100.0).contains(step));
        if !rising || !percentages || !(1..=RAMP_STEPS_MAX).contains(&steps.len()) {
            return Err(format!(
                "the steps of a ramp are 1 to {RAMP_STEPS_MAX} rising percentages, such as 1,5,25,100"
            ));
        }
        if !(1..=30 * 86_400).contains(&hold_s) {
            return Err("each step of a ramp holds for 1 s to 30 days".to_owned());
        }
        Ok(Self { steps, hold_s, at: 0, since_s })
    }

    /// Whether what was kept is one that can be gone on with.
    pub fn of(kept: &Value) -> Option<Self> {
        let ramp: Self = serde_json::from_value(kept.clone()).ok()?;
        let (fresh, at) = (Self::new(ramp.steps.clone(), ramp.hold_s, ramp.since_s).ok()?, ramp.at);
        (at < fresh.steps.len()).then_some(ramp)
    }

    /// The percentage in force.
    pub fn percent(&self) -> f64 {
        self.steps.get(self.at).copied().unwrap_or(0.0)
    }

    /// The next step, once this one has held for long enough at `now_s`.
    pub fn due(&self, now_s: f64) -> Option<Self> {
        let next = self.at + 1;
        let held = now_s - self.since_s >= self.hold_s as f64;
        (held && next < self.steps.len()).then(|| Self { at: next, since_s: now_s, ..self.clone() })
    }

    /// Whether there is a step left.
    pub fn goes_on(&self) -> bool {
        self.at + 1 < self.steps.len()
    }
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

    #[test]
    fn what_is_over_or_not_understood_counts_for_nothing() {
        let kept = json!({
            "canary_percent": { "value": 5, "until": 100.0 }, "shadow_percent": { "value": 7, "until": null },
            "max_staleness_ms": { "value": "soon", "until": null }, "of a later version": { "value": 1 },
        });
        let before = Settings::in_force(&kept, 99.0);
        assert_eq!((before.number(CANARY_PERCENT), before.number(SHADOW_PERCENT)), (Some(5.0), Some(7.0)));
        assert_eq!(before.whole(MAX_STALENESS_MS), None);
        assert_eq!(Settings::in_force(&kept, 100.0).number(CANARY_PERCENT), None);
        assert_eq!(Settings::in_force(&Value::Null, 0.0), Settings::default());
    }

    #[test]
    fn a_ramp_rises_step_by_step_and_only_after_its_pause() {
        let ramp = Ramp::new(vec![1.0, 5.0, 100.0], 60, 1_000.0).expect("a ramp");
        assert_eq!((ramp.percent(), ramp.due(1_059.0)), (1.0, None));
        let second = ramp.due(1_060.0).expect("it is due");
        assert_eq!((second.percent(), second.since_s, second.goes_on()), (5.0, 1_060.0, true));
        let last = second.due(2_000.0).expect("it is due");
        assert_eq!((last.goes_on(), last.due(9_999.0)), (false, None));
        assert_eq!(Ramp::of(&json!(second)), Some(second));
        for wrong in [vec![], vec![5.0, 5.0], vec![5.0, 1.0], vec![1.0, 101.0]] {
            assert!(Ramp::new(wrong, 60, 0.0).is_err());
        }
        assert_eq!(Ramp::of(&json!({ "steps": [1], "hold_s": 1, "at": 1, "since_s": 0 })), None);
    }
}

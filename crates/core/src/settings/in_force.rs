//! The settings that count at a moment.

use serde_json::{Map, Value};

use super::of_name;

/// The settings in force, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(Map<String, Value>);

impl Settings {
    /// Returns those of a control record that count at `now_s`, in seconds since 1970 by the clock of the
    /// store that keeps them: each is `{"value": …, "until": seconds or null}`. After that time the value of
    /// `former` counts, where there is one. A setting that this version does not know, or whose value its
    /// name does not take, counts for nothing.
    pub fn in_force(kept: &Value, now_s: f64) -> Self {
        let is_over =
            |entry: &Value| entry.get("until").and_then(Value::as_f64).is_some_and(|until| until <= now_s);
        let known = kept.as_object().into_iter().flatten();
        Self(
            known
                .filter_map(|(name, entry)| {
                    let value = entry.get(if is_over(entry) { "former" } else { "value" })?;
                    let value = of_name(name).ok()?.checked(value).ok()?;
                    Some((name.clone(), value))
                })
                .collect(),
        )
    }

    /// Returns a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.as_f64()
    }

    /// Returns a whole number.
    pub fn whole(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    /// Returns a word.
    pub fn word(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Tells whether it is set to true.
    pub fn is_on(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Value::Bool(true))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{CANARY_PERCENT, MAX_STALENESS_MS, SHADOW_PERCENT};

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
    fn what_held_for_good_counts_again_when_the_time_of_another_is_over() {
        let kept = json!({
            "canary_percent": { "value": 50, "until": 100.0, "former": 5 },
            "shadow_percent": { "value": 7, "until": null, "former": 9 },
            "max_staleness_ms": { "value": 250, "until": 100.0, "former": "soon" },
        });
        let of = |now_s| {
            let settings = Settings::in_force(&kept, now_s);
            (
                settings.number(CANARY_PERCENT),
                settings.number(SHADOW_PERCENT),
                settings.whole(MAX_STALENESS_MS),
            )
        };
        assert_eq!(of(99.0), (Some(50.0), Some(7.0), Some(250)));
        assert_eq!(of(100.0), (Some(5.0), Some(7.0), None));
    }
}

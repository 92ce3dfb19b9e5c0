//! Durations as a file has them: whole numbers, whose unit is in the key's name.

/// In milliseconds.
pub(crate) mod ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// In seconds.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(duration.as_secs())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use crate::options::{RelayOptions, StepOptions};

    /// The keys are what operators have in their files.
    #[test]
    fn options_are_written_under_the_keys_of_the_configuration_and_read_back() {
        let steps = serde_json::to_value(StepOptions::default()).expect("serialises");
        let mut keys: Vec<&str> = steps.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.sort_unstable();
        let mut expected = [
            "lock_tries",
            "lock_pause_ms",
            "pending_keys_max",
            "pending_age_ms_max",
            "verdict_age_s_max",
            "phase_lease_ms",
            "pause_ms_max",
            "catch_up_s_max",
            "index_settle_ms",
        ];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!((&steps["pause_ms_max"], &steps["catch_up_s_max"]), (&5_000.into(), &60.into()));
        assert_eq!(serde_json::from_value::<StepOptions>(steps).expect("reads"), StepOptions::default());
        let relay = serde_json::to_value(RelayOptions::default()).expect("serialises");
        assert_eq!(relay["idle_pause_ms"], 200);
        assert_eq!(serde_json::from_value::<RelayOptions>(relay).expect("reads"), RelayOptions::default());
        let bound_to_the_source = serde_json::json!({ "lock_timeout": 1 });
        assert!(serde_json::from_value::<StepOptions>(bound_to_the_source).is_err());
    }
}

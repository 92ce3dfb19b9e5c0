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

/// A bound of which 0 says that there is none.
pub(crate) mod zero_is_none {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(most: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(most.unwrap_or(0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        u64::deserialize(from).map(|most| Some(most).filter(|most| *most > 0))
    }
}

#[cfg(test)]
mod tests {
    use crate::options::{BackfillOptions, RelayOptions, StepOptions};

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
        let mut backfill = serde_json::to_value(BackfillOptions::default()).expect("serialises");
        assert_eq!((&backfill["lease_ms"], &backfill["write_units_per_s_max"]), (&15_000.into(), &0.into()));
        let read: BackfillOptions = serde_json::from_value(backfill.clone()).expect("reads");
        assert_eq!(read, BackfillOptions::default());
        backfill["window_start"] = "2026-01-31".into();
        let read: BackfillOptions = serde_json::from_value(backfill).expect("reads");
        assert_eq!(read.window().start.map(|start| start.timestamp()), Some(1_769_817_600));
        let bound_to_the_source = serde_json::json!({ "lock_timeout": 1 });
        assert!(serde_json::from_value::<StepOptions>(bound_to_the_source).is_err());
    }
}

//! Options are the sections of a file.

use super::{BackfillOptions, ImportOptions, RelayOptions, StepOptions};

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
        "latency_percentile",
        "source_latency_ms_max",
        "target_latency_ms_max",
        "latency_rounds",
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
    let mut import = serde_json::to_value(ImportOptions::default()).expect("serialises");
    assert_eq!((&import["part_mb"], import.get("poll")), (&64.into(), None));
    let read: ImportOptions = serde_json::from_value(import.clone()).expect("reads");
    assert_eq!((&read, read.destination()), (&ImportOptions::default(), None));
    import["s3"] = "s3://bucket/some/where".into();
    let read: ImportOptions = serde_json::from_value(import).expect("reads");
    assert_eq!(read.destination(), Some(("bucket", "some/where")));
}

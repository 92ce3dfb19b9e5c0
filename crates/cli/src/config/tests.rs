use std::path::{Path, PathBuf};

use lockstep::store::{Share, WriteMode};
use lockstep_core::Phase;

use super::*;
use crate::sample::registry;

const EXAMPLE: &str = include_str!("../../../../config/lockstep.example.toml");

fn file(text: &str) -> (tempfile::TempDir, Inputs) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("test.toml");
    std::fs::write(&path, text).expect("a file");
    (folder, Inputs { file: Some(path), ..Inputs::default() })
}

fn with_environment(variables: &[(&str, &str)]) -> Inputs {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Inputs { environment, ..Inputs::default() }
}

/// Every part must be in the message.
#[track_caller]
fn refused(inputs: &Inputs, parts: &[&str]) -> String {
    let message = Config::load(&registry(), inputs).expect_err("refused").to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    message
}

#[test]
fn the_example_parses_to_exactly_the_defaults_and_names_every_key() {
    let (_folder, inputs) = file(EXAMPLE);
    assert_eq!(Config::load(&registry(), &inputs).expect("the example is right"), Config::of(&registry()));
    let defaults = serde_json::to_value(Config::of(&registry())).expect("JSON");
    let mut missing = Vec::new();
    let mut sections = vec![(String::new(), &defaults)];
    while let Some((path, value)) = sections.pop() {
        for (key, value) in value.as_object().expect("a section") {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                serde_json::Value::Object(_) => sections.push((path, value)),
                _ if EXAMPLE
                    .lines()
                    .any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} ="))) => {}
                _ => missing.push(path),
            }
        }
    }
    assert!(missing.is_empty(), "the example does not show {missing:?}");
}

#[test]
fn later_layers_win() {
    let (_folder, mut inputs) = file(
        "[source]\nconnections_max = 20\nconnect_timeout_ms = 1\nlock_timeout_ms = 2\n[backfill]\nreaders = 2\n
         [profile.big.source]\nconnections_max = 30\nconnect_timeout_ms = 3",
    );
    inputs.profile = Some("big".to_owned());
    inputs.environment = vec![("LOCKSTEP_SOURCE__CONNECTIONS_MAX".to_owned(), "40".to_owned())];
    inputs.flags = Setting::of("migrate.through", Some("DualWrite")).into_iter().collect();
    let config = Config::load(&registry(), &inputs).expect("right");
    assert_eq!(
        (config.source.connections_max, config.source.connect_timeout_ms, config.source.lock_timeout_ms),
        (40, 3, 2)
    );
    assert_eq!((config.backfill.readers, config.migrate.through), (2, Some(Phase::DualWrite)));
    let names = config.names();
    assert_eq!(names[1].source, "public.payments", "what no layer names keeps its default");
}

#[test]
fn the_environment_configures_stores() {
    let inputs = with_environment(&[
        ("LOCKSTEP_SOURCE__URL", "postgres://app:s3cret@db/loans"),
        ("LOCKSTEP_TARGET__ENDPOINT_URL", "http://127.0.0.1:8000"),
        ("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "true"),
        ("LOCKSTEP_TABLES__PAYMENTS__TTL_DAYS", "0"),
        ("LOCKSTEP_LOG", "debug"),
        ("UNRELATED__KEY", "1"),
    ]);
    let config = Config::load(&registry(), &inputs).expect("right");
    assert_eq!(config.standing(), Ok(Standing::Configured));
    let payments = &config.bindings().expect("plain names")[1];
    assert!(!payments.table.expires(), "0 where there is no null");
    assert_eq!(config.target_options().region.as_deref(), Some("us-east-1"));
    assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    assert_eq!(config.source_options().expect("configured").url, "postgres://app:s3cret@db/loans");
}

#[test]
fn a_text_of_the_environment_may_look_like_a_number_or_a_truth() {
    let inputs = with_environment(&[
        ("LOCKSTEP_TARGET__TABLE_PREFIX", "0123"),
        ("LOCKSTEP_TARGET__PROFILE", "true"),
        ("LOCKSTEP_SOURCE__CONNECTIONS_MAX", "12"),
    ]);
    let config = Config::load(&registry(), &inputs).expect("right");
    assert_eq!(config.target.table_prefix, "0123", "as it is written");
    assert_eq!(config.target.profile.as_deref(), Some("true"));
    assert_eq!(config.source.connections_max, 12);
}

#[test]
fn who_is_at_work_is_asked_of_the_system_where_no_variable_says_it() {
    assert_ne!(user_of_process(), "unknown");
    assert!(!user_of_process().is_empty());
}

#[test]
fn nothing_configured_means_the_embedded_stores() {
    assert_eq!(
        Config::load(&registry(), &Inputs::default()).expect("right").standing(),
        Ok(Standing::Embedded)
    );
    let half = with_environment(&[("LOCKSTEP_TARGET__REGION", "eu-central-1")]);
    let error =
        Config::load(&registry(), &half).expect("right").standing().expect_err("no source").to_string();
    assert!(error.contains("source.url") && error.contains("LOCKSTEP_SOURCE__URL"), "{error}");
}

#[test]
fn an_unknown_key_is_refused_with_its_name_its_origin_and_a_suggestion() {
    let (_folder, inputs) = file("[backfill]\nreader = 3");
    refused(&inputs, &["`backfill.reader`", "test.toml", "did you mean `readers`"]);
    let (_folder, inputs) = file("[tables.payments]\nttl_day = 3");
    refused(&inputs, &["`tables.payments.ttl_day`", "test.toml", "`ttl_days`"]);
    let (_folder, inputs) = file("[tables.loans]\nsorce = \"x\"");
    refused(&inputs, &["`tables.loans.sorce`", "test.toml", "did you mean `source`"]);
    let (_folder, inputs) =
        file("[tables.loans]\nindexes.by_owner = { partition = \"{o}\", project = \"all\" }");
    refused(&inputs, &["`tables.loans.indexes.by_owner.project`", "`projection`"]);
    let (_folder, inputs) = file("[tables.Loans]\nsource = \"x\"");
    refused(&inputs, &["`tables.Loans`", "a-z 0-9 _"]);
    let (_folder, inputs) = file("[profile.unused.backfill]\nreader = 3");
    refused(&inputs, &["`backfill.reader`", "profile unused"]);
    refused(
        &with_environment(&[("LOCKSTEP_SOURCE__URI", "x")]),
        &["LOCKSTEP_SOURCE__URI", "did you mean `url`"],
    );
}

#[test]
fn a_wrong_value_is_refused_with_its_key_and_its_origin() {
    let (_folder, inputs) = file("[source]\nconnections_max = \"many\"");
    refused(&inputs, &["`source.connections_max`", "test.toml", "whole number"]);
    let (_folder, inputs) = file("[tables.integration_logs]\nwrite_shards = 0");
    refused(&inputs, &["`tables.integration_logs.write_shards`", "test.toml"]);
    let (_folder, inputs) = file("[migrate]\nthrough = \"Both\"");
    refused(&inputs, &["`migrate.through`", "test.toml", "unknown phase `…`"]);
    refused(
        &with_environment(&[("LOCKSTEP_BACKFILL__READERS", "-1")]),
        &["`backfill.readers`", "LOCKSTEP_BACKFILL__READERS"],
    );
    refused(
        &with_environment(&[("LOCKSTEP_BACKFILL__LOAD_PATH", "fast")]),
        &["`backfill.load_path`", "auto, guarded, cold"],
    );
    refused(
        &with_environment(&[("LOCKSTEP_BACKFILL__WINDOW_START", "x")]),
        &["LOCKSTEP_BACKFILL__WINDOW_START", "2026-01-31"],
    );
}

#[test]
fn what_no_type_can_say_is_checked_all_at_once() {
    let (_folder, mut inputs) =
        file("[source]\nconnections_max = 4\n[target]\nemulator_credentials = true\ntable_prefix = \"a b\"");
    inputs.environment = vec![("LOCKSTEP_RELAY__BATCH_KEYS".to_owned(), "0".to_owned())];
    let parts = [
        "`source.connections_max` (",
        "test.toml",
        "`target.emulator_credentials`",
        "a bpayments",
        "LOCKSTEP_RELAY__BATCH_KEYS",
    ];
    refused(&inputs, &parts);
    refused(
        &with_environment(&[("LOCKSTEP_TARGET__REQUEST_LIFETIME_S", "0")]),
        &["target.request_lifetime_s", "1 or more"],
    );
    refused(
        &with_environment(&[("LOCKSTEP_STEPS__PAUSE_MS_MAX", "25001")]),
        &["steps.pause_ms_max", "must be 25000 or less"],
    );
    refused(
        &with_environment(&[("LOCKSTEP_TABLES__PAYMENTS__TARGET", "integration_logs")]),
        &["tables.payments.target", "is also the target of integration_logs"],
    );
    refused(
        &with_environment(&[("LOCKSTEP_BACKFILL__READERS", "90")]),
        &["source.connections_max", "default", "readers (90)"],
    );
}

#[test]
fn how_stores_write_and_read_can_be_set_and_is_checked() {
    let (_folder, mut inputs) = file("[writes]\ndual_write = \"strict\"\n[reads]\ncanary_percent = 5");
    inputs.environment = vec![("LOCKSTEP_READS__SHADOW_PERCENT".to_owned(), "12.5".to_owned())];
    let config = Config::load(&registry(), &inputs).expect("right");
    assert_eq!(config.writes, WriteOptions { dual_write: WriteMode::Strict, ..WriteOptions::default() });
    let share = |percent| Share::percent(percent).expect("a share");
    assert_eq!((config.reads.canary_percent, config.reads.shadow_percent), (share(5.0), share(12.5)));
    let (_folder, inputs) = file("[writes]\nhybrid_read = \"both\"");
    refused(&inputs, &["`writes.hybrid_read`", "test.toml", "best_effort, strict"]);
    let (_folder, inputs) = file("[reads]\ncanary_percent = 101");
    refused(&inputs, &["`reads.canary_percent`", "test.toml", "0 to 100"]);
    let (_folder, inputs) = file("[reads]\ncanary = 1");
    refused(&inputs, &["`reads.canary`", "test.toml"]);
    let (_folder, inputs) =
        file("[writes]\ninline_timeout_ms = 60000\nretry_delay_ms = 500\nbatch_rows_max = 0");
    refused(
        &inputs,
        &["`writes.inline_timeout_ms` (", "`writes.retry_delay_ms_max`", "`writes.batch_rows_max`"],
    );
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_named_and_no_message_shows_a_password() {
    let missing = Inputs { file: Some(PathBuf::from("/nowhere/lockstep.toml")), ..Inputs::default() };
    refused(&missing, &["--config /nowhere/lockstep.toml", "no such file"]);
    let (_folder, inputs) = file("[source]\nurl = \"postgres://app:s3cret@db/loans\" x");
    let message = refused(&inputs, &["test.toml", "is not TOML"]);
    assert!(!message.contains("s3cret"), "{message}");
    let (_folder, inputs) = file("[source]\nurl = \"mysql://app:s3cret@db/loans\"");
    let message = refused(&inputs, &["source.url", "postgres://"]);
    assert!(!message.contains("s3cret"), "{message}");
    let (_folder, inputs) = file("[source]\n");
    let inputs = Inputs { profile: Some("prod".to_owned()), ..inputs };
    refused(&inputs, &["[profile.prod]", "it has: none"]);
    let folder = Inputs { folder: Some(Path::new("/nowhere").to_owned()), ..Inputs::default() };
    assert!(Config::load(&registry(), &folder).is_ok(), "the default file need not be there");
}

#[test]
fn a_file_that_declares_tables_moves_exactly_those() {
    let (_folder, mut inputs) =
        file("[tables.payments]\nsource = \"shop.Payments\"\npartition = \"{id}\"\n[tables.orders]\n");
    inputs.environment = vec![("LOCKSTEP_TABLES__ORDERS__TARGET".to_owned(), "moved_orders".to_owned())];
    let config = Config::load(&registry(), &inputs).expect("right");
    let names: Vec<_> =
        config.names().into_iter().map(|one| (one.name, one.source.to_owned(), one.target)).collect();
    let expected = [("orders", "orders", "moved_orders"), ("payments", "shop.Payments", "payments")];
    assert_eq!(names, expected.map(|(name, source, target)| (name, source.to_owned(), target.to_owned())));
    assert!(config.bindings().is_err(), "no source was reached");
    let (_folder, inputs) = file("[tables.payments]\nsource = \"shop.payments\"");
    let names: Vec<&str> =
        Config::load(&registry(), &inputs).expect("right").names().iter().map(|names| names.name).collect();
    assert_eq!(names, ["integration_logs", "payments"], "the sample's tables are moved as ever");
}

#[test]
fn tables_of_a_program_move_beside_those_that_its_file_declares() {
    let registry = crate::tables![lockstep_payments::Payments: lockstep_payments::PaymentsOptions];
    let (_folder, inputs) = file(
        "[tables.payments]\nttl_days = 0\nsource = \"shop.payments\"\n[tables.orders]\npartition = \"{id}\"",
    );
    let config = Config::load(&registry, &inputs).expect("right");
    let names: Vec<_> = config.names().into_iter().map(|one| (one.name, one.source.to_owned())).collect();
    let expected = [("payments", "shop.payments"), ("orders", "orders")];
    assert_eq!(names, expected.map(|(name, source)| (name, source.to_owned())));
    let (_folder, inputs) = file("[tables.payments]\npartition = \"{id}\"");
    let message = Config::load(&registry, &inputs).expect_err("keys are the program's").to_string();
    assert!(message.contains("unknown key `tables.payments.partition`"), "{message}");
}

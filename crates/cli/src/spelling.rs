//! Spelling, on this command line, of what the libraries advise: the one place that knows both.

use lockstep_core::Advice;
use lockstep_core::advice::{AdviceForm, spell_by};

/// Says that advice is spelled as it is typed here; a test that runs the libraries by themselves calls it, to
/// see what an operator sees.
pub fn spell_advice() {
    spell_by(spelled);
}

enum Spelled {
    /// A command, as it is typed after the program's name.
    Command(String),
    /// A flag of the command that is at work, a key of the configuration or a name: it stands as it is.
    Bare(String),
}

/// A command is put in quotes within a sentence, and has the program before it where it is a line to type;
/// `program::spoken` puts the name of the running one there.
fn spelled(advice: &Advice, form: AdviceForm) -> String {
    match (spell(advice), form) {
        (Spelled::Command(command), AdviceForm::Named) => format!("`{command}`"),
        (Spelled::Command(command), AdviceForm::Typed) => format!("cargo xtask {command}"),
        (Spelled::Bare(text), _) => text,
    }
}

fn spell(advice: &Advice) -> Spelled {
    command(advice)
        .map(Spelled::Command)
        .unwrap_or_else(|| Spelled::Bare(flag(advice).map_or_else(|| key(advice), str::to_owned)))
}

fn command(advice: &Advice) -> Option<String> {
    Some(
        match advice {
            Advice::UninstallCopyOf(id) => return Some(format!("uninstall --copy --migration-id {id}")),
            Advice::Advance => "advance",
            Advice::AdvanceToDualWrite => "advance --to DualWrite",
            Advice::AdvanceToDynamoOnly => "advance --to DynamoOnly",
            Advice::Backfill => "backfill",
            Advice::BackfillAgain => "backfill --restart",
            Advice::BackfillByImport => "backfill --load-path import",
            Advice::Complete => "complete",
            Advice::DeadLetters => "dead-letters",
            Advice::Doctor => "doctor",
            Advice::DropSource => "cleanup --drop-source",
            Advice::Grants => "grants",
            Advice::Migrate => "migrate",
            Advice::MigrateSchema => "migrate --through PostgresOnly",
            Advice::Relay => "relay",
            Advice::Repair => "repair",
            Advice::RepairRows => "repair --apply",
            Advice::RepairState => "repair --state",
            Advice::RepairStateAtOnce => "repair --state --apply",
            Advice::RetryDeadLetters => "dead-letters --retry",
            Advice::ReverseBackfill => "reverse-feed --backfill",
            Advice::ReverseFeed => "reverse-feed",
            Advice::Rights => "iam-policy",
            Advice::Rollback => "rollback",
            Advice::RollbackToDualWrite => "rollback --to DualWrite",
            Advice::RollbackToPostgresOnly => "rollback --to PostgresOnly",
            Advice::Seed => "seed",
            Advice::SetDistrustedReporters => "set distrusted_reporters ROLE",
            Advice::Status => "status",
            Advice::TakeTarget => "repair --take-target",
            Advice::TakeTargetKey => "repair --take-target KEY --apply",
            Advice::TestOperation => "test-operation",
            Advice::Uninstall => "uninstall",
            Advice::UninstallCopy => "uninstall --copy",
            Advice::MeasureLatency => "validate --latency",
            Advice::Validate => "validate",
            Advice::ValidateUnmasked => "validate --unmasked",
            _ => return None,
        }
        .to_owned(),
    )
}

fn flag(advice: &Advice) -> Option<&'static str> {
    Some(match advice {
        Advice::Acknowledging => "--acknowledge",
        Advice::Applying => "--apply",
        Advice::DroppingTargetTables => "--drop-target-tables",
        Advice::DropUnprotected => "--i-know-that-the-target-is-unprotected",
        Advice::GivingUpLost => "--give-up-lost",
        Advice::Incremental => "--incremental",
        Advice::LoadByWrites => "--load-path guarded",
        Advice::Retrying => "--retry",
        Advice::Uploaded => "--uploaded",
        _ => return None,
    })
}

fn key(advice: &Advice) -> String {
    match advice {
        Advice::Table(table) => return format!("tables.{table}"),
        Advice::TableSource(table) => return format!("tables.{table}.source"),
        Advice::TableTarget(table) => return format!("tables.{table}.target"),
        Advice::WarmWriteUnits(table) => return format!("target.warm_write_units_per_s.{table}"),
        Advice::TableSetting(table, setting) => return format!("tables.{table}.{setting}"),
        Advice::BackfillErrorsMax => "backfill.errors_max",
        Advice::BackfillLease => "backfill.lease_ms",
        Advice::ConfigurationFile => "lockstep.toml",
        Advice::ControlSchema => "source.control_schema",
        Advice::ControlTable => "target.control_table",
        Advice::DeletionProtection => "target.deletion_protection",
        Advice::EmulatorCredentials => "target.emulator_credentials",
        Advice::ImportByHand => "import.by_hand",
        Advice::ImportFolder => "import.folder",
        Advice::ImportPartSize => "import.part_mb",
        Advice::ImportS3 => "import.s3",
        Advice::ImportUpload => "import.upload",
        Advice::BackfillWriteUnitsMax => "backfill.write_units_per_s_max",
        Advice::PauseMax => "steps.pause_ms_max",
        Advice::PointInTimeRecovery => "target.point_in_time_recovery",
        Advice::SourceLatencyMax => "steps.source_latency_ms_max",
        Advice::TargetLatencyMax => "steps.target_latency_ms_max",
        Advice::SourceConnectionsMax => "source.connections_max",
        Advice::SourcePasswordCommand => "source.password_command",
        Advice::SourcePasswordFile => "source.password_file",
        Advice::SourceUrl => "source.url",
        Advice::SourceUrlVariable => "LOCKSTEP_SOURCE__URL",
        Advice::TableSources => "tables.*.source",
        Advice::TargetEndpoint => "target.endpoint_url",
        Advice::TargetProfile => "target.profile",
        Advice::TargetRegion => "target.region",
        Advice::TargetS3Endpoint => "target.s3_endpoint_url",
        Advice::TargetS3Region => "target.s3_region",
        Advice::TargetStreamsEndpoint => "target.streams_endpoint_url",
        Advice::TargetTablePrefix => "target.table_prefix",
        Advice::ValidateFolder => "validate.folder",
        // A word that is neither of these is a command or a flag, and is spelled above.
        _ => "",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser as _;
    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_advice_is_spelled_as_something_else_and_what_is_a_command_can_be_typed() {
        let mut spelled = BTreeSet::new();
        for advice in Advice::ALL {
            let (text, is_command) = match spell(advice) {
                Spelled::Command(text) => (text, true),
                Spelled::Bare(text) => (text, false),
            };
            assert!(!text.is_empty(), "{advice:?} is not spelled");
            if is_command {
                // Within a sentence it is named without its value.
                let key = (*advice == Advice::TakeTarget).then_some("KEY");
                let line = std::iter::once("lockstep").chain(text.split(' ')).chain(key);
                let typed = Cli::try_parse_from(line.map(|word| word.replace("ROLE", "r")));
                // Of those that need a role only the command is named.
                let wrong = typed.err().map(|error| error.kind());
                let wrong = wrong.filter(|kind| *kind != ErrorKind::MissingRequiredArgument);
                assert_eq!(wrong, None, "{advice:?}: `{text}` cannot be typed");
            }
            assert!(spelled.insert(text), "{advice:?} is spelled as another");
        }
    }

    #[test]
    fn every_key_is_one_of_the_example() {
        let example = include_str!("../../../config/lockstep.example.toml");
        let mut section = "";
        let mut known = BTreeSet::new();
        for line in example.lines().map(|line| line.trim_start_matches(['#', ' '])) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.split(']').next().unwrap_or_default();
            } else if let Some((key, _)) = line.split_once(" = ") {
                known.insert(format!("{section}.{key}"));
            }
        }
        let keys =
            Advice::ALL.iter().filter(|advice| command(advice).or(flag(advice).map(str::to_owned)).is_none());
        let special = [Advice::ConfigurationFile, Advice::SourceUrlVariable, Advice::TableSources];
        for advice in keys.filter(|advice| !special.contains(advice)) {
            assert!(known.contains(&key(advice)), "{advice:?}: no key {}", key(advice));
        }
    }
}

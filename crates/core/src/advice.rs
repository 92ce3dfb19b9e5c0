//! Commands to run and settings to set, as a value: each sentence of a library that says what to do next
//! holds one.
//!
//! A library knows that a comparison is to be made, or that the address of PostgreSQL is to be looked at. It
//! knows neither what is typed for that nor what the key is called: an application that embeds it has no
//! command line of ours and may have no file of ours. The program says once, by [`spell_by`], how it spells
//! each; every sentence that is made afterwards is in its words. In a process where no program did, they are
//! named in plain words.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

/// Form in which advice stands in its sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdviceForm {
    /// Named within a sentence: `{}`.
    Named,
    /// A whole line that can be typed into a shell as it stands: `{:#}`.
    Typed,
}

/// Spells one piece of advice.
pub type Spelling = fn(&Advice, AdviceForm) -> String;

static SPELLING: OnceLock<Spelling> = OnceLock::new();

/// Says how this process spells advice; the first call counts.
pub fn spell_by(spelling: Spelling) {
    let _ = SPELLING.set(spelling);
}

macro_rules! advice {
    ($($name:ident $words:literal)*) => {
        /// One thing to run, or to set. `{}` names it within a sentence, `{:#}` writes it as a line to type.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Advice {
            $(#[doc = concat!("In plain words: ", $words, ".")] $name,)*
            /// Leaves a migration of this id, which is another database's, out of this copy.
            UninstallCopyOf(String),
            /// The settings of this table.
            Table(String),
            /// The relation of this table.
            TableSource(String),
            /// The name of this table in DynamoDB.
            TableTarget(String),
            /// Throughput that this table is made with.
            WarmWriteUnits(String),
            /// One setting of a table: which table, and which one, by the name that the contract has for it.
            TableSetting(String, String),
        }

        impl Advice {
            /// All that stand for themselves.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            fn words(&self) -> Cow<'static, str> {
                match self {
                    $(Self::$name => Cow::Borrowed($words),)*
                    Self::UninstallCopyOf(id) => Cow::Owned(format!("the end of migration {id} in a copy")),
                    Self::Table(table) => Cow::Owned(format!("table {table}")),
                    Self::TableSource(table) => Cow::Owned(format!("the relation of table {table}")),
                    Self::TableTarget(table) => {
                        Cow::Owned(format!("the name of table {table} in DynamoDB"))
                    }
                    Self::WarmWriteUnits(table) => {
                        Cow::Owned(format!("the write units that table {table} is made for"))
                    }
                    Self::TableSetting(table, setting) => {
                        Cow::Owned(format!("setting {setting} of table {table}"))
                    }
                }
            }
        }
    };
}

advice! {
    Advance "step forward"
    AdvanceToDualWrite "step to DualWrite"
    AdvanceToDynamoOnly "steps to DynamoOnly"
    Backfill "backfill"
    BackfillAgain "backfill by a new plan"
    BackfillByImport "backfill by import"
    Complete "completion"
    DeadLetters "list of dead letters"
    Doctor "doctor"
    DropSource "dropping of the source tables"
    Grants "list of grants"
    Migrate "migration"
    MigrateSchema "migration through PostgresOnly"
    Relay "relay"
    Repair "list of what differs"
    RepairRows "repair of rows"
    RepairState "repair of the state"
    RepairStateAtOnce "repair of the state, applied"
    RetryDeadLetters "retry of dead letters"
    ReverseBackfill "reverse backfill"
    ReverseFeed "reverse feed"
    Rights "list of rights"
    Rollback "step back"
    RollbackToDualWrite "step back to DualWrite"
    RollbackToPostgresOnly "steps back to PostgresOnly"
    Seed "seeding of the sample"
    SetDistrustedReporters "list of distrusted reporters"
    Status "status"
    TakeTarget "taking over what DynamoDB has"
    TakeTargetKey "taking over one item of DynamoDB, applied"
    TestOperation "test operation"
    Uninstall "end of this migration"
    UninstallCopy "end of this migration in a copy"
    Validate "comparison"
    ValidateUnmasked "comparison with values"

    Acknowledging "acknowledging"
    Applying "applying"
    DroppingTargetTables "dropping of target tables"
    DropUnprotected "dropping although the target is not protected"
    GivingUpLost "giving up what only DynamoDB has"
    Incremental "only what changed"
    LoadByWrites "loading by writes"
    Retrying "retrying"
    Uploaded "files that are uploaded"

    BackfillErrorsMax "the greatest number of rows set aside"
    BackfillLease "the time of a lease on a range"
    ConfigurationFile "the configuration file"
    ControlSchema "the name of the control schema"
    ControlTable "the name of the control table"
    DeletionProtection "protection from deletion"
    EmulatorCredentials "credentials for an emulator"
    ImportByHand "copying parts of an import by hand"
    ImportFolder "the folder of an import"
    ImportPartSize "the size of a part of an import"
    ImportS3 "the place of an import in S3"
    ImportUpload "the program that uploads an import"
    BackfillWriteUnitsMax "the greatest number of write units a second of a backfill"
    MeasureLatency "measuring of latency"
    PauseMax "the longest pause of writes"
    PointInTimeRecovery "point-in-time recovery"
    SourceLatencyMax "the longest time in which PostgreSQL may answer"
    TargetLatencyMax "the longest time in which DynamoDB may answer"
    SourceConnectionsMax "the greatest number of connections to PostgreSQL"
    SourcePasswordCommand "the program that prints the password of PostgreSQL"
    SourcePasswordFile "the file with the password of PostgreSQL"
    SourceUrl "the URL of PostgreSQL"
    SourceUrlVariable "its variable of the environment"
    TableSources "the relations of the tables"
    TargetEndpoint "the endpoint of DynamoDB"
    TargetProfile "the AWS profile"
    TargetRegion "the AWS region"
    TargetS3Endpoint "the endpoint of S3"
    TargetS3Region "the region of buckets"
    TargetStreamsEndpoint "the endpoint of DynamoDB Streams"
    TargetTablePrefix "the prefix of target tables"
    ValidateFolder "the folder of comparisons"
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if f.alternate() { AdviceForm::Typed } else { AdviceForm::Named };
        match SPELLING.get() {
            Some(spelling) => f.write_str(&spelling(self, form)),
            None => f.write_str(&self.words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_program_advice_is_in_plain_words_which_are_of_one_thing_each() {
        let doctor = Advice::Doctor;
        assert_eq!(format!("run {doctor}, or {:#}", Advice::TableTarget("notes".to_owned())), {
            "run doctor, or the name of table notes in DynamoDB"
        });
        let words: std::collections::BTreeSet<_> = Advice::ALL.iter().map(Advice::words).collect();
        assert_eq!(words.len(), Advice::ALL.len());
        assert!(words.iter().all(|words| !words.contains(['`', '.', '_']) && !words.contains("--")));
    }
}

use lockstep_core::{
    AttributeValue, Item, KeyType, MigratableTable, TargetKey, TargetSchema, Unholdable, row,
};

use super::*;
use crate::migration::MigrationOptions;
use crate::store::CanaryQueries;

row! {
    /// A row.
    pub struct Note {
        /// Key of the row.
        pub id: i64,
    }
}
row! {
    /// A key.
    pub struct NoteKey {
        /// All of it.
        pub id: i64,
    }
}

/// A table of a program that is not this repository's.
#[derive(Default)]
struct Notes;

impl MigratableTable for Notes {
    type Row = Note;
    type Key = NoteKey;
    const NAME: &'static str = "notes";
    const TARGET: TargetSchema = TargetSchema { partition: KeyType::N, sort: None, indexes: &[] };

    fn key(row: &Note) -> NoteKey {
        NoteKey { id: row.id }
    }

    fn target_key(&self, key: &NoteKey) -> Result<TargetKey, Unholdable> {
        Ok(TargetKey { partition: AttributeValue::N(key.id.to_string()), sort: None })
    }

    fn expiry(&self) -> String {
        "off".to_owned()
    }

    fn index_attributes(&self, _row: &Note, _item: &mut Item) -> Result<(), Unholdable> {
        Ok(())
    }
}

impl CanaryQueries for Notes {}

fn inputs(text: &str) -> (tempfile::TempDir, Inputs) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE);
    std::fs::write(&path, text).expect("a file");
    (folder, Inputs { file: Some(path), ..Inputs::default() })
}

const STORES: &str = "[source]\nurl = \"postgres://app@127.0.0.1/shop\"\n[target]\ntable_prefix = \"p-\"\n";

#[test]
fn an_application_reads_the_file_of_the_command_line_and_leaves_it_what_is_its_own() {
    let text = format!(
        "{STORES}[writes]\ndual_write = \"strict\"\n[tables.notes]\nsource = \"shop.Notes\"\n\
         [tables.declared]\npartition = \"{{id}}\"\n[backfill]\nreaders = 2\n"
    );
    let (_folder, inputs) = inputs(&text);
    let options = MigrationOptions::load(crate::tables![Notes], &inputs).expect("right");
    let bindings = &options.tables.bindings;
    assert_eq!(bindings.len(), 1, "a declared table has no store");
    assert_eq!(
        (bindings[0].relation.to_string().as_str(), bindings[0].target_name.as_str()),
        ("shop.Notes", "p-notes")
    );
    assert_eq!(options.writes.dual_write, crate::WriteMode::Strict);
}

#[test]
fn an_application_is_refused_what_the_command_line_is_refused() {
    let refused = |text: &str, part: &str| {
        let (_folder, inputs) = inputs(text);
        let error =
            MigrationOptions::load(crate::tables![Notes], &inputs).err().expect("refused").to_string();
        assert!(error.contains(part), "`{part}` is not in: {error}");
    };
    refused("[source]\nurl = \"mysql://x\"", "postgres://");
    refused("[target]\nregion = \"eu-central-1\"", "source.url");
    refused(&format!("{STORES}[writes]\ninline_timeout_ms = 60000"), "`writes.inline_timeout_ms` (");
    refused(&format!("{STORES}[tables.notes]\nsorce = \"x\""), "did you mean `source`");
    refused(&format!("{STORES}[tables.notes]\nttl = 3"), "unknown key `tables.notes.ttl`");
    refused(&format!("{STORES}[tables.notes]\ntarget = \"a b\""), "`tables.notes.target`");
    refused(&format!("tables = 3\n{STORES}"), "`tables`");
    refused(&format!("{STORES}[profile.prod.tables.notes]\ntarget = 7"), "`tables.notes.target`");
}

#[test]
fn names_of_a_dual_writing_applications_environment_are_read_and_give_way_to_ours() {
    let with = |file: &str, environment: &[(&str, &str)]| {
        let (folder, mut inputs) = inputs(file);
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        inputs.environment = environment.iter().map(owned).collect();
        let options = MigrationOptions::load(crate::tables![Notes], &inputs);
        drop(folder);
        options.map_err(|error| error.to_string())
    };
    let legacy = ("LEGACY_DATABASE_URL", "postgres://old@127.0.0.1/old");
    let names = [
        legacy,
        ("DUAL_WRITE_MODE", "strict"),
        ("DUAL_WRITE_CONTINUE_ON_FAILURE", "true"),
        ("DUAL_WRITE_TIMEOUT_MS", "900"),
        ("DUAL_WRITE_STRICT_ATTEMPTS_MAX", "7"),
        ("DUAL_WRITE_ENABLED", "true"),
        ("DUAL_WRITE_HYBRID_READ", ""),
    ];
    let options = with("", &names).expect("right");
    let writes = &options.writes;
    assert_eq!(options.source.url, legacy.1);
    assert_eq!(
        (
            writes.dual_write,
            writes.continue_on_write_failure,
            writes.inline_timeout_ms,
            writes.strict_attempts_max
        ),
        (crate::WriteMode::Strict, true, 900, 7)
    );
    // The file, and Lockstep's own variables.
    let file = format!("{STORES}[writes]\ninline_timeout_ms = 800\n");
    let ours = [names.as_slice(), &[("LOCKSTEP_WRITES__STRICT_ATTEMPTS_MAX", "2")]].concat();
    let options = with(&file, &ours).expect("right");
    assert_eq!(options.source.url, "postgres://app@127.0.0.1/shop");
    assert_eq!((options.writes.inline_timeout_ms, options.writes.strict_attempts_max), (800, 2));
    // What is wrong is named as it was written, and not shown.
    let refused = with("", &[legacy, ("DUAL_WRITE_TIMEOUT_MS", "s3cret")]).err().expect("no number");
    assert!(
        refused.contains("environment variable DUAL_WRITE_TIMEOUT_MS") && !refused.contains("s3cret"),
        "{refused}"
    );
    let refused = with("", &[("LEGACY_DATABASE_URL", "mysql://x:s3cret@y")]).err().expect("no PostgreSQL");
    assert!(refused.contains("LEGACY_DATABASE_URL") && !refused.contains("s3cret"), "{refused}");
    let found =
        super::legacy::Legacy::of(&[("DUAL_WRITE_ENABLED".to_owned(), "true".to_owned())]).unread.len();
    assert_eq!(found, 1, "it is told to set nothing");
}

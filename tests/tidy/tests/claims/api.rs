//! Names for an application: few, and none that moves or ends a migration.

use std::collections::BTreeMap;
use std::fs;

use lockstep_tidy::{api, files, lists};

const LIST: &str = "tests/tidy/lists/public-api.txt";
/// Two screens.
const LINES_MAX: usize = 110;

#[test]
fn what_an_application_can_name_is_listed_and_fits_on_two_screens() {
    let head = "# Every item that an application can name or hold of lockstep-migrate. `(held)`: only a \
    signature mentions it.\n\
                # LOCKSTEP_TIDY_BLESS=1 cargo test -p lockstep-tidy writes it; a reviewer sees what was \
                added.\n";
    let listing = format!("{head}{}", api::listing(&api::reachable()));
    if std::env::var_os("LOCKSTEP_TIDY_BLESS").is_some() {
        fs::write(files::root().join(LIST), &listing).expect("written");
    }
    let told = "the public items have changed: LOCKSTEP_TIDY_BLESS=1 cargo test -p lockstep-tidy, and look \
    at the difference";
    let listed = files::read(LIST);
    for (now, then) in listing.lines().zip(listed.lines()) {
        assert_eq!(now, then, "{told}");
    }
    assert_eq!(listing.lines().count(), listed.lines().count(), "{told}");
    assert!(listing.lines().count() <= LINES_MAX, "{} lines", listing.lines().count());
}

#[test]
fn nothing_that_an_application_can_name_flips_drops_forgets_or_accepts() {
    const RIGHTS: [&str; 24] = [
        "flip",
        "drop",
        "forget",
        "accept",
        "archive",
        "complete",
        "uninstall",
        "remove",
        "purge",
        "enter",
        "leave",
        "rollback",
        "advance",
        "step_to",
        "repair",
        "mend",
        "take_exclusive",
        "migrate_schema",
        "lock_coordinator",
        "expire",
        "settle",
        "note",
        "journal",
        "truncate",
    ];
    for (path, item) in api::reachable() {
        let name = path.rsplit([' ', ':']).next().unwrap_or_default();
        let functions = item.members.iter().filter(|member| !member.starts_with('.') && item.kind != "enum");
        for function in functions.map(String::as_str).chain((item.kind == "fn").then_some(name)) {
            // A transaction of an application's own is its to roll back.
            let is_its_own = path == "Transaction" && function == "rollback";
            let right = RIGHTS.iter().find(|right| !is_its_own && begins_with(function, right));
            assert!(
                right.is_none(),
                "{path}: {function} must not be reachable; hide it, or take it out of the signature"
            );
        }
    }
}

/// Whether its first word is this one; `settled` only looks.
fn begins_with(function: &str, word: &str) -> bool {
    function.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

#[test]
fn the_listing_knows_what_is_there() {
    let items = api::reachable();
    let of = |path: &str| items.get(path).unwrap_or_else(|| panic!("{path} is not in {:?}", items.keys()));
    assert!(of("Store").members.contains("put") && of("Phase").members.contains("DynamoOnly"));
    assert!(of("MigratableTable").members.contains("target_key"), "re-exported from another crate");
    assert!(of("TargetOptions").members.contains(".region"), "a public field");
    assert_eq!((of("tables").kind, of("Table").kind), ("macro", "derive"));
}

/// The libraries whose types meet in one file of another crate.
const LIBRARIES: [&str; 10] = [
    "core",
    "postgres",
    "dynamo",
    "lockstep",
    "coordinator",
    "validator",
    "report",
    "template",
    "declared",
    "daemon",
];

/// 1. A file names `Migration` of one crate. 2. A reader looks it up, and finds the other one's. So a type's
/// name says which it is.
#[test]
fn no_two_libraries_export_types_of_one_name() {
    let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for library in LIBRARIES {
        let own = api::own_types(library);
        assert!(!own.is_empty(), "{library}");
        own.into_iter().for_each(|name| by_name.entry(name).or_default().push(library));
    }
    // Shorthands for the error of their own crate, as every reader of Rust expects.
    let twice = by_name.into_iter().filter(|(name, of)| of.len() > 1 && name != "Result");
    let twice: Vec<String> = twice.map(|(name, of)| format!("{name}: {}", of.join(", "))).collect();
    lists::check("twice", &twice, "Two libraries export a type of this name. Name one by what it is.");
}

#[test]
fn a_library_has_the_types_that_are_its_own_and_no_others() {
    let own = api::own_types("lockstep");
    assert!(own.contains("Store") && own.contains("Migration"), "{own:?}");
    assert!(own.contains("PhaseView"), "hidden from applications, and named by our own crates");
    assert!(!own.contains("Phase") && !own.contains("Error"), "those are of core");
    assert!(!own.contains("LEASE_MAX"), "a constant");
}

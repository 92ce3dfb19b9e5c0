//! Dependencies between the crates point one way.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_tidy::manifest;

/// Crates that each crate of the product may need. `lockstep` is the package `lockstep-migrate`.
const MAY_NEED: [(&str, &[&str]); 18] = [
    ("lockstep-core", &[]),
    ("lockstep-postgres", &["lockstep-core"]),
    ("lockstep-dynamo", &["lockstep-core"]),
    (
        "lockstep-migrate",
        &["lockstep-core", "lockstep-postgres", "lockstep-dynamo", "lockstep-derive", "lockstep-template"],
    ),
    ("lockstep-integration-logs", &["lockstep"]),
    ("lockstep-payments", &["lockstep"]),
    ("lockstep-validator", &["lockstep-core", "lockstep-postgres", "lockstep-dynamo"]),
    ("lockstep-report", &["lockstep-validator"]),
    (
        "lockstep-coordinator",
        &["lockstep-core", "lockstep-postgres", "lockstep-dynamo", "lockstep", "lockstep-validator"],
    ),
    ("lockstep-embedded", &[]),
    ("lockstep-daemon", &["lockstep-core", "lockstep-postgres", "lockstep-dynamo", "lockstep-coordinator"]),
    ("lockstep-template", &[]),
    ("lockstep-declared", &["lockstep-core", "lockstep-postgres", "lockstep-template"]),
    ("lockstep-derive", &["lockstep-template"]),
    (
        "lockstep-sample",
        &["lockstep-core", "lockstep-postgres", "lockstep", "lockstep-integration-logs", "lockstep-payments"],
    ),
    (
        "lockstep-cli",
        &[
            "lockstep-core",
            "lockstep-postgres",
            "lockstep-dynamo",
            "lockstep",
            "lockstep-coordinator",
            "lockstep-validator",
            "lockstep-embedded",
            "lockstep-daemon",
            "lockstep-report",
            "lockstep-sample",
            "lockstep-integration-logs",
            "lockstep-payments",
            "lockstep-declared",
        ],
    ),
    (
        "lockstep-loan-app",
        &[
            "lockstep",
            "lockstep-embedded",
            "lockstep-postgres",
            "lockstep-integration-logs",
            "lockstep-payments",
        ],
    ),
    ("lockstep-tidy", &[]),
];

/// Packages at the top, on which no other one may rest; they may need everything below them.
const AT_THE_TOP: [&str; 2] = ["lockstep-tests", "lockstep-loan-app"];

#[test]
fn a_crate_needs_only_crates_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NEED.into_iter().collect();
    let packages = manifest::packages();
    assert!(packages.len() > 10, "the packages were found");
    for package in &packages {
        let Some(may) = allowed.get(package.name.as_str()) else { continue };
        for need in &package.needs {
            assert!(
                may.contains(&need.as_str()),
                "{} may not need {need} (tests/tidy/tests/claims/crates.rs)",
                package.name
            );
        }
    }
}

#[test]
fn every_crate_of_the_product_has_its_place_in_the_list() {
    let known: BTreeSet<&str> = MAY_NEED.into_iter().map(|(name, _)| name).collect();
    for package in manifest::packages().iter().filter(|package| package.folder.starts_with("crates/")) {
        assert!(known.contains(package.name.as_str()), "say in {} what {} may need", file!(), package.name);
    }
}

#[test]
fn no_crate_rests_on_the_tests_or_on_an_application() {
    for package in manifest::packages() {
        for need in &package.needs {
            assert!(!AT_THE_TOP.contains(&need.as_str()), "{} needs {need}", package.name);
            assert!(need != "xtask" || package.name == "lockstep-tests", "{} needs xtask", package.name);
        }
    }
}

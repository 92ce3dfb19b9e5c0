//! Lists of what is tolerated today, in `tests/tidy/lists`, one entry a line. Lists may only become shorter
//! and numbers only fall.
//!
//! After a change that makes something better, `LOCKSTEP_TIDY_BLESS=1 cargo test -p lockstep-tidy` takes out
//! what is no longer needed and lowers the numbers. It never adds an entry and never raises a number.
//! `LOCKSTEP_TIDY_BLESS=raise` also sets numbers that are above theirs, for a merge of branches from before a
//! rule; a reviewer sees the raised number.

use std::collections::BTreeMap;
use std::fs;

use crate::files;

const SEPARATOR: &str = " | ";

/// Checks `found` against the list `name`, whose lines are `entry | reason`.
///
/// # Panics
/// When something was found that is not listed, or something is listed that was not found.
#[track_caller]
pub fn check(name: &str, found: &[String], advice: &str) {
    let path = format!("tests/tidy/lists/{name}.txt");
    let text = files::read(&path);
    let (mut listed, mut kept) = (Vec::new(), String::new());
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            kept += &format!("{line}\n");
            continue;
        }
        let (entry, reason) = line.split_once(SEPARATOR).unwrap_or((line, ""));
        assert!(!reason.trim().is_empty(), "{path}: {entry} has no reason; write `{entry} | why`");
        if found.iter().any(|one| one == entry) {
            kept += &format!("{line}\n");
        }
        listed.push(entry.to_owned());
    }
    let new: Vec<&String> = found.iter().filter(|one| !listed.contains(one)).collect();
    assert!(new.is_empty(), "{advice}\n{new:#?}");
    let gone: Vec<&String> = listed.iter().filter(|one| !found.contains(one)).collect();
    if !gone.is_empty() && bless() {
        write(&path, &kept);
        return;
    }
    assert!(
        gone.is_empty(),
        "{path} lists what is no longer there; LOCKSTEP_TIDY_BLESS=1 takes it out:\n{gone:#?}"
    );
}

/// Checks counts against the list `name`, whose lines are `what | most`.
///
/// # Panics
/// When a count is above its number, or something that is not listed was found at all.
#[track_caller]
pub fn at_most(name: &str, counts: &BTreeMap<String, usize>, advice: &str) {
    let path = format!("tests/tidy/lists/{name}.txt");
    let text = files::read(&path);
    let (mut kept, mut above) = (String::new(), counts.clone());
    above.retain(|_, count| *count > 0);
    for line in text.lines() {
        let Some((what, most)) = line.split_once(SEPARATOR).filter(|_| !line.starts_with('#')) else {
            kept += &format!("{line}\n");
            continue;
        };
        let most: usize = most.trim().parse().unwrap_or_else(|_| panic!("{path}: no number in `{line}`"));
        let count = counts.get(what).copied().unwrap_or_default();
        if count <= most {
            above.remove(what);
        }
        if count > 0 {
            kept += &format!("{what}{SEPARATOR}{}\n", count.min(most));
        }
    }
    if !above.is_empty() && std::env::var("LOCKSTEP_TIDY_BLESS").is_ok_and(|how| how == "raise") {
        let comments = text.lines().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n"));
        let numbers = counts.iter().filter(|(_, count)| **count > 0);
        let numbers = numbers.map(|(what, count)| format!("{what}{SEPARATOR}{count}\n"));
        write(&path, &comments.chain(numbers).collect::<String>());
        return;
    }
    assert!(above.is_empty(), "{advice}\nAbove their number in {path}: {above:#?}");
    if bless() {
        write(&path, &kept);
    }
}

fn bless() -> bool {
    std::env::var_os("LOCKSTEP_TIDY_BLESS").is_some()
}

fn write(path: &str, text: &str) {
    fs::write(files::root().join(path), text).unwrap_or_else(|error| panic!("{path}: {error}"));
}

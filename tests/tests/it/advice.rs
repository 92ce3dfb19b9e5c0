//! Advice of the code can be typed, and works in the phase in which it is given.

use chrono::DateTime;
use clap::Parser;
use lockstep_coordinator::{
    AtWork, CaptureSeen, ColumnsSeen, ExpirySeen, Observation, Status, TableSeen, TableStatus, TargetSeen,
    VerdictSeen, examine,
};
use lockstep_core::{Advice, Epoch, Phase, TargetRecord, Writes};
use lockstep_daemon::health_of;
use lockstep_dynamo::{TableExpiry, UndeclaredIndex};
use lockstep_postgres::VerdictWord;
use lockstep_tidy::files;

/// The commands in a text, without the program's name: as many words as can be typed.
fn commands(text: &str) -> Vec<Result<Vec<String>, String>> {
    let mut found = Vec::new();
    for (at, name) in text.match_indices("cargo xtask ") {
        let rest = &text[at + name.len()..];
        // A comma within a word is of a list.
        let ends = |(at, c): (usize, char)| match c {
            ',' => rest[at + 1..].chars().next().is_none_or(char::is_whitespace),
            c => ['`', '"', ';', ':', '(', ')', '\n', '\\', '|'].contains(&c),
        };
        let end = rest.char_indices().find(|found| ends(*found)).map_or(rest.len(), |(at, _)| at);
        let words: Vec<&str> =
            rest[..end].split_whitespace().map(|word| word.trim_end_matches('.')).collect();
        // The words after it are prose, but a flag is never prose.
        let typed = (1..=words.len()).rev().map(|n| &words[..n]).find(|words| {
            let line = std::iter::once("xtask").chain(words.iter().map(|word| filled_in(word)));
            xtask::Xtask::try_parse_from(line).is_ok()
        });
        let flags = |words: &[&str]| words.iter().filter(|word| word.starts_with("--")).count();
        found.push(match typed {
            Some(typed) if flags(typed) == flags(&words) => {
                Ok(typed.iter().map(|word| (*word).to_owned()).collect())
            }
            _ => Err(rest[..end].to_owned()),
        });
    }
    found
}

/// A word in capitals, or in braces, stands for a value.
fn filled_in(word: &str) -> &str {
    if word.starts_with('{') || word.chars().all(|c| c.is_ascii_uppercase()) { "7" } else { word }
}

#[test]
fn every_command_that_the_code_advises_can_be_typed() {
    let mut seen = 0;
    for crate_ in ["coordinator", "cli", "postgres", "dynamo", "lockstep", "core", "validator", "daemon"] {
        for file in files::below(&format!("crates/{crate_}/src"), "rs") {
            // Lines that a string continues on are one; a comment shows none to an operator.
            let text = files::read(&file);
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let joined = code.join("\n").replace("\\\n", " ");
            for command in commands(&joined) {
                seen += 1;
                if let Err(command) = command
                    && !command.starts_with("help")
                    && !command.trim().is_empty()
                    && !command.starts_with('{')
                {
                    panic!("{file}: `{command}` cannot be typed");
                }
            }
        }
    }
    assert!(seen > 60, "the advice was found: {seen}");
}

/// Whether a command does something in a phase, and the phase after it.
fn does(command: &[String], phase: Phase) -> Result<Phase, String> {
    let has = |flag: &str| command.iter().any(|word| word == flag);
    let to = command.iter().position(|word| word == "--to").and_then(|at| command.get(at + 1)?.parse().ok());
    let works = match command[0].as_str() {
        "repair" => has("--state") || phase.writes_both(),
        "advance" => phase != Phase::DynamoOnly,
        "rollback" => phase != Phase::PostgresOnly,
        "relay" => phase.writes_both(),
        "backfill" | "migrate" => phase != Phase::DynamoOnly,
        "complete" => phase == Phase::DynamoOnly,
        "reverse-feed" => phase == Phase::DynamoOnly,
        "validate" | "dead-letters" | "doctor" | "status" => true,
        other => return Err(format!("{other} is advised, and nothing is known of it here")),
    };
    let after = match (command[0].as_str(), to) {
        ("advance" | "rollback", Some(to)) => to,
        ("advance", None) => phase.next().unwrap_or(phase),
        ("rollback", None) => phase.previous().unwrap_or(phase),
        _ => phase,
    };
    if works { Ok(after) } else { Err(format!("`{}` does nothing in {phase}", command.join(" "))) }
}

fn table() -> TableSeen {
    TableSeen {
        name: "payments".to_owned(),
        relation: "public.payments".to_owned(),
        target_name: "payments".to_owned(),
        capture: CaptureSeen::On,
        target: TargetSeen::There { active: true, mismatches: Vec::new(), marked: true },
        planned: true,
        ranges: (8, 8),
        ..TableSeen::default()
    }
}

/// Returns one thing of each kind that can be seen to be wrong, in a phase.
fn faults(phase: Phase) -> Vec<Observation> {
    let record = |writes| TargetRecord {
        phase: Phase::DynamoOnly,
        epoch: Epoch(4),
        writes,
        since: Epoch(4),
        changed_at: DateTime::UNIX_EPOCH,
        completed_at: None,
    };
    let base = Observation {
        installed: true,
        control: Some((phase, Epoch(4), DateTime::UNIX_EPOCH)),
        target_record: (phase == Phase::DynamoOnly).then(|| record(Writes::Open)),
        tables: vec![table()],
        ..Observation::default()
    };
    let by_note =
        UndeclaredIndex { name: "by_note".to_owned(), by: vec!["note".to_owned()], is_local: false };
    let of_table = |table: TableSeen| Observation { tables: vec![table], ..base.clone() };
    let verdict =
        Some(VerdictSeen { consistent: false, incomplete: false, age_s: 1.0, epoch: 4, later: None });
    let unfinished = verdict.map(|verdict| VerdictSeen { incomplete: true, ..verdict });
    let column_added = ColumnsSeen { came: vec!["note text".to_owned()], ..ColumnsSeen::default() };
    let feeds = AtWork { coordinator: None, reverse_feed: Some(7) };
    let mut all = vec![
        base.clone(),
        Observation { at_work: feeds, ..base.clone() },
        Observation { verdict, at_work: feeds, ..base.clone() },
        Observation { verdict: unfinished, at_work: feeds, ..base.clone() },
        Observation { versions_out_of_order: Some("CACHE 8".to_owned()), ..base.clone() },
        Observation { target_record_error: Some("no answer".to_owned()), ..base.clone() },
        of_table(TableSeen { capture: CaptureSeen::Broken("dropped".to_owned()), ..table() }),
        of_table(TableSeen { fingerprint_changed: true, ..table() }),
        of_table(TableSeen { columns: column_added.clone(), ..table() }),
        of_table(TableSeen {
            columns: ColumnsSeen { unknown: vec!["no".to_owned()], ..column_added.clone() },
            ..table()
        }),
        of_table(TableSeen {
            columns: ColumnsSeen { of_key: vec!["no".to_owned()], ..column_added },
            ..table()
        }),
        of_table(TableSeen { rewritten: true, ..table() }),
        of_table(TableSeen { hidden: vec!["row security".to_owned()], ..table() }),
        of_table(TableSeen { dead_letters: (2, 1), ..table() }),
        of_table(TableSeen { expiry: ExpirySeen::Off, ..table() }),
        of_table(TableSeen {
            expiry: ExpirySeen::Wrong(TableExpiry::Other {
                attribute: "at".to_owned(),
                ours: "ttl".to_owned(),
            }),
            ..table()
        }),
        of_table(TableSeen { undeclared: vec![by_note], ..table() }),
        of_table(TableSeen { settings_changed: vec!["a setting".to_owned()], ..table() }),
        of_table(TableSeen { target: TargetSeen::Unknown("no answer".to_owned()), ..table() }),
    ];
    if phase.writes_both() {
        all.push(of_table(TableSeen { pending: (9, 600.0), ..table() }));
        all.push(Observation { open_writes: (3, 600.0), ..base.clone() });
    }
    if phase == Phase::DynamoOnly {
        all.push(Observation { target_record: Some(record(Writes::Paused)), ..base.clone() });
        all.push(Observation { target_record: None, ..base });
    } else {
        all.push(of_table(TableSeen { cold_open: true, ..table() }));
    }
    all
}

#[test]
fn what_the_doctor_advises_does_something_in_the_phase_in_which_it_is_advised() {
    lockstep_cli::spell_advice();
    let mut seen = 0;
    for phase in Phase::ALL {
        for fault in faults(phase) {
            let said = examine(&fault);
            let each = said.findings.iter().map(|finding| &finding.next);
            for advice in each.chain(&said.next) {
                // Where nothing has to be done, what is named are choices, and no way.
                let is_choice = advice.starts_with("nothing has to be done");
                let mut now = phase;
                for command in commands(advice) {
                    let command =
                        command.unwrap_or_else(|command| panic!("{phase}: `{command}` of {advice}"));
                    let after =
                        does(&command, now).unwrap_or_else(|why| panic!("in {phase}: {advice}: {why}"));
                    now = if is_choice { phase } else { after };
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 40, "advice was given: {seen}");
}

/// One status of each kind that is not healthy, in a phase.
fn statuses(phase: Phase) -> Vec<Status> {
    let table = TableStatus {
        name: "payments".to_owned(),
        capture: "on".to_owned(),
        target: "payments (ACTIVE)".to_owned(),
        ranges_done: 8,
        ranges: 8,
        rows_backfilled: 10,
        rows_of_done_ranges: 10,
        pending: 0,
        oldest_s: 0.0,
        dead_letters: 0,
        dead_letters_unacknowledged: 0,
        relayed: 1,
        reverse_feed: None,
        reverse_alarm: None,
    };
    let base = Status {
        installed: true,
        phase: Some(phase),
        epoch: Some(Epoch(4)),
        since: Some(DateTime::UNIX_EPOCH),
        verdict: Some(VerdictWord::Consistent),
        verdict_consistent: Some(true),
        verdict_age_s: Some(1.0),
        tables: vec![table.clone()],
        ..Status::default()
    };
    let of_table = |table: TableStatus| Status { tables: vec![table], ..base.clone() };
    let said = |verdict| Status { verdict: Some(verdict), verdict_consistent: Some(false), ..base.clone() };
    let mut all = vec![
        said(VerdictWord::Inconsistent),
        said(VerdictWord::Incomplete),
        Status { lost: vec!["PostgreSQL was set back".to_owned()], ..base.clone() },
        Status { target_error: Some("no answer".to_owned()), ..base.clone() },
        Status { verdict_age_s: Some(1e6), ..base.clone() },
        of_table(TableStatus { dead_letters: 2, dead_letters_unacknowledged: 2, ..table.clone() }),
        of_table(TableStatus { capture: "absent".to_owned(), ..table.clone() }),
        of_table(TableStatus { pending: 9, oldest_s: 1e6, ..table.clone() }),
    ];
    if phase == Phase::DynamoOnly {
        // As the feed says it.
        let alarm = format!("records were lost: run {}", Advice::ReverseBackfill);
        all.push(of_table(TableStatus { reverse_alarm: Some(alarm), ..table }));
    }
    all
}

/// The commands that a text names in backticks, without the program before them.
fn named(text: &str) -> Vec<Vec<String>> {
    let quoted = text.split('`').skip(1).step_by(2);
    let words = |command: &str| command.split_whitespace().map(str::to_owned).collect();
    quoted.filter(|quoted| !quoted.is_empty()).map(words).collect()
}

#[test]
fn what_status_advises_does_something_in_the_phase_in_which_it_is_advised() {
    lockstep_cli::spell_advice();
    let mut seen = 0;
    for phase in Phase::ALL {
        for status in statuses(phase) {
            let (_, reasons) = health_of(&status);
            for reason in reasons {
                let mut now = phase;
                for command in named(&reason) {
                    let line = std::iter::once("xtask").chain(command.iter().map(String::as_str));
                    assert!(xtask::Xtask::try_parse_from(line).is_ok(), "{command:?} of {reason}");
                    now = does(&command, now).unwrap_or_else(|why| panic!("in {phase}: {reason}: {why}"));
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 20, "advice was given: {seen}");
}

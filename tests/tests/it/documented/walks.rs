//! Each page that shows commands, as its reader goes through it, and that no page and no command is left out.

use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tidy::{files, markdown};

use super::elsewhere::{ELSEWHERE, begins_with, is_elsewhere, is_page_elsewhere, unused};
use super::page::{Shown, product, shown};
use super::reader::{Reader, program_of};
use crate::repair::{payment_of, remove};

/// A world with some rows.
async fn world() -> World {
    let world = World::start().await;
    world.sql(&logs(1, 200)).await;
    world.sql(&payments(1, 60)).await;
    world
}

#[tokio::test]
async fn the_readme_leads_from_nothing_to_ones_own_stores() {
    let world = world().await;
    let mut reader = Reader::new(&world);
    let said = reader.reads("README.md", "Try it").await;
    assert!(said.contains("Verdict: CONSISTENT"), "{said}");
    let said = reader.reads("README.md", "Your own stores").await;
    assert!(said.contains("Phase: DualWrite") && said.contains("Verdict: CONSISTENT"), "{said}");
    reader.leaves().await;
}

#[tokio::test]
async fn the_runbook_leads_to_dynamo_only_and_back_and_through_a_difference() {
    let world = world().await;
    // The application's role is there before Lockstep is.
    world.sql("DO $$ BEGIN CREATE ROLE app; EXCEPTION WHEN duplicate_object THEN NULL; END $$").await;
    let mut reader = Reader::new(&world);
    reader.reads("docs/runbook.md", "First migration on your stores").await;
    reader.reads("docs/runbook.md", "While it runs").await;
    reader.reads("docs/runbook.md", "Going back").await;
    // From PostgresOnly forward again, and what the section is about happens.
    assert_eq!(reader.runs("cargo xtask advance --to DualWrite").await.0, 0);
    remove(&world, &world.payments_table(), &payment_of(7)).await;
    let (code, said) = reader.runs("cargo xtask validate").await;
    assert_eq!((code, said.contains("NOT CONSISTENT")), (1, true), "{said}");
    let said = reader.reads("docs/runbook.md", "When a verdict is not consistent").await;
    assert!(said.contains("Verdict: CONSISTENT"), "{said}");
    let said = reader.reads("docs/runbook.md", "When something is wrong").await;
    assert!(said.contains("Nothing is wrong"), "{said}");
    reader.leaves().await;
}

#[tokio::test]
async fn the_runbook_ends_a_migration_for_good() {
    let world = world().await;
    let mut reader = Reader::new(&world);
    // A request of DynamoOnly may still land when the page has the tombstones purged.
    reader.sets("LOCKSTEP_TARGET__REQUEST_LIFETIME_S", "1800");
    reader.knows().await;
    assert_eq!(reader.runs("cargo xtask migrate --to DynamoOnly").await.0, 0);
    program_of(&reader.folder().join("check-backup.sh"), "#!/bin/sh\necho restored\n");
    reader.reads("docs/runbook.md", "Completing").await;
    let gone = "SELECT to_regclass('public.integration_logs') IS NULL";
    assert!(world.value::<bool>(gone).await, "the source tables are dropped");
    reader.leaves().await;
}

#[tokio::test]
async fn a_verdict_and_its_report_are_printed_and_the_runbook_takes_lockstep_out() {
    let world = world().await;
    let mut reader = Reader::configured(&world).await;
    assert_eq!(reader.runs("cargo xtask migrate").await.0, 0);
    let said = reader.reads("docs/report.md", "The report").await;
    assert!(said.matches("\"verdict\": \"consistent\"").count() >= 2, "{said}");
    reader.reads("docs/validation.md", "Validation: what a verdict means").await;
    reader.reads("docs/runbook.md", "Taking Lockstep out").await;
    let there = "SELECT to_regnamespace('lockstep') IS NULL";
    assert!(world.value::<bool>(there).await, "its schema has gone");
    reader.leaves().await;
}

#[tokio::test]
async fn the_daemons_page_is_typed_whole() {
    let world = world().await;
    let mut reader = Reader::new(&world);
    reader.reads("docs/operate.md", "The daemon").await;
    reader.knows().await;
    assert_eq!(reader.runs("cargo xtask migrate").await.0, 0);
    reader.reads("docs/operate.md", "Metrics").await;
    reader.reads("docs/operate.md", "Flags, keys and tokens").await;
    let said = reader.reads("docs/operate.md", "Routes").await;
    assert_eq!(said.matches("\"state\":\"succeeded\"").count(), 6, "{said}");
    reader.reads("docs/operate.md", "Settings").await;
    reader.leaves().await;
}

#[tokio::test]
async fn a_plan_workers_the_example_and_the_feed_are_typed_as_their_pages_say() {
    let world = world().await;
    let mut reader = Reader::configured(&world).await;
    reader.reads("docs/plan.md", "What a migration will take").await;
    reader.reads("docs/plan.md", "Tables made by other means").await;
    reader.reads("docs/scale.md", "Many workers").await;
    reader.reads("examples/loan-app/README.md", "A loan service on Lockstep's stores").await;
    reader.reads("docs/reverse-feed.md", "The reverse feed").await;
    reader.leaves().await;
}

#[tokio::test]
async fn the_guide_leads_from_a_database_to_a_consistent_verdict_as_it_is_written() {
    let world = World::start().await;
    let mut reader = Reader::new(&world);
    let said = reader.reads("docs/your-own-tables.md", "Ten minutes").await;
    assert!(said.matches("Verdict: CONSISTENT").count() >= 2, "migrate and validate say so: {said}");
    let written = std::fs::read_to_string(reader.folder().join("lockstep.toml")).expect("init wrote it");
    assert!(written.contains("`gift` is money") && written.contains("`tags` is text[]"), "{written}");
    assert!(!written.contains("secret"), "no password");
    reader.leaves().await;
}

/// Commands of every page but the changelog.
fn all() -> Vec<(String, Shown)> {
    let pages = files::documents().into_iter();
    let pages = pages.filter(|page| page != "CHANGELOG.md" && !is_page_elsewhere(page));
    pages.flat_map(|page| shown(&page).into_iter().map(move |one| (page.clone(), one))).collect()
}

#[test]
fn every_command_of_every_block_is_typed_by_a_walk_or_listed_with_its_reason() {
    let walks = include_str!("walks.rs");
    let all = all();
    assert!(all.len() > 90, "the commands were found: {}", all.len());
    for (page, one) in &all {
        let read = format!("reads(\"{page}\", \"{}\")", one.heading);
        assert!(
            is_elsewhere(&one.product()) || walks.contains(&read),
            "{}: no walk types `{}` (below {:?}), and elsewhere.rs gives no reason",
            one.place,
            one.text,
            one.heading
        );
    }
    let shown: Vec<Shown> = all.into_iter().map(|(_, one)| one).collect();
    assert_eq!(unused(&shown), Vec::<&str>::new(), "no page prints it any more");
}

#[test]
fn a_block_says_its_language_and_one_with_commands_is_of_the_shell() {
    const PROGRAMS: [&str; 6] = ["cargo", "lockstep", "kubectl", "curl", "export", "psql"];
    for page in files::documents() {
        let text = files::read(&page);
        let lines: Vec<&str> = text.lines().collect();
        for (at, words) in markdown::fences(&text) {
            assert!(!words.is_empty(), "{page}:{at}: a block without a language: say sh, text or what it is");
            let block = lines[at..].iter().take_while(|line| !line.trim_start().starts_with("```"));
            let command = block.into_iter().find(|line| {
                words == "text" && PROGRAMS.iter().any(|program| begins_with(line.trim_start(), program))
            });
            assert!(command.is_none(), "{page}:{at}: {command:?} stands in a block that no walk types");
        }
    }
}

#[test]
fn every_command_in_a_sentence_is_typed_by_a_walk_in_some_block() {
    let all = all();
    let typed: Vec<Vec<String>> = all.iter().map(|(_, one)| words(&one.product())).collect();
    let mut used = vec![false; ELSEWHERE.len()];
    let mut note = |command: &str| {
        for (used, (begins, _)) in used.iter_mut().zip(ELSEWHERE) {
            *used |= begins_with(command, begins);
        }
    };
    all.iter().for_each(|(_, one)| note(&one.product()));
    for page in files::documents().into_iter().filter(|page| page != "CHANGELOG.md") {
        for command in markdown::commands(&files::read(&page), "").iter().map(|command| product(command)) {
            note(&command);
            // A line of a manifest may begin as a command does.
            let named = command.strip_prefix("cargo xtask ").is_some_and(|rest| !rest.starts_with('='));
            if !named || is_elsewhere(&command) {
                continue;
            }
            let of = words(&command);
            assert!(
                typed.iter().any(|typed| typed[..3.min(typed.len())] == of[..3] && covers(typed, &of)),
                "{page}: no block shows `{command}`, so no walk types it"
            );
        }
    }
    let idle: Vec<&str> =
        used.iter().zip(ELSEWHERE).filter(|(used, _)| !**used).map(|(_, (begins, _))| begins).collect();
    assert!(idle.is_empty(), "no document shows these any more: {idle:?}");
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// Whether a typed command has every word of one in a sentence; N and … stand for any.
fn covers(typed: &[String], of: &[String]) -> bool {
    let stands_for_any = |word: &String| word == "…" || word.chars().all(|c| c.is_ascii_uppercase());
    of.iter().all(|word| stands_for_any(word) || typed.contains(word))
}

//! docs/your-own-tables.md, as a new user would go through it: its tables made, its commands typed.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lockstep_tests::World;
use lockstep_tests::world::within;
use lockstep_tidy::files;
use tokio::process::Command;

const DOCUMENT: &str = "docs/your-own-tables.md";

/// The blocks of a document in a language, in their order.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opened = format!("```{language}\n");
    let blocks = text.split(&opened).skip(1);
    blocks.map(|rest| rest.split("```").next().expect("a block").to_owned()).collect()
}

async fn typed(world: &World, folder: &Path, line: &str) -> (Option<i32>, String) {
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", path)
        .env("LOCKSTEP_SOURCE__URL", world.url())
        .env("LOCKSTEP_TARGET__ENDPOINT_URL", world.target.place())
        .env("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "true")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within(Duration::from_mins(3), async { command.output().await.expect("it ends") }).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn the_guide_leads_from_a_database_to_a_consistent_verdict_as_it_is_written() {
    let world = World::start().await;
    let text = files::read(DOCUMENT);
    for sql in blocks(&text, "sql") {
        world.sql(&sql).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("bin")).expect("a folder");
    let program = env!("CARGO_BIN_EXE_lockstep-under-test");
    std::os::unix::fs::symlink(program, folder.path().join("bin/lockstep")).expect("a link");
    let mut verdicts = 0;
    // The emulator runs already, and where both stores are is this world's.
    let is_ours = |line: &&str| line.starts_with("lockstep ") && !line.contains("dynamo-server");
    for line in blocks(&text, "sh").iter().flat_map(|block| block.lines()).filter(is_ours) {
        let (code, said) = typed(&world, folder.path(), line).await;
        assert_eq!(code, Some(0), "`{line}`: {said}");
        verdicts += usize::from(said.to_lowercase().contains("consistent"));
    }
    assert!(verdicts >= 2, "migrate and validate say so");
    let written = std::fs::read_to_string(folder.path().join("lockstep.toml")).expect("init wrote it");
    assert!(written.contains("`gift` is money") && written.contains("`tags` is text[]"), "{written}");
    assert!(!written.contains("secret"), "no password");
}

//! Migrations as their commands and applications are told of them, one by one.

use std::path::{Path, PathBuf};
use std::process::Output;

use lockstep_tests::World;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::process::{command, ended};

/// A migration of a database that has several.
pub(super) struct Told<'a> {
    world: &'a World,
    variables: Vec<(&'static str, &'static str)>,
    file: Option<PathBuf>,
}

impl<'a> Told<'a> {
    /// The first, of one table: what is not said is as ever.
    pub(super) fn of_orders(world: &'a World, folder: &Path) -> Self {
        Self { world, variables: Vec::new(), file: Some(declared(folder, "first", &["orders"])) }
    }

    /// The second, of the tables that the program knows.
    pub(super) fn of_the_program(world: &'a World) -> Self {
        Self { world, variables: Vec::new(), file: None }.in_schema("lockstep_b", "b_control")
    }

    /// The same migration under other names.
    pub(super) fn in_schema(self, schema: &'static str, control_table: &'static str) -> Self {
        let variables = vec![
            ("LOCKSTEP_SOURCE__CONTROL_SCHEMA", schema),
            ("LOCKSTEP_TARGET__CONTROL_TABLE", control_table),
        ];
        Self { variables, ..self }
    }

    /// The same migration of other tables.
    pub(super) fn of(self, file: PathBuf) -> Self {
        Self { file: Some(file), ..self }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(self.world, arguments);
        command.envs(self.variables.iter().copied());
        // Who takes a migration out waits until no request of DynamoOnly can arrive any more.
        command.env("LOCKSTEP_TARGET__REQUEST_LIFETIME_S", "1");
        if let Some(file) = &self.file {
            command.arg("--config").arg(file);
        }
        command
    }

    pub(super) async fn output(&self, arguments: &[&str]) -> Output {
        ended(self.command(arguments)).await
    }

    /// Runs a command to its end, and returns what it reports.
    pub(super) async fn done(&self, arguments: &[&str]) -> Value {
        let output = self.output(&[arguments, &["--json", "--quiet"]].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", all(&output));
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    }

    /// Runs a command that refuses, and says each of `parts`.
    pub(super) async fn refused(&self, arguments: &[&str], parts: &[&str]) {
        let output = self.output(&[arguments, &["--quiet"]].concat()).await;
        let said = all(&output);
        assert!(!output.status.success() && !said.contains("panicked"), "{arguments:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: {part}: {said}");
        }
    }

    pub(super) async fn to(&self, phase: &str) {
        let report = self.done(&["migrate", "--live-writes", "0", "--to", phase]).await;
        assert_eq!(report["phase"], phase, "{report}");
    }

    pub(super) async fn is_in(&self, phase: &str) {
        let status = self.done(&["status"]).await;
        assert_eq!(status["phase"], phase, "{status}");
    }

    /// Delivers what waits, and compares both stores.
    pub(super) async fn is_consistent(&self) {
        self.done(&["relay", "--until-empty"]).await;
        let report = self.done(&["validate"]).await;
        assert_eq!(report["verdict"], "consistent", "{report}");
    }

    /// Asks what is told of this migration: its own table is, and none of the other one's names.
    pub(super) async fn tells_only(&self, own: &str, others: &[&str]) {
        let status = self.done(&["status"]).await.to_string();
        assert!(status.contains(own), "{own}: {status}");
        for arguments in [&["status"][..], &["doctor"], &["status", "--json"], &["doctor", "--json"]] {
            let said = all(&self.output(arguments).await);
            for name in others {
                assert!(!said.contains(name), "{arguments:?}: {name}: {said}");
            }
        }
    }

    /// Takes it out, with these flags.
    pub(super) async fn taken_out(&self, folder: &Path, flags: &[&str]) {
        let journal = folder.join("out.jsonl");
        let arguments = ["uninstall", "--yes", "--journal", journal.to_str().expect("a path")];
        self.done(&[&arguments, flags].concat()).await;
        std::fs::remove_file(journal).expect("it kept the journal");
    }

    /// An application of it writes a row of the logs, and reads it.
    pub(super) async fn written_by_an_application(&self, id: i64) -> Value {
        let mut app = self.command(&[lockstep_tests::worker::ARGUMENT, "app", "5000"]);
        app.stdin(std::process::Stdio::piped());
        let mut app = app.spawn().expect("it starts");
        let mut stdin = app.stdin.take().expect("stdin");
        let mut answers = BufReader::new(app.stdout.take().expect("stdout")).lines();
        answers.next_line().await.expect("it says").expect("that it is there");
        let mut tell = async |line: String| -> Value {
            stdin.write_all(format!("{line}\n").as_bytes()).await.expect("told");
            let answer = answers.next_line().await.expect("it answers").expect("a line");
            serde_json::from_str(&answer).expect("JSON")
        };
        let wrote = tell(format!("write {id} beside")).await;
        assert_eq!(tell(format!("read {id}")).await["user_id"], "beside");
        drop(stdin);
        app.wait().await.expect("it ends");
        wrote
    }
}

pub(super) fn all(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

/// Declares tables with a key of one column, each under a target of this configuration's own.
pub(super) fn declared(folder: &Path, name: &str, tables: &[&str]) -> PathBuf {
    let of = |table: &&str| {
        format!(
            "[tables.{table}]\nsource = \"public.{table}\"\ntarget = \"{name}-{table}\"\nkey = [\"id\"]\n"
        )
    };
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, tables.iter().map(of).collect::<String>()).expect("written");
    file
}

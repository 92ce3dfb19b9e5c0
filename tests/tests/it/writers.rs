//! Three applications in processes of their own that write without end, and what they noted of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use lockstep_core::Phase;
use lockstep_tests::note::{Note, Noted};
use lockstep_tests::world::{LOGS, PAYMENTS, within};
use lockstep_tests::{World, writer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

const WRITERS: usize = 3;
/// Longest that a writer may take to answer: it ends the write that it is at.
const ANSWER: Duration = Duration::from_secs(60);

/// Processes that write until they are stopped.
pub(crate) struct Writers {
    processes: Mutex<Vec<Writer>>,
    files: Vec<PathBuf>,
    _folder: TempDir,
}

struct Writer {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Writers {
    /// Starts them, each registered under a lease.
    pub(crate) async fn start(world: &World, lease: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files: Vec<PathBuf> =
            (1..=WRITERS).map(|number| folder.path().join(number.to_string())).collect();
        let mut processes = Vec::new();
        for (number, file) in (1..).zip(&files) {
            let mut child = Command::new(env!("CARGO_BIN_EXE_lockstep-under-test"))
                .args([writer::ARGUMENT, &format!("{number}"), &lease.as_millis().to_string()])
                .arg(file)
                .env("LOCKSTEP_SOURCE__URL", world.url())
                .env("LOCKSTEP_TARGET__ENDPOINT_URL", world.plain_target.address())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .expect("the writer starts");
            let stdin = child.stdin.take().expect("a pipe");
            let stdout = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            processes.push(Writer { child, stdin, stdout });
        }
        for writer in &mut processes {
            writer.hears("ready").await;
        }
        Self { processes: Mutex::new(processes), files, _folder: folder }
    }

    /// Returns what was noted so far, each writer's in its order. A line that is being written is left for
    /// the next time.
    fn notes(&self) -> Vec<Note> {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let whole = |text: String| text.rfind('\n').map_or(String::new(), |end| text[..end].to_owned());
        let texts: Vec<String> = self.files.iter().map(read).map(whole).collect();
        let notes: Vec<Note> = texts.iter().flat_map(|text| text.lines()).map(Note::parse).collect();
        let wrong: Vec<&Note> =
            notes.iter().filter(|note| matches!(note.noted, Noted::Wrong { .. })).collect();
        assert!(wrong.is_empty(), "I7: not what was acknowledged last: {wrong:?}");
        notes
    }

    fn count(&self, is: impl Fn(&Noted) -> bool) -> usize {
        self.notes().iter().filter(|note| is(&note.noted)).count()
    }

    /// Rows of writes that were acknowledged in a phase so far.
    pub(crate) fn acknowledged(&self, of: Phase) -> usize {
        self.count(|noted| matches!(noted, Noted::Acknowledged { phase, .. } if *phase == of))
    }

    /// Rows whose contents are unknown.
    pub(crate) fn unknown(&self) -> usize {
        self.count(|noted| *noted == Noted::Unknown)
    }

    /// Does something while none of them writes.
    pub(crate) async fn at_rest<T>(&self, work: impl Future<Output = T>) -> T {
        let mut processes = self.processes.lock().await;
        for writer in processes.iter_mut() {
            writer.tell("rest").await;
        }
        for writer in processes.iter_mut() {
            writer.hears("rest").await;
        }
        let done = work.await;
        for writer in processes.iter_mut() {
            writer.tell("go").await;
        }
        done
    }

    /// I7: every write that was acknowledged is in PostgreSQL, but for those that another one followed.
    /// Called while no application writes.
    pub(crate) async fn assert_in_source(&self, world: &World) {
        let sql = "SELECT $1::text, payment_id, transaction_reference FROM payments UNION ALL SELECT $2::text, log_id, user_id FROM integration_logs";
        let found: Vec<(String, i64, Option<String>)> =
            sqlx::query_as(sql).bind(PAYMENTS).bind(LOGS).fetch_all(world.strangers()).await.expect("rows");
        let found: BTreeMap<(String, i64), Option<String>> =
            found.into_iter().map(|(table, id, state)| ((table, id), state)).collect();
        let mut last = BTreeMap::new();
        for Note { table, id, noted } in self.notes() {
            last.insert((table, id), noted);
        }
        for (key, noted) in last {
            if let Noted::Acknowledged { state, .. } = noted {
                assert_eq!(found.get(&key).cloned().flatten(), state, "I7: {key:?} in PostgreSQL");
            }
        }
    }

    /// Stops them.
    pub(crate) async fn stop(self) {
        for Writer { mut child, stdin, .. } in self.processes.into_inner() {
            drop(stdin);
            let ended = within(ANSWER, child.wait()).await.expect("it ends");
            assert!(ended.success(), "a writer ended with {ended}");
        }
    }
}

impl Writer {
    async fn tell(&mut self, what: &str) {
        self.stdin.write_all(format!("{what}\n").as_bytes()).await.expect("it listens");
    }

    async fn hears(&mut self, what: &str) {
        let said = within(ANSWER, self.stdout.next_line()).await.expect("readable");
        assert_eq!(said.as_deref(), Some(what), "a writer has died, or says something else");
    }
}

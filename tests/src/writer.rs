//! An application in a process of its own that writes without end: puts, updates, deletes, and operations
//! over both tables, on rows that no other process writes. It holds what it reads against what it was told
//! before, and notes every acknowledgement in a file before it writes again. Told `rest`, it answers and
//! waits; `go` lets it go on; the end of its input ends it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use lockstep::instance::InstanceOptions;
use lockstep::migration::{Migration, MigrationOptions};
use lockstep::operation::Operation;
use lockstep::store::{Store, WriteOptions};
use lockstep_core::{Error, Kind, MigratableTable, Phase};
use lockstep_integration_logs::{IntegrationLogs, OperationLogs};
use lockstep_payments::Payments;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use crate::note::{Note, Noted};
use crate::worker::{source_options, target_options};
use crate::world::rows::{log_row, payment_row};
use crate::world::{LOGS, PAYMENTS, sweeping_never};

/// First argument of a process that is to be a writer; its number, its lease in milliseconds and its file
/// follow.
pub const ARGUMENT: &str = "writer-under-test";

/// Rows that it changes.
const ROWS: i64 = 12;
/// Ids of one writer are so far from those of the next.
const FAR: i64 = 1_000_000;
/// Pause after each write, so that three of them leave a processor to what is tested.
const PAUSE: Duration = Duration::from_millis(6);

pub(crate) async fn run(number: i64, lease: Duration, file: &str) {
    let name = format!("writer {number}");
    let options = MigrationOptions::new(source_options(&name, 6), target_options())
        .table(IntegrationLogs::default(), LOGS, LOGS)
        .and_then(|options| options.table(Payments::default(), PAYMENTS, PAYMENTS))
        .expect("plain names")
        .writes(WriteOptions { inline_timeout_ms: 3_000, ..WriteOptions::default() })
        .sweeper(sweeping_never())
        .instance(InstanceOptions { name, lease });
    let app = Migration::connect(options).await.expect("both stores are there");
    let mut writer = Writer {
        payments: app.store(),
        logs: app.store(),
        app: app.clone(),
        rng: StdRng::seed_from_u64(number as u64),
        ids: (0..ROWS).map(|n| number * FAR + n).collect(),
        next: number * FAR + ROWS,
        written: 0,
        known: BTreeMap::new(),
        file: std::fs::File::options().append(true).create(true).open(file).expect("a file"),
    };
    let (heard, mut orders) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = lines.next_line().await.expect("stdin is readable") {
            heard.send(line).await.expect("the reader listens");
        }
    });
    println!("ready");
    loop {
        match orders.try_recv() {
            Ok(order) => {
                // `rest`; what comes next is `go`.
                println!("{order}");
                if orders.recv().await.is_none() {
                    break;
                }
            }
            Err(mpsc::error::TryRecvError::Disconnected) => break,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        writer.one().await;
        tokio::time::sleep(PAUSE).await;
    }
    drop(writer);
    app.shutdown().await;
}

struct Writer {
    app: Migration,
    payments: Store<Payments>,
    logs: Store<IntegrationLogs>,
    rng: StdRng,
    ids: Vec<i64>,
    /// The id that takes the place of one whose state is unknown.
    next: i64,
    written: u64,
    /// State of each row by the last write that was acknowledged.
    known: BTreeMap<(&'static str, i64), Option<String>>,
    file: std::fs::File,
}

impl Writer {
    async fn one(&mut self) {
        let at = self.rng.random_range(0..self.ids.len());
        let id = self.ids[at];
        self.look(id).await;
        self.written += 1;
        let text = format!("{id}/{}", self.written);
        let is_there = self.known.get(&(PAYMENTS, id)).is_some_and(Option::is_some);
        let only = vec![(PAYMENTS, Some(text.clone()))];
        let (told, rows): (Result<Phase, Error>, _) = match self.rng.random_range(0..6) {
            0 => (self.payments.delete(id).await.map(|done| done.control.phase), vec![(PAYMENTS, None)]),
            1 | 2 if is_there => {
                let changed =
                    self.payments.update(id, move |row| row.transaction_reference = Some(text.clone())).await;
                (changed.map(|done| done.control.phase), only)
            }
            3 => (self.both(id, &text).await, vec![(PAYMENTS, Some(text.clone())), (LOGS, Some(text))]),
            _ => (self.payments.put(&payment(id, &text)).await.map(|done| done.control.phase), only),
        };
        for (table, state) in rows {
            match &told {
                Ok(phase) => {
                    self.note(table, id, &Noted::Acknowledged { phase: *phase, state: state.clone() });
                    self.known.insert((table, id), state);
                }
                // No caller may be told either way (I8): no read looks at these rows again.
                Err(error) if error.kind == Kind::Unknown => {
                    for table in [PAYMENTS, LOGS] {
                        self.note(table, id, &Noted::Unknown);
                        self.known.remove(&(table, id));
                    }
                    (self.ids[at], self.next) = (self.next, self.next + 1);
                    return;
                }
                // Nothing was written; the next look at this row holds it to that.
                Err(_) => {}
            }
        }
    }

    /// A payment and a log in one operation.
    async fn both(&self, id: i64, text: &str) -> Result<Phase, Error> {
        let sink = Arc::new(OperationLogs::of("writers"));
        let both = Operation::run(&self.app, sink, "Both", text, async |operation| {
            operation.put(&self.payments, &payment(id, text)).await?;
            operation.put(&self.logs, &log_row(id, text)).await
        });
        both.await.map(|(_, done)| done.control.phase)
    }

    /// I7: what was acknowledged is what is read.
    async fn look(&mut self, id: i64) {
        let expected = |table| self.known.get(&(table, id)).cloned().flatten();
        let mut wrong = Vec::new();
        if let Ok(found) = self.payments.get(&Payments::key(&payment(id, ""))).await {
            let found = found.and_then(|row| row.transaction_reference);
            wrong.extend((found != expected(PAYMENTS)).then_some((PAYMENTS, found)));
        }
        if let Ok(found) = self.logs.get(&IntegrationLogs::key(&log_row(id, ""))).await {
            let found = found.and_then(|row| row.user_id);
            wrong.extend((found != expected(LOGS)).then_some((LOGS, found)));
        }
        for (table, found) in wrong {
            self.note(table, id, &Noted::Wrong { found });
        }
    }

    fn note(&mut self, table: &str, id: i64, noted: &Noted) {
        let line = Note { table: table.to_owned(), id, noted: noted.clone() };
        writeln!(self.file, "{line}").expect("the file takes it");
    }
}

fn payment(id: i64, reference: &str) -> lockstep_payments::Payment {
    payment_row(id, 1 + id % 7, reference)
}

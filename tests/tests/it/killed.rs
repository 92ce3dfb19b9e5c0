//! The command is killed without a word at every entry that a step makes in the journal, in every step, in
//! both directions, while three application processes write. The next command finishes or undoes, and nothing
//! that was acknowledged is lost.

use std::time::Duration;

use lockstep_core::Phase;
use lockstep_tests::World;
use lockstep_tests::world::eventually;
use lockstep_tests::world::rows::{logs, payments};
use sqlx::PgConnection;

use crate::process::{command, ended};
use crate::writers::Writers;

const LEASE: Duration = Duration::from_secs(10);
/// The advisory lock at which a command waits in the middle of an entry.
const HOLD: i64 = 4_711;

/// Times that a step is tried.
const TRIES_MAX: usize = 10;
/// Exit code of a step that a gate refused.
const REFUSED: i32 = 3;
/// Exit code of a command that did not reach a store.
const UNREACHED: i32 = 5;

/// Makes the process that writes entry `n` of its step wait in the commit of that entry, which goes on
/// without it.
const STOPPER: &str = "
    CREATE TABLE public.stopper (after bigint NOT NULL, n bigint NOT NULL);
    INSERT INTO public.stopper VALUES (0, 0);
    CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE s public.stopper;
    BEGIN
        SELECT * INTO s FROM public.stopper;
        IF (SELECT count(*) FROM lockstep.journal WHERE id > s.after AND step LIKE 'change phase%') = s.n THEN
            PERFORM pg_advisory_xact_lock_shared(4711);
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON lockstep.journal DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.hold()";

/// One step, as it is typed.
#[derive(Clone, Copy, Debug)]
struct Step {
    from: Phase,
    to: Phase,
}

impl Step {
    fn arguments(self) -> Vec<String> {
        let way = if self.to > self.from { "advance" } else { "rollback" };
        let mut arguments = vec![
            way.to_owned(),
            "--quiet".to_owned(),
            "--no-post-check".to_owned(),
            format!("--to={}", self.to),
        ];
        if self.from == Phase::DynamoOnly {
            arguments.push("--no-wait".to_owned());
        }
        arguments
    }

    fn command(self, world: &World) -> tokio::process::Command {
        let arguments = self.arguments();
        let mut command = command(world, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        // Every process here is registered.
        command.env("LOCKSTEP_STEPS__PHASE_LEASE_MS", "5").env("LOCKSTEP_STEPS__INDEX_SETTLE_MS", "1");
        command.env("LOCKSTEP_STEPS__PAUSE_MS_MAX", "20000");
        command
    }
}

struct Stage {
    world: World,
    writers: Writers,
}

impl Stage {
    /// A world in HybridRead, with applications at work.
    async fn set() -> Self {
        let world = World::start().await;
        world.sql(&format!("{}; {}", logs(1, 20), payments(1, 20))).await;
        world.migrated_to(Phase::HybridRead).await.close().await;
        world.sql(STOPPER).await;
        let writers = Writers::start(&world, LEASE).await;
        Self { world, writers }
    }

    async fn phase(&self) -> Phase {
        self.world.source.control().await.expect("a phase").phase
    }

    /// Entries of steps since the last call of [`Stage::arm`].
    async fn entries(&self) -> i64 {
        let sql = "SELECT count(*) FROM lockstep.journal, public.stopper WHERE id > after AND step LIKE 'change phase%'";
        self.world.value(sql).await
    }

    /// The next step waits at its entry `n`; 0 for at none.
    async fn arm(&self, n: i64) {
        let sql = format!(
            "UPDATE public.stopper SET after = coalesce((SELECT max(id) FROM lockstep.journal), 0), n = {n}"
        );
        self.world.sql(&sql).await;
    }

    /// Waits for what the gates ask for, with every process at rest: nothing pending, and a fresh verdict.
    async fn ready(&self) {
        self.writers.at_rest(self.settled()).await;
    }

    async fn settled(&self) {
        if self.phase().await == Phase::DynamoOnly {
            self.world.feed_until_drained().await;
        } else {
            self.world.relay_until_empty().await;
            assert!(self.world.record_verdict().await.verdict.is_consistent());
        }
        // Both stores are equal, and every acknowledged write is in both.
        let wrong = self.world.disagreements().await;
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        self.writers.assert_in_source(&self.world).await;
    }

    /// Takes a step to its end. A gate may refuse it: it was undone in an epoch in which there is no verdict
    /// yet, or canary reads met rows that were being changed. Then what it asks for is done, and it is taken
    /// again.
    async fn whole(&self, step: Step) {
        for _ in 0..TRIES_MAX {
            let output = ended(step.command(&self.world)).await;
            let told = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => return assert_eq!(self.phase().await, step.to),
                Some(REFUSED) => self.ready().await,
                // The server is full for a moment: each kill leaves sessions that take one to notice.
                Some(UNREACHED) => {}
                code => panic!("{step:?} ended with {code:?}: {told}"),
            }
            println!("{step:?}: {told}");
        }
        panic!("{step:?} was refused {TRIES_MAX} times");
    }

    /// Kills a step when its entry `n` is as good as durable and nothing that follows it has happened; says
    /// whether there was such an entry. A step that a gate refuses has not come to its end: what the gate
    /// asks for is done, and it is taken again.
    async fn killed(&self, step: Step, n: i64) -> bool {
        for _ in 0..TRIES_MAX {
            match self.killed_or_ended(step, n).await {
                None => return true,
                Some(Some(REFUSED)) => self.ready().await,
                Some(_) => return false,
            }
        }
        panic!("{step:?} was refused {TRIES_MAX} times");
    }

    /// `None` where it was killed, and else the code that it ended with.
    async fn killed_or_ended(&self, step: Step, n: i64) -> Option<Option<i32>> {
        self.arm(n).await;
        let mut holder = self.world.stranger().await;
        hold(&mut holder, true).await;
        let mut child = step.command(&self.world).spawn().expect("the command starts");
        let waits = format!(
            "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE d.datname = current_database()
             AND l.locktype = 'advisory' AND NOT l.granted AND l.objid::bigint = {HOLD})"
        );
        let mut ended = None;
        eventually("it comes to the entry, or to its end", || {
            ended = child.try_wait().expect("it can be asked");
            let (world, waits, over) = (&self.world, &waits, ended.is_some());
            async move { over || world.try_value(waits).await.unwrap_or(false) }
        })
        .await;
        let over = ended.is_some();
        if !over {
            child.kill().await.expect("SIGKILL");
        }
        hold(&mut holder, false).await;
        // The entry that it was at is committed, although no process is there to hear of it.
        eventually("its entry is there", || async { self.entries().await >= n || over }).await;
        self.arm(0).await;
        ended.map(|status| status.code())
    }
}

async fn hold(connection: &mut PgConnection, taken: bool) {
    let what = if taken { "lock" } else { "unlock" };
    lockstep_tests::world::run(connection, &format!("SELECT pg_advisory_{what}({HOLD})")).await;
}

/// Goes there and back once, killed at entry `n` each way; says whether either had one.
async fn round(stage: &Stage, there: Step, n: i64) -> bool {
    let back = Step { from: there.to, to: there.from };
    let mut any = false;
    for step in [there, back] {
        stage.ready().await;
        let killed = stage.killed(step, n).await;
        any |= killed;
        let before = stage.writers.acknowledged(step.from) + stage.writers.acknowledged(step.to);
        if stage.phase().await != step.to
            || !stage.world.source.open_intents().await.expect("the journal").is_empty()
        {
            stage.whole(step).await;
        }
        assert_eq!(stage.phase().await, step.to, "{step:?}, killed at {n}");
        assert!(
            stage.world.source.open_intents().await.expect("the journal").is_empty(),
            "I9: {step:?}, killed at {n}"
        );
        eventually("writers go on", || async {
            stage.writers.acknowledged(step.from) + stage.writers.acknowledged(step.to) > before + 5
        })
        .await;
    }
    any
}

/// Kills at the first entry, the second, and so on until a step has none left.
async fn at_every_entry(stage: &Stage, there: Step) -> i64 {
    let mut n = 1;
    while round(stage, there, n).await {
        n += 1;
    }
    n - 1
}

#[tokio::test]
async fn killed_at_every_entry_of_the_journal_to_dynamo_only_and_back() {
    let stage = Stage::set().await;
    let entries = at_every_entry(&stage, Step { from: Phase::HybridRead, to: Phase::DynamoOnly }).await;
    println!("{entries} entries, {} writes unknown", stage.writers.unknown());
    assert!(entries >= 8, "every part of a step is in the journal: {entries}");
    stage.ready().await;
    stage.writers.stop().await;
}

#[tokio::test]
async fn killed_at_every_entry_of_the_journal_of_the_other_steps() {
    let stage = Stage::set().await;
    // Back first, so that both go there and back.
    for (from, to) in [(Phase::HybridRead, Phase::DualWrite), (Phase::DualWrite, Phase::PostgresOnly)] {
        let entries = at_every_entry(&stage, Step { from, to }).await;
        assert!(entries >= 2, "an intent and an outcome: {entries}");
        stage.ready().await;
        stage.whole(Step { from, to }).await;
    }
    stage.ready().await;
    stage.writers.stop().await;
}

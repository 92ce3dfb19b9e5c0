//! R36: what a function of the application says, and what PostgreSQL quotes, may be values of rows. It is in
//! no error, log, record, report or answer of ours.

use lockstep::store::WriteOptions;
use lockstep_coordinator::FeedUntil;
use lockstep_core::{Error, Phase};
use lockstep_payments::Payments;
use lockstep_tests::World;
use lockstep_tests::world::rows::{logs, payment_row, payments};
use lockstep_tests::world::{PAYMENTS, backfill, eventually};
use tokio_util::sync::CancellationToken;

use crate::process::{command, ended};

const PLANTED: &str = "Pl4nted";

/// Says the value of a row in every way that a function has: as the reference says.
const JUDGE: &str = "CREATE FUNCTION public.judge() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        said text := NEW.transaction_reference;
        how text := coalesce(split_part(NEW.transaction_reference, ' ', 2), '');
    BEGIN
        IF how = '' THEN RETURN NEW; END IF;
        RAISE WARNING 'seen: %', said;
        IF how = 'cast' THEN
            NEW.payment_amount := said;
        ELSIF how = 'dynamic' THEN
            EXECUTE 'SELECT 1 FROM \"' || said || '\"';
        ELSE
            RAISE EXCEPTION 'refused: %', said
                USING ERRCODE = how, DETAIL = said, HINT = said, TABLE = said, CONSTRAINT = said;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER judge BEFORE INSERT OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION public.judge()";

#[track_caller]
fn holds_nothing(what: &str, text: &str) {
    assert!(!text.contains(PLANTED), "a value of a row is in {what}: {text}");
}

#[tokio::test]
async fn no_value_that_a_function_or_the_server_quotes_is_in_an_error_a_record_or_an_output() {
    let world = World::start().await;
    world.sql(&format!("{}; {}; {JUDGE}", logs(1, 5), payments(1, 5))).await;
    let coordinator = world.prepared().await;
    backfill(&coordinator).await;
    world.relay_until_empty().await;
    coordinator.close().await;
    let row = |n: usize, how: &str| payment_row(200 + n as i64, 3, &format!("{PLANTED} {how}"));

    // An application's own write.
    let app = world.app(WriteOptions::default());
    for (n, how) in ["P0001", "23505", "42P01", "22023", "cast", "dynamic"].into_iter().enumerate() {
        let error: Error = app.store::<Payments>().put(&row(n, how)).await.expect_err("the function refuses");
        let chain: Vec<String> =
            std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
                .map(|e| format!("{e} {e:?}"))
                .collect();
        holds_nothing(how, &chain.join("; "));
        assert!(error.message.contains("judge") && error.message.contains("SQLSTATE"), "{error}");
        let driver = error.driver().expect("a program can ask for it");
        assert!(driver.to_string().contains(PLANTED), "the function was not at work: {driver}");
    }

    // The way back, which sets rows aside and says why.
    world.feed_until_drained().await;
    let epoch = world.flip(Phase::DynamoOnly).await;
    let refused = ["P0001", "23514", "22023", "cast"];
    for (n, how) in refused.into_iter().enumerate() {
        world.put_item(&Payments::default(), &row(n, how), epoch).await;
    }
    let cancel = CancellationToken::new();
    let work = async {
        let tried = "SELECT (SELECT count(*) FROM lockstep.reverse_again WHERE tries > 0)
            + (SELECT count(*) FROM lockstep.dead_letters) >= 4";
        eventually("each was tried", || world.value::<bool>(tried)).await;
        world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
        world.source.count_dead_letters(PAYMENTS).await.expect("counted");
        cancel.cancel();
    };
    let (fed, ()) = tokio::join!(world.feed(FeedUntil::Cancelled, &cancel), work);
    fed.expect("the feed goes on");
    let letters = world.source.dead_letters(PAYMENTS, 10).await.expect("listed");
    assert_eq!(letters.len(), refused.len(), "{letters:?}");
    assert!(letters.iter().all(|letter| letter.reason.contains("judge")), "{letters:?}");
    holds_nothing("the dead letters", &format!("{letters:?}"));
    for column in ["why FROM lockstep.reverse_again", "t::text FROM lockstep.journal t"] {
        let kept: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT {column}")))
            .fetch_all(world.strangers())
            .await
            .expect("read");
        holds_nothing(column, &kept.join("\n"));
    }
    for arguments in
        [&["dead-letters"][..], &["dead-letters", "--json"], &["doctor"], &["status"], &["status", "--json"]]
    {
        let mut command = command(&world, arguments);
        command.env("RUST_LOG", "trace");
        let output = ended(command).await;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        holds_nothing(&arguments.join(" "), &said);
        assert!(output.status.code().is_some_and(|code| code != 2), "{arguments:?}: {said}");
    }
    // It closes the connections that the world has of it.
    app.shutdown().await;
}

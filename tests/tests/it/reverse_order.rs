//! Items of one row live in different shards, so their records come in any order but their own. Whatever it
//! is, the row is in the end what the target says.

use std::collections::VecDeque;

use lockstep_core::{
    AttributeValue, Attributes, Epoch, MigratableTable, Phase, Version, key_of_place, tombstone,
};
use lockstep_dynamo::streams::{StreamRecord, changes_of};
use lockstep_integration_logs::IntegrationLogs;
use lockstep_postgres::reverse::{Applied, FedPage, FedTable, ItemNow};
use lockstep_tests::World;
use lockstep_tests::seeds::seed;
use lockstep_tests::world::LOGS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::reverse_feed::{log_at, log_row};

/// A world in DynamoOnly whose pages are made by hand.
struct Shards {
    world: World,
    table: FedTable,
    epoch: Epoch,
    /// Records of each item, in their order.
    queues: Vec<VecDeque<StreamRecord>>,
    items: Vec<Option<Attributes>>,
    page: u32,
}

const SERVICES: [&str; 3] = ["a", "b", "c"];

impl Shards {
    async fn start() -> Self {
        let world = World::start().await;
        world.prepared().await.close().await;
        let table = world.source.fed_table(&world.logs_table()).await.expect("a table");
        world.source.open_reverse(&table, "by hand").await.expect("opens");
        let epoch = world.flip(Phase::DynamoOnly).await;
        Self { world, table, epoch, queues: vec![VecDeque::new(); 3], items: vec![None; 3], page: 0 }
    }

    /// Writes item `at`, or its tombstone, as an application does, and remembers the record.
    async fn write(&mut self, at: usize, user_id: Option<&str>) {
        let table = IntegrationLogs::default();
        let version = match user_id {
            Some(user_id) => {
                self.world.put_item(&table, &log_row(1, SERVICES[at], user_id), self.epoch).await
            }
            None => self.world.delete_item(&table, &log_at(1, SERVICES[at]), self.epoch).await,
        };
        let key = table.target_key(&log_at(1, SERVICES[at])).expect("a key");
        let new = match user_id {
            Some(user_id) => {
                MigratableTable::encode(&table, &log_row(1, SERVICES[at], user_id)).expect("fits").at(version)
            }
            None => tombstone(key.clone(), version),
        };
        self.record(at, Some(new.into_attributes()), false);
    }

    fn record(&mut self, at: usize, new: Option<Attributes>, expired: bool) {
        let key =
            IntegrationLogs::default().target_key(&log_at(1, SERVICES[at])).expect("a key").to_attributes();
        let old = std::mem::replace(&mut self.items[at], new.clone());
        self.queues[at].push_back(StreamRecord { sequence: String::new(), at: None, key, old, new, expired });
    }

    /// Delivers a page of shard `shard`.
    async fn deliver(&mut self, shard: &str, records: &[StreamRecord]) -> Applied {
        let from = (self.page > 0).then(|| self.page.to_string());
        self.page += 1;
        let (to, folded) = (self.page.to_string(), changes_of(records.to_vec()));
        let page = FedPage {
            shard,
            from: from.as_deref(),
            to: Some(&to),
            finished: false,
            newest_at: None,
            folded: &folded,
            begun: None,
        };
        self.world.source.apply_reverse(&self.table, page).await.expect("applies")
    }

    /// Delivers everything, records of different items in any order.
    async fn deliver_all(&mut self, rng: &mut StdRng) {
        while self.queues.iter().any(|queue| !queue.is_empty()) {
            let mut records = Vec::new();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..self.queues.len());
                records.extend(self.queues[at].pop_front());
            }
            if !records.is_empty() {
                self.deliver("one", &records).await;
            }
            if rng.random_range(0..4) == 0 {
                self.read_again().await;
            }
        }
        self.read_again().await;
    }

    /// Reads what was noted from the target.
    async fn read_again(&self) {
        let mut found = Vec::new();
        for again in self.world.source.reverse_again(LOGS, 100).await.expect("lists") {
            let key = key_of_place(&again.place).expect("our own");
            let item = self.world.plain_target.get(LOGS, &key).await.expect("reads");
            found.push(ItemNow { again, item });
        }
        self.world.source.apply_again(&self.table, &found).await.expect("applies");
    }
}

#[tokio::test]
async fn a_row_that_moves_to_and_fro_ends_where_the_target_has_it_whatever_the_order() {
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shards = Shards::start().await;
    for round in 0..60 {
        let mut here: Option<usize> =
            (0..3).find(|at| shards.items[*at].as_ref().is_some_and(|i| !lockstep_core::is_tombstone(i)));
        for step in 0..rng.random_range(1..7) {
            let state = format!("round {round} step {step}");
            match (here, rng.random_range(0..4)) {
                (Some(at), 0) => {
                    shards.write(at, None).await;
                    here = None;
                }
                (Some(at), 1) => shards.write(at, Some(&state)).await,
                (from, _) => {
                    let to = rng.random_range(0..3);
                    shards.write(to, Some(&state)).await;
                    if let Some(from) = from.filter(|from| *from != to) {
                        shards.write(from, None).await;
                    }
                    here = Some(to);
                }
            }
        }
        shards.deliver_all(&mut rng).await;
        let wrong = shards.world.disagreements().await;
        assert!(wrong.is_empty(), "seed {seed} round {round}:\n{}", wrong.join("\n"));
        assert_eq!(shards.world.count("lockstep.reverse_again").await, 0);
    }
}

#[tokio::test]
async fn expiry_is_retention_and_what_is_written_after_it_counts_from_one_again() {
    let mut shards = Shards::start().await;
    for user in ["one", "two", "three"] {
        shards.write(0, Some(user)).await;
    }
    let key = IntegrationLogs::default().target_key(&log_at(1, "a")).expect("a key").to_attributes();
    let removed =
        shards.world.plain_target.client().delete_item().table_name(LOGS).set_key(Some(key)).send().await;
    removed.expect("as DynamoDB's expiry does");
    shards.record(0, None, true);
    // All in one page: the row has the last state that was written before it expired.
    let records: Vec<StreamRecord> = shards.queues[0].drain(..).collect();
    shards.deliver("one", &records).await;
    assert_eq!(
        shards.world.count("integration_logs WHERE user_id = 'three'").await,
        1,
        "the source keeps the row"
    );
    let standing = shards.world.source.reverse_standing(LOGS).await.expect("reads").expect("is there");
    assert_eq!((standing.expired, standing.foreign_count), (1, 0));
    // Nothing is at its place, so its version is lower than the one that was applied.
    shards.write(0, Some("born again")).await;
    shards.deliver_all(&mut StdRng::seed_from_u64(1)).await;
    assert_eq!(shards.world.count("integration_logs WHERE user_id = 'born again'").await, 1);
}

/// M64. Its new versions begin below those that are remembered of it.
#[tokio::test]
async fn an_item_that_expires_and_is_written_again_within_one_page_is_what_it_is_now() {
    let mut shards = Shards::start().await;
    for user in ["one", "two", "three"] {
        shards.write(0, Some(user)).await;
    }
    let first: Vec<StreamRecord> = shards.queues[0].drain(..).collect();
    shards.deliver("one", &first).await;
    let key = IntegrationLogs::default().target_key(&log_at(1, "a")).expect("a key").to_attributes();
    let removed =
        shards.world.plain_target.client().delete_item().table_name(LOGS).set_key(Some(key)).send().await;
    removed.expect("as DynamoDB's expiry does");
    shards.record(0, None, true);
    shards.write(0, Some("again")).await;
    let page: Vec<StreamRecord> = shards.queues[0].drain(..).collect();
    assert_eq!(page.len(), 2, "the removal and the write");
    shards.deliver("one", &page).await;
    assert_eq!(shards.world.count("integration_logs WHERE user_id = 'again'").await, 1);
}

/// 1. A version of an item is known, and it goes while no feed runs; its record is trimmed. 2. What comes to
/// the empty place begins below that version, comes up to it, or is deleted again below it.
#[tokio::test]
async fn what_comes_into_an_empty_place_is_taken_whatever_version_is_known_of_it() {
    let mut shards = Shards::start().await;
    for (n, after) in
        [&[Some("again")][..], &[Some("a"), Some("b"), Some("c")], &[Some("d"), None]].into_iter().enumerate()
    {
        for user in ["one", "two", "three"] {
            shards.write(0, Some(user)).await;
        }
        let first: Vec<StreamRecord> = shards.queues[0].drain(..).collect();
        shards.deliver("one", &first).await;
        shards.read_again().await;
        assert_eq!(shards.world.count("integration_logs WHERE user_id = 'three'").await, 1);
        let key = IntegrationLogs::default().target_key(&log_at(1, "a")).expect("a key").to_attributes();
        let gone = shards.world.plain_target.client().delete_item().table_name(LOGS).set_key(Some(key));
        gone.send().await.expect("as DynamoDB's expiry does");
        // No record of it is left.
        shards.items[0] = None;
        for user in after {
            shards.write(0, *user).await;
        }
        let noted: Vec<StreamRecord> = shards.queues[0].drain(..).collect();
        for record in &noted {
            shards.deliver("one", std::slice::from_ref(record)).await;
        }
        assert_eq!(shards.world.count("lockstep.reverse_again").await, 1, "member {n} is passed over");
        shards.read_again().await;
        assert_eq!(shards.world.count("lockstep.reverse_again").await, 0, "member {n}");
        let wrong = shards.world.disagreements().await;
        assert!(wrong.is_empty(), "member {n}:\n{}", wrong.join("\n"));
        // What follows is news.
        shards.write(0, Some("later")).await;
        let later: Vec<StreamRecord> = shards.queues[0].drain(..).collect();
        assert_eq!(shards.deliver("one", &later).await.applied, 1, "member {n}");
        assert_eq!(shards.world.count("integration_logs WHERE user_id = 'later'").await, 1, "member {n}");
        // The next member begins where nothing is, and nothing is known.
        shards.world.sql("DELETE FROM lockstep.reverse_places").await;
        let key = IntegrationLogs::default().target_key(&log_at(1, "a")).expect("a key").to_attributes();
        let gone = shards.world.plain_target.client().delete_item().table_name(LOGS).set_key(Some(key));
        gone.send().await.expect("removed");
        shards.items[0] = None;
    }
}

#[tokio::test]
async fn records_that_come_again_and_pages_that_do_not_follow_change_nothing() {
    let mut shards = Shards::start().await;
    for user in ["one", "two"] {
        shards.write(0, Some(user)).await;
    }
    let records: Vec<StreamRecord> = shards.queues[0].drain(..).collect();
    shards.deliver("one", &records).await;
    // Read from the oldest again, one by one: older states never show.
    for record in &records {
        shards.page = 0;
        shards.world.sql("DELETE FROM lockstep.reverse_shards").await;
        // M62: an equal version is the state that it has had.
        assert_eq!(shards.deliver("one", std::slice::from_ref(record)).await.applied, 0);
        assert_eq!(shards.world.count("integration_logs WHERE user_id = 'two'").await, 1);
    }
    // Another feed has gone on: this one is behind.
    let folded = changes_of(records);
    let page = FedPage {
        shard: "one",
        from: Some("elsewhere"),
        to: Some("further"),
        finished: false,
        newest_at: None,
        folded: &folded,
        begun: None,
    };
    let behind =
        shards.world.source.apply_reverse(&shards.table, page).await.expect_err("it does not follow");
    assert!(behind.message.contains("another reverse feed"), "{behind}");
    // The answer to a commit was lost, and the page comes again.
    let page = FedPage { to: Some("1"), ..page };
    assert_eq!(shards.world.source.apply_reverse(&shards.table, page).await.expect("is done").applied, 0);
}

#[tokio::test]
async fn a_page_of_an_epoch_that_the_source_does_not_know_yet_is_not_passed_over() {
    let mut shards = Shards::start().await;
    shards.epoch = Epoch(shards.epoch.0 + 1);
    shards.write(0, Some("early")).await;
    let folded = changes_of(shards.queues[0].iter().cloned().collect());
    let page = FedPage {
        shard: "one",
        from: None,
        to: Some("1"),
        finished: false,
        newest_at: None,
        folded: &folded,
        begun: None,
    };
    // Neither without a word of what was begun, nor where that epoch was: the flip is still under way.
    for begun in [None, Some(shards.epoch)] {
        let page = FedPage { begun, ..page };
        let early = shards.world.source.apply_reverse(&shards.table, page).await.expect("it is asked again");
        assert_eq!(early, Applied { ahead: true, ..Applied::default() });
    }
    assert_eq!(shards.world.count("lockstep.reverse_again").await, 0, "nothing is set aside");
    assert_eq!(shards.world.count("lockstep.reverse_shards").await, 0, "its position is not saved");
    shards.world.flip(Phase::DynamoOnly).await;
    shards.world.source.apply_reverse(&shards.table, page).await.expect("now it knows");
    assert_eq!(shards.world.count(LOGS).await, 1);
}

/// Saved before its rows, a position would pass over what a crash cuts off between the two (I7).
#[tokio::test]
async fn a_page_whose_rows_are_not_applied_leaves_no_position() {
    let mut shards = Shards::start().await;
    shards.write(0, Some("here")).await;
    let folded = changes_of(shards.queues[0].iter().cloned().collect());
    let page = FedPage {
        shard: "one",
        from: None,
        to: Some("1"),
        finished: false,
        newest_at: None,
        folded: &folded,
        begun: None,
    };
    let fails = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN RAISE EXCEPTION 'as in a deadlock' USING ERRCODE = '40P01'; END $$;
                 CREATE TRIGGER fails BEFORE INSERT ON integration_logs FOR EACH ROW EXECUTE FUNCTION fails();
                 ALTER TABLE integration_logs ENABLE ALWAYS TRIGGER fails";
    shards.world.sql(fails).await;
    let failed =
        shards.world.source.apply_reverse(&shards.table, page).await.expect_err("the rows are not applied");
    assert_eq!(failed.kind, lockstep_core::Kind::Busy, "{failed}");
    assert_eq!((shards.world.count("lockstep.reverse_shards").await, shards.world.count(LOGS).await), (0, 0));
    shards.world.sql("DROP TRIGGER fails ON integration_logs").await;
    shards.world.source.apply_reverse(&shards.table, page).await.expect("it comes again");
    assert_eq!(shards.world.count(LOGS).await, 1);
}

#[tokio::test]
async fn a_delete_that_had_to_wait_does_not_take_along_the_row_that_has_moved_on() {
    let mut shards = Shards::start().await;
    shards.write(0, Some("here")).await;
    shards.write(1, Some("there")).await;
    shards.write(0, None).await;
    // The new item first, then the old one: the row is where it was before.
    let moved: Vec<StreamRecord> = shards.queues[1].drain(..).collect();
    shards.deliver("one", &moved).await;
    let old = shards.queues[0].pop_front().expect("its put");
    shards.deliver("one", &[old]).await;
    // It cannot go yet.
    shards.world.sql("CREATE TABLE held (log_id bigint REFERENCES integration_logs (log_id)); INSERT INTO held VALUES (1)").await;
    let gone = shards.queues[0].pop_front().expect("its tombstone");
    shards.deliver("one", &[gone]).await;
    shards.read_again().await;
    assert_eq!(shards.world.count("integration_logs WHERE service_name = 'a'").await, 1);
    shards.world.sql("DELETE FROM held").await;
    shards.read_again().await;
    shards.read_again().await;
    assert_eq!(shards.world.count("lockstep.reverse_again").await, 0);
    assert_eq!(shards.world.disagreements().await, Vec::<String>::new());
}

/// An operator has accepted one state of an item: not the next one, however the feed meets it, and not that
/// the row which PostgreSQL keeps instead goes as well. Met once more it stays accepted.
#[tokio::test]
async fn an_acceptance_is_of_one_state_and_of_the_row_that_is_kept() {
    let mut shards = Shards::start().await;
    let source = shards.world.source.clone();
    let letters = async || source.count_dead_letters(LOGS).await.expect("counted");
    let accept =
        async || lockstep_tests::world::acknowledge(&source, LOGS, "an operator").await.expect("accepted");
    let first = shards.epoch.floor();
    let no_row = |version: i64| {
        let item = MigratableTable::encode(&IntegrationLogs::default(), &log_row(1, SERVICES[0], "no row"));
        let mut item = item.expect("fits").at(Version(first + version)).into_attributes();
        item.insert("is_success".to_owned(), AttributeValue::S("neither".to_owned()));
        item
    };
    // As a reverse backfill reads it.
    for (version, open) in [(1, 1), (1, 0), (2, 1), (2, 0)] {
        source.apply_items(&shards.table, &[no_row(version)]).await.expect("noted");
        assert_eq!(letters().await, (1, open), "version {version} of a reverse backfill");
        accept().await;
    }
    // As its stream tells it.
    for (version, open) in [(2, 0), (3, 1), (3, 0), (4, 1)] {
        // Read once more it is the same record, and no change over itself.
        shards.items[0] = None;
        shards.record(0, Some(no_row(version)), false);
        let record = shards.queues[0].pop_front().expect("a record");
        shards.deliver("one", &[record]).await;
        assert_eq!(letters().await, (1, open), "version {version} of a stream");
        accept().await;
    }
    // As a record of a DynamoOnly that is over.
    shards.world.flip(Phase::HybridRead).await;
    shards.world.flip(Phase::DynamoOnly).await;
    for (version, open) in [(4, 0), (3, 0), (5, 1), (5, 0)] {
        shards.items[0] = None;
        shards.record(0, Some(no_row(version)), false);
        let record = shards.queues[0].pop_front().expect("a record");
        shards.deliver("one", &[record]).await;
        assert_eq!(letters().await, (1, open), "version {version} of before");
        accept().await;
    }

    // Read from the target again: the state that was accepted, then another one.
    let mut shards = Shards::start().await;
    let source = shards.world.source.clone();
    let letters = async || source.count_dead_letters(LOGS).await.expect("counted");
    let accept =
        async || lockstep_tests::world::acknowledge(&source, LOGS, "an operator").await.expect("accepted");
    shards.world.sql("ALTER TABLE integration_logs ADD CONSTRAINT spoken CHECK (user_id <> 'refused')").await;
    shards.write(0, Some("here")).await;
    shards.write(1, Some("refused")).await;
    for at in 0..2 {
        let record = shards.queues[at].pop_front().expect("its put");
        shards.deliver("one", &[record]).await;
    }
    shards.world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
    assert_eq!((accept().await, letters().await), (1, (1, 0)));
    shards.read_again().await;
    assert_eq!(letters().await, (1, 0), "it is the state that was accepted");
    let refused = shards.items[1].clone().expect("it was written");
    for _ in 0..2 {
        source.apply_items(&shards.table, std::slice::from_ref(&refused)).await.expect("read");
        assert_eq!(letters().await, (1, 0), "a reverse backfill reads the state that was accepted");
    }
    // Changed by hand it keeps its version, and is another state.
    let changed = || {
        let mut changed = refused.clone();
        changed.insert("log_type".to_owned(), AttributeValue::S("by hand".to_owned()));
        changed
    };
    shards.record(1, Some(changed()), false);
    let by_hand = shards.queues[1].pop_front().expect("a record");
    shards.deliver("one", &[by_hand]).await;
    assert_eq!(letters().await, (1, 1), "what was accepted is not what is there");
    source.apply_items(&shards.table, &[changed()]).await.expect("read");
    shards.world.sql("UPDATE lockstep.reverse_again SET found_at = found_at - interval '6 minutes'").await;
    assert_eq!((letters().await, accept().await), ((1, 1), 1), "no operator has accepted it");
    shards.write(1, Some("refused")).await;
    shards.read_again().await;
    assert_eq!(letters().await, (1, 1), "it is another one");
    assert_eq!(accept().await, 1);
    // The row that is kept instead is another item's, and goes with it.
    shards.write(0, None).await;
    let gone = shards.queues[0].pop_front().expect("its tombstone");
    shards.deliver("one", &[gone]).await;
    assert_eq!((shards.world.count(LOGS).await, letters().await), (0, (1, 1)), "nothing is kept");
    // Once PostgreSQL takes the state that was accepted, nothing is left of that.
    assert_eq!(accept().await, 1);
    shards.world.sql("ALTER TABLE integration_logs DROP CONSTRAINT spoken").await;
    let refused = shards.items[1].clone().expect("it was written");
    source.apply_items(&shards.table, &[refused]).await.expect("read");
    assert_eq!((shards.world.count(LOGS).await, letters().await), (1, (0, 0)));
    assert_eq!(shards.world.count("lockstep.reverse_again").await, 0);
}

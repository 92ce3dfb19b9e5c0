//! An import whose parts Lockstep puts into S3 itself, before a server of S3's protocol.

use std::path::PathBuf;

use lockstep_coordinator::{Coordinator, CoordinatorError, ImportOptions, LoadPathChoice, MigrationContext};
use lockstep_dynamo::{LoadPath, Target, TargetOptions};
use lockstep_tests::World;
use lockstep_tests::faults::{ImportRules, ImportServer, ObjectFault, ObjectServer};
use lockstep_tests::world::rows::{logs, payments};
use lockstep_tests::world::{LOGS, backfill};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A world whose DynamoDB imports from the S3 that is beside it.
pub(crate) struct Direct {
    pub(crate) world: World,
    pub(crate) importer: ImportServer,
    pub(crate) objects: ObjectServer,
    folder: TempDir,
    target: Target,
}

impl Direct {
    pub(crate) async fn start() -> Self {
        let world = World::start().await;
        let folder = tempfile::tempdir().expect("a folder");
        let bucket = folder.path().join("bucket");
        std::fs::create_dir_all(&bucket).expect("a bucket");
        let emulator = world.target.address();
        let importer = ImportServer::start(&emulator, &bucket, ImportRules::default()).await;
        let importer = importer.expect("it listens");
        let objects = ObjectServer::start(folder.path()).await.expect("it listens");
        let options = TargetOptions {
            endpoint_url: Some(importer.endpoint_url()),
            s3_endpoint_url: Some(objects.endpoint_url()),
            ..world.target_options()
        };
        let target = Target::connect(options).await;
        Self { world, importer, objects, folder, target }
    }

    pub(crate) fn migration(&self) -> MigrationContext {
        let mut migration = MigrationContext { target: self.target.clone(), ..self.world.migration() };
        migration.options.backfill.load_path = LoadPathChoice::Import;
        migration.options.import = ImportOptions {
            folder: self.parts(),
            s3: "s3://bucket/lockstep".to_owned(),
            part_bytes: 8 * 1024,
            ..migration.options.import
        };
        migration
    }

    /// Folder that nothing is written to.
    fn parts(&self) -> PathBuf {
        self.folder.path().join("parts")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("bucket").join(name)
    }

    async fn prepared(&self) -> Coordinator {
        let coordinator = self.world.coordinator_of(self.migration()).await;
        coordinator.prepare(&()).await.expect("nothing refuses");
        coordinator
    }

    pub(crate) async fn prefix(&self, table: &str) -> String {
        self.world.source.import(table).await.expect("read").expect("begun").prefix
    }

    /// The bucket has exactly the parts of the manifest, and the manifest.
    pub(crate) async fn assert_exact(&self, table: &str) {
        let prefix = self.prefix(table).await;
        let parts = self.world.source.import_parts(table).await.expect("read");
        let known: Vec<String> = parts.iter().map(|part| format!("{prefix}{}", part.name)).collect();
        let there = self.objects.objects("bucket");
        let there: Vec<String> = there.into_iter().filter(|name| name.starts_with(&prefix)).collect();
        assert_eq!(there, known);
        assert!(self.file(prefix.strip_suffix("data/").expect("its end")).join("manifest.json").is_file());
    }
}

async fn refused(coordinator: &Coordinator) -> String {
    let ended = coordinator.backfill(&CancellationToken::new()).await;
    ended.expect_err("something is not as it was put").to_string()
}

#[tokio::test]
async fn parts_go_to_s3_over_its_faults_and_what_is_no_part_is_removed_before_the_job() {
    let direct = Direct::start().await;
    let world = &direct.world;
    world.sql(&logs(1, 400)).await;
    world.sql(&payments(1, 40)).await;
    let coordinator = direct.prepared().await;
    let prefix = direct.prefix(LOGS).await;
    std::fs::create_dir_all(direct.file(&prefix)).expect("a folder");
    let stray = direct.file(&format!("{prefix}000000-9-000001.json.gz"));
    std::fs::write(&stray, b"of a worker that came too late").expect("written");
    let objects = &direct.objects;
    for fault in [
        ObjectFault::Refused(503, "SlowDown"),
        ObjectFault::Refused(500, "InternalError"),
        ObjectFault::Refused(503, "SlowDown"),
        ObjectFault::Cut,
        ObjectFault::Garbled,
    ] {
        objects.script("PUT", "/bucket/lockstep", 1, fault);
    }
    objects.script("GET", "list-type=2", 1, ObjectFault::Refused(503, "ServiceUnavailable"));
    objects.script("POST", "delete", 1, ObjectFault::Refused(503, "SlowDown"));
    let summaries = backfill(&coordinator).await;
    assert_eq!(objects.left(), 0, "each fault happened");
    let of_logs = summaries.iter().find(|summary| summary.table == LOGS).expect("it");
    assert_eq!(of_logs.load_path, LoadPath::Import, "what was imported is exactly the manifest");
    assert_eq!((of_logs.rows_written, direct.importer.jobs()), (400, 2));
    assert!(!stray.exists(), "what is no part was removed");
    assert!(!direct.parts().exists(), "no folder has anything");
    direct.assert_exact(LOGS).await;
    assert!(world.source.import_parts(LOGS).await.expect("read").len() > 3, "parts are sized");
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_part_that_is_gone_or_changed_ends_the_import_before_dynamodb_is_asked() {
    let direct = Direct::start().await;
    let world = &direct.world;
    world.sql(&logs(1, 200)).await;
    let coordinator = direct.prepared().await;
    // 1. Parts are put, and to list them is denied: it says which right is missing.
    direct.objects.script("GET", "list-type=2", 1, ObjectFault::Refused(403, "AccessDenied"));
    let why = refused(&coordinator).await;
    assert!(why.contains("s3:ListBucket") && why.contains("AccessDenied"), "{why}");
    // 2. Meanwhile something shortens one, or removes it.
    let prefix = direct.prefix(LOGS).await;
    let parts = world.source.import_parts(LOGS).await.expect("read");
    let file = direct.file(&format!("{prefix}{}", parts[0].name));
    let whole = std::fs::read(&file).expect("there");
    for is_shorter in [true, false] {
        match is_shorter {
            true => std::fs::write(&file, &whole[1..]).expect("written"),
            false => std::fs::remove_file(&file).expect("removed"),
        }
        let why = refused(&coordinator).await;
        assert!(why.contains(&parts[0].name) && why.contains("--restart"), "{why}");
    }
    // 3. A part cannot be put at all.
    assert_eq!(direct.importer.jobs(), 0, "no job was asked for");
    coordinator.restart_backfill().await.expect("no job is at work");
    direct.objects.script("PUT", "/bucket/lockstep", 1000, ObjectFault::Refused(403, "AccessDenied"));
    let why = refused(&coordinator).await;
    assert!(why.contains("s3:PutObject"), "{why}");
    coordinator.close().await;
    assert_ne!(direct.prefix(LOGS).await, prefix, "no object of before counts");
    // 4. It goes on where it was, in a process of its own, however that one would write.
    let mut copied = direct.migration();
    copied.options.import.upload = Some("false".to_owned());
    let objects = ObjectServer::start(direct.folder.path()).await.expect("it listens");
    let options = TargetOptions {
        endpoint_url: Some(direct.importer.endpoint_url()),
        s3_endpoint_url: Some(objects.endpoint_url()),
        ..world.target_options()
    };
    copied.target = Target::connect(options).await;
    let coordinator = world.coordinator_of(copied).await;
    coordinator.prepare(&()).await.expect("nothing refuses");
    backfill(&coordinator).await;
    direct.assert_exact(LOGS).await;
    coordinator.close().await;
    world.assert_converged().await;
}

#[tokio::test]
async fn a_bucket_that_is_not_there_or_closed_is_told_before_anything_is_begun() {
    let direct = Direct::start().await;
    direct.world.sql(&logs(1, 5)).await;
    let mut nowhere = direct.migration();
    nowhere.options.import.s3 = "s3://nowhere/lockstep".to_owned();
    let coordinator = direct.world.coordinator_of(nowhere).await;
    let refused = coordinator.prepare(&()).await.expect_err("there is no such bucket").to_string();
    assert!(refused.contains("there is no such bucket"), "{refused}");
    coordinator.close().await;
    let coordinator = direct.world.coordinator_of(direct.migration()).await;
    for (status, code, said) in
        [(403, "AccessDenied", "s3:ListBucket"), (301, "PermanentRedirect", "s3_region")]
    {
        direct.objects.script("GET", "list-type=2", 2, ObjectFault::Refused(status, code));
        let refused = coordinator.prepare(&()).await.expect_err(code).to_string();
        assert!(refused.contains(said), "{said}: {refused}");
    }
    let none = direct.world.source.import(LOGS).await.expect("read");
    assert!(none.is_none(), "nothing was begun: {none:?}");
    // An outage is no reason.
    direct.objects.script("GET", "list-type=2", 2, ObjectFault::Refused(503, "SlowDown"));
    coordinator.prepare(&()).await.expect("it may be over by then");
    assert!(matches!(
        coordinator.backfill(&CancellationToken::new()).await,
        Ok(_) | Err(CoordinatorError::Store(_))
    ));
    coordinator.close().await;
}

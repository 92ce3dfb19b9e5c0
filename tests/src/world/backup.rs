//! Stores that are set back to what they were: the source as a database is, with everything that Lockstep
//! wrote about itself; a target table as DynamoDB restores it, or in place.

use std::time::Duration;

use lockstep_core::{Attributes, TargetKey};
use lockstep_dynamo::{ContinuityMark, is_mark};
use lockstep_postgres::TableBinding;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use super::{World, connect_source};

/// A source as it was.
#[derive(Debug)]
pub struct SourceBackup {
    database: String,
}

/// A target table as it was, marks of history included.
#[derive(Debug)]
pub struct TableBackup {
    items: Vec<Attributes>,
}

impl World {
    /// Makes a mark of history in a target table, as a relay or a feed does; its number. That it was made the
    /// source knows once it is told.
    pub async fn make_mark(&self, binding: &TableBinding) -> i64 {
        let asked = [(binding.name(), binding.target_name.as_str())];
        let begun = self.source.begin_marks(&asked, Duration::ZERO, Duration::ZERO).await;
        let begun = begun.expect("begun").remove(binding.name()).expect("a mark");
        let (number, version, server) = (begun.number, begun.version, begun.server);
        let mark = ContinuityMark { number, version, server, at: chrono::Utc::now() };
        let schema = binding.table.target();
        self.plain_target.set_continuity_mark(&binding.target_name, &schema, &mark).await.expect("made");
        number
    }

    /// Copies the source as it is now. Every session in it is ended.
    pub async fn back_up_source(&mut self) -> SourceBackup {
        let name = self.database();
        let database = format!("{name}_backup");
        self.away(&[format!("CREATE DATABASE {database} TEMPLATE {name}")]).await;
        SourceBackup { database }
    }

    /// Sets the source back. Every session in it is ended.
    pub async fn restore_source(&mut self, backup: SourceBackup) {
        let name = self.database();
        let database = backup.database;
        self.away(&[
            format!("DROP DATABASE {name} WITH (FORCE)"),
            format!("ALTER DATABASE {database} RENAME TO {name}"),
        ])
        .await;
    }

    pub(super) fn database(&self) -> String {
        self.connect_options().get_database().expect("a database of our own").to_owned()
    }

    /// Runs SQL on the cluster while no session is in this world's database.
    pub(super) async fn away(&mut self, statements: &[String]) {
        let name = self.database();
        self.source.close().await;
        self.strangers.close().await;
        let options: PgConnectOptions = self.connect_options().database("postgres");
        let mut admin = options.connect().await.expect("the cluster answers");
        let mut run = async |sql: String| {
            let done = admin.execute(AssertSqlSafe(sql.clone())).await;
            done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        };
        run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        run(format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await;
        for sql in statements {
            run(sql.clone()).await;
        }
        run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
        admin.close().await.expect("closes");
        self.source = connect_source(self.source_options().url, &self.options).await;
        self.strangers =
            PgPoolOptions::new().max_connections(12).connect(&self.url).await.expect("strangers connect");
    }

    /// Copies a target table as it is now.
    pub async fn back_up_table(&self, binding: &TableBinding) -> TableBackup {
        TableBackup { items: self.everything(&binding.target_name).await }
    }

    /// Creates a target table again under the same name, as DynamoDB restores a backup: it is another table
    /// then.
    pub async fn restore_table(&self, binding: &TableBinding, backup: &TableBackup) {
        self.drop_table(binding).await;
        let (target, name) = (&self.plain_target, &binding.target_name);
        target.create(name, &binding.table.target(), binding.table.expires()).await.expect("created");
        self.put_all(name, &backup.items).await;
    }

    /// Deletes a target table.
    pub async fn drop_table(&self, binding: &TableBinding) {
        self.plain_target
            .client()
            .delete_table()
            .table_name(&binding.target_name)
            .send()
            .await
            .expect("deleted");
    }

    /// Takes the mark of history out of a target table, past every proxy.
    pub async fn take_mark(&self, binding: &TableBinding) {
        for item in self.everything(&binding.target_name).await.into_iter().filter(|item| is_mark(item)) {
            let key = TargetKey::of(&item).expect("every item has a key").to_attributes();
            let deleting = self.plain_target.client().delete_item().table_name(&binding.target_name);
            deleting.set_key(Some(key)).send().await.expect("deleted");
        }
    }

    /// Sets a target table back in place, as some servers that speak DynamoDB's protocol can.
    pub async fn set_table_back(&self, binding: &TableBinding, backup: &TableBackup) {
        let name = &binding.target_name;
        for item in self.everything(name).await {
            let key = TargetKey::of(&item).expect("every item has a key").to_attributes();
            self.plain_target
                .client()
                .delete_item()
                .table_name(name)
                .set_key(Some(key))
                .send()
                .await
                .expect("deleted");
        }
        self.put_all(name, &backup.items).await;
    }

    async fn put_all(&self, name: &str, items: &[Attributes]) {
        for item in items {
            let put = self.plain_target.client().put_item().table_name(name).set_item(Some(item.clone()));
            put.send().await.expect("put");
        }
    }
}

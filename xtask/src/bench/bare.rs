//! Code that a careful engineer would write without Lockstep: the same statements and requests, and nothing
//! around them.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use lockstep_core::{Fields, MigratableTable, Row as _, Version};
use lockstep_dynamo::Target;
use lockstep_integration_logs::{IntegrationLog, IntegrationLogs, LogKey};
use lockstep_payments::{Payment, Payments};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{AssertSqlSafe, Connection};

use super::worker;

/// One connection for the writes, one for the small commits beside them, and the SDK's client.
pub(super) struct Bare {
    writes: PgConnection,
    beside: PgConnection,
    target: Target,
}

impl Bare {
    pub(super) async fn connect(url: &str, endpoint_url: &str) -> anyhow::Result<Self> {
        let mut beside = PgConnection::connect(url).await?;
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS public.bench_intents (id bigint GENERATED ALWAYS AS IDENTITY, key text)")
            .execute(&mut beside)
            .await?;
        Ok(Self {
            writes: PgConnection::connect(url).await?,
            beside,
            target: worker::target(endpoint_url).await,
        })
    }

    /// Runs one statement, with one commit.
    pub(super) async fn insert(&mut self, log: &IntegrationLog) -> anyhow::Result<IntegrationLog> {
        insert::<IntegrationLogs>(&mut self.writes, log).await
    }

    pub(super) async fn put(&self, log: &IntegrationLog) -> anyhow::Result<()> {
        let item = IntegrationLogs::default().encode(log)?.at(Version(1)).into_attributes();
        self.target.client().put_item().table_name(IntegrationLogs::NAME).set_item(Some(item)).send().await?;
        Ok(())
    }

    pub(super) async fn get(&self, key: &LogKey) -> anyhow::Result<()> {
        let place = IntegrationLogs::default().target_key(key)?.to_attributes();
        let request = self.target.client().get_item().table_name(IntegrationLogs::NAME).consistent_read(true);
        let found = request.set_key(Some(place)).send().await?.item;
        IntegrationLogs::decode(&found.unwrap_or_default())?;
        Ok(())
    }

    /// Put between the statement and its commit, with a note of it committed before.
    pub(super) async fn insert_strictly(&mut self, log: &IntegrationLog) -> anyhow::Result<()> {
        let mut transaction = self.writes.begin().await?;
        let row = insert::<IntegrationLogs>(&mut transaction, log).await?;
        note(&mut self.beside, 1).await?;
        let item = IntegrationLogs::default().encode(&row)?.at(Version(1)).into_attributes();
        self.target.client().put_item().table_name(IntegrationLogs::NAME).set_item(Some(item)).send().await?;
        Ok(transaction.commit().await?)
    }

    /// A payment and its log together, after a log of the start.
    pub(super) async fn operate(&mut self, log: &IntegrationLog, payment: &Payment) -> anyhow::Result<()> {
        let start = self.insert(log).await?;
        self.put(&start).await?;
        let mut transaction = self.writes.begin().await?;
        let payment = insert::<Payments>(&mut transaction, payment).await?;
        let log = insert::<IntegrationLogs>(&mut transaction, log).await?;
        note(&mut self.beside, 2).await?;
        let payment = Payments::default().encode(&payment)?.at(Version(1)).into_attributes();
        let log = IntegrationLogs::default().encode(&log)?.at(Version(1)).into_attributes();
        let mut request = self.target.client().transact_write_items();
        for (table, item) in [(Payments::NAME, payment), (IntegrationLogs::NAME, log)] {
            let put = Put::builder().table_name(table).set_item(Some(item)).build()?;
            request = request.transact_items(TransactWriteItem::builder().put(put).build());
        }
        request.send().await?;
        Ok(transaction.commit().await?)
    }
}

/// Inserts a row under an id of PostgreSQL's and returns it as it is.
async fn insert<T: MigratableTable>(connection: &mut PgConnection, row: &T::Row) -> anyhow::Result<T::Row> {
    let names: Vec<&str> = T::Row::COLUMNS.iter().map(|column| column.name).collect();
    let places: Vec<String> = (2..=names.len()).map(|place| format!("${place}")).collect();
    // The identity's own parameter is bound with the others, and not used.
    let sql = format!(
        "WITH given AS (SELECT $1::bigint) INSERT INTO public.{} ({}) VALUES ({}) RETURNING {}",
        T::NAME,
        names[1..].join(", "),
        places.join(", "),
        names.join(", ")
    );
    let mut arguments = PgArguments::default();
    row.bind(&mut arguments);
    let row = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_one(connection).await?;
    Ok(Fields::of_query(&row, 0, T::Row::from_fields)?)
}

async fn note(connection: &mut PgConnection, rows: i64) -> anyhow::Result<()> {
    sqlx::query("INSERT INTO public.bench_intents (key) SELECT 'key' FROM generate_series(1, $1)")
        .bind(rows)
        .execute(connection)
        .await?;
    Ok(())
}

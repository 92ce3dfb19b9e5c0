//! A shop that moves three tables of its own to DynamoDB: what they are, and how the shop opens them. Its
//! command line is `xtask/src/main.rs`.

use std::error::Error;

use chrono::{DateTime, Utc};
use lockstep::config::Inputs;
use lockstep::{CanaryQueries, Migration, MigrationOptions, Registry};
use uuid::Uuid;

/// Level of a customer by the orders so far: an enum of PostgreSQL, label by label.
#[derive(Clone, Copy, Debug, PartialEq, lockstep::Label)]
#[lockstep(sql = "shop.level")]
pub enum Level {
    /// Nothing yet.
    New,
    /// Something.
    Regular,
}

/// A customer. PostgreSQL gives the key.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "customers", table = "Customers")]
#[lockstep(partition = "CUSTOMER#{customer_id}")]
#[lockstep(index(name = "by_country", partition = "COUNTRY#{country}"))]
pub struct Customer {
    /// Identity.
    #[lockstep(primary_key)]
    pub customer_id: i64,
    /// Address to write to.
    pub email: String,
    /// Two letters.
    #[lockstep(reveal)]
    pub country: String,
    /// Level that the orders have reached.
    #[lockstep(reveal)]
    pub level: Level,
    /// Time of the first order.
    pub since: DateTime<Utc>,
}

/// Number of pieces of something in a warehouse: a key of two texts, without a sort key.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "stock", table = "Stock")]
#[lockstep(partition = "{warehouse:esc}#{sku}")]
pub struct Piece {
    /// Name of the warehouse.
    #[lockstep(primary_key)]
    pub warehouse: String,
    /// Number of the article.
    #[lockstep(primary_key)]
    pub sku: String,
    /// Pieces in stock.
    pub pieces: i32,
}

/// Something that happened. The shop gives the key.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "events", table = "Events", day_column = "at")]
#[lockstep(partition = "CUSTOMER#{customer_id}", sort = "{at}#{event_id}")]
#[lockstep(expires = "at + 3650d")]
#[lockstep(index(name = "by_id", partition = "{event_id}"))]
pub struct Event {
    /// Identity.
    #[lockstep(primary_key)]
    pub event_id: Uuid,
    /// Customer that it happened to.
    pub customer_id: i64,
    /// Time of the event.
    pub at: DateTime<Utc>,
    /// Text of the event.
    pub body: String,
    /// Print of the till, if it made one.
    pub receipt: Option<Vec<u8>>,
}

impl CanaryQueries for Customers {}
impl CanaryQueries for Stock {}
impl CanaryQueries for Events {}

/// The tables that move: the one list that the shop and its command line share.
pub fn tables() -> Registry {
    lockstep::tables![Customers, Stock, Events]
}

/// Opens the stores, as `inputs` configure them: `Inputs::of_process(None, None, Vec::new())` is
/// `lockstep.toml` in the working directory and the environment.
///
/// # Errors
/// What is wrong with the configuration; what [`Migration::connect`] says.
pub async fn open(inputs: &Inputs) -> Result<Migration, Box<dyn Error + Send + Sync>> {
    Ok(Migration::connect(MigrationOptions::load(tables(), inputs)?).await?)
}

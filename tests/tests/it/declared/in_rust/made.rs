// Made by `init --rust`. Every line may be changed; docs/derive.md says what each word means. Beside
// lockstep-migrate as `lockstep` it names the crates chrono, uuid and rust_decimal, as far as there are
// such columns.

// shop.keyless is not declared: it has no primary key and no unique index over columns that are NOT NULL.
// Add one, and run `init` again.

// MigrationOptions::new(source, target).table(…, "shop.notes", "notes")
/// shop.status of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, lockstep::Label)]
#[lockstep(sql = "shop.status")]
pub enum Status {
    /// "new"
    #[lockstep(label = "new")]
    New,
    /// "on hold"
    #[lockstep(label = "on hold")]
    OnHold,
    /// "Sent"
    #[lockstep(label = "Sent")]
    Sent,
}

/// A row of shop.notes.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "notes", partition = "{note_id}")]
pub struct Notes {
    /// In PostgreSQL uuid.
    #[lockstep(primary_key)]
    pub note_id: uuid::Uuid,
    /// In PostgreSQL shop.status.
    pub status: Option<Status>,
    /// In PostgreSQL text.
    pub note: Option<String>,
}

// shop.odd has no struct; declare it in lockstep.toml, as `init` without --rust does:
// - column `price` is money, which no type in Rust holds

// MigrationOptions::new(source, target).table(…, "shop.orders", "orders")
/// A row of shop.orders.
#[derive(Clone, Debug, PartialEq, lockstep::Table)]
#[lockstep(name = "orders", partition = "{customer_id}")]
#[lockstep(sort = "{order No}")]
// by_seen: sorted by the table's own sort key, as every index in Rust
#[lockstep(index(name = "by_seen", partition = "{seen}"))]
pub struct Orders {
    /// In PostgreSQL bigint.
    #[lockstep(primary_key)]
    pub customer_id: i64,
    /// In PostgreSQL integer.
    #[lockstep(primary_key, column = "order No")]
    pub order_no: i32,
    /// In PostgreSQL timestamp with time zone.
    pub placed_at: chrono::DateTime<chrono::Utc>,
    /// In PostgreSQL timestamp(3) without time zone.
    #[lockstep(sql = "timestamp(3) without time zone")]
    pub at: Option<chrono::NaiveDateTime>,
    /// In PostgreSQL shop.status.
    pub status: Status,
    /// In PostgreSQL numeric(12,2).
    #[lockstep(sql = "numeric(12,2)")]
    pub total: lockstep::Scaled<2>,
    /// In PostgreSQL numeric.
    pub rate: Option<rust_decimal::Decimal>,
    /// In PostgreSQL text[].
    pub tags: Option<Vec<Option<String>>>,
    /// In PostgreSQL text.
    #[lockstep(column = "type")]
    pub type_: String,
    /// In PostgreSQL integer.
    #[lockstep(attribute = "ttl_column")]
    pub ttl: Option<i32>,
    /// In PostgreSQL character(3).
    #[lockstep(sql = "character(3)")]
    pub code: Option<String>,
    /// In PostgreSQL jsonb.
    pub doc: Option<lockstep::Json>,
    /// In PostgreSQL bytea.
    pub body: Option<Vec<u8>>,
    /// In PostgreSQL boolean.
    pub is_gift: bool,
    /// In PostgreSQL double precision.
    pub score: Option<f64>,
    /// In PostgreSQL uuid.
    pub seen: Option<uuid::Uuid>,
}

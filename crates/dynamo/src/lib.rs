//! DynamoDB: everything Lockstep asks of the target, through the AWS SDK.
//!
//! In reading order: `rights` (every request there is, and whose it is), `connect`, `clear` (no token in
//! clear text), `named` (what attributes are called in each table), `sent` (whether anything left), `timed`
//! (how long it took), `understood` (no success that says nothing), `codes`,
//! `without_values` and `fault` (what an SDK error means), `tables` and `mismatch` (create, describe),
//! `proven` and `dry` (rights that are asked for beforehand), `expiry` (by which attribute), `protection` (of
//! a table that is the truth), `capacity`, `guarded` (versioned writes), `fence` (a request that may leave
//! only in time), `transact` (several together),
//! `conditional` (writes where the target is the truth), `control` (phase, leases and id counters of that
//! time), `initial_load` (how rows go in by writes), `apart` (no two of one place in a batch),
//! `inserts` (whether rows are mostly new),
//! `insert_body` and `wire_json` (requests that the SDK does not encode), `import_lines` and `imports` (by
//! DynamoDB's import from S3), `objects` (what is in S3), `own_place` (where items are that are no row's),
//! `mark` (what a table remembers of the source), `served` (whether it still does), `probe` (a write that no
//! row notices), `payload_hash`, `read`, `raw_scan`, `page_end`, `page_item`, `attribute_json`,
//! `json_cursor`, `plain_item` and `page_json` (pages that the SDK does not decode), [`Export`] (items of a
//! moment, as they lie in files), `count`, `foreign` (items of other programs), `query`, [`streams`] (every
//! change, for the way back), `purge` and `remove` (the end), and [`Backoff`].

mod apart;
mod attribute_json;
mod backoff;
mod capacity;
mod clear;
mod codes;
mod conditional;
mod connect;
pub mod control;
mod count;
mod dry;
mod expiry;
mod exports;
mod fault;
mod fence;
mod foreign;
mod guarded;
mod import_lines;
mod imports;
mod initial_load;
mod insert_body;
mod inserts;
mod json_cursor;
mod mark;
mod mismatch;
mod named;
mod objects;
mod own_place;
mod page_end;
mod page_item;
mod page_json;
mod payload_hash;
mod plain_item;
mod probe;
mod protection;
mod proven;
mod purge;
mod query;
mod raw_scan;
mod read;
mod remove;
mod rights;
mod sent;
mod served;
pub mod streams;
mod tables;
mod timed;
mod transact;
mod understood;
mod wire_json;
mod without_values;

// A future is compiled where it is polled; in a box, it is compiled here and not once more in each crate
// above.
pub(crate) use async_recursion::async_recursion as boxed;

pub use apart::apart;
pub use backoff::Backoff;
pub use capacity::{NEW_TABLE_UNITS_PER_S, WriteBound, WriteCapacity, WriteQuotas};
pub use conditional::{ConditionalPut, Expected, TRANSACTION_BYTES_MAX};
pub use connect::{CONTROL_TABLE, TargetOptions};
pub use control::{CONTROL_SCHEMA, TargetControl};
use control::{Leases, Owner};
pub use count::{CountPage, CountWhat};
pub use expiry::TableExpiry;
pub use exports::{EXPORT_PAGE_BYTES, Export, ExportError, ExportFile, ExportPlace, ExportSummary};
pub use fence::{Fence, ReadAt};
pub use foreign::ForeignPage;
pub use guarded::{Landed, Written};
pub use import_lines::push_initial_load_line;
pub use imports::{IMPORT_OBJECTS_MAX, ImportJob, ImportSource, ImportState};
pub use initial_load::{BatchOutcome, Inserted, LoadPath, STATEMENTS_MAX};
pub use inserts::{Inserts, Tried};
pub use mark::{ContinuityMark, is_mark};
pub use mismatch::UndeclaredIndex;
pub use objects::{Bucket, Object, SPEAKS_S3, bucket_and_prefix};
pub use page_end::PageEnd;
pub use page_item::PageItem;
pub use payload_hash::sha256_hex;
pub use probe::TargetProbe;
pub use protection::Protection;
pub use proven::{Denied, NOT_DRY};
pub use purge::{Purge, PurgePage};
pub use query::PartitionRange;
pub use raw_scan::ScanBody;
pub use read::{READ_KEYS_MAX, ScanPage};
pub use rights::{Request, Resources, Role, policy, requests};
pub use served::Looked;
pub use tables::{TableStanding, TargetTable};
pub use transact::TRANSACTION_ITEMS_MAX;

/// Longest wait for the name of the account.
const ACCOUNT_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// A handle on the target; cheap to clone.
#[derive(Clone, Debug)]
pub struct Target {
    client: aws_sdk_dynamodb::Client,
    streams: aws_sdk_dynamodbstreams::Client,
    /// Client that asks AWS who we are; `None` where requests do not go to AWS.
    identity: Option<aws_sdk_sts::Client>,
    /// Configuration that buckets are opened by.
    #[cfg(feature = "s3")]
    shared: aws_config::SdkConfig,
    options: TargetOptions,
    /// Endpoint that was given for all services; `None` for Amazon's.
    endpoint: Option<String>,
    described: tables::Described,
    listings: streams::Listings,
    owner: Owner,
    leases: Leases,
    served: served::Served,
    named: named::Named,
}

impl Target {
    /// Returns the SDK's client, for what this module does not offer.
    pub fn client(&self) -> &aws_sdk_dynamodb::Client {
        &self.client
    }

    /// Returns the address of this target, for messages.
    pub fn address(&self) -> String {
        match &self.options.endpoint_url {
            // For a proxy in between it may hold a password.
            Some(url) => match url.split_once("://").zip(url.rsplit_once('@')) {
                Some(((scheme, _), (_, place))) => format!("{scheme}://{place}"),
                None => url.clone(),
            },
            None => format!("AWS, region {}", self.region().unwrap_or_else(|| "unset".to_owned())),
        }
    }

    /// Returns the account that requests are made in, for messages; `None` for an emulator, and where AWS
    /// does not say within three seconds. It needs no right.
    #[crate::boxed]
    pub async fn account(&self) -> Option<String> {
        let asked = self.identity.as_ref()?.get_caller_identity().send();
        tokio::time::timeout(ACCOUNT_WITHIN, asked).await.ok()?.ok()?.account
    }

    /// Returns the same for a request that rests on it, the same each time that it is repeated; `None` where
    /// another endpoint than AWS's is used, of which it is not known.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](lockstep_core::Kind::Unavailable) where AWS does not say.
    pub async fn own_account(&self) -> lockstep_core::Result<Option<String>> {
        if self.identity.is_none() {
            return Ok(None);
        }
        let account = self.account().await;
        let unknown = || {
            let (doing, message) = ("asking which account this is", "STS does not say (GetCallerIdentity)");
            lockstep_core::Error::target(lockstep_core::Kind::Unavailable, doing, message)
        };
        account.map(Some).ok_or_else(unknown)
    }

    /// Tells whether it was said to be an emulator, which has nothing to lose.
    pub fn is_emulator(&self) -> bool {
        self.options.emulator_credentials
    }

    /// Tells whether something between this process and DynamoDB could repeat a request by itself: a mesh or a
    /// gateway that reads it. Nothing can over TLS up to an endpoint of Amazon's, and an emulator has none.
    pub fn may_be_repeated_between(&self) -> bool {
        !self.is_emulator() && self.endpoint.as_deref().is_some_and(|url| !connect::is_amazons(url))
    }

    /// Returns the region in use.
    pub fn region(&self) -> Option<String> {
        self.client.config().region().map(|region| region.as_ref().to_owned())
    }

    /// Returns how long after its last possible sending a request could still be carried out.
    pub fn request_lifetime(&self) -> std::time::Duration {
        self.options.request_lifetime
    }
}

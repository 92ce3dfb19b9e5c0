//! Parts that who writes them puts into S3: no machine has them all, so any number of workers write.
//!
//! What an object counts for. The name of a part has the lease in it that it was written under, an object is
//! there whole or not at all, and it is a part once the manifest has it. 1. A worker puts a part, and sleeps
//! past its lease. 2. Its range is read again, into parts of other names. 3. It wakes, and its part is
//! refused by the statement that would note it. That object is removed before the job is asked for, with
//! every other one that is no part.
//!
//! One that was on its way for so long that it comes after that, the job may read. It has rows at version 0
//! that were read after capture was on, as each part has, so no write is lost by it; and DynamoDB's counts
//! are not those of the manifest, so that each key is looked up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use lockstep_core::Advice::BackfillAgain;
use lockstep_core::Retry;
use lockstep_dynamo::{Backoff, Bucket, Object};
use lockstep_postgres::{ImportRow, PartRow, TableBinding};

use super::failed;
use super::folder::manifest_of;
use crate::error::Result;
use crate::options::MigrationContext;

/// Opens the bucket of an import whose parts are put into it.
pub(crate) async fn bucket(migration: &MigrationContext, import: &ImportRow) -> Result<Option<Bucket>> {
    if !import.direct {
        return Ok(None);
    }
    let owner = match &migration.options.import.bucket_owner {
        Some(owner) => Some(owner.clone()),
        None => Backoff::brief().retry(|| migration.target.own_account()).await?,
    };
    Ok(Some(migration.target.bucket(&import.bucket, owner).await?))
}

/// Returns why parts could not be put into the bucket that is configured, before anything is begun; an outage
/// is no reason.
pub(super) async fn unreachable(migration: &MigrationContext) -> Option<String> {
    let import = &migration.options.import;
    let (bucket, prefix) = import.destination().filter(|_| import.is_direct())?;
    let key = format!("{}/lockstep-preflight", prefix.trim_matches('/'));
    let look = async {
        let owner = import.bucket_owner.clone().or(migration.target.own_account().await?);
        migration.target.bucket(bucket, owner).await?.list(&key).await
    };
    look.await.err().filter(|error| error.kind.retry() == Retry::Never).map(|error| error.to_string())
}

/// Puts a part, over an outage of some minutes. Returns the mark of its content.
pub(crate) async fn put(bucket: &Bucket, key: &str, body: Bytes) -> Result<Option<String>> {
    let told = AtomicBool::new(false);
    let putting = || async {
        let put = bucket.put(key, body.clone()).await;
        if let Err(error) = &put
            && error.kind.retry() != Retry::Never
            && !told.swap(true, Relaxed)
        {
            tracing::warn!("S3 does not take a part, and it is tried again: {error}");
        }
        put
    };
    Ok(Backoff::patient().retry(putting).await?)
}

/// Makes the prefix hold exactly the parts of the manifest, each as it was put, and puts `manifest.json`
/// beside it.
pub(super) async fn reconcile(
    migration: &MigrationContext,
    binding: &TableBinding,
    import: &ImportRow,
    parts: &[PartRow],
) -> Result<()> {
    let Some(bucket) = bucket(migration, import).await? else { return Ok(()) };
    let place = bucket.url(&import.prefix);
    let list = async || Backoff::patient().retry(|| bucket.list(&import.prefix)).await;
    let looked = look(parts, &list().await?);
    for name in &looked.strays {
        let key = format!("{}{name}", import.prefix);
        tracing::warn!("{} is no part of this import, and is removed", bucket.url(&key));
        Backoff::patient().retry(|| bucket.remove(&key)).await?;
    }
    let again = if looked.strays.is_empty() { looked } else { look(parts, &list().await?) };
    if let Some(name) = again.missing.first() {
        let why = format!(
            "part {name} is not in {place}, or not as it was put: something else removes or changes what is \
             there. Keep it away, and read the initial load again with {BackfillAgain}"
        );
        return Err(failed(binding, why));
    }
    if let Some(name) = again.strays.first() {
        let why = format!(
            "{name} is in {place}, is no part, and came back after it was removed: something else writes \
             there. Run the same command again once it does not"
        );
        return Err(failed(binding, why));
    }
    let beside = import.prefix.strip_suffix("data/").unwrap_or(&import.prefix);
    let manifest = serde_json::to_vec_pretty(&manifest_of(parts)).unwrap_or_default();
    put(&bucket, &format!("{beside}manifest.json"), manifest.into()).await?;
    Ok(())
}

/// Differences of a listing from the manifest.
#[derive(Debug, PartialEq, Eq)]
struct Looked {
    /// Parts that are not there as they were put.
    missing: Vec<String>,
    /// Objects that are no part.
    strays: Vec<String>,
}

fn look(parts: &[PartRow], there: &[Object]) -> Looked {
    let found: HashMap<&str, &Object> = there.iter().map(|object| (object.name.as_str(), object)).collect();
    let known: HashMap<&str, &PartRow> = parts.iter().map(|part| (part.name.as_str(), part)).collect();
    let is_whole = |part: &&PartRow| {
        found.get(part.name.as_str()).is_some_and(|object| {
            let marks = object.e_tag.as_ref().zip(part.e_tag.as_ref());
            i64::try_from(object.bytes) == Ok(part.bytes) && marks.is_none_or(|(there, put)| there == put)
        })
    };
    Looked {
        missing: parts.iter().filter(|part| !is_whole(part)).map(|part| part.name.clone()).collect(),
        strays: there
            .iter()
            .filter(|object| !known.contains_key(object.name.as_str()))
            .map(|object| object.name.clone())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_there_by_its_name_its_size_and_the_mark_of_its_content() {
        let part = |name: &str, bytes, e_tag: Option<&str>| PartRow {
            name: name.to_owned(),
            items: 1,
            bytes,
            e_tag: e_tag.map(str::to_owned),
        };
        let object = |name: &str, bytes, e_tag: Option<&str>| Object {
            name: name.to_owned(),
            bytes,
            e_tag: e_tag.map(str::to_owned),
        };
        let parts = [part("a", 1, Some("x")), part("b", 2, Some("y")), part("c", 3, None)];
        let whole = [object("a", 1, Some("x")), object("b", 2, None), object("c", 3, Some("z"))];
        assert_eq!(look(&parts, &whole), Looked { missing: Vec::new(), strays: Vec::new() });
        let other = [object("a", 1, Some("other")), object("b", 1, None), object("d", 3, None)];
        let looked = look(&parts, &other);
        assert_eq!(looked.missing, ["a", "b", "c"]);
        assert_eq!(looked.strays, ["d"]);
    }
}

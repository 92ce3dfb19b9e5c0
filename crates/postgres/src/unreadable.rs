//! Marks that do not read as a key of their table. An application's role may write marks; one malformed mark
//! must not hold up the others.

use lockstep_core::{Doing, Kind, Result, Version};
use sqlx::AssertSqlSafe;

use super::binding::digest_sql;
use super::page::{KEY_BYTES_MAX, KeyDigest, Unreadable, key_bytes_sql};
use super::{Source, TableBinding};
use crate::sql;

/// Returns the marks among `page`, digests of marks with their versions, that do not read as a key of the
/// table.
///
/// By halves: 1. One mark of five hundred is malformed. 2. Were each looked at by itself, a role that marks
/// such a key a second would cost five hundred statements a second.
pub(super) async fn find(
    source: &Source,
    binding: &TableBinding,
    page: &[(Vec<u8>, i64)],
) -> Result<Vec<Unreadable>> {
    let doing = format!("looking for marks of {} that are no keys", binding.name());
    let sql = format!(
        "SELECT pg_catalog.count(s.*) FROM (
             SELECT key FROM lockstep.pending
             WHERE table_name = $1 AND {} = ANY($2) AND {} <= {KEY_BYTES_MAX} OFFSET 0) AS p
         LEFT JOIN {} AS s ON {}",
        digest_sql("key"),
        key_bytes_sql("key"),
        binding.relation.sql(),
        binding.row_of_key_sql("s", "p.key"),
    );
    let (mut found, mut parts) = (Vec::new(), vec![page]);
    while let Some(part) = parts.pop() {
        let digests: Vec<&[u8]> = part.iter().map(|(digest, _)| digest.as_slice()).collect();
        let read = sql::query(AssertSqlSafe(sql.clone())).bind(binding.name()).bind(digests);
        match read.execute(source.pool()).await.doing(&doing) {
            Ok(_) => {}
            Err(error) if error.kind != Kind::Invalid => return Err(error),
            Err(_) => match part {
                [] => {}
                [(digest, version)] => {
                    found.push(Unreadable::no_key(KeyDigest(digest.clone()), Version(*version)));
                }
                _ => {
                    let (one, other) = part.split_at(part.len() / 2);
                    parts.extend([one, other]);
                }
            },
        }
    }
    Ok(found)
}

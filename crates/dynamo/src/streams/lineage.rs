//! Shards that may be read: parents before children, or the changes of one key would come out of order.

use std::collections::HashSet;

use super::api::Shard;

/// The shards that may be read now: not finished, and whose parent is finished or no longer there.
///
/// Because: 1. A key is written, its partition splits, it is written again. 2. The first record is in the
/// parent, the second in a child. 3. Were the child read first, the first record would come last. A parent
/// that the stream has trimmed has nothing left to come.
pub fn readable<'a>(shards: &'a [Shard], finished: &HashSet<String>) -> Vec<&'a Shard> {
    let listed: HashSet<&str> = shards.iter().map(|shard| shard.id.as_str()).collect();
    let may_be_read = |shard: &&Shard| {
        let parent_over = shard
            .parent
            .as_deref()
            .is_none_or(|parent| !listed.contains(parent) || finished.contains(parent));
        parent_over && !finished.contains(&shard.id)
    };
    shards.iter().filter(may_be_read).collect()
}

/// Shards that are finished and have no child yet. A stream that is on gives every closed shard one, but may
/// list it late.
pub fn childless<'a>(shards: &'a [Shard], finished: &HashSet<String>) -> Vec<&'a Shard> {
    let parents: HashSet<&str> = shards.iter().filter_map(|shard| shard.parent.as_deref()).collect();
    shards
        .iter()
        .filter(|shard| finished.contains(&shard.id) && !parents.contains(shard.id.as_str()))
        .collect()
}

//! Parts of a table that have not come through yet, decided without I/O.

use lockstep_core::Advice::{DeadLetters, ReverseBackfill};
use lockstep_dynamo::streams::{Shard, childless};
use lockstep_postgres::FeedDrain;

/// Parts that have not come through.
#[derive(Debug)]
pub(super) struct Missing {
    /// Shards that have shown no marker of the round.
    pub(super) shards: Vec<String>,
    /// Sentences about whatever else is waited for.
    pub(super) others: Vec<String>,
    /// Sentence about records that no shard will bring: no wait ends that.
    pub(super) lost: Vec<String>,
    /// Shards that are not known to be closed.
    pub(super) open: usize,
}

/// Returns what of a table has not come through yet, given its shards, the name of the round, and how many
/// markers of it were written.
///
/// 1. A shard splits, and DynamoDB lists one of its two children. 2. Every shard that is listed has shown a
/// marker. 3. What was written to the other child is in no shard that is known of. Markers hash over all
/// shards, so each of them has to come through as well.
pub(super) fn missing(read: FeedDrain, shards: &[Shard], round: &str, written: u32) -> Missing {
    let FeedDrain { shards: read, markers, riders, again, again_why, lost_why } = read;
    let through = |shard: &&Shard| match read.get(&shard.id) {
        Some((finished, marker)) => *finished || marker.as_deref() == Some(round),
        None => false,
    };
    let open =
        shards.iter().filter(|shard| read.get(&shard.id).is_none_or(|(finished, _)| !finished)).count();
    let finished = read.iter().filter(|(_, (finished, _))| *finished).map(|(id, _)| id.clone()).collect();
    let mut others: Vec<String> = Vec::new();
    if shards.is_empty() {
        // A stream that was switched on a moment ago. By its shards, everything would have come through.
        others.push("its stream lists no shard yet".to_owned());
    }
    for shard in childless(shards, &finished) {
        others.push(format!("shard {} is closed, and what follows it is not listed yet", shard.id));
    }
    let unseen = i64::from(written) - markers;
    if unseen > 0 {
        others.push(format!(
            "{unseen} of {written} markers have not come through: a shard that took them is not listed yet, \
             or the feed that runs is behind, or of an earlier version"
        ));
    }
    if riders > 0 {
        others.push(format!("{riders} rows that a cascade or a trigger has changed in PostgreSQL alone"));
    }
    if again > 0 {
        let why = again_why.unwrap_or_default();
        others.push(format!(
            "{again} items whose rows PostgreSQL would not have ({why}); \
                {DeadLetters} lists those that stay so"
        ));
    }
    let shards = shards.iter().filter(|shard| !through(shard)).map(|shard| shard.id.clone()).collect();
    let lost = lost_why.map(|why| {
        format!("records were lost ({why}), and {ReverseBackfill} has to read the whole target first")
    });
    Missing { shards, others, lost: lost.into_iter().collect(), open }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: &str = "this one";

    fn shard(id: &str, parent: Option<&str>) -> Shard {
        Shard { id: id.to_owned(), parent: parent.map(str::to_owned) }
    }

    /// A feed that has read these shards: whether to their end, and up to a marker of which round.
    fn read(shards: &[(&str, bool, Option<&str>)]) -> FeedDrain {
        let shards = shards
            .iter()
            .map(|(id, finished, marker)| ((*id).to_owned(), (*finished, marker.map(str::to_owned))));
        FeedDrain { shards: shards.collect(), ..FeedDrain::default() }
    }

    /// The same where no marker is left to come.
    fn missing(read: FeedDrain, shards: &[Shard], round: &str) -> Missing {
        super::missing(read, shards, round, 0)
    }

    /// As DynamoDB lists the children of a shard that splits: one of two for some seconds.
    #[test]
    fn a_child_that_is_not_listed_yet_is_waited_for_by_the_markers_that_it_took() {
        let seen = |markers, of: &[(&str, bool, Option<&str>)]| FeedDrain { markers, ..read(of) };
        let (closed, first) = (("closed", true, None), ("first", false, Some(ROUND)));
        let one = [shard("closed", None), shard("first", Some("closed"))];
        let waits = super::missing(seen(9, &[closed, first]), &one, ROUND, 16);
        assert!(waits.shards.is_empty() && waits.others.len() == 1, "{waits:?}");
        assert!(waits.others[0].contains("7 of 16 markers"), "{waits:?}");
        let both = [&one[..], &[shard("second", Some("closed"))]].concat();
        let unread = super::missing(seen(9, &[closed, first]), &both, ROUND, 16);
        assert_eq!((unread.shards, unread.others.len()), (vec!["second".to_owned()], 1));
        let second = ("second", false, Some(ROUND));
        let all = super::missing(seen(16, &[closed, first, second]), &both, ROUND, 16);
        assert!(all.shards.is_empty() && all.others.is_empty(), "{all:?}");
    }

    #[test]
    fn a_shard_is_through_by_a_marker_of_the_round_or_by_its_end_with_a_child() {
        let shards = [shard("closed", None), shard("open", Some("closed"))];
        let all = missing(read(&[("closed", true, None), ("open", false, Some(ROUND))]), &shards, ROUND);
        assert!(all.shards.is_empty() && all.others.is_empty() && all.lost.is_empty(), "{all:?}");
        let before =
            missing(read(&[("closed", true, None), ("open", false, Some("before"))]), &shards, ROUND);
        assert_eq!((before.shards, before.open), (vec!["open".to_owned()], 1));
        let unread = missing(FeedDrain::default(), &shards, ROUND);
        assert_eq!((unread.shards.len(), unread.open), (2, 2));
    }

    #[test]
    fn a_stream_whose_shards_are_all_closed_or_that_lists_none_is_not_through() {
        let off = missing(read(&[("closed", true, None)]), &[shard("closed", None)], ROUND);
        assert!(off.shards.is_empty() && off.others.len() == 1, "{off:?}");
        let new = missing(FeedDrain::default(), &[], ROUND);
        assert!(new.shards.is_empty() && new.others.len() == 1, "{new:?}");
    }

    #[test]
    fn what_was_lost_is_missing_though_every_shard_is_through() {
        let lost =
            FeedDrain { lost_why: Some("it was off".to_owned()), ..read(&[("a", false, Some(ROUND))]) };
        let missing = missing(lost, &[shard("a", None)], ROUND);
        assert!(missing.shards.is_empty() && missing.others.is_empty(), "{missing:?}");
        assert!(missing.lost[0].contains("it was off"), "{missing:?}");
        assert!(missing.lost[0].contains(&ReverseBackfill.to_string()), "{missing:?}");
    }
}

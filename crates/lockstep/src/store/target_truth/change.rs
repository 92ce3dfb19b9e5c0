//! From what was read to what is put: pure.

use lockstep_core::{
    AttributeValue, Attributes, Epoch, Error, Item, Kind, Result, TTL_ATTRIBUTE, TargetKey,
    VERSION_ATTRIBUTE, Version, WRITERS_ATTRIBUTE, version_of,
};
use lockstep_dynamo::control::Place;
use lockstep_dynamo::{ConditionalPut, Expected, TargetControl};

use super::retire::nameless_tombstone;

/// Number of its last writers that an item names. A lost reply is told right unless this many came after it:
/// eight at most within the two seconds of a call is ordinary contention for one item. They take 103 bytes,
/// so one item in sixteen takes a write unit more than with three.
const WRITERS_MAX: usize = 8;

/// Number of writers that every version of Lockstep names. 1. An instance of an earlier version names three.
/// 2. Ours finds three, and that its own is not among them. 3. That is no proof: more may have written.
const WRITERS_ALWAYS: usize = 3;

/// Stands for the state before the first writer that an item names: no writer is missing between.
const FIRST: &str = "-";

/// The content of a place in the target, as far as the next write depends on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Base {
    /// `None` where nothing is.
    version: Option<Version>,
    writers: Vec<String>,
}

/// The new state of one row, and what it replaces.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) table: &'static str,
    pub(super) target_name: String,
    pub(super) id: String,
    /// Place where the row is now, if it is anywhere.
    pub(super) from: Option<(TargetKey, Base)>,
    /// Place where it is to be; `None` deletes it.
    pub(super) to: Option<(TargetKey, Item, Base)>,
    /// Place of record of the row as it was read; the outer `None` where rows of this table have none.
    pub(super) place: Option<Option<Place>>,
    /// Attributes of the item that stay as they are; see `unknown_in`.
    pub(super) kept: Attributes,
}

/// The outcome of a write, by the item that is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// The change is there, or was when later writers replaced it.
    Applied,
    /// The change is not there, but it could still arrive.
    NotYet,
    /// Another was there first, and it can arrive no more.
    Never,
    /// Too many have written since.
    Unknown,
}

impl Base {
    pub(super) fn of(item: Option<&Attributes>) -> Result<Self> {
        let Some(item) = item else { return Ok(Self::default()) };
        let message = "an item without a version: something else writes this table";
        let version =
            version_of(item).ok_or_else(|| Error::target(Kind::Invalid, "reading an item", message))?;
        let writers = item.get(WRITERS_ATTRIBUTE).and_then(|value| value.as_s().ok());
        Ok(Self {
            version: Some(version),
            writers: writers.into_iter().flat_map(|w| w.split(' ')).map(str::to_owned).collect(),
        })
    }

    fn expected(&self) -> Expected {
        let writers = Some(self.writers.join(" ")).filter(|writers| !writers.is_empty());
        self.version.map_or(Expected::Absent, |version| Expected::At(version, writers))
    }

    fn next(&self, epoch: Epoch) -> Result<Version> {
        let present = self.version.unwrap_or(Version::INITIAL_LOAD);
        if present.epoch() > epoch {
            // The writer of this version knows of a phase that this instance does not.
            return Err(Error::target(
                Kind::Fenced,
                "writing",
                "the row was written in a later epoch; this instance is behind",
            ));
        }
        Ok(Version(present.0.max(epoch.floor()) + 1))
    }

    fn named(&self, item: Item, epoch: Epoch, writer: &str) -> Result<Attributes> {
        // Under the token of its transaction the same is sent again, so it is made here and not with each
        // sending.
        let mut attributes = item.staying(chrono::Utc::now().timestamp()).into_attributes();
        let version = self.next(epoch)?;
        attributes.insert(VERSION_ATTRIBUTE.to_owned(), AttributeValue::N(version.0.to_string()));
        let earlier = match self.writers.is_empty() {
            true => vec![FIRST],
            false => self.writers.iter().map(String::as_str).take(WRITERS_MAX - 1).collect(),
        };
        let writers = std::iter::once(writer).chain(earlier).collect::<Vec<_>>().join(" ");
        attributes.insert(WRITERS_ATTRIBUTE.to_owned(), AttributeValue::S(writers));
        Ok(attributes)
    }

    /// The outcome of the write of `writer` over this, in `epoch`, now that its place is `now`.
    ///
    /// Writers name each other within one DynamoOnly alone. 1. A put is applied, and its machine sleeps
    /// before the answer. 2. The truth goes back, and an item of PostgreSQL's phases, which names no writer,
    /// is put over it. 3. The machine wakes. "It is not named, so it never was" has a function that adds
    /// one called again.
    ///
    /// Where what was put may have expired by now (`may_be_gone`), only an item that names the writer before
    /// it is still the same one. 1. A put is applied over nothing, and its machine sleeps. 2. DynamoDB
    /// removes the item, which has expired. 3. Another puts the row again: its item names that one, and that
    /// none was before it.
    ///
    /// Versions of an item only go up, so a version between what was replaced and what was put says that the
    /// put never was, and never will be, whatever writers are named. 1. The counter of ids is set back,
    /// and an insert, which reads nothing, has the id of a tombstone of PostgreSQL's. 2. It is refused, and
    /// told as unknown: the caller cannot look for a row whose id it was never told.
    pub(super) fn trace(&self, writer: &str, epoch: Epoch, now: &Self, may_be_gone: bool) -> Trace {
        let last = self.writers.first().map_or(FIRST, String::as_str);
        let is_named = now.writers.iter().any(|named| named == last);
        let is_first = match may_be_gone {
            true => is_named && last != FIRST,
            false => is_named || now.writers.len() < WRITERS_ALWAYS,
        };
        if now.writers.iter().any(|w| w == writer) {
            Trace::Applied
        } else if now.version == self.version {
            Trace::NotYet
        } else if !may_be_gone && now.version > self.version && now.version < self.next(epoch).ok() {
            Trace::Never
        } else if now.version.map(Version::epoch) != Some(epoch) {
            Trace::Unknown
        } else if is_first {
            // Every writer since is named, and this one is not among them.
            Trace::Never
        } else {
            Trace::Unknown
        }
    }
}

impl Change {
    /// Says whether there is a row afterwards.
    pub(super) fn has_row(&self) -> bool {
        self.to.is_some()
    }

    /// The place of the row that it replaces.
    pub(super) fn was_at(&self) -> Option<&TargetKey> {
        self.from.as_ref().map(|(key, _)| key)
    }

    /// Says whether it leaves a tombstone at the place that the row had.
    pub(super) fn leaves_a_tombstone(&self) -> bool {
        self.from.is_some() && !self.stays()
    }

    /// Says whether the row stays at its place.
    fn stays(&self) -> bool {
        matches!((&self.from, &self.to), (Some((from, _)), Some((to, ..))) if from == to)
    }

    /// The puts of this change, the one to look for after a lost reply first. None for a row that is not
    /// there and stays so. A tombstone among them goes at `goes_at_s`, or stays.
    pub(super) fn puts(
        &self,
        epoch: Epoch,
        writer: &str,
        control: &TargetControl,
        goes_at_s: Option<i64>,
    ) -> Result<Vec<ConditionalPut>> {
        let mut puts = Vec::with_capacity(3);
        let mut push = |item, base: &Base, kept: &Attributes| -> Result<()> {
            let mut item = base.named(item, epoch, writer)?;
            item.extend(kept.iter().map(|(name, value)| (name.clone(), value.clone())));
            puts.push(ConditionalPut { table: self.target_name.clone(), item, expected: base.expected() });
            Ok(())
        };
        if let Some((_, item, base)) = &self.to {
            push(item.clone(), base, &self.kept)?;
        }
        let stays = self.stays();
        if let Some((from, base)) = self.from.as_ref().filter(|_| !stays) {
            push(nameless_tombstone(from.clone(), goes_at_s), base, &Attributes::new())?;
        }
        if let (Some(place), Some((to, item, _)), false) = (&self.place, &self.to, stays) {
            let expires_at_s = match item.get(TTL_ATTRIBUTE) {
                Some(AttributeValue::N(at_s)) => at_s.parse().ok(),
                _ => None,
            };
            puts.push(control.put_place(self.table, &self.id, (to, expires_at_s), place.as_ref(), writer));
        }
        Ok(puts)
    }

    /// Says whether both were made from the same state of the row.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        self.from == other.from && self.place == other.place
    }

    /// The state that the first put of this change replaces.
    pub(super) fn base(&self) -> Option<&Base> {
        self.to.as_ref().map(|(_, _, base)| base).or(self.from.as_ref().map(|(_, base)| base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(version: i64, writers: &[&str]) -> Base {
        Base { version: Some(Version(version)), writers: writers.iter().map(|w| (*w).to_owned()).collect() }
    }

    #[test]
    fn a_version_continues_above_the_epoch_and_above_what_is_there() {
        let epoch = Epoch(3);
        assert_eq!(Base::default().next(epoch).expect("a version"), Version(epoch.floor() + 1));
        assert_eq!(base(0, &[]).next(epoch).expect("a version"), Version(epoch.floor() + 1));
        assert_eq!(base(epoch.floor() + 7, &[]).next(epoch).expect("a version"), Version(epoch.floor() + 8));
        let later = base(Epoch(4).floor() + 1, &[]).next(epoch).expect_err("a later epoch");
        assert_eq!(later.kind, Kind::Fenced);
    }

    const EPOCH: Epoch = Epoch(0);

    #[test]
    fn a_lost_reply_is_told_by_who_has_written_since() {
        let from_source = base(10, &[]);
        assert_eq!(from_source.trace("me", EPOCH, &base(10, &[]), false), Trace::NotYet);
        assert_eq!(from_source.trace("me", EPOCH, &base(11, &["me"]), false), Trace::Applied);
        assert_eq!(from_source.trace("me", EPOCH, &base(12, &["b", "me"]), false), Trace::Applied);
        assert_eq!(from_source.trace("me", EPOCH, &base(12, &["b", "a"]), false), Trace::Never);
        assert_eq!(from_source.trace("me", EPOCH, &base(14, &["d", "c", "b"]), false), Trace::Unknown);
        let known = base(10, &["z", "y", "x"]);
        assert_eq!(known.trace("me", EPOCH, &base(12, &["b", "a", "z"]), false), Trace::Never);
        assert_eq!(known.trace("me", EPOCH, &base(13, &["c", "b", "a"]), false), Trace::Unknown);
        assert_eq!(
            from_source.trace("me", EPOCH, &base(14, &["d", "c", "b", "a", FIRST]), false),
            Trace::Never
        );
        assert_eq!(
            from_source.trace("me", EPOCH, &base(14, &["d", "c", "b", "me", FIRST]), false),
            Trace::Applied
        );
        assert_eq!(Base::default().trace("me", EPOCH, &Base::default(), false), Trace::NotYet);
        // It may have expired, and been put again by those that are named.
        assert_eq!(Base::default().trace("me", EPOCH, &base(1, &["x", FIRST]), true), Trace::Unknown);
        assert_eq!(from_source.trace("me", EPOCH, &base(12, &["b", "a"]), true), Trace::Unknown);
        assert_eq!(known.trace("me", EPOCH, &base(12, &["b", "a", "z"]), true), Trace::Never);
        assert_eq!(known.trace("me", EPOCH, &base(12, &["b", "me", "z"]), true), Trace::Applied);
        // Of a later phase, of PostgreSQL's, or gone: it says nothing of who wrote before.
        let later = |counted| base(Epoch(2).floor() + counted, &["b", FIRST]);
        assert_eq!(from_source.trace("me", EPOCH, &later(1), false), Trace::Unknown);
        assert_eq!(from_source.trace("me", EPOCH, &base(Epoch(1).floor() + 1, &[]), false), Trace::Unknown);
        assert_eq!(from_source.trace("me", EPOCH, &Base::default(), false), Trace::Unknown);
    }

    /// Names say nothing then, where there are any.
    #[test]
    fn what_is_below_the_version_that_was_put_was_there_before_and_stays() {
        let epoch = Epoch(3);
        let source = |counted| Epoch(2).floor() + counted;
        let sent = epoch.floor() + 1;
        for there in [base(1, &[]), base(source(5), &[]), base(source(5), &["c", "b", "a"])] {
            assert_eq!(Base::default().trace("me", epoch, &there, false), Trace::Never, "{there:?}");
            assert_eq!(Base::default().trace("me", epoch, &there, true), Trace::Unknown, "{there:?}");
        }
        // Over an older state of PostgreSQL's, a newer one; and one that it has gone back to.
        let over = base(source(5), &[]);
        assert_eq!(over.trace("me", epoch, &base(source(6), &[]), false), Trace::Never);
        assert_eq!(over.trace("me", epoch, &base(source(4), &[]), false), Trace::Unknown);
        // The version that was put, or a later one, may be a writer's after it.
        let later = base(Epoch(4).floor() + 1, &[]);
        assert_eq!(Base::default().trace("me", epoch, &later, false), Trace::Unknown);
        assert_eq!(Base::default().trace("me", epoch, &base(sent, &["d", "c", "b"]), false), Trace::Unknown);
        assert_eq!(Base::default().trace("me", epoch, &base(sent, &["b", FIRST]), false), Trace::Never);
    }

    /// Names as the writers of an item leave them, one after the other, of this version and an earlier one,
    /// which names three: a writer that was there is never told that another was first.
    #[test]
    fn no_writer_is_told_that_it_never_wrote_however_many_came_after_it() {
        let named_by = |earlier: bool, there: &Base, writer: &str| {
            let named = there.named(Item::with_capacity(2), Epoch(1), writer).expect("a version");
            let mut next = Base::of(Some(&named)).expect("a version");
            next.writers.truncate(if earlier { WRITERS_ALWAYS } else { WRITERS_MAX });
            next
        };
        for (first, earlier) in [(base(10, &[]), false), (base(10, &[]), true), (base(10, &["z"]), true)] {
            let mut now = named_by(earlier, &first, "me");
            let mut told = vec![first.trace("me", Epoch(1), &now, false)];
            for n in 1..12 {
                now = named_by(earlier && n % 2 == 0, &now, &format!("w{n}"));
                told.push(first.trace("me", Epoch(1), &now, false));
            }
            assert!(!told.contains(&Trace::Never), "{told:?}");
            assert_eq!(told.last(), Some(&Trace::Unknown));
            let told_right = told.iter().filter(|told| **told == Trace::Applied).count();
            assert!(told_right == WRITERS_MAX || earlier && told_right >= WRITERS_ALWAYS - 1, "{told:?}");
        }
        // Of one that never arrived it is said for as long as it can be known.
        let (first, mut now) = (base(10, &[]), base(10, &[]));
        for n in 1..WRITERS_MAX {
            now = named_by(false, &now, &format!("w{n}"));
            assert_eq!(first.trace("me", Epoch(1), &now, false), Trace::Never, "{n}");
        }
    }
}

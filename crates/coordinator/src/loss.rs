//! Statements of the stores about each other, and what is lost by that. Pure.

mod signs;
mod words;

pub use signs::{Continuity, Found, Loss, TableContinuity};

use lockstep_postgres::SourceContinuity;

/// Returns everything that shows a loss; empty when both stores fit each other. A table that could not be
/// asked shows nothing.
pub fn losses(source: &SourceContinuity, tables: &[TableContinuity]) -> Vec<Loss> {
    let mut losses = Vec::new();
    if let (Some(was), Some(is)) = (&source.known_server, &source.server)
        && was != is
    {
        losses.push(Loss::SourceServer { was: was.clone(), is: is.clone() });
    }
    if source.version < source.known_version {
        losses.push(Loss::SourceVersion {
            table: None,
            seen: source.known_version,
            now: source.version,
            at: None,
        });
    }
    losses.extend(source.contradicted.iter().map(Loss::of_change));
    for table in tables {
        losses.extend(of_table(source, table));
    }
    losses
}

fn of_table(source: &SourceContinuity, table: &TableContinuity) -> Option<Loss> {
    let (name, target_name) = (table.name.clone(), table.target_name.clone());
    let (id, mark) = match &table.found {
        Found::Unknown(_) => return None,
        Found::Gone => return Some(Loss::TargetGone { table: name, target_name }),
        Found::There { id, mark } => (id, mark),
    };
    let as_of = mark.as_ref().map(|mark| mark.at);
    if let (Some(known), Some(id)) = (&table.known_id, id)
        && known != id
    {
        return Some(Loss::TargetReplaced { table: name, target_name, as_of });
    }
    let number = mark.as_ref().map(|mark| mark.number);
    if number.unwrap_or(0) < table.known.marked {
        return Some(Loss::TargetMark {
            table: name,
            target_name,
            known: table.known.marked,
            found: number,
            as_of,
        });
    }
    let mark = mark.as_ref()?;
    if mark.version > source.version {
        return Some(Loss::SourceVersion {
            table: Some(name),
            seen: mark.version,
            now: source.version,
            at: as_of,
        });
    }
    // Set back to before a mark, with nothing changed between: no version is handed out twice, but what it
    // knows of itself is gone.
    (mark.number > table.known.marking).then_some(Loss::SourceMark {
        table: name,
        found: mark.number,
        known: table.known.marking,
        at: mark.at,
    })
}

impl Continuity {
    /// Returns what is lost by that.
    pub fn losses(&self) -> Vec<Loss> {
        self.source.as_ref().map(|source| losses(source, &self.tables)).unwrap_or_default()
    }

    /// Returns the tables whose targets lost something, each with how that shows.
    pub(crate) fn lost_in_target(&self) -> Vec<(String, String)> {
        let of_target = |loss: &Loss| match loss {
            Loss::TargetGone { table, .. }
            | Loss::TargetReplaced { table, .. }
            | Loss::TargetMark { table, .. } => Some((table.clone(), loss.to_string())),
            _ => None,
        };
        self.losses().iter().filter_map(of_target).collect()
    }

    /// Returns the target tables that could not be asked, each with why: of these a loss may be unknown.
    pub fn untold(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tables.iter().filter_map(|table| match &table.found {
            Found::Unknown(why) => Some((table.target_name.as_str(), why.as_str())),
            Found::Gone | Found::There { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use lockstep_core::Version;
    use lockstep_dynamo::ContinuityMark;
    use lockstep_postgres::KnownMarks;

    use super::*;

    fn mark(number: i64, version: i64) -> ContinuityMark {
        ContinuityMark { number, version: Version(version), server: None, at: DateTime::UNIX_EPOCH }
    }

    fn source(known: i64, now: i64) -> SourceContinuity {
        let server = Some("7/1".to_owned());
        SourceContinuity {
            known_server: server.clone(),
            server,
            known_version: Version(known),
            version: Version(now),
            contradicted: Vec::new(),
        }
    }

    fn table(marking: i64, marked: i64, found: Found) -> TableContinuity {
        let known_id = Some("id".to_owned());
        let known = KnownMarks { marking, marked };
        TableContinuity { name: "t".to_owned(), target_name: "t".to_owned(), known, known_id, found }
    }

    fn there(mark: Option<ContinuityMark>) -> Found {
        Found::There { id: Some("id".to_owned()), mark }
    }

    #[track_caller]
    fn check(source: &SourceContinuity, of_table: TableContinuity, says: &[&str]) {
        let found: Vec<String> = losses(source, &[of_table]).iter().map(Loss::to_string).collect();
        assert_eq!(found.len(), says.len(), "{found:?}");
        for (found, says) in found.iter().zip(says) {
            assert!(found.contains(says), "{found} for {says}");
        }
    }

    #[test]
    fn stores_that_fit_each_other_have_lost_nothing() {
        check(&source(90, 100), table(3, 3, there(Some(mark(3, 90)))), &[]);
        check(&source(0, 100), table(0, 0, there(None)), &[]);
    }

    #[test]
    fn a_crash_within_a_mark_is_no_loss() {
        check(&source(90, 100), table(4, 3, there(Some(mark(3, 90)))), &[]);
        check(&source(90, 100), table(4, 3, there(Some(mark(4, 95)))), &[]);
        check(&source(90, 100), table(1, 0, there(None)), &[]);
    }

    #[test]
    fn a_source_that_was_set_back_shows_by_versions_by_marks_or_by_its_timeline() {
        check(&source(80, 99), table(3, 3, there(Some(mark(3, 100)))), &["had seen version 100"]);
        check(&source(100, 99), table(0, 0, there(None)), &["it had seen version 100"]);
        check(&source(100, 100), table(3, 3, there(Some(mark(4, 100)))), &["carries mark 4"]);
        let promoted = SourceContinuity { server: Some("7/2".to_owned()), ..source(90, 100) };
        check(&promoted, table(3, 3, there(Some(mark(3, 90)))), &["7/1 and is on 7/2"]);
    }

    /// V30: Aurora tells nothing, or tells once logical replication is switched on, or no more once it is
    /// off.
    #[test]
    fn a_source_that_ceases_to_tell_its_timeline_has_lost_nothing_and_one_that_tells_another_has() {
        let (first, second) = (Some("7/1".to_owned()), Some("7/2".to_owned()));
        for (known_server, server, says) in [
            (None, None, &[][..]),
            (None, first.clone(), &[]),
            (first.clone(), None, &[]),
            (first, second, &["7/1 and is on 7/2"]),
        ] {
            let source = SourceContinuity { known_server, server, ..source(90, 100) };
            check(&source, table(3, 3, there(Some(mark(3, 90)))), says);
        }
    }

    #[test]
    fn a_target_that_was_set_back_shows_by_its_id_or_by_its_mark() {
        check(&source(90, 100), table(3, 3, Found::Gone), &["is gone"]);
        let another = |mark| Found::There { id: Some("other".to_owned()), mark };
        check(&source(90, 100), table(3, 3, another(Some(mark(2, 80)))), &["restored, as of about"]);
        check(&source(90, 100), table(3, 3, another(None)), &["created again"]);
        check(&source(90, 100), table(3, 3, there(Some(mark(2, 80)))), &["it has 2"]);
        check(&source(90, 100), table(3, 3, there(None)), &["it has none"]);
        // The target could not be asked.
        check(&source(90, 100), table(3, 3, Found::Unknown("away".to_owned())), &[]);
    }
}

//! Fifty tables of which a gate says the same are one sentence, which names the first of them and says how
//! many more there are. The output for programs has each.

use crate::gate::{GateReport, GateResult};

/// Number of results from which on those that say the same are told as one.
const ALIKE_MIN: usize = 3;
/// Names that are told.
const NAMES_MAX: usize = 3;

/// Results of one gate that say the same, up to the table's name and numbers.
#[derive(Clone, Debug)]
pub struct Alike<'a> {
    /// The first of them.
    pub first: &'a GateResult,
    /// The tables of all of them.
    pub tables: Vec<&'a str>,
    /// Whether all of them say it word by word.
    exactly: bool,
}

impl Alike<'_> {
    /// Joins the tables before the first one's sentence.
    pub fn sentence(&self, between: &str) -> String {
        let tables = match self.tables.as_slice() {
            [] => String::new(),
            tables => format!("{}: ", first_of(tables, NAMES_MAX)),
        };
        let others = if self.exactly { "" } else { "; the others say the like" };
        format!("{tables}{}{between}{}{others}", self.first.name, self.first.detail)
    }
}

/// Returns the results in their order, those that say the same of several tables as one.
pub fn alike(results: &[GateResult]) -> Vec<Alike<'_>> {
    let said = |(_, result): &(usize, &GateResult)| result.table.as_ref().map(|_| pattern(result));
    let mut told = Vec::new();
    for same in grouped(results.iter().enumerate(), said) {
        // Two tables stay in the order in which they were asked.
        let at_once = if same.len() < ALIKE_MIN { 1 } else { same.len() };
        for same in same.chunks(at_once) {
            let (at, first) = same[0];
            let tables = same.iter().filter_map(|(_, one)| one.table.as_deref()).collect();
            let exactly = same.iter().all(|(_, one)| one.detail == first.detail);
            told.push((at, Alike { first, tables, exactly }));
        }
    }
    told.sort_by_key(|(at, _)| *at);
    told.into_iter().map(|(_, alike)| alike).collect()
}

/// Returns those of which the same is said, together, in the order of the first of each; one of which `None`
/// is said stands alone.
pub fn grouped<T, S: PartialEq>(
    all: impl IntoIterator<Item = T>,
    said: impl Fn(&T) -> Option<S>,
) -> Vec<Vec<T>> {
    let mut groups: Vec<(Option<S>, Vec<T>)> = Vec::new();
    for one in all {
        let what = said(&one);
        match groups.iter_mut().find(|(known, _)| what.is_some() && *known == what) {
            Some((_, same)) => same.push(one),
            None => groups.push((what, vec![one])),
        }
    }
    groups.into_iter().map(|(_, same)| same).collect()
}

impl GateReport {
    /// Returns the refusals, as one sentence.
    pub fn refusals(&self) -> String {
        let refused: Vec<GateResult> = self.results.iter().filter(|gate| !gate.passed).cloned().collect();
        let sentences = alike(&refused).into_iter().map(|refusal| {
            let next = refusal.first.next.as_ref().map(|next| format!(" → {next}")).unwrap_or_default();
            format!("{}{next}", refusal.sentence(": "))
        });
        sentences.collect::<Vec<_>>().join("; ")
    }
}

/// Returns the first names, and how many more there are.
pub fn first_of<T: AsRef<str>>(names: &[T], most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns the part that two results have in common which say the same of different tables.
fn pattern(result: &GateResult) -> String {
    let table = result.table.as_deref().unwrap_or_default();
    let mut pattern = format!("{}\n{}\n", result.name, result.passed);
    for text in [Some(&result.detail), result.next.as_ref()].into_iter().flatten() {
        let unnamed = if table.is_empty() { text.clone() } else { text.replace(table, "\0") };
        let mut was_digit = false;
        for c in unnamed.chars() {
            let is_digit = c.is_ascii_digit();
            if !(is_digit && was_digit) {
                pattern.push(if is_digit { '0' } else { c });
            }
            was_digit = is_digit;
        }
        pattern.push('\n');
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifty() -> Vec<GateResult> {
        let of = |n: usize| {
            let name = format!("table_{n:02}");
            let wrong = n == 7;
            [
                GateResult::pass("source table", format!("shop.{name} has {} columns", 3 + n)).of(&name),
                GateResult::check("capture is on", !wrong, if wrong { "off" } else { "On" }, "run `doctor`")
                    .of(&name),
                GateResult::fail("backfill", "never started", "run `backfill`").of(&name),
            ]
        };
        let mut gates = vec![GateResult::pass("streams", "they answer")];
        gates.extend((1..=50).flat_map(of));
        gates
    }

    #[test]
    fn what_is_said_of_fifty_tables_is_one_sentence_and_what_is_said_of_one_another() {
        let gates = fifty();
        let told: Vec<String> = alike(&gates).iter().map(|alike| alike.sentence(" — ")).collect();
        assert_eq!(
            told,
            [
                "streams — they answer",
                "table_01, table_02, table_03 and 47 more: source table — shop.table_01 has 4 columns; the \
                 others say the like",
                "table_01, table_02, table_03 and 46 more: capture is on — On",
                "table_01, table_02, table_03 and 47 more: backfill — never started",
                "table_07: capture is on — off",
            ]
        );
        let refusals = GateReport { results: gates }.refusals();
        assert_eq!(
            refusals,
            "table_01, table_02, table_03 and 47 more: backfill: never started → run `backfill`; \
             table_07: capture is on: off → run `doctor`"
        );
    }

    #[test]
    fn two_tables_are_told_one_by_one_in_the_order_in_which_they_were_asked() {
        let gates = fifty();
        let two: Vec<GateResult> = gates[1..7].to_vec();
        let told: Vec<&str> =
            alike(&two).iter().map(|alike| alike.first.table.as_deref().expect("a table")).collect();
        assert_eq!(told, ["table_01", "table_01", "table_01", "table_02", "table_02", "table_02"]);
    }
}

//! Whether a source table can be moved whole: every row is seen, and every write of one passes the triggers
//! (I15).
//!
//! Asked before anything is installed and again before each step forward. Between, the fingerprint of the
//! table tells backfill, relay, comparisons and the flip itself; see `shape` in the source.

use lockstep_core::Advice::ConfigurationFile;
use lockstep_postgres::{Shape, SourceTable, TableBinding, hides};

use crate::error::Result;
use crate::gate::GateResult;
use crate::options::MigrationContext;

/// Returns the gates of one table.
pub(super) async fn gates(
    migration: &MigrationContext,
    binding: &TableBinding,
    table: &SourceTable,
) -> Result<Vec<GateResult>> {
    let hidden = hides(&table.fingerprint);
    let mut gates: Vec<GateResult> = hidden.iter().map(|way| seen_by(way)).collect();
    let security = migration.source.row_security(binding).await?;
    if hidden.is_empty() {
        let policies = match &security.policies[..] {
            [] => "every row".to_owned(),
            some => format!(
                "every row; policy {} does not apply to role {}, and DynamoDB knows no policies: a role that may read the target table \
                 reads all of it",
                some.join(", "),
                security.role
            ),
        };
        gates.push(GateResult::pass(SEEN, policies).tells_if(!security.policies.is_empty()));
    }
    // Declared tables move every digit that DynamoDB holds.
    if binding.table.has_store() {
        gates.extend(long_numbers(&table.columns));
    }
    if security.replication_role != "origin" {
        gates.push(GateResult::fail(
            "triggers of the application fire",
            format!(
                "the sessions of role {} have session_replication_role = {}",
                security.role, security.replication_role
            ),
            "ALTER ROLE … RESET session_replication_role, in this database too (see \\drds in psql)",
        ));
    }
    Ok(gates)
}

/// Digits of a decimal of a table in Rust, by its type there.
const DIGITS_MAX: u32 = 28;

/// Columns whose type takes numbers of more digits than a table in Rust moves: told at the start, and not
/// first by the row that has one.
fn long_numbers(columns: &[(String, String, bool)]) -> Option<GateResult> {
    let digits = |sql_type: &str| -> Option<u32> {
        sql_type.strip_prefix("numeric(")?.split([',', ')']).next()?.parse().ok()
    };
    let long: Vec<String> = columns
        .iter()
        .filter(|(_, sql_type, _)| digits(sql_type).is_some_and(|digits| digits > DIGITS_MAX))
        .map(|(name, sql_type, _)| format!("{name} is {sql_type}"))
        .collect();
    let detail = format!(
        "{}: a number of more than {DIGITS_MAX} digits is set aside as a dead \
            letter; declared in `{ConfigurationFile}` and not in Rust, the table moves \
            38",
        long.join(", ")
    );
    (!long.is_empty()).then(|| GateResult::pass("digits of numbers", detail).tells_if(true))
}

const SEEN: &str = "all rows are seen and captured";

fn seen_by(way: &str) -> GateResult {
    let (kind, sentence) = way.split_once(": ").unwrap_or(("", way));
    let next = match kind {
        "row security" => {
            "use a role with BYPASSRLS, or the owner of a table without FORCE ROW LEVEL SECURITY"
        }
        "inheritance" => "ALTER TABLE … NO INHERIT …, or move the rows into one table first",
        "partition" | "kind" => {
            "name the table of which it is a partition, or move the rows into an ordinary table first: views, foreign and UNLOGGED \
             relations and partitions by themselves cannot be moved"
        }
        "persistence" => "ALTER TABLE … SET LOGGED",
        "key" => {
            "leave one row of each key, and CREATE UNIQUE INDEX (not partial) over columns that are NOT NULL"
        }
        "rule" => "drop the rule, or turn it into a trigger",
        _ => "make it an ordinary table whose rows this role sees",
    };
    GateResult::fail(SEEN, sentence, next)
}

/// Checks whether a table is still the one that was captured.
pub(super) fn is_captured(captured: &str, now: &str) -> GateResult {
    let shape = Shape::of(captured, now);
    // Policies and rules that hide rows have a gate of their own in the preflight, and none on the way back.
    let detail = shape.wrong().unwrap_or_else(|| "unchanged".to_owned());
    // A partition that is new is captured, and taken in by whatever reads the table next.
    let is_captured = matches!(shape, Shape::Same | Shape::Grown(_));
    GateResult::check("source schema is the captured one", is_captured, detail, shape.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_more_digits_than_a_table_in_rust_moves_are_told_at_the_start() {
        let column = |name: &str, sql_type: &str| (name.to_owned(), sql_type.to_owned(), false);
        let gate = long_numbers(&[
            column("amount", "numeric(18,2)"),
            column("wei", "numeric(38,0)"),
            column("rate", "numeric(29)"),
            column("most", "numeric(28,4)"),
            column("any", "numeric"),
        ]);
        let gate = gate.expect("two are longer");
        assert!(
            gate.passed && gate.detail.starts_with("wei is numeric(38,0), rate is numeric(29): "),
            "{gate:?}"
        );
        assert!(long_numbers(&[column("amount", "numeric(28,2)")]).is_none());
    }
}

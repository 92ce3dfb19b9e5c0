//! The verdict, and the one function that decides it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::counts;
use crate::options::ValidateOptions;
use crate::table_report::TableReport;

/// Verdict of a validation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub enum Verdict {
    /// Both stores hold the same.
    Consistent,
    /// The stores differ, or something waits for delivery or acknowledgement.
    Inconsistent {
        /// Reasons, one sentence each; what was not compared is among them.
        reasons: Vec<String>,
    },
    /// Nothing was found, but not everything was compared.
    Incomplete {
        /// Parts that were not compared and why, one sentence each.
        reasons: Vec<String>,
    },
}

impl Verdict {
    /// Tells whether both stores hold the same.
    pub fn is_consistent(&self) -> bool {
        *self == Self::Consistent
    }

    /// `consistent`, `inconsistent` or `incomplete`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Consistent => "consistent",
            Self::Inconsistent { .. } => "inconsistent",
            Self::Incomplete { .. } => "incomplete",
        }
    }

    /// Returns the reasons why it is not consistent; empty when it is.
    pub fn reasons(&self) -> &[String] {
        match self {
            Self::Consistent => &[],
            Self::Inconsistent { reasons } | Self::Incomplete { reasons } => reasons,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Decides. The single place where a report turns into a verdict (R29).
///
/// `obstacles` are what kept the validation as a whole from being one, for example that the phase changed
/// under it.
///
/// Consistent means: every table was compared to the end, and nothing is missing, different, extra,
/// undecodable or unsettled, no dead letter waits for acknowledgement, and nothing is pending. The last has
/// one exception. While writers go on and a relay delivers (`wait_for_pending`, not `quiescent`), keys are
/// always pending; each of them changed after it was compared, or was waited for, and is known (I1), so their
/// number at the end is a measure of lag and not of drift.
pub fn decide(tables: &[TableReport], options: &ValidateOptions, obstacles: &[String]) -> Verdict {
    let mut wrong = Vec::new();
    let mut open = obstacles.to_vec();
    if tables.is_empty() {
        open.push("no table was compared".to_owned());
    }
    for table in tables {
        let of_table =
            |list: &mut Vec<String>, reason: String| list.push(format!("{}: {reason}", table.name));
        for (count, what) in [
            (table.missing, "missing in the target"),
            (table.different, "different in the target"),
            (table.extra, "in the target only"),
            (table.undecodable, "undecodable or not written by Lockstep"),
        ] {
            if count > 0 {
                of_table(&mut wrong, format!("{} {what}", keys(count)));
            }
        }
        let lag_is_normal = options.wait_for_pending && !options.quiescent;
        if table.pending > 0 && !lag_is_normal {
            of_table(&mut wrong, format!("{} waiting for delivery", keys(table.pending)));
        }
        if table.dead_letters_unacknowledged > 0 {
            let count = table.dead_letters_unacknowledged;
            of_table(
                &mut wrong,
                format!("{} unacknowledged dead {}", count, if count == 1 { "letter" } else { "letters" }),
            );
        }
        if let Some(disagreement) = counts::disagreement(table, options) {
            of_table(&mut wrong, disagreement);
        }
        if table.unsettled > 0 {
            let reason =
                format!("{} still on the way when the settle time-out was over", keys(table.unsettled));
            of_table(&mut open, reason);
        }
        if let Some(quality) = &table.quality {
            for sum in quality.sums.iter().filter(|sum| quality.at_rest && !sum.agrees()) {
                of_table(
                    &mut wrong,
                    format!("the sums of `{}` differ, in {} groups", sum.name, sum.groups_differing),
                );
            }
            quality.failures.iter().for_each(|failure| of_table(&mut open, failure.clone()));
        }
        let unaccounted = counts::unaccounted(table, options);
        if unaccounted > 0 {
            of_table(
                &mut open,
                format!("{unaccounted} of {} counted rows were not compared", table.source_count),
            );
        }
        match &table.failure {
            Some(failure) => of_table(&mut open, failure.clone()),
            None if !table.complete => of_table(&mut open, "it was not compared to the end".to_owned()),
            None => {}
        }
    }
    if wrong.is_empty() && open.is_empty() {
        Verdict::Consistent
    } else if wrong.is_empty() {
        Verdict::Incomplete { reasons: open }
    } else {
        // A finding stays true whatever else was not looked at.
        wrong.append(&mut open);
        Verdict::Inconsistent { reasons: wrong }
    }
}

fn keys(count: u64) -> String {
    if count == 1 { "1 key is".to_owned() } else { format!("{count} keys are") }
}

/// The form of a verdict in JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    verdict: String,
    #[serde(default)]
    reasons: Vec<String>,
}

impl From<Verdict> for Written {
    fn from(verdict: Verdict) -> Self {
        Self { verdict: verdict.label().to_owned(), reasons: verdict.reasons().to_vec() }
    }
}

impl TryFrom<Written> for Verdict {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { verdict, reasons } = written;
        match verdict.as_str() {
            "consistent" => Ok(Self::Consistent),
            "inconsistent" => Ok(Self::Inconsistent { reasons }),
            "incomplete" => Ok(Self::Incomplete { reasons }),
            other => Err(format!("unknown verdict `{other}`")),
        }
    }
}

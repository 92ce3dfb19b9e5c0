//! Sentences about what is lost.

use std::fmt;

use chrono::{DateTime, Utc};

use super::Loss;

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = |at: &Option<DateTime<Utc>>| {
            at.map_or_else(String::new, |at| format!(" at {}", at.format("%Y-%m-%d %H:%M:%S UTC")))
        };
        match self {
            Self::SourceServer { was, is } => write!(
                f,
                "PostgreSQL was on system/timeline {was} and is on {is}: it was restored or failed over, \
                 or moved, and what was committed last may be missing; or this is a copy"
            ),
            Self::SourceVersion { table, seen, now, at } => {
                let who =
                    table.as_ref().map_or_else(|| "it".to_owned(), |table| format!("{table} in DynamoDB"));
                write!(
                    f,
                    "PostgreSQL was set back: {who} had seen version {seen}{}, and PostgreSQL is at {now} now",
                    when(at)
                )
            }
            Self::SourceMark { table, found, known, at } => write!(
                f,
                "PostgreSQL was set back: {table} in DynamoDB carries mark {found}, made{}, and PostgreSQL knows only of {known}",
                when(&Some(*at))
            ),
            Self::SourceContradicted { table, key, version, seen } => write!(
                f,
                "PostgreSQL was set back, or another program writes to DynamoDB: the change of {table} {key} \
                 at version {version} is refused there by version {seen}, which PostgreSQL has not delivered \
                 for that key. The change stays pending"
            ),
            Self::TargetGone { target_name, .. } => {
                write!(f, "DynamoDB table {target_name} is gone, with all that was written to it")
            }
            Self::TargetReplaced { target_name, as_of: Some(at), .. } => {
                write!(
                    f,
                    "DynamoDB table {target_name} is another table than the one in use: it was restored, as of about{}",
                    when(&Some(*at))
                )
            }
            Self::TargetReplaced { target_name, as_of: None, .. } => {
                write!(
                    f,
                    "DynamoDB table {target_name} is another table than the one in use: it was created again under the same name"
                )
            }
            Self::TargetMark { target_name, known, found, as_of, .. } => {
                let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
                write!(
                    f,
                    "DynamoDB table {target_name} was set back: mark {known} was made in it, and it has {found}{}",
                    when(as_of)
                )
            }
        }
    }
}

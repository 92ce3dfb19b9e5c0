//! Rights of the operator, proven before they are needed by calls that change nothing.
//!
//! 1. A role lacks one action of its policy, `Query` on an index. 2. Nothing asks for it before applications
//! read DynamoDB. 3. Each of them is refused there, after the step. So each action is asked for beforehand by
//! a *dry* call: a read of a key that no row has, a write under a condition that cannot hold, a statement
//! whose key no table takes. AWS decides who may ask before it looks at what is asked, also of a table that
//! is not there yet.

use futures::{StreamExt, TryStreamExt, stream};
use lockstep_core::{Error, Index, Result, TargetKey, TargetSchema};

use super::control::CONTROL_SCHEMA;
use super::{Backoff, Target};

/// Actions that no call proves without changing something, and who tells when they are missing: the command
/// that makes or changes the table, before anything depends on it.
pub const NOT_DRY: [&str; 4] = ["CreateTable", "ImportTable", "UpdateContinuousBackups", "UpdateTable"];

/// Calls that are under way at once.
const ASKED_AT_ONCE: usize = 6;

/// A right that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Action, as a policy has it: `dynamodb:Query`.
    pub action: String,
    /// Table that it is missing on, with the index.
    pub on: String,
    /// Answer of AWS.
    pub why: String,
}

/// A dry call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dry {
    DescribeTable,
    DescribeContinuousBackups,
    GetItem,
    BatchGetItem,
    Query(Option<Index>),
    Scan,
    PutItem,
    UpdateItem,
    DeleteItem,
    PartiQlInsert,
    PartiQlSelect,
}

/// Calls to a table that rows are moved to, beside a query of each index.
pub(super) const OF_TABLES: &[Dry] = &[
    Dry::DescribeTable,
    Dry::DescribeContinuousBackups,
    Dry::GetItem,
    Dry::BatchGetItem,
    Dry::Query(None),
    Dry::Scan,
    Dry::PutItem,
    Dry::UpdateItem,
    Dry::DeleteItem,
    Dry::PartiQlInsert,
    Dry::PartiQlSelect,
];
/// Calls to the control table.
pub(super) const OF_CONTROL: &[Dry] = &[
    Dry::DescribeTable,
    Dry::DescribeContinuousBackups,
    Dry::GetItem,
    Dry::Query(None),
    Dry::PutItem,
    Dry::UpdateItem,
    Dry::DeleteItem,
];

impl Dry {
    /// The action that it needs.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::DescribeTable => "DescribeTable",
            Self::DescribeContinuousBackups => "DescribeContinuousBackups",
            Self::GetItem => "GetItem",
            Self::BatchGetItem => "BatchGetItem",
            Self::Query(_) => "Query",
            Self::Scan => "Scan",
            Self::PutItem => "PutItem",
            Self::UpdateItem => "UpdateItem",
            Self::DeleteItem => "DeleteItem",
            Self::PartiQlInsert => "PartiQLInsert",
            Self::PartiQlSelect => "PartiQLSelect",
        }
    }
}

impl Target {
    /// Returns the rights of the operator that are missing on a table, which may be yet to be made. Changes
    /// nothing. What cannot be asked for so is not among them: [`NOT_DRY`].
    ///
    /// # Errors
    /// The driver's: an outage says nothing of rights.
    #[crate::boxed]
    pub async fn denied_rights(&self, table: &str, schema: &TargetSchema) -> Result<Vec<Denied>> {
        let of_indexes = schema.indexes.iter().map(|index| Dry::Query(Some(*index)));
        let calls = OF_TABLES.iter().copied().chain(of_indexes).collect();
        self.denied_of(table, schema.unused_key(), calls).await
    }

    /// Returns the same of the control table.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn denied_rights_on_control(&self) -> Result<Vec<Denied>> {
        let table = self.options.control_table.clone();
        self.denied_of(&table, CONTROL_SCHEMA.unused_key(), OF_CONTROL.to_vec()).await
    }

    async fn denied_of(&self, table: &str, key: TargetKey, calls: Vec<Dry>) -> Result<Vec<Denied>> {
        let key = &key;
        let asked = calls.into_iter().map(|dry| async move {
            let sent = Backoff::brief().retry(|| self.ask_dry(dry, table, key)).await;
            Ok::<_, Error>(judged(sent)?.map(|why| Denied {
                action: format!("dynamodb:{}", dry.action()),
                on: match dry {
                    Dry::Query(Some(index)) => format!("table/{table}/index/{}", index.name),
                    _ => format!("table/{table}"),
                },
                why,
            }))
        });
        let found: Vec<_> = stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// Returns why a right is missing; `None` where the request came past that question, whatever it was told
/// there. Credentials that are not taken are another thing, and an outage is no answer.
pub(super) fn judged(sent: Result<()>) -> Result<Option<String>> {
    let Err(error) = sent else { return Ok(None) };
    let says = |words: &[&str]| words.iter().any(|word| error.message.starts_with(word));
    if says(&["AccessDenied", "NotAuthorized"]) {
        return Ok(Some(error.message));
    }
    let came_past = says(&[
        "ResourceNotFoundException",
        "ValidationException",
        "UnknownOperationException",
        "TableNotFoundException",
    ]);
    if came_past { Ok(None) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use lockstep_core::Kind;

    use super::*;

    #[test]
    fn only_a_denial_is_a_missing_right_and_an_outage_is_no_answer() {
        let told = |kind, message: &str| judged(Err(Error::target(kind, "asking", message)));
        let denied = told(Kind::Denied, "AccessDeniedException: not authorized").expect("an answer");
        assert_eq!(denied.as_deref(), Some("AccessDeniedException: not authorized"));
        for past in ["ValidationException: of the key", "ResourceNotFoundException: no table"] {
            assert_eq!(told(Kind::Misconfigured, past).expect("an answer"), None, "{past}");
        }
        for (kind, message) in [
            (Kind::Throttled, "ThrottlingException: slower"),
            (Kind::Unknown, "no answer within the time-out"),
            (Kind::Unavailable, "ExpiredTokenException: expired"),
            (Kind::Denied, "UnrecognizedClientException: who"),
            (Kind::Misconfigured, "no region is known"),
        ] {
            assert!(told(kind, message).is_err(), "{message}");
        }
        assert_eq!(judged(Ok(())).expect("an answer"), None);
    }

    /// R51: what nothing asks for dry is named, with the gate that asks for it or why none can.
    #[test]
    fn each_right_of_the_operator_is_proven_by_a_dry_call_or_is_listed_as_one_that_cannot_be() {
        use crate::rights::On::{Account, Control, Imports, Indexes, Streams, Tables};
        use crate::rights::{RIGHTS, Role};

        // Expiry, the import, the account's quota and the streams' endpoint have gates of their own.
        const BY_OTHER_GATES: [&str; 6] = [
            "DescribeImport",
            "DescribeLimits",
            "DescribeTimeToLive",
            "ListImports",
            "ListStreams",
            "UpdateTimeToLive",
        ];
        let of_streams = ["DescribeStream", "GetShardIterator", "GetRecords"];
        let actions = |calls: &[Dry]| calls.iter().map(|dry| dry.action()).collect::<Vec<_>>();
        for (action, on, roles) in RIGHTS.iter().filter(|(.., roles)| roles.contains(&Role::Operator)) {
            let proven = match on {
                Tables => actions(OF_TABLES),
                Control => actions(OF_CONTROL),
                Indexes => vec!["Query"],
                Streams => of_streams.to_vec(),
                Imports | Account => Vec::new(),
            };
            let ways = [proven.contains(action), NOT_DRY.contains(action), BY_OTHER_GATES.contains(action)];
            assert_eq!(ways.into_iter().filter(|way| *way).count(), 1, "{action} on {on:?} of {roles:?}");
        }
    }
}

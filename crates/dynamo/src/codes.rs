//! Meaning of an answer of DynamoDB to a whole request, by its code: one table. Statements of a batch and
//! reasons of a cancelled transaction are read in `initial_load` and `transact`.
//!
//! Only what is on the list is acted on (I18). Any other answer (a code of next year, the page of a proxy, a
//! firewall or a load balancer) says nothing of the row that was sent: 1. A mesh answers one PutItem with a
//! 429. 2. "Never seen it, so it is the row" puts a tombstone over a healthy item. So it is
//! [`Kind::Unknown`]: nothing is known but that it is to be tried again.
//!
//! Sources: Amazon DynamoDB Developer Guide, "Error handling with DynamoDB"; API Reference, "Common errors";
//! the SDK's own list of throttles and of transient errors.

use lockstep_core::Advice::TargetEndpoint;
use lockstep_core::Kind;

const TABLE: &[(&str, Kind)] = &[
    ("ConditionalCheckFailedException", Kind::Refused),
    ("ItemCollectionSizeLimitExceededException", Kind::Invalid),
    // The store asks for fewer requests.
    ("BandwidthLimitExceeded", Kind::Throttled),
    ("LimitExceededException", Kind::Throttled),
    ("PriorRequestNotComplete", Kind::Throttled),
    ("ProvisionedThroughputExceeded", Kind::Throttled),
    ("ProvisionedThroughputExceededException", Kind::Throttled),
    ("RequestLimitExceeded", Kind::Throttled),
    ("RequestThrottled", Kind::Throttled),
    ("RequestThrottledException", Kind::Throttled),
    ("SlowDown", Kind::Throttled),
    ("ThrottledException", Kind::Throttled),
    ("Throttling", Kind::Throttled),
    ("ThrottlingError", Kind::Throttled),
    ("ThrottlingException", Kind::Throttled),
    ("TooManyRequestsException", Kind::Throttled),
    // Nothing was done, and the next request may well be.
    ("ContinuousBackupsUnavailableException", Kind::Unavailable),
    ("ReplicatedWriteConflictException", Kind::Unavailable),
    ("ResourceInUseException", Kind::Unavailable),
    ("TransactionConflictException", Kind::Unavailable),
    ("TransactionInProgressException", Kind::Unavailable),
    ("InvalidEndpointException", Kind::Unavailable),
    // The next request is signed with fresh credentials, or by the clock that the answer has just set right.
    ("ExpiredToken", Kind::Unavailable),
    ("ExpiredTokenException", Kind::Unavailable),
    ("RequestExpired", Kind::Unavailable),
    ("RequestInTheFuture", Kind::Unavailable),
    ("RequestTimeTooSkewed", Kind::Unavailable),
    // A person has to act.
    ("AccessDenied", Kind::Denied),
    ("AccessDeniedException", Kind::Denied),
    ("IncompleteSignature", Kind::Denied),
    ("IncompleteSignatureException", Kind::Denied),
    ("InvalidClientTokenId", Kind::Denied),
    ("MissingAuthenticationToken", Kind::Denied),
    ("MissingAuthenticationTokenException", Kind::Denied),
    ("NotAuthorized", Kind::Denied),
    ("OptInRequired", Kind::Denied),
    ("UnrecognizedClientException", Kind::Denied),
    ("InvalidAction", Kind::Misconfigured),
    ("ResourceNotFoundException", Kind::Misconfigured),
    ("TableNotFoundException", Kind::Misconfigured),
    ("UnknownOperationException", Kind::Misconfigured),
    // It may have been carried out: DynamoDB says so of a 500, and a 503 may come from what stands before it,
    // after the write.
    ("InternalFailure", Kind::Unknown),
    ("InternalServerError", Kind::Unknown),
    ("ServiceUnavailable", Kind::Unknown),
    ("ServiceUnavailableException", Kind::Unknown),
];

/// Words of DynamoDB about an item that it will never take, in lower case. Its ValidationException has many
/// more that are about the request, the table or an index, and none of those makes a row one that cannot be
/// held.
const OF_THE_ITEM: &[&str] = &[
    "item size",
    "size of hashkey",
    "size of rangekey",
    "size of all range keys",
    "an empty string",
    "an empty binary",
    "set  may not be empty",
    "set may not be empty",
    "sets should not be empty",
    "contains duplicates",
    "nesting levels",
    "significant digits",
    "number overflow",
    "number underflow",
    "numeric value",
    "item collection size",
];

/// Returns the meaning of an answer with this code (empty where there is none), HTTP status and message.
pub(super) fn kind(code: &str, status: u16, message: &str) -> Kind {
    if let Some((_, kind)) = TABLE.iter().find(|(known, _)| *known == code) {
        return *kind;
    }
    match code {
        "ValidationException" if is_of_the_item(message) => Kind::Invalid,
        // It is about the request or the table, and a person has to look.
        "ValidationException" => Kind::Misconfigured,
        "InvalidSignatureException" if is_of_the_clock(message) => Kind::Unavailable,
        "InvalidSignatureException" => Kind::Denied,
        _ if code.to_ascii_lowercase().contains("throttl") => Kind::Throttled,
        // A rate limiter, and a proxy that wants a password, stand before DynamoDB: they sent nothing on.
        "" if status == 429 => Kind::Throttled,
        "" if status == 407 => Kind::Unavailable,
        _ => Kind::Unknown,
    }
}

/// Tells whether DynamoDB is known to use this code, beside ValidationException.
pub(super) fn is_listed(code: &str) -> bool {
    TABLE.iter().any(|(known, _)| *known == code)
}

/// Tells whether a validation is of the item that was sent.
pub(super) fn is_of_the_item(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    OF_THE_ITEM.iter().any(|words| message.contains(words))
}

fn is_of_the_clock(message: &str) -> bool {
    message.contains("Signature expired") || message.contains("Signature not yet current")
}

/// Returns what to do about the error, for the reader of the message.
pub(super) fn advise(code: &str, status: u16, message: &str) -> String {
    let next = match code {
        "" => {
            return format!(
                "HTTP {status} without a code of DynamoDB's: a proxy, a firewall or \
                    a load balancer answered for it; look at HTTPS_PROXY, NO_PROXY and \
                    {TargetEndpoint} ({message})"
            );
        }
        "ExpiredToken" | "ExpiredTokenException" => {
            "; the credentials have expired: sign in again (for example `aws sso login`)"
        }
        "UnrecognizedClientException" | "InvalidSignatureException" => {
            "; check the access key, its secret and the clock"
        }
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => "; check this machine's clock",
        "AccessDeniedException" => "; the role lacks this permission on this table",
        "ResourceNotFoundException" => "; is the table there, in this region and account?",
        "OptInRequired" => "; this account has not opted in to this region",
        _ => "",
    };
    format!("{code}: {message}{next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dynamodb_says_of_the_item_is_about_the_item() {
        let invalid = [
            ("ItemCollectionSizeLimitExceededException", "Collection size exceeded"),
            ("ValidationException", "Item size has exceeded the maximum allowed size"),
            ("ValidationException", "Item size to update has exceeded the maximum allowed size"),
            (
                "ValidationException",
                "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes",
            ),
            (
                "ValidationException",
                "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of 1024 bytes",
            ),
            (
                "ValidationException",
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string \
                 value. Key: PK",
            ),
            (
                "ValidationException",
                "One or more parameter values were invalid: An string set  may not be empty",
            ),
            ("ValidationException", "Nesting Levels have exceeded supported limits"),
            ("ValidationException", "Attempting to store more than 38 significant digits in a Number"),
            (
                "ValidationException",
                "Number overflow. Attempting to store a number with magnitude larger than supported range",
            ),
        ];
        for (code, message) in invalid {
            assert_eq!(kind(code, 400, message), Kind::Invalid, "{message}");
        }
        let about_the_request = [
            "The table does not have the specified index: GSI1",
            "One or more parameter values were invalid: Type mismatch for key PK expected: S actual: N",
            "Statement size exceeds 8192 characters",
            "Too many items requested for the BatchWriteItem call",
            "Invalid ConditionExpression: Expression size has exceeded the maximum allowed size",
            "ExpressionAttributeValues must not be empty",
            "Cannot do operations on a non-existent table",
        ];
        for message in about_the_request {
            assert_eq!(kind("ValidationException", 400, message), Kind::Misconfigured, "{message}");
        }
    }

    #[test]
    fn what_is_not_on_the_list_says_nothing_of_the_row() {
        for status in [200, 301, 400, 401, 403, 404, 407, 408, 413, 418, 421, 429, 500, 502, 503, 504] {
            for code in ["", "SerializationException", "SomethingOfNextYearException", "ValidationError"] {
                let kind = kind(code, status, "<html><body>Item size? Please log in</body></html>");
                assert!(
                    matches!(kind, Kind::Unknown | Kind::Throttled | Kind::Unavailable),
                    "{code} {status}: {kind:?}"
                );
            }
        }
    }

    #[test]
    fn throttles_of_any_name_and_passing_refusals_are_outages() {
        for code in [
            "ThrottledException",
            "Throttling",
            "TooManyRequestsException",
            "SlowDown",
            "EC2ThrottledException",
        ] {
            assert_eq!(kind(code, 400, ""), Kind::Throttled, "{code}");
        }
        for code in [
            "ReplicatedWriteConflictException",
            "ExpiredTokenException",
            "RequestTimeTooSkewed",
            "RequestExpired",
        ] {
            assert_eq!(kind(code, 400, ""), Kind::Unavailable, "{code}");
        }
        assert_eq!(
            kind("InvalidSignatureException", 400, "Signature expired: 20260101T000000Z is now earlier"),
            Kind::Unavailable
        );
        assert_eq!(
            kind("InvalidSignatureException", 400, "The request signature we calculated does not match"),
            Kind::Denied
        );
        assert_eq!((kind("", 429, ""), kind("", 407, "")), (Kind::Throttled, Kind::Unavailable));
    }

    #[test]
    fn a_503_may_have_been_carried_out() {
        for (code, status) in
            [("ServiceUnavailable", 503), ("", 503), ("InternalServerError", 500), ("", 502), ("", 504)]
        {
            assert_eq!(kind(code, status, ""), Kind::Unknown, "{code} {status}");
        }
    }

    #[test]
    fn every_code_is_listed_once() {
        for (n, (code, _)) in TABLE.iter().enumerate() {
            assert!(TABLE[..n].iter().all(|(other, _)| other != code), "{code}");
        }
    }
}

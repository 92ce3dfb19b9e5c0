//! What an SDK error means: one function from error to [`Kind`].

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use lockstep_core::{Error, Kind};

/// Reads an SDK error while `doing` something.
pub(super) fn error<E>(doing: impl Into<String>, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let (kind, message) = match &error {
        SdkError::ConstructionFailure(_) => (Kind::Misconfigured, with_causes(&error)),
        // The request may have left and been carried out; only its answer is missing (I8).
        SdkError::TimeoutError(_) => (Kind::Unknown, "no answer within the time-out".to_owned()),
        SdkError::DispatchFailure(_) => (of_dispatch(&with_causes(&error)), with_causes(&error)),
        SdkError::ResponseError(_) => (Kind::Unknown, "the answer broke off".to_owned()),
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            let status = service.raw().status().as_u16();
            let message = service.err().message().unwrap_or("no message").to_owned();
            (of_code(code, status), advise(code, message))
        }
        _ => (Kind::Unknown, with_causes(&error)),
    };
    Error { side: lockstep_core::Side::Target, kind, doing: doing.into(), message, cause: Some(Box::new(error)) }
}

fn of_dispatch(text: &str) -> Kind {
    let text = text.to_lowercase();
    if text.contains("credentials") || text.contains("identity") {
        Kind::Denied
    } else if text.contains("connection refused") || text.contains("dns") || text.contains("tcp connect") {
        // No connection, so nothing was sent.
        Kind::Unavailable
    } else {
        // A connection that broke may have carried the request (I8).
        Kind::Unknown
    }
}

/// Error codes of DynamoDB (Developer Guide, "Error handling with DynamoDB").
fn of_code(code: &str, status: u16) -> Kind {
    match code {
        "ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded" | "LimitExceededException" => {
            Kind::Throttled
        }
        "ConditionalCheckFailedException" => Kind::Refused,
        "TransactionConflictException" | "TransactionInProgressException" | "ResourceInUseException" => Kind::Unavailable,
        "ResourceNotFoundException" | "UnknownOperationException" => Kind::Misconfigured,
        "AccessDeniedException"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Kind::Denied,
        // DynamoDB says of a 500 that the request may have been carried out.
        _ if status >= 500 && status != 503 => Kind::Unknown,
        _ if status == 503 => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

fn advise(code: &str, message: String) -> String {
    let next = match code {
        "ExpiredTokenException" => "; the credentials have expired: sign in again (for example `aws sso login`)",
        "UnrecognizedClientException" | "InvalidSignatureException" => "; check the access key, its secret and the clock",
        "AccessDeniedException" => "; the role lacks this permission on this table",
        "ResourceNotFoundException" => "; is the table there, in this region and account?",
        _ => "",
    };
    format!("{code}: {message}{next}")
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

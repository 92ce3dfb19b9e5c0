//! Meaning of an SDK error: one function from error to [`Kind`].

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use lockstep_core::Advice::{EmulatorCredentials, TargetEndpoint, TargetProfile, TargetRegion};
use lockstep_core::{Error, Kind, Side};

use super::clear::TokenInClear;
use super::sent::{NoAnswerFrom, NothingSent};
use super::understood::SaysNothing;
use super::{codes, without_values};

/// Tells whether the endpoint does not know the operation at all, as servers answer that speak a part of the
/// protocol.
pub(super) fn is_not_known(error: &Error) -> bool {
    error.message.starts_with("UnknownOperationException")
}

/// Reads an SDK error while `doing` something.
pub(super) fn error<E>(doing: impl Into<String>, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let doing = doing.into();
    let (kind, message) = match &error {
        SdkError::ServiceError(service) => {
            let (code, status) = (service.err().code().unwrap_or_default(), service.raw().status().as_u16());
            let message = service.err().message().unwrap_or("no message");
            let told = without_values::of_message(code, message, &doing);
            (codes::kind(code, status, message), codes::advise(code, status, &told))
        }
        // The request may have left and been carried out; only its answer is missing (I8).
        SdkError::TimeoutError(_) => {
            let silent = chain(&error).find_map(|cause| cause.downcast_ref::<NoAnswerFrom>());
            let from = silent.map_or_else(String::new, |silent| format!(" from {}", silent.endpoint));
            (Kind::Unknown, format!("no answer{from} within the time-out"))
        }
        SdkError::ResponseError(response) => {
            let nothing = chain(&error).find_map(|cause| cause.downcast_ref::<SaysNothing>());
            match (nothing, response.raw().status().as_u16()) {
                (Some(nothing), _) => (Kind::Unknown, nothing.to_string()),
                (None, 200..300) => (Kind::Unknown, "the answer broke off".to_owned()),
                (None, status) => {
                    (codes::kind("", status, ""), codes::advise("", status, "the answer broke off"))
                }
            }
        }
        SdkError::ConstructionFailure(_) => {
            let kind = of_credentials(&error).unwrap_or(Kind::Misconfigured);
            (kind, advised(kind, &error))
        }
        _ => {
            let kind = of_token(&error).or_else(|| of_credentials(&error));
            let kind = kind.or_else(|| before_sending(&error)).unwrap_or_else(|| of_dispatch(&error));
            (kind, advised(kind, &error))
        }
    };
    Error::of_driver(Side::Target, kind, doing, message, error)
}

/// Kind of a request whose token would go in clear: a person has to change a setting, as it never goes.
pub(crate) fn of_token(error: &(dyn std::error::Error + 'static)) -> Option<Kind> {
    chain(error).any(|cause| cause.is::<TokenInClear>()).then_some(Kind::Misconfigured)
}

/// Kind of a request that ended before it was handed to a connection: it has sent nothing.
fn before_sending(error: &(dyn std::error::Error + 'static)) -> Option<Kind> {
    chain(error).any(|cause| cause.is::<NothingSent>()).then_some(Kind::Unavailable)
}

/// A provider that fails is an outage like another: STS throttles, IMDS restarts, and a minute later there
/// are credentials. That there are none at all is for a person; a long-running process that has had some
/// tries again all the same.
pub(crate) fn of_credentials(error: &(dyn std::error::Error + 'static)) -> Option<Kind> {
    let found = chain(error).find_map(|cause| cause.downcast_ref::<CredentialsError>());
    match found {
        Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => {
            Some(Kind::Denied)
        }
        Some(_) => Some(Kind::Unavailable),
        None => chain(error)
            .any(|cause| {
                let text = cause.to_string().to_lowercase();
                text.contains("failed to load credentials") || text.contains("no identity")
            })
            .then_some(Kind::Denied),
    }
}

/// Names what is missing before anything is sent, in words of the configuration: the SDK's are of its own
/// parts.
pub(crate) fn advised(kind: Kind, error: &(dyn std::error::Error + 'static)) -> String {
    let text = with_causes(error);
    let is_misconfigured = chain(error)
        .any(|cause| matches!(cause.downcast_ref(), Some(CredentialsError::InvalidConfiguration(_))));
    match kind {
        Kind::Denied if is_misconfigured => {
            format!(
                "{text}; look at the AWS profile that is used ({TargetProfile}, \
                AWS_PROFILE)"
            )
        }
        Kind::Denied => format!(
            "no AWS credentials were found: give them as to any AWS program, or set \
            {EmulatorCredentials} = true where {TargetEndpoint} is an emulator's"
        ),
        Kind::Misconfigured if text.to_lowercase().contains("region") => {
            format!("no region is known: set {TargetRegion} (or AWS_REGION)")
        }
        _ => text,
    }
}

/// Classifies a failure between us and the endpoint. A request that failed before there was a connection sent
/// nothing; one that failed later may have.
fn of_dispatch(error: &(dyn std::error::Error + 'static)) -> Kind {
    use std::io::ErrorKind;
    let refused = |kind: ErrorKind| {
        matches!(
            kind,
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
        )
    };
    let before_sending = chain(error).any(|cause| {
        let text = cause.to_string().to_lowercase();
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| refused(io.kind()))
            || ["error (connect)", "tcp connect", "dns error", "http connect timeout", "connection refused"]
                .iter()
                .any(|words| text.contains(words))
    });
    if before_sending { Kind::Unavailable } else { Kind::Unknown }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for cause in chain(error) {
        let inner = without_output(&cause.to_string());
        if text.is_empty() {
            text = inner;
        } else if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
    }
    text
}

/// Returns what a provider of credentials says, without what the process that it ran printed: that may be the
/// credentials.
fn without_output(text: &str) -> String {
    let ends = [". Stderr:", ", could not parse response"];
    let end = ends.iter().filter_map(|words| text.find(words)).min().unwrap_or(text.len());
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;

//! Answers and failures of the wire, as the product sees them.

use std::time::Duration;

use aws_config::{BehaviorVersion, ConfigLoader};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_sdk_dynamodb::config::{IdentityCache, Region};
use aws_sdk_dynamodb::error::ConnectorError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_smithy_types::timeout::TimeoutConfig;
use lockstep_core::{Advice, Item, Version};
use tokio::net::TcpListener;

use super::*;
use crate::named::Named;
use crate::raw_scan::answering::{Answer, Answering};
use crate::understood::Understood;
use crate::{Target, TargetOptions, connect};

async fn put(target: &Target) -> Error {
    target.put_guarded("t", Item::default(), Version(7)).await.expect_err("an error")
}

#[tokio::test]
async fn the_page_of_a_proxy_says_nothing_of_the_row() {
    let server = Answering::start().await;
    let page = "<html><head><title>Authentication required</title></head><body>Item size</body></html>";
    let expected = [
        (200, Kind::Unknown),
        (403, Kind::Unknown),
        (407, Kind::Unavailable),
        (408, Kind::Unknown),
        (413, Kind::Unknown),
        (429, Kind::Throttled),
        (502, Kind::Unknown),
        (503, Kind::Unknown),
    ];
    for (status, kind) in expected {
        server.answer(Answer { status, ..Answer::page(page) });
        let error = put(&server.target).await;
        assert_eq!(error.kind, kind, "{status}: {error}");
        assert!(error.message.contains("HTTPS_PROXY") || status == 200, "{error}");
    }
}

#[tokio::test]
async fn what_never_had_a_connection_sent_nothing() {
    let refusing = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    for place in [refusing.to_string(), "no-such-host.invalid".to_owned()] {
        let options = TargetOptions {
            endpoint_url: Some(format!("http://{place}")),
            region: Some("us-east-1".to_owned()),
            emulator_credentials: true,
            connect_timeout: Duration::from_secs(5),
            ..TargetOptions::default()
        };
        let error = put(&Target::connect(options).await).await;
        assert_eq!(error.kind, Kind::Unavailable, "{place}: {error}");
    }
}

#[test]
fn a_provider_of_credentials_that_fails_is_an_outage_and_none_at_all_is_for_a_person() {
    let of = |error: CredentialsError| {
        let failed = SdkError::<PutItemError>::dispatch_failure(ConnectorError::other(error.into(), None));
        super::error("writing", failed).kind
    };
    assert_eq!(of(CredentialsError::provider_error("STS answered 503")), Kind::Unavailable);
    assert_eq!(of(CredentialsError::provider_timed_out(Duration::from_secs(5))), Kind::Unavailable);
    assert_eq!(of(CredentialsError::unhandled("half an answer")), Kind::Unavailable);
    assert_eq!(of(CredentialsError::not_loaded_no_source()), Kind::Denied);
}

#[test]
fn a_time_out_before_the_connection_is_not_one_after_the_request() {
    let of = |text: &str| {
        let failed =
            SdkError::<PutItemError>::dispatch_failure(ConnectorError::timeout(text.to_owned().into()));
        super::error("writing", failed).kind
    };
    assert_eq!(of("HTTP connect timeout occurred after 3.1s"), Kind::Unavailable);
    assert_eq!(of("HTTP read timeout occurred after 3.1s"), Kind::Unknown);
}

#[test]
fn what_is_missing_before_a_request_is_named_as_the_setting_that_gives_it() {
    let none = CredentialsError::not_loaded_no_source();
    let failed = SdkError::<PutItemError>::dispatch_failure(ConnectorError::other(none.into(), None));
    let error = super::error("writing", failed);
    for word in ["credentials", &Advice::EmulatorCredentials.to_string()] {
        assert!(error.message.contains(word), "{error}");
    }
    assert!(!error.message.contains("CredentialsNotLoaded"), "{error}");
    let failed = SdkError::<PutItemError>::construction_failure("Invalid Configuration: Missing Region");
    let error = super::error("writing", failed);
    assert_eq!(error.kind, Kind::Misconfigured);
    assert!(error.message.contains(&Advice::TargetRegion.to_string()), "{error}");
}

#[test]
fn what_a_credential_process_printed_is_not_shown() {
    let said = "Error retrieving credentials: external process exited with code 1. Stderr: token Planted";
    let provider = CredentialsError::provider_error(said);
    let failed = SdkError::<PutItemError>::dispatch_failure(ConnectorError::other(provider.into(), None));
    let error = super::error("writing", failed);
    assert!(error.message.contains("exited with code 1"), "{error}");
    assert!(!format!("{error} {error:?}").contains("Planted"), "{error}");
}

/// Provider of credentials that never answers.
#[derive(Debug)]
struct Silent;

impl ProvideCredentials for Silent {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(std::future::pending())
    }
}

/// Outcome of one request of a client as ours.
async fn asked(configured: ConfigLoader) -> Error {
    let shared = configured.load().await;
    let client = connect::client(&shared, Understood::new(true), Named::default());
    super::error("writing", client.list_tables().send().await.expect_err("an error"))
}

fn configured(endpoint: &str) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::from_keys("key", "secret", None))
}

fn at_most(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(attempt).build()
}

#[tokio::test]
async fn an_identity_that_does_not_come_in_time_has_sent_nothing() {
    let nowhere = || configured("http://127.0.0.1:1").credentials_provider(Silent);
    let soon = Duration::from_millis(20);
    // Whichever of the two times ends first.
    let error = asked(nowhere().timeout_config(at_most(soon))).await;
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert!(error.message.contains("nothing was sent"), "{error}");
    let error = asked(nowhere().identity_cache(IdentityCache::lazy().load_timeout(soon).build())).await;
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_may_be_of_a_request_that_was_carried_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let error = asked(configured(&endpoint).timeout_config(at_most(Duration::from_millis(200)))).await;
    assert_eq!(error.kind, Kind::Unknown, "{error}");
}

#[tokio::test]
async fn a_token_that_is_not_sent_in_clear_is_a_setting_to_mend() {
    let with_token = Credentials::from_keys("key", "secret", Some("token".to_owned()));
    let elsewhere = configured("http://dynamodb.example.invalid:8000").credentials_provider(with_token);
    let error = asked(elsewhere).await;
    assert_eq!(error.kind, Kind::Misconfigured, "{error}");
    for word in ["https://", &Advice::EmulatorCredentials.to_string()] {
        assert!(error.message.contains(word), "{error}");
    }
}

//! Reaching DynamoDB: the standard AWS chain, or an endpoint with keys of its own.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::{SharedHttpClient, StalledStreamProtectionConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::Target;
use super::payload_hash::PayloadHash;
use super::tables::Described;

/// How to reach the target. What is `None` comes from the standard AWS chain: environment, profile, SSO, instance role.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Another endpoint than AWS's, for example an emulator.
    pub endpoint_url: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Whether to sign with made-up keys, which emulators accept.
    pub emulator_credentials: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one request; after that its outcome is unknown (I8).
    pub request_timeout: Duration,
    /// How long after its last possible sending a request could still be carried out. A signed request expires after
    /// minutes (AWS General Reference, "Signature Version 4"), so a lost one is dead after this.
    pub request_lifetime: Duration,
    /// Name of the table that holds the control record while the truth is in DynamoDB. One for each migration: its name must
    /// differ where two share an account and a region.
    pub control_table: String,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            endpoint_url: None,
            region: None,
            profile: None,
            emulator_credentials: false,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(10),
            request_lifetime: Duration::from_secs(15 * 60),
            control_table: "lockstep_control".to_owned(),
        }
    }
}

impl Target {
    /// Builds the client. Nothing is sent yet.
    ///
    /// The SDK's own retries are off: whoever calls decides by the kind of the error, because a lost reply is not a
    /// failure (I8) and a throttle is a signal (R11).
    pub async fn connect(options: TargetOptions) -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(options.connect_timeout).operation_attempt_timeout(options.request_timeout);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client())
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts.build());
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(url) = &options.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        if options.emulator_credentials {
            loader = loader.credentials_provider(Credentials::from_keys("lockstep", "lockstep", None));
        }
        let shared = loader.load().await;
        let config = aws_sdk_dynamodb::config::Builder::from(&shared).interceptor(PayloadHash).build();
        let streams = aws_sdk_dynamodbstreams::config::Builder::from(&shared).interceptor(PayloadHash).build();
        Self {
            client: aws_sdk_dynamodb::Client::from_conf(config),
            streams: aws_sdk_dynamodbstreams::Client::from_conf(streams),
            options,
            described: Described::default(),
        }
    }
}

/// HTTPS by rustls on ring: the SDK's default back end needs cmake and minutes to build.
fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

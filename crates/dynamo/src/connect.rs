//! Reaching DynamoDB: the standard AWS chain, or an endpoint with keys of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::{SharedHttpClient, StalledStreamProtectionConfig};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::Target;
use super::clear::{NoTokenInClear, is_local};
use super::named::Named;
use super::payload_hash::PayloadHash;
use super::sent::SentOrNot;
use super::streams::Listings;
use super::tables::Described;
use super::timed::Timed;
use super::understood::Understood;
use super::{Leases, Owner, served::Served};

/// Name of the control table where nothing else is said.
pub const CONTROL_TABLE: &str = "lockstep_control";

/// Options by which the target is reached. An option that is `None` comes from the standard AWS chain:
/// environment, profile, SSO, instance role.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Another endpoint than AWS's, for example an emulator.
    pub endpoint_url: Option<String>,
    /// Another endpoint for DynamoDB Streams, which is a service of its own; `None` for that of
    /// `endpoint_url`, or AWS's.
    pub streams_endpoint_url: Option<String>,
    /// Another endpoint for S3, whose objects an import reads and an export writes; `None` for AWS's.
    pub s3_endpoint_url: Option<String>,
    /// Region of the buckets; `None` for that of the tables.
    pub s3_region: Option<String>,
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
    /// Time after its last possible sending in which a request could still be carried out. A signed request
    /// expires 15 minutes after its date (AWS General Reference, "Signature Version 4"), and a clock that is
    /// 15 minutes ahead is still taken, so a lost one is dead after half an hour.
    pub request_lifetime: Duration,
    /// Name of the table that holds the control record while the truth is in DynamoDB. One for each
    /// migration: its name must differ where two share an account and a region; see [`Target::belongs_to`].
    pub control_table: String,
    /// Whether tables that are made or adopted are protected from being deleted by one call.
    pub deletion_protection: bool,
    /// Whether they are backed up continuously, so that they can be restored as they were at any second of
    /// the last 35 days.
    pub point_in_time_recovery: bool,
    /// Write units a second that a table, by its name there, and each of its indexes are made to take at
    /// once; one that is not named takes what every new table on demand does.
    pub warm_write_units_per_s: BTreeMap<String, u64>,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            endpoint_url: None,
            streams_endpoint_url: None,
            s3_endpoint_url: None,
            s3_region: None,
            region: None,
            profile: None,
            emulator_credentials: false,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(10),
            request_lifetime: Duration::from_secs(30 * 60),
            control_table: CONTROL_TABLE.to_owned(),
            deletion_protection: false,
            point_in_time_recovery: false,
            warm_write_units_per_s: BTreeMap::new(),
        }
    }
}

/// Client of the tables, as [`Target::connect`] has it.
pub(super) fn client(shared: &SdkConfig, understood: Understood, named: Named) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::config::Builder::from(shared).retry_config(RetryConfig::disabled());
    let config = config.interceptor(PayloadHash).interceptor(NoTokenInClear).interceptor(SentOrNot);
    let config = config.interceptor(understood).interceptor(Timed).interceptor(named);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

impl Target {
    /// Builds the client. Nothing is sent yet.
    ///
    /// The SDK's own retries are off for both services: the caller decides by the kind of the error, because
    /// a lost reply is not a failure (I8) and a throttle is a signal (R11). Providers of credentials keep
    /// theirs: a role is assumed again every hour, and one 500 of STS would end a run of days.
    #[crate::boxed]
    pub async fn connect(options: TargetOptions) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(options.connect_timeout)
            .operation_attempt_timeout(options.request_timeout);
        // A server on this machine is not behind a proxy, whatever the environment forgot to exempt.
        let local = options.endpoint_url.as_deref().is_some_and(is_local);
        let proxy = if local { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client(proxy))
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
        // Where the STS of another endpoint than AWS's is cannot be known.
        let identity = options.endpoint_url.is_none().then(|| aws_sdk_sts::Client::new(&shared));
        let streams =
            aws_sdk_dynamodbstreams::config::Builder::from(&shared).retry_config(RetryConfig::disabled());
        let streams = streams.interceptor(PayloadHash).interceptor(NoTokenInClear).interceptor(SentOrNot);
        let understood = || Understood::new(options.emulator_credentials);
        let mut streams = streams.interceptor(understood()).interceptor(Timed);
        if let Some(url) = &options.streams_endpoint_url {
            streams = streams.endpoint_url(url);
        }
        let (streams, named) = (streams.build(), Named::default());
        Self {
            endpoint: shared.endpoint_url().map(str::to_owned),
            client: client(&shared, understood(), named.clone()),
            identity,
            streams: aws_sdk_dynamodbstreams::Client::from_conf(streams),
            #[cfg(feature = "s3")]
            shared,
            options,
            described: Described::default(),
            listings: Listings::default(),
            owner: Owner::default(),
            leases: Leases::default(),
            served: Served::default(),
            named,
        }
    }
}

/// Tells whether a URL is one of Amazon's own endpoints, by TLS.
pub(super) fn is_amazons(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default().to_ascii_lowercase();
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().any(|of| host.ends_with(of))
}

/// HTTPS by rustls on ring: the SDK's default back end needs cmake and minutes to build. As the SDK's own
/// client does, it goes by `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, for the services and for
/// the providers of credentials.
fn http_client(proxy: ProxyConfig) -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
    })
}

/// Connector of a service that the SDK has no client for, by the same back end and the same proxy.
#[cfg(feature = "s3")]
pub(super) fn connector_of(
    endpoint: &str,
    connect_timeout: Duration,
    shared: &SdkConfig,
) -> aws_smithy_runtime_api::client::http::SharedHttpConnector {
    use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
    let proxy = if is_local(endpoint) { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
    let settings = HttpConnectorSettings::builder().connect_timeout(connect_timeout).build();
    let mut connector = Connector::builder().proxy_config(proxy).connector_settings(settings);
    connector.set_sleep_impl(shared.sleep_impl());
    SharedHttpConnector::new(connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).build())
}

#[cfg(test)]
mod tests {
    use lockstep_core::Kind;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_an_endpoint_that_is_not_amazons_can_have_something_before_it_that_repeats() {
        let at = async |url: Option<&str>, emulator_credentials| {
            let options = TargetOptions {
                endpoint_url: url.map(str::to_owned),
                region: Some("eu-west-1".to_owned()),
                emulator_credentials,
                ..TargetOptions::default()
            };
            Target::connect(options).await.may_be_repeated_between()
        };
        for mesh in
            ["http://127.0.0.1:15001", "https://dynamodb.internal", "http://dynamodb.eu-west-1.amazonaws.com"]
        {
            assert!(at(Some(mesh), false).await, "{mesh}");
        }
        let own = "https://vpce-1.dynamodb.eu-west-1.vpce.amazonaws.com";
        for (url, emulator) in [(None, false), (Some(own), false), (Some("http://127.0.0.1:8000"), true)] {
            assert!(!at(url, emulator).await, "{url:?}");
        }
        assert!(at(Some("https://dynamodb.amazonaws.com.example"), false).await);
    }

    #[tokio::test]
    async fn requests_go_through_the_proxy_and_one_that_wants_a_password_is_an_outage() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", proxy.local_addr().expect("an address"));
        let client = http_client(ProxyConfig::all(url).expect("a proxy"));
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client)
            .region(Region::new("eu-central-1"))
            .retry_config(RetryConfig::disabled())
            .credentials_provider(Credentials::from_keys("a", "b", None));
        let client = aws_sdk_dynamodb::Client::new(&shared.load().await);
        let asked = async {
            let (mut stream, _) = proxy.accept().await.expect("a client");
            let mut line = String::new();
            BufReader::new(&mut stream).read_line(&mut line).await.expect("a line");
            stream
                .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                .await
                .expect("told");
            line
        };
        let (sent, line) = tokio::join!(client.list_tables().send(), asked);
        assert!(line.starts_with("CONNECT dynamodb.eu-central-1.amazonaws.com:443"), "{line}");
        let error = super::super::fault::error("listing", sent.expect_err("it has no password"));
        assert_eq!(error.kind, Kind::Unavailable, "nothing was sent: {error}");
    }

    /// One where nothing listens, one that takes a connection and says nothing, and one that hangs up.
    #[tokio::test]
    async fn an_endpoint_that_does_not_answer_is_named_without_its_password() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let hangs_up = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let place = |listener: &TcpListener| listener.local_addr().expect("an address").to_string();
        let (silent_at, hangs_up_at) = (place(&silent), place(&hangs_up));
        let said = async |place: &str| {
            let target = Target::connect(TargetOptions {
                endpoint_url: Some(format!("http://user:s3cret@{place}")),
                region: Some("eu-central-1".to_owned()),
                emulator_credentials: true,
                request_timeout: Duration::from_millis(200),
                ..TargetOptions::default()
            });
            let sent = target.await.client.list_tables().send().await;
            super::super::fault::error("listing", sent.expect_err("no answer"))
        };
        let hanging_up = tokio::spawn(async move {
            loop {
                drop(hangs_up.accept().await);
            }
        });
        for (place, kind) in
            [("127.0.0.1:1", Kind::Unavailable), (&silent_at, Kind::Unknown), (&hangs_up_at, Kind::Unknown)]
        {
            let error = said(place).await;
            assert_eq!(error.kind, kind, "{error}");
            let told = error.to_string();
            assert!(told.contains(&format!("no answer from http://{place}")), "{told}");
            assert!(!told.contains("s3cret"), "{told}");
        }
        hanging_up.abort();
        drop(silent);
    }

    #[tokio::test]
    async fn streams_have_an_endpoint_of_their_own() {
        let dynamo = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let streams = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url =
            |listener: &TcpListener| Some(format!("http://{}", listener.local_addr().expect("an address")));
        let options = TargetOptions {
            endpoint_url: url(&dynamo),
            streams_endpoint_url: url(&streams),
            region: Some("eu-central-1".to_owned()),
            emulator_credentials: true,
            ..TargetOptions::default()
        };
        let target = Target::connect(options).await;
        let asked = async |listener: &TcpListener| drop(listener.accept().await.expect("a client"));
        let (listed, (), tables, ()) = tokio::join!(
            target.streams.list_streams().send(),
            asked(&streams),
            target.client.list_tables().send(),
            asked(&dynamo)
        );
        assert!(listed.is_err() && tables.is_err(), "both were hung up on");
    }
}

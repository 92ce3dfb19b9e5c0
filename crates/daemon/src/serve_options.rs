//! Options of the daemon.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Address at which the daemon listens if none is configured.
pub const LISTEN: &str = "127.0.0.1:7420";

/// Settings of the daemon, as a file has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeOptions {
    /// Address and port that the daemon listens on.
    pub listen: String,
    /// Names that it goes by besides its addresses.
    pub hosts: Vec<String>,
    /// A file whose first line is the token that allows to act.
    pub operate_token_file: Option<PathBuf>,
    /// A file whose first line is the token that allows to look only.
    pub read_token_file: Option<PathBuf>,
    /// Interval at which a sample of rows is compared, in seconds; 0 never.
    pub sample_every_s: u64,
    /// Rows and items of each table in one sample.
    pub sample_rows: usize,
    /// Interval at which every key is compared that changed since everything was, in seconds; 0 never.
    pub incremental_every_s: u64,
    /// Interval at which everything is compared, business rules and sums with it, in seconds; 0 never.
    pub full_every_s: u64,
    /// Address that receives alerts.
    pub webhook_url: Option<String>,
    /// A file whose first line signs what the webhook is sent.
    pub webhook_secret_file: Option<PathBuf>,
    /// A file with the certificate that it shows, and those that vouch for it, in PEM; with it, it speaks
    /// TLS.
    pub tls_cert: Option<PathBuf>,
    /// A file with the certificate's key, in PEM.
    pub tls_key: Option<PathBuf>,
    /// Differences in ten minutes of HybridRead after which reads go back to PostgreSQL by themselves.
    pub mismatches_max: u64,
    /// Dollars after which it stops copying and comparing; 0 never.
    pub spend_cap_usd: f64,
}

impl ServeOptions {
    /// Returns the interval at which a sample is compared, if one is.
    pub fn sample_every(&self) -> Option<Duration> {
        (self.sample_every_s > 0).then(|| Duration::from_secs(self.sample_every_s))
    }

    /// Returns the interval at which changed keys are compared, if they are.
    pub fn incremental_every(&self) -> Option<Duration> {
        (self.incremental_every_s > 0).then(|| Duration::from_secs(self.incremental_every_s))
    }

    /// Returns the interval at which everything is compared, if it is.
    pub fn full_every(&self) -> Option<Duration> {
        (self.full_every_s > 0).then(|| Duration::from_secs(self.full_every_s))
    }

    /// Returns the cap, if there is one.
    pub fn spend_cap(&self) -> Option<f64> {
        Some(self.spend_cap_usd).filter(|usd| *usd > 0.0)
    }
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            listen: LISTEN.to_owned(),
            hosts: Vec::new(),
            operate_token_file: None,
            read_token_file: None,
            sample_every_s: 300,
            sample_rows: 200,
            incremental_every_s: 3_600,
            full_every_s: 0,
            webhook_url: None,
            webhook_secret_file: None,
            tls_cert: None,
            tls_key: None,
            mismatches_max: 10,
            spend_cap_usd: 0.0,
        }
    }
}

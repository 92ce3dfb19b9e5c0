//! A build for production, as the container image has it: it starts no stores.

use super::Kept;
use crate::exit::Failure;
use crate::ui::Ui;

/// Stores of a run's own, of which this build has none.
#[derive(Debug)]
pub(super) enum Embedded {}

impl Embedded {
    pub(super) async fn start(_keep: bool, _ui: &Ui) -> anyhow::Result<Self> {
        Err(Failure::usage(
            "this build has no stores of its own: set source.url (LOCKSTEP_SOURCE__URL) and the target \
             (LOCKSTEP_TARGET__REGION or LOCKSTEP_TARGET__ENDPOINT_URL)",
        ))
    }

    pub(super) fn source_url(&self) -> &str {
        match *self {}
    }

    pub(super) fn endpoint_url(&self) -> &str {
        match *self {}
    }

    pub(super) async fn close(self, _keep: bool) -> anyhow::Result<Option<Kept>> {
        match self {}
    }
}

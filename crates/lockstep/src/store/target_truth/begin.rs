//! Which store a call writes.

use std::time::{Duration, Instant};

use lockstep_core::{Kind, Phase, Result, Side};

use super::Permit;
use crate::store::{WriteTransaction, Writer};

/// A write that has begun.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way from one function to the next")]
pub(crate) enum Begun {
    /// A write in the source, behind the barrier.
    Source(WriteTransaction),
    /// A write in the target.
    Target(Permit),
}

impl Writer {
    /// Begins a write where the truth is: by what this process knows, and where that says the source, by what
    /// the source says behind the barrier. While the truth is on its way, it waits.
    pub(crate) async fn begin_where_the_truth_is(&self) -> Result<Begun> {
        let deadline = Instant::now() + Duration::from_millis(self.options().pause_wait_ms_max);
        loop {
            if let Some(permit) = self.phase().permit(deadline).await? {
                return Ok(Begun::Target(permit));
            }
            let asked_at = Instant::now();
            match self.begin().await {
                Ok(write) if write.control.phase != Phase::DynamoOnly => return Ok(Begun::Source(write)),
                // It has moved, and the keeper of our lease is told to look where.
                Ok(write) => self.phase().learn(write.control, asked_at),
                Err(error) if error.side == Side::Source && error.kind == Kind::Unavailable => {
                    if self.phase().current().await.map_err(|_| error)?.phase != Phase::DynamoOnly {
                        continue;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

//! Questions to a target that may be away: one that does not answer is asked nothing more, so that a reading
//! takes one wait and not one a table.

use std::time::Duration;

use lockstep_core::{Error, Kind};
use lockstep_dynamo::Target;

/// Longest wait for one answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Tables that a target is asked of at once: one that is silent is waited for once, and not once a table.
pub(crate) const ASKED_AT_ONCE: usize = 64;

/// Returns why a target does not answer, if it does not within some seconds.
pub async fn silence(target: &Target) -> Option<String> {
    let mut asked = Asked::of(Some(target));
    asked.answer(target.control().record()).await;
    asked.silent()
}

/// Table that is asked about, and the error that was met.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    target: Option<&'a Target>,
    error: Option<Error>,
}

impl<'a> Asked<'a> {
    /// `None` for one that is known to be away, and is not asked.
    pub(crate) fn of(target: Option<&'a Target>) -> Self {
        Self { target, error: None }
    }

    /// Returns the target, while it answers.
    pub(crate) fn target(&self) -> Option<&'a Target> {
        self.target.filter(|_| !self.is_away())
    }

    /// Returns the answer to a question; `None` where there is none, which is noted.
    pub(crate) async fn answer<T>(&mut self, question: impl Future<Output = Result<T, Error>>) -> Option<T> {
        let answer = tokio::time::timeout(ANSWER_WITHIN, question).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
            Err(Error::target(Kind::Unavailable, "looking at the target", message))
        });
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                if !self.is_away() {
                    self.error = Some(error);
                }
                None
            }
        }
    }

    /// Returns why it does not answer at all, if it does not. One that denies answers, and may deny one thing
    /// alone.
    pub(crate) fn silent(&self) -> Option<String> {
        let is_silent = |kind| matches!(kind, Kind::Unavailable | Kind::Unknown);
        self.error.as_ref().filter(|error| is_silent(error.kind)).map(ToString::to_string)
    }

    /// Tells whether it does not answer. One that answers with what is wrong is asked on.
    pub(crate) fn is_away(&self) -> bool {
        let is_away = |kind| matches!(kind, Kind::Unavailable | Kind::Unknown | Kind::Denied);
        self.error.as_ref().is_some_and(|error| is_away(error.kind))
    }

    /// Returns the error that was met.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Returns the same in a sentence.
    pub(crate) fn text(&self) -> Option<String> {
        self.error.as_ref().map(ToString::to_string)
    }

    /// Returns the words about a table that was not seen.
    pub(crate) fn unknown(&self) -> &'static str {
        if self.error.is_some() { "not known" } else { "not asked" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_target_that_is_silent_is_waited_for_once_and_the_reason_is_kept() {
        let mut asked = Asked::of(None);
        assert_eq!((asked.answer(async { Ok(1) }).await, asked.unknown()), (Some(1), "not asked"));
        let begun = tokio::time::Instant::now();
        assert_eq!(asked.answer(std::future::pending::<Result<(), Error>>()).await, None);
        assert_eq!(begun.elapsed().as_secs(), ANSWER_WITHIN.as_secs());
        let why = asked.text().expect("a reason");
        assert!(why.contains("DynamoDB") && why.contains("no answer within 3 s"), "{why}");
        assert_eq!((asked.unknown(), asked.target().is_none()), ("not known", true));
    }
}

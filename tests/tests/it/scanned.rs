//! Output of each process that a test runs, looked through for the secrets that it was given, and for what a
//! terminal acts on.

use std::process::Output;

use tokio::process::Command;

/// Shorter ones are words that tests use for passwords, and stand in other words.
const SHORTEST: usize = 8;
/// Names of variables, in part, whose values are secrets, and endings of those that name a place of one.
const NAMES: [&str; 3] = ["SECRET", "TOKEN", "PASSWORD"];
const PLACES: [&str; 4] = ["_FILE", "_COMMAND", "_URI", "_ARN"];
/// Characters that turn the direction of a text.
const BIDI: [std::ops::RangeInclusive<char>; 3] =
    ['\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];

/// Secrets that a process was given in its environment. The password of the tests' cluster is one: it is made
/// by chance, and stands in nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    what: String,
    all: Vec<String>,
}

impl Secrets {
    /// Those of a command that is about to be started.
    pub(crate) fn of(command: &Command) -> Self {
        let command = command.as_std();
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        let mut all = Vec::new();
        for (name, value) in command.get_envs() {
            let (name, Some(value)) = (name.to_string_lossy(), value) else { continue };
            let value = value.to_string_lossy().into_owned();
            all.extend(password(&value).map(str::to_owned));
            let is_place = PLACES.iter().any(|place| name.ends_with(place));
            if !is_place && NAMES.iter().any(|part| name.contains(part)) {
                all.push(value);
            }
        }
        all.retain(|secret| secret.len() >= SHORTEST);
        Self { what: words.collect::<Vec<_>>().join(" "), all }
    }

    /// Returns what is wrong with a text that it has said.
    pub(crate) fn wrong_with(&self, text: &str) -> Option<String> {
        if self.all.iter().any(|secret| text.contains(secret.as_str())) {
            return Some(format!("a secret is in what `{}` says", self.what));
        }
        let acts = |c: &char| {
            (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || BIDI.iter().any(|range| range.contains(c))
        };
        let found = text.chars().find(acts)?;
        Some(format!("{found:?} is in what `{}` says: {}", self.what, text.escape_debug()))
    }

    /// # Panics
    /// When a secret is in it, or a character that a terminal acts on.
    #[track_caller]
    pub(crate) fn scan(&self, output: &Output) {
        for bytes in [&output.stdout, &output.stderr] {
            if let Some(wrong) = self.wrong_with(&String::from_utf8_lossy(bytes)) {
                panic!("{wrong}");
            }
        }
    }

    /// The same of a body of HTTP, in which characters are a browser's.
    #[track_caller]
    pub(crate) fn scan_body(&self, place: &str, text: &str) {
        let found = self.all.iter().any(|secret| text.contains(secret.as_str()));
        assert!(!found, "a secret is in what `{}` answers to {place}", self.what);
    }
}

/// The password in a URL.
fn password(url: &str) -> Option<&str> {
    let (who, _) = url.split_once("://")?.1.rsplit_once('@')?;
    Some(who.split_once(':')?.1)
}

#[test]
fn secrets_of_an_environment_are_found_wherever_they_stand_and_escapes_as_well() {
    let mut command = Command::new("lockstep");
    command
        .arg("status")
        .env("LOCKSTEP_SOURCE__URL", "postgres://who:long-enough@127.0.0.1:1/x")
        .env("AWS_SECRET_ACCESS_KEY", "a-secret-key")
        .env("LOCKSTEP_TARGET__ENDPOINT_URL", "http://127.0.0.1:2")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", "/a/place/of/one");
    let secrets = Secrets::of(&command);
    for text in ["to who:long-enough@", "x a-secret-key x", "\u{1b}[2J", "a\u{202e}b", "\u{9b}"] {
        assert!(secrets.wrong_with(text).is_some_and(|wrong| wrong.contains("`status`")), "{text:?}");
    }
    for text in ["host 127.0.0.1:1, role who\n\tdone\r\n", "/a/place/of/one", "http://127.0.0.1:2"] {
        assert_eq!(secrets.wrong_with(text), None);
    }
    command.env("LOCKSTEP_SOURCE__URL", "postgres://u:p@db.invalid/x").env_remove("AWS_SECRET_ACCESS_KEY");
    assert_eq!(Secrets::of(&command).wrong_with("p, as in any text"), None, "too short to be told apart");
}

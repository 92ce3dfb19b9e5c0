//! Commands that no walk types as they are printed, and why: the one list.

use super::page::Shown;

/// Beginnings of commands that no walk runs, each with the reason.
pub(super) const ELSEWHERE: [(&str, &str); 10] = [
    (".ci/run", "it runs these tests"),
    ("cargo test", "it runs these tests; `.ci/run test` is the same"),
    (
        "cargo run -p lockstep-loan-app",
        "does not end; `examples/loan-app/src/tests.rs` takes the service there and back",
    ),
    ("examples/loan-app/load.sh", "keeps that service busy until it is ended"),
    (
        "cargo xtask bench",
        "minutes of a release build; `it/bench.rs` runs the relay's with few rows, and parts of others",
    ),
    ("cargo xtask soak", "a night; `it/schedules` runs its schedules"),
    ("cargo xtask mutants", "a night, in a copy that it builds; a person runs it"),
    ("cargo xtask uninstall --copy", "wants a copy of the source; `it/uninstall.rs` makes one"),
    ("aws", "wants an account of AWS"),
    ("kubectl", "wants a cluster; the tidy test `kubernetes` holds what is applied against the image"),
];

/// Stand-ins for commands of a page: heading, printed, typed. Where stores are is another matter:
/// see `Reader::knows`.
const STAND_INS: [(&str, &str, &str); 3] = [
    // A minute, as the page says: fewer rows are seeded.
    ("Try it", "cargo xtask migrate", "cargo xtask migrate --logs 300 --payments 60 --live-writes 20"),
    // The walk of docs/operate.md types it, and it takes ten seconds.
    ("Try it", "cargo xtask serve --demo", ":"),
    // The port may be taken.
    ("Ten minutes", "lockstep dynamo-server --port 8000", "lockstep dynamo-server --port 0"),
];

/// A page of a workspace of its own.
const PAGES_ELSEWHERE: [(&str, &str); 1] = [("examples/own-tables/README.md", "`.ci/run outside` runs it")];

/// Whether no walk types what a page shows.
pub(super) fn is_page_elsewhere(page: &str) -> bool {
    PAGES_ELSEWHERE.iter().any(|(listed, _)| *listed == page)
}

/// Whether a command is on the list.
pub(super) fn is_elsewhere(command: &str) -> bool {
    ELSEWHERE.iter().any(|(begins, _)| begins_with(command, begins))
}

/// Whether a command begins with these words.
pub(super) fn begins_with(command: &str, words: &str) -> bool {
    command.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Command that is typed for it.
pub(super) fn typed(shown: &Shown) -> &str {
    STAND_INS
        .iter()
        .find(|(heading, printed, _)| *heading == shown.heading && *printed == shown.text)
        .map_or(shown.text.as_str(), |(.., typed)| typed)
}

/// Stand-ins that no page needs any more.
pub(super) fn unused(shown: &[Shown]) -> Vec<&'static str> {
    let needed = |(heading, printed, _): &&(&str, &str, &str)| {
        !shown.iter().any(|one| one.heading == *heading && one.text == *printed)
    };
    STAND_INS.iter().filter(needed).map(|(_, printed, _)| *printed).collect()
}

//! Name by which this program is called, so that what it advises can be typed as it stands.
//!
//! Texts are written once, with `cargo xtask`, which is what this checkout's readers type. Where another
//! binary runs them, its name is put in place of that at the few points where text leaves the program: help,
//! reports and messages.

use std::borrow::Cow;
use std::sync::OnceLock;

/// Name of the program in texts, as they are written.
const WRITTEN: &str = "cargo xtask";

static RUNNING: OnceLock<String> = OnceLock::new();

/// Says that this program is called `name`; the first call counts. Without one texts stay as they are
/// written.
pub fn is_called(name: impl Into<String>) {
    let _ = RUNNING.set(name.into());
}

/// Returns what to type to run this program: its file's name, or `cargo xtask` for one that is called so.
pub(crate) fn runs_as() -> String {
    let path = std::env::args_os().next().map(std::path::PathBuf::from);
    match path.as_deref().and_then(|path| path.file_stem()?.to_str()) {
        None | Some("xtask") => WRITTEN.to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// `text` with the commands as this program takes them.
pub(crate) fn spoken(text: &str) -> Cow<'_, str> {
    match RUNNING.get() {
        Some(name) => named(text, name),
        None => Cow::Borrowed(text),
    }
}

/// `command` and everything under it, with help texts as this program is called.
pub(crate) fn help_of(command: clap::Command) -> clap::Command {
    RUNNING.get().map_or(command.clone(), |name| renamed(command, name))
}

fn named<'a>(text: &'a str, name: &str) -> Cow<'a, str> {
    if text.contains(WRITTEN) { Cow::Owned(text.replace(WRITTEN, name)) } else { Cow::Borrowed(text) }
}

fn renamed(mut command: clap::Command, name: &str) -> clap::Command {
    let say = |text: Option<&clap::builder::StyledStr>| {
        text.map(|text| named(&text.to_string(), name).into_owned())
    };
    let (about, long, after) =
        (say(command.get_about()), say(command.get_long_about()), say(command.get_after_help()));
    if let Some(about) = about {
        command = command.about(about);
    }
    if let Some(long) = long {
        command = command.long_about(long);
    }
    if let Some(after) = after {
        command = command.after_help(after);
    }
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, sub| command.mut_subcommand(sub, |sub| renamed(sub, name)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn help_of_another_binary_names_no_command_of_this_checkout() {
        let mut command = renamed(Cli::command(), "lockstep");
        command.build();
        assert!(command.render_long_help().to_string().contains("lockstep migrate --keep"));
        for sub in command.get_subcommands() {
            let help = sub.clone().render_long_help().to_string();
            assert!(!help.contains(WRITTEN), "{}: {help}", sub.get_name());
        }
    }

    #[test]
    fn only_the_program_is_put_in_place() {
        assert_eq!(
            named("run `cargo xtask doctor`, then `cargo xtask advance`", "lockstep"),
            "run `lockstep doctor`, then `lockstep advance`"
        );
        assert_eq!(named("cargo build", "lockstep"), "cargo build");
    }
}

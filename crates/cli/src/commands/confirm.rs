//! Asking before what cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use crate::exit::{Exit, Failure};
use crate::ui::printable;

/// Goes on when it was said on the command line, or when the name of the database is typed now.
///
/// # Errors
/// [`Exit::Usage`] where there is no operator to ask, [`Exit::Refused`] for another answer.
pub(super) fn confirm(yes: bool, database: &str, what: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() {
        return Err(Failure::usage(format!(
            "this is to {what}; say --yes, as there is no terminal to ask on"
        )));
    }
    let asked = format!("This is to {what}.\nType the name of the source database ({database}) to go on: ");
    write!(stderr, "{}", printable(&asked))?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    if answer.trim() == database {
        return Ok(());
    }
    Err(Failure { exit: Exit::Refused, message: "that is not its name; nothing was done".to_owned() }.into())
}

//! Commands that a page shows, in its order: commands of its `sh` blocks, one by one, and `sql` blocks
//! whole.

use lockstep_tidy::files;

/// One thing that a page has its reader type.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// Page and line.
    pub(super) place: String,
    /// Heading that it stands under.
    pub(super) heading: String,
    /// Words of the fence: `sh`, `sql`.
    pub(super) language: String,
    /// Command as it is printed, without what is said of it; a block of SQL whole.
    pub(super) text: String,
    /// Comment on it, after ` # `.
    pub(super) note: String,
}

impl Shown {
    /// Exit codes that the page promises: those that its note says it ends with, and else 0.
    pub(super) fn codes(&self) -> Vec<i32> {
        const SAYS: &str = "ends with ";
        let Some((_, after)) = self.note.split_once(SAYS) else { return vec![0] };
        let said: String = after.chars().take_while(char::is_ascii_digit).collect();
        vec![said.parse().unwrap_or_else(|_| panic!("{}: no code after `{SAYS}`", self.place))]
    }

    /// The command, whichever way of typing it the page has chosen.
    pub(super) fn product(&self) -> String {
        product(&self.text)
    }
}

/// `lockstep X` and `cargo xtask X` are one command.
pub(super) fn product(command: &str) -> String {
    command.strip_prefix("lockstep ").map_or_else(|| command.to_owned(), |rest| format!("cargo xtask {rest}"))
}

/// Everything that a page shows to be typed.
pub(super) fn shown(page: &str) -> Vec<Shown> {
    of_text(page, &files::read(page))
}

fn of_text(page: &str, text: &str) -> Vec<Shown> {
    let (mut found, mut heading) = (Vec::new(), String::new());
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let block: Vec<(usize, &str)> =
                lines.by_ref().take_while(|(_, line)| !line.trim_start().starts_with("```")).collect();
            let of = |at: usize, text: String, note: &str| Shown {
                place: format!("{page}:{}", at + 1),
                heading: heading.clone(),
                language: language.to_owned(),
                text,
                note: note.trim().to_owned(),
            };
            match (language, block.first()) {
                ("sh", _) => found.extend(commands(&block).into_iter().map(|(at, line)| {
                    let (command, note) = parts(&line);
                    of(at, command.trim().to_owned(), note)
                })),
                ("sql", Some((at, _))) => {
                    let lines: Vec<&str> = block.iter().map(|(_, line)| *line).collect();
                    found.push(of(*at, lines.join("\n"), ""));
                }
                _ => {}
            }
        } else if line.starts_with('#') {
            line.trim_start_matches('#').trim().clone_into(&mut heading);
        }
    }
    found
}

/// Lines that hold a command; one that ends with a backslash goes on in the next.
fn commands(block: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (at, line) in block {
        let line = line.trim();
        match found.last_mut().filter(|_| goes_on) {
            Some((_, before)) => *before = format!("{} {line}", before.trim_end_matches('\\').trim_end()),
            None if line.is_empty() || line.starts_with('#') => continue,
            None => found.push((*at, line.to_owned())),
        }
        goes_on = line.ends_with('\\');
    }
    found
}

/// A command and what is said of it; a `#` between quotes is the command's.
fn parts(line: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '#' && line[..at].ends_with(' ') => return (&line[..at], &line[at + 1..]),
            _ => {}
        }
    }
    (line, "")
}

#[test]
fn commands_are_read_in_their_order_with_what_the_page_says_of_them() {
    let text = "# A\n```sh\nrun -d '# x' \\\n  --more   # ends with 3 today\n# a comment\nb\n```\n\
                ## C\n  ```sql\n  SELECT 1;\n  ```\n```text\nno\n```\n";
    let shown = of_text("p.md", text);
    let said: Vec<(&str, &str, &str)> =
        shown.iter().map(|one| (one.place.as_str(), one.heading.as_str(), one.text.trim())).collect();
    assert_eq!(
        said,
        [("p.md:3", "A", "run -d '# x' --more"), ("p.md:6", "A", "b"), ("p.md:10", "C", "SELECT 1;")]
    );
    assert_eq!((shown[0].codes(), shown[1].codes()), (vec![3], vec![0]));
    assert_eq!(product("lockstep status"), product("cargo xtask status"));
}

//! A reader of a page, at a shell that keeps what `export` and `cd` did, with a second terminal for what
//! keeps running.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lockstep_tests::World;
use lockstep_tests::world::within;
use lockstep_tidy::files;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::elsewhere::{begins_with, is_elsewhere, typed};
use super::page::{Shown, product, shown};

/// Longest that one command may take.
const LONGEST: Duration = Duration::from_mins(2);
/// Programs that keep running, and what they print once they do their work. With `ENDS_BY_ITSELF` it ends.
const LONG: [(&str, &str); 6] = [
    ("cargo xtask serve", "Address: http://127.0.0.1:"),
    ("cargo xtask dynamo-server", "http://127.0.0.1:"),
    ("cargo xtask relay", "Delivering changes"),
    ("cargo xtask reverse-feed", "Bringing the writes of DynamoDB"),
    ("cargo xtask worker --stay", "  work "),
    ("curl -NH", "data:"),
];
const ENDS_BY_ITSELF: &str = "--until-empty";
/// Code of a program that SIGTERM ended; only curl may.
const TERMINATED: i32 = 143;

/// One reader.
pub(super) struct Reader<'w> {
    world: &'w World,
    folder: TempDir,
    shell: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Names of this world in place of those that a page makes up.
    known: Vec<(String, String)>,
    running: Vec<(Shown, u32)>,
    typed: usize,
}

impl<'w> Reader<'w> {
    /// A reader who has built the program, in a checkout, and has configured nothing.
    pub(super) fn new(world: &'w World) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        let path =
            format!("{}:{}", folder.path().join("bin").display(), std::env::var("PATH").expect("a path"));
        let mut shell = Command::new("bash");
        shell
            .arg("--norc")
            .current_dir(folder.path())
            .env("PATH", path)
            .env("CURL_HOME", folder.path().join("bin"))
            .env("LOCKSTEP_SERVE__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut shell = shell.spawn().expect("a shell");
        let input = shell.stdin.take().expect("its input");
        let output = BufReader::new(shell.stdout.take().expect("its output")).lines();
        let stores = [
            ("LOCKSTEP_SOURCE__URL", world.url()),
            ("LOCKSTEP_TARGET__ENDPOINT_URL", &world.target.address()),
            ("LOCKSTEP_TARGET__REGION", "eu-central-1"),
            ("LOCKSTEP_TARGET__EMULATOR_CREDENTIALS", "true"),
            // No request to an emulator lands later, as docs/your-own-tables.md says.
            ("LOCKSTEP_TARGET__REQUEST_LIFETIME_S", "1"),
            ("LOCKSTEP_STEPS__LOCK_PAUSE_MS", "50"),
        ];
        let known = stores.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { world, folder, shell, input, output, known, running: Vec::new(), typed: 0 }
    }

    /// A reader whose configuration names the stores of the world.
    pub(super) async fn configured(world: &'w World) -> Self {
        let mut reader = Self::new(world);
        reader.knows().await;
        reader
    }

    /// Has the names of this world take the place of those that the page made up: its host is no machine.
    pub(super) async fn knows(&mut self) {
        let known: Vec<String> =
            self.known.iter().map(|(name, value)| format!("export {name}='{value}'")).collect();
        self.tell(&known.join("\n")).await;
    }

    /// The same for one name.
    pub(super) fn sets(&mut self, name: &str, value: &str) {
        self.known.retain(|(known, _)| known != name);
        self.known.push((name.to_owned(), value.to_owned()));
    }

    /// The folder that it works in.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Types everything that stands under a heading, in its order. What was printed.
    pub(super) async fn reads(&mut self, page: &str, heading: &str) -> String {
        let shown = shown(page);
        let mut said = String::new();
        let mut seen = 0;
        for one in shown.iter().filter(|one| one.heading == heading && !is_elsewhere(&one.product())) {
            said += &self.types(one).await;
            seen += 1;
        }
        assert!(seen > 0, "{page} shows nothing to be typed under {heading:?}");
        said
    }

    /// Types one command as it is printed, and holds its end against what the page says.
    async fn types(&mut self, one: &Shown) -> String {
        if one.language == "sql" {
            self.world.sql(&one.text).await;
            return String::new();
        }
        let command = typed(one).to_owned();
        let begun = std::time::Instant::now();
        let said = match sign_of(&command) {
            Some(sign) => self.keeps_running(one, &command, sign).await,
            None => {
                let (code, said) = self.runs(&command).await;
                assert!(one.codes().contains(&code), "{}: `{command}` ended with {code}: {said}", one.place);
                said
            }
        };
        println!("{}: `{command}` took {:.1} s", one.place, begun.elapsed().as_secs_f64());
        if self.assigns(&command) {
            self.knows().await;
        }
        said
    }

    /// Whether it gives a value to a name that this world knows better.
    fn assigns(&self, command: &str) -> bool {
        let is_named = |word: &str| self.known.iter().any(|(name, _)| word.starts_with(&format!("{name}=")));
        command.split([' ', ';']).any(is_named)
    }

    /// Types a command that ends. Its code and what it printed.
    pub(super) async fn runs(&mut self, command: &str) -> (i32, String) {
        let out = self.next_output();
        self.tell(&format!("{{ {command}\n}} > {out} 2>&1 < /dev/null; echo $?")).await;
        let code = self.hears(command).await;
        (code, self.printed(&out))
    }

    /// Starts what keeps running, waits until it does its work, and ends it unless the page says to keep it.
    async fn keeps_running(&mut self, one: &Shown, command: &str, sign: &str) -> String {
        let out = self.next_output();
        self.tell(&format!("{command} > {out} 2>&1 < /dev/null & echo $!")).await;
        let process = u32::try_from(self.hears(command).await).expect("a process");
        let said = within(LONGEST, self.until(one, process, &out, sign)).await;
        if let Some(address) = address_in(&said, sign) {
            let name = if command.contains("dynamo-server") { "LOCKSTEP_TARGET__ENDPOINT_URL" } else { "D" };
            self.sets(name, &address);
        }
        if one.note.contains("keep it running") {
            self.running.push((one.clone(), process));
        } else {
            self.ends(one, process).await;
        }
        said
    }

    /// Output of it, once the sign is in it.
    async fn until(&mut self, one: &Shown, process: u32, out: &str, sign: &str) -> String {
        loop {
            let runs = self.runs_still(process).await;
            let said = self.printed(out);
            if said.contains(sign) {
                return said;
            }
            assert!(runs, "{}: `{}` has ended: {said}", one.place, one.text);
        }
    }

    /// Whether a process of the second terminal has not ended, a moment later.
    async fn runs_still(&mut self, process: u32) -> bool {
        let running = "\" $(jobs -pr | tr '\\n' ' ') \"";
        let asked = format!("sleep 0.05; case {running} in *\" {process} \"*) echo 0;; *) echo 1;; esac");
        self.tell(&asked).await;
        self.hears("jobs").await == 0
    }

    /// SIGTERM, and a good end.
    async fn ends(&mut self, one: &Shown, process: u32) {
        self.tell(&format!("kill -TERM {process}; wait {process}; echo $?")).await;
        let code = self.hears(&one.text).await;
        let good = if one.text.starts_with("curl") { TERMINATED } else { 0 };
        assert_eq!(code, good, "{}: `{}`, when it was told to end", one.place, one.text);
    }

    /// Ends everything that was kept running, the newest first, and leaves.
    pub(super) async fn leaves(mut self) {
        while let Some((one, process)) = self.running.pop() {
            self.ends(&one, process).await;
        }
    }

    async fn tell(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("the shell reads");
    }

    /// The number that the shell says next.
    async fn hears(&mut self, of: &str) -> i32 {
        let line = within(LONGEST, self.output.next_line()).await.expect("the shell speaks");
        let line = line.unwrap_or_else(|| panic!("`{of}` ended the shell"));
        line.trim().parse().unwrap_or_else(|_| panic!("`{of}`: the shell said {line:?}"))
    }

    fn next_output(&mut self) -> String {
        self.typed += 1;
        self.folder.path().join(format!("bin/{}.out", self.typed)).display().to_string()
    }

    fn printed(&self, out: &str) -> String {
        std::fs::read(out).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default()
    }
}

impl Drop for Reader<'_> {
    /// After a failure: what it started ends with it.
    fn drop(&mut self) {
        if let Some(shell) = self.shell.id() {
            let group = format!("-{shell}");
            let _ = std::process::Command::new("kill").args(["-KILL", "--", &group]).status();
        }
    }
}

/// Sign that a command which keeps running prints once it works; `None` for one that ends.
fn sign_of(command: &str) -> Option<&'static str> {
    let command = product(command);
    let keeps = LONG.iter().find(|(begins, _)| begins_with(&command, begins))?;
    (!command.contains(ENDS_BY_ITSELF)).then_some(keeps.1)
}

/// The address of this machine that a sign ends in.
fn address_in(said: &str, sign: &str) -> Option<String> {
    const HTTP: &str = "http://";
    let from = said.find(sign)? + sign.find(HTTP)?;
    Some(said[from..].split_whitespace().next().unwrap_or_default().to_owned())
}

/// The programs that a reader has, and the folders of a checkout that pages name.
fn prepare(folder: &Path) {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    let program = env!("CARGO_BIN_EXE_lockstep-under-test");
    symlink(program, bin.join("lockstep")).expect("a link");
    let cargo = format!(
        "#!/bin/sh\n[ \"$1\" = xtask ] || {{ echo \"cargo $1 is typed by no walk\" >&2; exit 127; }}\n\
         shift\nexec '{program}' \"$@\"\n"
    );
    program_of(&bin.join("cargo"), &cargo);
    // A refusal fails the command that met it, and no page has to say so.
    std::fs::write(bin.join(".curlrc"), "silent\nshow-error\nfail-with-body\n").expect("written");
    for shared in ["config", "docs", "ops"] {
        symlink(files::root().canonicalize().expect("the root").join(shared), folder.join(shared))
            .expect("a link");
    }
}

/// Writes a program.
pub(super) fn program_of(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a program");
}

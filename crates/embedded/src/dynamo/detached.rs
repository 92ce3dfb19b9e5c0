//! An embedded DynamoDB in a process of its own, which outlives this one.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{Error, blocking};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// A process that serves an embedded DynamoDB. Unlike everything else here it is *not* ended by dropping it.
#[derive(Debug)]
pub struct DetachedDynamo {
    endpoint_url: String,
    process: Child,
}

impl DetachedDynamo {
    /// Starts `program` with `arguments` in a process group of its own (a Ctrl-C does not reach it) and
    /// returns when it has printed its endpoint, as [`serve_dynamo`](crate::serve_dynamo) describes.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`]; [`Error::DynamoServer`] if it ends, or is silent for ten seconds; it is then killed.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the process is started all the same and runs on.
    pub async fn spawn<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<DetachedDynamo, Error> {
        let mut command = Command::new(program);
        command.args(arguments).process_group(0);
        // Nothing that a reader of our own output would wait for, and nothing of the terminal's.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let program = program.to_owned();
        blocking(move || {
            let mut process = command.spawn().map_err(Error::spawn(program))?;
            match endpoint_of(&mut process) {
                Ok(endpoint_url) => {
                    tracing::debug!(
                        pid = process.id(),
                        endpoint_url,
                        "an embedded DynamoDB runs in its own process"
                    );
                    Ok(DetachedDynamo { endpoint_url, process })
                }
                Err(reason) => {
                    if let Err(error) = process.kill().and_then(|()| process.wait()) {
                        tracing::warn!(%error, "could not end a DynamoDB process that did not come up");
                    }
                    Err(Error::DynamoServer { what: "in its own process did not come up", reason })
                }
            }
        })
        .await
    }

    /// Returns the endpoint for the SDK.
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// Returns the process, to tell the operator whom to end.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends the process with SIGKILL. Every write that it had answered is in its file.
    ///
    /// # Errors
    ///
    /// [`Error::DynamoServer`] if the system refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, the process is ended all the same.
    pub async fn kill(mut self) -> Result<(), Error> {
        blocking(move || {
            let killed = self.process.kill().and_then(|()| self.process.wait());
            killed.map(drop).map_err(|error| Error::DynamoServer {
                what: "in its own process could not be ended",
                reason: error.to_string(),
            })
        })
        .await
    }
}

/// Reads on a thread: a pipe cannot be read with a deadline otherwise. The caller kills a process that is
/// silent, and that ends the thread.
fn endpoint_of(process: &mut Child) -> Result<String, String> {
    let pipe = process.stdout.take().ok_or("it has no output")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(pipe).lines().map_while(Result::ok);
        // The receiver is gone only after its deadline.
        let _ = sender.send(lines.find(|line| line.starts_with("http://")));
    });
    let found = receiver.recv_timeout(READY_WITHIN);
    let found = found.map_err(|_| format!("it named no endpoint for {} s", READY_WITHIN.as_secs()))?;
    found.ok_or_else(|| "it ended without naming its endpoint".to_owned())
}

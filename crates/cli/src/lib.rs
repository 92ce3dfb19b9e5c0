//! Lockstep's command line: the one place where everything is put together.
//!
//! Words are those of the crates: *source*, *target*, *phase*, *gate*, *verdict*. Read the modules in this
//! order: [`run`] (which tables a program knows), `program` (how it is called), `spelling` (how what the
//! libraries advise is typed), [`cli`] (what can be typed), `durations` (how long, as it is typed),
//! [`config`] (what can be set), `declared` (tables that are configured), `stores` (where they are), [`exit`]
//! (how a command ends), `signals` (what ends it from outside), `panics` (where it went wrong), `told` (a
//! test of what documents say of defaults), `ui`, `progress_metrics` (what Prometheus reads), `report` and
//! `evidence` (what people and programs read), `files` (what others must not read), `infrastructure` (target
//! tables as files of other tools), [`commands`] (one file each, and `commands/migrate` for the whole run),
//! `demo` and `sample` (the demonstration, and who writes in it).
//!
//! There is no logic of moving data here: the coordinator, the validator and the stores have it.

pub mod cli;
pub mod commands;
pub mod config;
pub mod declared;
pub mod demo;
mod durations;
mod evidence;
pub mod exit;
mod files;
mod infrastructure;
mod panics;
pub mod program;
mod progress_metrics;
pub mod report;
#[cfg(feature = "sample")]
pub mod sample;
pub mod signals;
mod spelling;
pub mod stores;
#[cfg(all(test, feature = "sample"))]
mod told;
pub mod ui;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use futures::future::LocalBoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry as Subscriber};

use cli::{Cli, Command, Global, LogFormat};
use config::{Config, Inputs, Registry, Setting, mask_passwords};
use demo::Demo;
use exit::{Exit, exit_of};
use ui::{Ui, printable};

pub use lockstep::tables;
pub use spelling::spell_advice;

/// Rows become many small allocations on one thread and are freed on another; the system's allocator spends a
/// sixth of a backfill on that.
#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time that whatever still runs in the background may take to end once a command has ended.
const BACKGROUND_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Context that every command works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// Configuration of the run.
    pub config: Config,
    /// Whether the report is wanted as JSON.
    pub json: bool,
    /// Token that Ctrl-C and SIGTERM cancel.
    pub cancel: CancellationToken,
    /// Display for people.
    pub ui: Ui,
    demo: Option<Arc<dyn Demo>>,
}

impl Context {
    /// Returns the demonstration, where it is its tables that move.
    fn demo(&self) -> Option<&dyn Demo> {
        self.demo.as_deref().filter(|_| !self.config.is_replaced())
    }
}

/// A program on this command line: the tables that it knows.
#[derive(Clone, Debug, Default)]
pub struct Program {
    registry: Registry,
    demo: Option<Arc<dyn Demo>>,
}

impl From<Registry> for Program {
    fn from(registry: Registry) -> Self {
        Self { registry, demo: None }
    }
}

/// A command that is about to run: what it was given, and what people see.
#[derive(Debug)]
pub struct Startup {
    global: Global,
    program: Program,
    /// Cancelled by Ctrl-C and SIGTERM.
    pub cancel: CancellationToken,
    ui: Ui,
}

impl Startup {
    /// Reads the configuration, with a command's own `settings` on top.
    ///
    /// # Errors
    /// For a configuration that does not read.
    pub fn context(self, settings: Vec<Setting>) -> anyhow::Result<Context> {
        let Self { global, program: Program { registry, demo }, cancel, ui } = self;
        let inputs = Inputs::of_process(global.config, global.profile, settings);
        let config = Config::load(&registry, &inputs)?;
        // Also for what prints statements and opens no source.
        lockstep_postgres::use_control_schema(&config.source.control_schema)?;
        for warning in config.warnings() {
            ui.warn(&format!("warning: {warning}"));
        }
        Ok(Context { config, json: global.json, cancel, ui, demo })
    }
}

/// Returns the whole of a program with tables of its own, from arguments to exit code.
///
/// ```no_run
/// # use lockstep::CanaryQueries;
/// # fn program<Documents: CanaryQueries + Default, Payments: CanaryQueries + Default>() -> std::process::ExitCode {
/// lockstep_cli::run(lockstep_cli::tables![Documents, Payments])
/// # }
/// ```
pub fn run(program: impl Into<Program>) -> ExitCode {
    run_program(program.into())
}

/// Not generic, so that it is compiled here and not once more in each program.
fn run_program(program: Program) -> ExitCode {
    panics::say_where();
    program::is_called(program::runs_as());
    match parse::<Cli>(&program) {
        Ok(cli) => start(cli.global, program, |startup| run_command(cli.command, startup)),
        Err(code) => code,
    }
}

/// Parses the arguments of this process; `Err` is the code to end with, once help or what is wrong has been
/// printed.
///
/// # Errors
/// For help, the version, and arguments that do not parse.
pub fn parse<C: Parser>(program: &Program) -> Result<C, ExitCode> {
    // A program without a demonstration has no rows to seed.
    let command = C::command().mut_subcommand("seed", |seed| seed.hide(program.demo.is_none()));
    let parsed =
        program::help_of(command).try_get_matches().and_then(|matches| C::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if error.use_stderr() {
            // A URL in the wrong place is quoted, with the password in it.
            let _ = write!(std::io::stderr(), "{}", mask_passwords(&printable(&error.render().to_string())));
            return Exit::Usage.into();
        }
        // Help and version are errors to clap, with code 0; that they could not be printed changes nothing.
        let _ = error.print();
        ExitCode::SUCCESS
    })
}

/// Runs `work` with signals, logs and a runtime, and says how it ended. Other packages build a binary of
/// their own on it.
pub fn start<F: Future<Output = anyhow::Result<Exit>>>(
    global: Global,
    program: Program,
    work: impl FnOnce(Startup) -> F,
) -> ExitCode {
    spell_advice();
    let ui = Ui::stderr(global.quiet).with_gates(global.verbose > 0);
    let json = global.json;
    log_to(&ui, global.verbose, global.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ui.warn(&format!("error: the system gave no threads: {error}"));
            return Exit::Infrastructure.into();
        }
    };
    let result = runtime.block_on(async {
        let cancel = signals::listen(&ui)?;
        work(Startup { global, program, cancel, ui: ui.clone() }).await
    });
    runtime.shutdown_timeout(BACKGROUND_ENDS_WITHIN);
    ui.show_gates();
    let exit = result.unwrap_or_else(|error| {
        let exit = exit_of(&error);
        // One line in JSON on stdout even now, so that a program that reads it always finds something.
        if json {
            report::print_json(&report::error(&error, exit));
        }
        ui.warn(&format!(
            "{}: {}",
            if exit == Exit::Interrupted { "stopped" } else { "error" },
            report::sentence(&error)
        ));
        exit
    });
    exit.into()
}

/// Runs one command.
///
/// In a box: a future is compiled where it is polled, and this one is the whole product. Without the box each
/// program that is built on this crate compiles all of it once more.
///
/// # Errors
/// The command's, and those of a configuration that does not read.
pub fn run_command(command: Command, startup: Startup) -> LocalBoxFuture<'static, anyhow::Result<Exit>> {
    Box::pin(dispatch(command, startup))
}

async fn dispatch(command: Command, startup: Startup) -> anyhow::Result<Exit> {
    #[cfg(feature = "embedded")]
    if let Command::DynamoServer(args) = command {
        // Before the configuration is read: it needs none, and a wrong one must not keep it from starting.
        return commands::dynamo_server::run(args, startup.cancel).await;
    }
    if let Command::Init(args) = command {
        // It makes the configuration that others read.
        let Startup { global, program, .. } = startup;
        return commands::init::run(
            args,
            &program.registry,
            &Inputs::of_process(global.config, global.profile, Vec::new()),
            global.json,
        )
        .await;
    }
    let _served = match startup.global.metrics_listen {
        Some(address) => Some(progress_metrics::serve(address, &startup.ui).await?),
        None => None,
    };
    let context = startup.context(command.settings())?;
    match command {
        Command::Migrate(args) => commands::migrate::run(context, args).await,
        Command::Plan(args) => commands::plan::run(context, args).await,
        Command::Seed(args) => commands::seed::run(context, args).await,
        Command::Status(args) => commands::status::run(context, args).await,
        Command::Backfill(args) => commands::backfill::run(context, args).await,
        Command::Worker(args) => commands::worker::run(context, args).await,
        Command::Relay(args) => commands::relay::run(context, args).await,
        Command::ReverseFeed(args) => commands::reverse_feed::run(context, args).await,
        Command::Validate(args) => commands::validate::run(context, args).await,
        Command::Advance(args) => commands::advance::run(context, args).await,
        Command::Rollback(args) => commands::rollback::run(context, args).await,
        Command::Complete(args) => commands::complete::run(context, args).await,
        Command::Cleanup(args) => commands::cleanup::run(context, args).await,
        Command::Uninstall(args) => commands::uninstall::run(context, args).await,
        Command::DeadLetters(args) => commands::dead_letters::run(context, args).await,
        Command::Orphans(args) => commands::orphans::run(context, args).await,
        Command::Doctor(args) => commands::doctor::run(context, args).await,
        Command::Repair(args) => commands::repair::run(context, args).await,
        Command::Report(args) => commands::report::run(context, args).await,
        Command::TestOperation(args) => commands::test_operation::run(context, args).await,
        Command::Tables(args) => commands::tables::run(context, args).await,
        Command::Tune(args) => commands::tune::run(context, args).await,
        Command::Set(args) => commands::set::run(context, args).await,
        Command::Settings(args) => commands::settings::run(context, args).await,
        Command::Cost(args) => commands::cost::run(context, args).await,
        Command::Checklist(args) => commands::checklist::run(context, args).await,
        Command::Serve(args) => Box::pin(commands::serve::run(context, args)).await,
        Command::IamPolicy(args) => commands::rights::iam_policy(context, args).await,
        Command::Grants(args) => commands::rights::grant(context, args).await,
        Command::Init(_) => unreachable!("it was run above"),
        #[cfg(feature = "embedded")]
        Command::DynamoServer(_) => unreachable!("it was run above"),
    }
}

/// Warnings of ours by default; `RUST_LOG` and `LOCKSTEP_LOG` say otherwise.
fn log_to(ui: &Ui, verbose: u8, format: LogFormat) {
    let ours = match verbose {
        // A node that takes no writes is told of once, and not with each try of the pool.
        // That there are no credentials is said by the error, in words of the configuration.
        0 => "warn,dynoxide=error,sqlx_core::pool::inner=off,aws_config=error",
        1 => "info,dynoxide=error,aws_config=warn,aws_smithy_runtime=warn,sqlx=warn",
        _ => "debug,dynoxide=info,hyper=info,aws_smithy_runtime=info",
    };
    let said =
        ["LOCKSTEP_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok()?.parse().ok());
    // By target and level only: filters by span would need a second engine of regular expressions in every
    // build.
    let filter: Targets = said.or_else(|| ours.parse().ok()).unwrap_or_default();
    // Without colours: what goes to a terminal is escaped as a whole, ours and what is in it.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(ui.clone()).with_ansi(false).with_target(verbose > 0);
    let lines: Box<dyn Layer<Subscriber> + Send + Sync> = match format {
        LogFormat::Text => Box::new(lines),
        // One object a line: time, level, message and fields, with the spans that it belongs to.
        LogFormat::Json => Box::new(lines.with_target(true).json().flatten_event(true)),
    };
    let filter = filter.and(filter_fn(|line| may_log(line.target(), *line.level())));
    // A program that embeds this one may log already.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
}

/// Tells whether a line may be shown, whatever `RUST_LOG` says. Below INFO drivers show what they send:
/// statements with keys in them, requests with items and with the headers that sign them, answers of
/// providers of credentials.
fn may_log(target: &str, level: Level) -> bool {
    const DRIVERS: [&str; 9] =
        ["sqlx", "aws_", "hyper", "h2", "rustls", "reqwest", "tower", "figment", "tokio_rustls"];
    // A notice that a function of the application sends with RAISE, at any level, may hold values of rows.
    let is_raised = target.starts_with("sqlx::postgres::notice");
    !is_raised && (level <= Level::INFO || !DRIVERS.iter().any(|driver| target.starts_with(driver)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_never_log_what_they_send() {
        for target in [
            "sqlx::query",
            "aws_smithy_runtime::client::http",
            "aws_sigv4::http_request::sign",
            "hyper_util::client",
        ] {
            assert!(!may_log(target, Level::DEBUG) && !may_log(target, Level::TRACE), "{target}");
            assert!(may_log(target, Level::WARN));
        }
        assert!(!may_log("sqlx::postgres::notice", Level::ERROR));
        assert!(may_log("lockstep_coordinator::relay", Level::TRACE));
    }
}

//! Reaching the source: one connection first, then pools that are filled as they are needed.

use std::sync::Arc;

use lockstep_core::Advice::{SourceUrl, SourceUrlVariable};
use lockstep_core::Result;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};

use super::{OwnMigration, Source, SourceOptions};
use crate::fault::of_sqlx;
use crate::node::{Told, is_there, require_writer};
use crate::password;
use crate::path::Path;
use crate::plans::Plans;
use crate::pooler;
use crate::session_settings::{connect_options, make_a_session};
use crate::sessions::Sessions;

/// Most connections for intents: each is held for one small commit.
const INTENT_CONNECTIONS_MAX: u32 = 4;

impl Source {
    /// Connects as an application, and checks that the server answers. Its statements run with the search
    /// path of the role, which the triggers and constraints of the application's tables may need.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`](lockstep_core::Kind::Misconfigured) for a URL that does not parse,
    /// [`Kind::Unavailable`](lockstep_core::Kind::Unavailable) or
    /// [`Kind::Denied`](lockstep_core::Kind::Denied) for a server that accepts no connection.
    #[crate::boxed]
    pub async fn connect(options: &SourceOptions) -> Result<Self> {
        Self::connect_with(options, Path::OfTheRole).await
    }

    /// Connects as the operator: no name that another role has put into the search path is ever found by its
    /// statements. Only those that change rows of the application's tables run with the search path of the
    /// role.
    ///
    /// # Errors
    /// As [`Source::connect`].
    #[crate::boxed]
    pub async fn connect_as_operator(options: &SourceOptions) -> Result<Self> {
        Self::connect_with(options, Path::Own).await
    }

    async fn connect_with(options: &SourceOptions, path: Path) -> Result<Self> {
        let connect = connect_options(options)?;
        let place = format!("connecting to PostgreSQL at {}:{}", connect.get_host(), connect.get_port());
        let advise = |e: sqlx::Error| {
            if let Some(error) = pooler::named_by(&e, &place) {
                return error;
            }
            let mut error = of_sqlx(&place, e);
            if !password::is_refused(&error) {
                error.message += &format!(
                    "; check {SourceUrl} ({SourceUrlVariable}) and that the server \
                    accepts connections"
                );
            }
            options.password.advised(error)
        };
        // One connection first: a pool tries again until its time-out and then says no more than that it
        // timed out.
        let connect = options.password.apply(connect).await?;
        let first = tokio::time::timeout(options.connect_timeout, PgConnection::connect_with(&connect)).await;
        let mut first = first.map_err(|_| advise(sqlx::Error::PoolTimedOut))?.map_err(advise)?;
        pooler::refuse(&mut first, &connect, &place, path == Path::Own).await?;
        require_writer(&mut first, &Told::default()).await.map_err(advise)?;
        // It only had to be possible.
        let _ = first.close().await;
        Ok(Self::lazily(options, &connect, path))
    }

    /// Makes a handle on a server that may be down: it connects when it is first needed. Must be called
    /// inside a Tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`](lockstep_core::Kind::Misconfigured) for a URL that does not parse.
    pub fn connect_lazily(options: &SourceOptions) -> Result<Self> {
        Ok(Self::lazily(options, &connect_options(options)?, Path::OfTheRole))
    }

    /// [`Source::connect_as_operator`] to a server that may be down. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Misconfigured`](lockstep_core::Kind::Misconfigured) for a URL that does not parse.
    pub fn connect_lazily_as_operator(options: &SourceOptions) -> Result<Self> {
        Ok(Self::lazily(options, &connect_options(options)?, Path::Own))
    }

    /// Another handle on the same server, with sessions as an application has them. Must be called inside a
    /// Tokio runtime.
    pub fn for_application(&self) -> Self {
        Self::lazily(&self.options, &self.pool().connect_options(), Path::OfTheRole)
    }

    fn lazily(options: &SourceOptions, connect: &PgConnectOptions, path: Path) -> Self {
        let told = Told::default();
        let plans = Arc::<Plans>::default();
        let pool = |connections_max, path: Path| {
            let (told, plans) = (told.clone(), Arc::clone(&plans));
            PgPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(options.connect_timeout)
                .after_connect(move |connection, _| {
                    let told = told.clone();
                    Box::pin(async move {
                        require_writer(connection, &told).await?;
                        make_a_session(connection, path).await
                    })
                })
                // A connection in use a moment ago is not asked first whether it is still there: that
                // question would be half of what a small write costs.
                .test_before_acquire(false)
                .before_acquire(move |connection, known| {
                    let are_old = plans.are_old(known.age);
                    Box::pin(
                        async move { if are_old { Ok(false) } else { is_there(connection, known).await } },
                    )
                })
                .connect_lazy_with(connect.clone())
        };
        let sessions = |connections_max, path| Sessions::new(pool(connections_max, path));
        // Questions about intents concern tables of ours only.
        let (sessions, intents) =
            (sessions(options.connections_max, path), sessions(INTENT_CONNECTIONS_MAX, Path::Own));
        let alive = Arc::new(());
        options.password.clone().keep_fresh(&alive, vec![sessions.pool().clone(), intents.pool().clone()]);
        Self {
            sessions,
            intents,
            options: Arc::new(options.clone()),
            clock_seen: Arc::default(),
            plans,
            own: OwnMigration::default(),
            taken_in: Arc::default(),
            _alive: alive,
        }
    }
}

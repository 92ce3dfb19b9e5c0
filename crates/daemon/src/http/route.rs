//! One route: its path, its token, and what the OpenAPI document says of it.

use std::sync::Arc;

use axum::routing::MethodRouter;

use crate::shared::Shared;

/// Token that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    Read,
    Operate,
}

/// One route.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) needs: Needs,
    pub(super) about: &'static str,
    /// Names of query parameters, and of fields that the body takes besides the common ones.
    pub(super) query: &'static [&'static str],
    pub(super) body: Option<&'static str>,
    pub(super) make: fn() -> MethodRouter<Arc<Shared>>,
}

pub(super) const fn open_route(
    path: &'static str,
    about: &'static str,
    make: fn() -> MethodRouter<Arc<Shared>>,
) -> Route {
    Route { method: "get", path, needs: Needs::Nothing, about, query: &[], body: None, make }
}

pub(super) const fn read_route(
    path: &'static str,
    about: &'static str,
    query: &'static [&'static str],
    make: fn() -> MethodRouter<Arc<Shared>>,
) -> Route {
    Route { method: "get", path, needs: Needs::Read, about, query, body: None, make }
}

pub(super) const fn act_route(
    path: &'static str,
    about: &'static str,
    body: &'static str,
    make: fn() -> MethodRouter<Arc<Shared>>,
) -> Route {
    Route { method: "post", path, needs: Needs::Operate, about, query: &[], body: Some(body), make }
}

/// Alias that acts: by `post`, with the fields that every body may hold.
pub(super) const fn alias_route(
    path: &'static str,
    about: &'static str,
    make: fn() -> MethodRouter<Arc<Shared>>,
) -> Route {
    act_route(path, about, "Common", make)
}

/// Alias that acts, as the reference has it: by `get`, of what its query says.
pub(super) const fn asking_alias_route(
    path: &'static str,
    about: &'static str,
    query: &'static [&'static str],
    make: fn() -> MethodRouter<Arc<Shared>>,
) -> Route {
    Route { method: "get", path, needs: Needs::Operate, about, query, body: None, make }
}

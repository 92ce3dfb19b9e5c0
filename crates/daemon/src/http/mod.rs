//! HTTP: who may ask, what is asked, and how it is answered.
//!
//! In reading order: `answer` (refusals and JSON), `tokens` and `guard` (what is asked of every request),
//! `body`, `route` and `table` (every route there is), `page` and `open` (routes without a token), `reads`,
//! `plan`, `events`, `acts`, `perform` (doing what they ask), `settings`, `aliases` (routes of before),
//! `openapi`, `tls`, `places`, `stalled`, `server`.

mod acts;
mod aliases;
mod answer;
mod body;
mod events;
mod guard;
mod open;
mod openapi;
mod page;
mod perform;
mod places;
mod plan;
mod reads;
mod route;
mod server;
mod settings;
mod stalled;
mod table;
mod tls;
mod tokens;

pub(crate) use guard::Guard;
pub(crate) use perform::begin_by_itself;
pub(crate) use server::serve;
pub use tls::Tls;
pub use tokens::{Right, TOKEN_CHARS_MIN, Tokens, random_token};

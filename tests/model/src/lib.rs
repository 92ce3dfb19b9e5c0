//! A small-scope model of the whole protocol, and a checker that visits every state of it.
//!
//! Words as everywhere: *source*, *target*, *truth*, *version*, *pending set*, *tombstone*, *epoch*,
//! *barrier*. Besides: a *scope* says how much may happen, a *mutation* leaves one rule of the protocol out,
//! an *action* is what happens at once, and *healing* is what goes on by itself when no fault occurs and
//! nothing new is begun.
//!
//! Read `state`, then `action`, then `invariants`; the actions themselves are in `stores`, `writers`,
//! `dynamo_only`, `movers`, `coordinator`, `moving` (the truth, to DynamoOnly and back) and `restore`.
//! `places` says where rows are in the target. See `docs/model.md`.

pub mod action;
pub mod checker;
pub mod coordinator;
pub mod dynamo_only;
pub mod invariants;
pub mod model;
pub mod movers;
pub mod moving;
pub mod mutation;
pub mod places;
pub mod restore;
pub mod scope;
pub mod show;
pub mod state;
pub mod stores;
pub mod trace;
pub mod writers;

pub use action::Action;
pub use checker::{Counterexample, Report, check};
pub use invariants::Claim;
pub use model::Model;
pub use mutation::Mutation;
pub use scope::Scope;
pub use state::{Left, Op, Phase, State};

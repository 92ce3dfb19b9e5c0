//! Manifests of Kubernetes: built as `kubectl kustomize` builds them, and held against the API.
//!
//! In reading order: `kustomize` (what a folder's kustomization makes), `schema` (the notation of
//! `tests/tidy/schemas/kubernetes.txt`), `formats` (what a scalar has to look like), `check` (one object
//! against the schema), `set` (what objects say of each other), `pod` (what a pod says of its parts).

mod check;
mod formats;
mod kustomize;
mod pod;
mod schema;
mod set;

pub use kustomize::{Reading, build};
pub use schema::Schema;
pub use set::{Secrets, findings};

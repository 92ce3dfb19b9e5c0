//! Table that is measured: the logs in Rust, the same logs declared, a declared table of 300 columns, or one
//! whose keys have no order.

use std::sync::Arc;

use anyhow::Context;
use lockstep_declared::{Declaration, resolve};
use lockstep_postgres::{Source, TableBinding};

use super::{rows, worker};

/// A table to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `integration_logs`, by its crate.
    Typed,
    /// A copy of it, declared with the same keys.
    Declared,
    /// A declared table of [`rows::WIDE_COLUMNS`] columns.
    Wide,
    /// The logs by a random UUID, in the order in which they came.
    Random,
}

impl Subject {
    /// Those that are held against the first.
    pub const OTHERS: [Self; 2] = [Self::Declared, Self::Wide];

    /// Returns the name by which the measured process knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Typed => "typed",
            Self::Declared => "declared_logs",
            Self::Wide => "wide",
            Self::Random => "random_keys",
        }
    }

    /// The one of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        let all = [Self::Typed, Self::Declared, Self::Wide, Self::Random];
        all.into_iter()
            .find(|subject| subject.name() == name)
            .with_context(|| format!("no subject is `{name}`"))
    }

    /// Returns its relation.
    pub fn relation(self) -> String {
        match self {
            Self::Typed => "public.integration_logs".to_owned(),
            other => format!("public.{}", other.name()),
        }
    }

    /// Counts its columns.
    pub fn columns(self) -> usize {
        match self {
            Self::Typed | Self::Declared => 13,
            Self::Wide => rows::WIDE_COLUMNS,
            Self::Random => 14,
        }
    }

    /// The table, bound to the source.
    ///
    /// # Errors
    /// When the table is not there, or cannot be declared.
    pub async fn binding(self, source: &Source) -> anyhow::Result<TableBinding> {
        let (partition, sort) = match self {
            Self::Typed => return Ok(worker::binding()),
            Self::Declared => ("{service_name}#{log_timestamp:date}", "{log_timestamp}#{log_id:019}"),
            Self::Wide => ("W#{id}", "{id}"),
            Self::Random => ("R#{id}", "{id}"),
        };
        let relation = self.relation().parse().map_err(|e| anyhow::anyhow!("{e}"))?;
        let table = source.catalog_table(&relation).await?.context("the table is there")?;
        let declaration = Declaration {
            partition: Some(partition.to_owned()),
            sort: Some(sort.to_owned()),
            ..Declaration::default()
        };
        let declared = resolve(self.name(), &declaration, &table)
            .map_err(|problems| anyhow::anyhow!(problems.join("; ")))?;
        Ok(TableBinding { table: Arc::new(declared), relation, target_name: self.name().to_owned() })
    }
}

//! The one list of the tables that move.
//!
//! A third table is one line at the end of this file, and its crate in `Cargo.toml`; configuration, commands,
//! checks and reports follow from it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use lockstep::store::{Store, Writer};
use lockstep_coordinator::{CanaryRead, canary_reads_of};
use lockstep_core::MigratableTable;
use lockstep_integration_logs::{IntegrationLogs, IntegrationLogsOptions};
use lockstep_payments::{Payments, PaymentsOptions};
use lockstep_postgres::{Source, TableBinding};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// `[tables.NAME]`: where a table is on both sides, and the settings of its crate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableSection<O> {
    /// The relation it is read from, `table` or `schema.table`.
    pub source: String,
    /// The DynamoDB table it moves to, before `target.table_prefix`.
    pub target: String,
    /// The settings of its crate.
    #[serde(flatten)]
    pub options: O,
}

/// A table's names on both sides.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    /// The table.
    pub name: &'static str,
    /// Its relation.
    pub source: &'a str,
    /// Its DynamoDB table, prefix included.
    pub target: String,
}

impl<O: Default> TableSection<O> {
    fn named(name: &str) -> Self {
        Self { source: format!("public.{name}"), target: name.to_owned(), options: O::default() }
    }
}

// Written by hand, because serde cannot both flatten and refuse unknown keys: `source` and `target` are
// picked out, and the rest goes to the options, which refuse what they do not know.
impl<'de, O: Deserialize<'de>> Deserialize<'de> for TableSection<O> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SectionVisitor(PhantomData))
    }
}

struct SectionVisitor<O>(PhantomData<O>);

impl<'de, O: Deserialize<'de>> Visitor<'de> for SectionVisitor<O> {
    type Value = TableSection<O>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with `source`, `target` and options")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TableSection<O>, A::Error> {
        let (mut source, mut target) = (None, None);
        let options = O::deserialize(MapAccessDeserializer::new(Rest {
            map,
            source: &mut source,
            target: &mut target,
        }))?;
        let missing = <A::Error as serde::de::Error>::missing_field;
        let (source, target) =
            (source.ok_or_else(|| missing("source"))?, target.ok_or_else(|| missing("target"))?);
        Ok(TableSection { source, target, options })
    }
}

/// A map without `source` and `target`, which it keeps.
struct Rest<'a, A> {
    map: A,
    source: &'a mut Option<String>,
    target: &'a mut Option<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        // The seed is spent on the first key that is not ours, inside the inner map, which names the key in
        // errors.
        let mut seed = Some(seed);
        loop {
            match self.map.next_key_seed(Key(&mut seed))? {
                None => return Ok(None),
                Some(Picked::Source) => *self.source = Some(self.map.next_value()?),
                Some(Picked::Target) => *self.target = Some(self.map.next_value()?),
                Some(Picked::Other(key)) => return Ok(Some(key)),
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

enum Picked<T> {
    Source,
    Target,
    Other(T),
}

struct Key<'a, K>(&'a mut Option<K>);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = Picked<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Picked<K::Value>, D::Error> {
        let key = String::deserialize(deserializer)?;
        match (key.as_str(), self.0.take()) {
            ("source", seed) => {
                *self.0 = seed;
                Ok(Picked::Source)
            }
            ("target", seed) => {
                *self.0 = seed;
                Ok(Picked::Target)
            }
            (_, Some(seed)) => {
                seed.deserialize(serde::de::value::StringDeserializer::new(key)).map(Picked::Other)
            }
            (_, None) => Err(serde::de::Error::custom("a key was asked for twice")),
        }
    }
}

/// Turns the list below into the configuration section `[tables]` and into bindings.
macro_rules! tables {
    ($($name:ident: $table:ident, $options:ty;)*) => {
        /// `[tables]`: one section a table.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Tables {
            $(
                #[doc = concat!("`[tables.", stringify!($name), "]`")]
                pub $name: TableSection<$options>,
            )*
        }

        impl Default for Tables {
            fn default() -> Self {
                Self { $($name: TableSection::named($table::NAME),)* }
            }
        }

        impl Tables {
            /// The names of all of them.
            pub const SAMPLE: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Every table with both its names, the target's after `prefix`.
            pub fn names(&self, prefix: &str) -> Vec<Names<'_>> {
                vec![$(Names {
                    name: $table::NAME,
                    source: &self.$name.source,
                    target: format!("{prefix}{}", self.$name.target),
                },)*]
            }

            /// Every table, bound to both its relations.
            ///
            /// # Errors
            /// For a source that is no relation's name.
            pub fn bindings(&self, prefix: &str) -> lockstep_core::Result<Vec<TableBinding>> {
                Ok(vec![$(TableBinding {
                    table: Arc::new($table { options: self.$name.options }),
                    relation: self.$name.source.parse()?,
                    target_name: format!("{prefix}{}", self.$name.target),
                },)*])
            }

            /// The canary reads of every table of `bindings`, through handles that write and read as `writer`
            /// does.
            ///
            /// # Errors
            /// When the source does not answer.
            pub async fn canary_reads(
                &self,
                bindings: &[TableBinding],
                source: &Source,
                writer: &Writer,
            ) -> lockstep_core::Result<Vec<CanaryRead>> {
                let mut reads = Vec::new();
                for binding in bindings {
                    match binding.name() {
                        $($table::NAME => {
                            let table = Arc::new($table { options: self.$name.options });
                            let store = Store::with_writer(writer.clone(), table, binding.clone());
                            reads.extend(canary_reads_of(&store, source, binding).await?);
                        })*
                        other => {
                            let message = format!("no table `{other}` is registered, so nothing of it can be asked");
                            return Err(lockstep_core::Error::source(lockstep_core::Kind::Misconfigured, "choosing canary reads", message));
                        }
                    }
                }
                Ok(reads)
            }
        }

        #[cfg(test)]
        mod tests {
            use super::*;

            #[test]
            fn every_table_is_configured_under_its_own_name() {
                $(assert_eq!(stringify!($name), $table::NAME);)*
            }
        }
    };
}

// The list: configuration section, table, its options.
tables! {
    integration_logs: IntegrationLogs, IntegrationLogsOptions;
    payments: Payments, PaymentsOptions;
}

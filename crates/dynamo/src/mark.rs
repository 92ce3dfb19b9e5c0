//! Marks: what a target table remembers of how far the source was; see `postgres/continuity.rs`.
//!
//! The mark is an item of the table itself and not of some table beside it: a table that was restored from a
//! backup, or created again, brings its own mark, or none, and shows so of which moment it is. It is a
//! tombstone at version 0 in a place of its own, so every reader passes over it.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, SecondsFormat, Utc};
use lockstep_core::Advice::Doctor;
use lockstep_core::{
    Attributes, DELETED_ATTRIBUTE, Error, ItemView, Kind, MARK_ATTRIBUTE, Naming, Result, TargetKey,
    TargetSchema, VERSION_ATTRIBUTE, Version,
};
use serde::Serialize;

use super::own_place::{HISTORY, PROBE};
use super::{Target, fault};

/// Attributes that only a mark has, and what each is called where a key of the table has its name.
const HIGHEST: OfMark = OfMark { usual: "highest", other: "mark_highest" };
const SERVER: OfMark = OfMark { usual: "server", other: "mark_server" };
const AT: OfMark = OfMark { usual: "at", other: "mark_at" };

#[derive(Clone, Copy)]
struct OfMark {
    usual: &'static str,
    other: &'static str,
}

impl OfMark {
    fn called(self, naming: &Naming) -> &'static str {
        if naming.names().all().contains(&self.usual) { self.other } else { self.usual }
    }
}

/// Mark of the source that a target table keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContinuityMark {
    /// Counts marks.
    pub number: i64,
    /// The source had handed out this version.
    pub version: Version,
    /// The server and timeline it was on, where it told.
    pub server: Option<String>,
    /// Time at which it was made, by the clock of the process that made it; for people only.
    pub at: DateTime<Utc>,
}

/// Tells whether an item is a mark or a [probe](crate::TargetProbe), and no row's: by its attribute and by
/// its place. An item elsewhere that another program gave such an attribute is one like any other.
pub fn is_mark(item: &dyn ItemView) -> bool {
    // The attribute first, which most items do not have.
    item.attribute(MARK_ATTRIBUTE).is_some() && (HISTORY.is_of(item) || PROBE.is_of(item))
}

fn place(schema: &TargetSchema) -> TargetKey {
    HISTORY.key(schema, 0)
}

impl Target {
    /// Returns the mark of a table; `None` where there is none, or no table.
    ///
    /// # Errors
    /// The driver's; [`Kind::Misconfigured`] for one that does not parse.
    #[crate::boxed]
    pub async fn continuity_mark(
        &self,
        table: &str,
        schema: &TargetSchema,
    ) -> Result<Option<ContinuityMark>> {
        let item = match self.get(table, &place(schema)).await {
            Err(error) if error.message.starts_with("ResourceNotFoundException") => None,
            found => found?,
        };
        let Some(item) = item else { return Ok(None) };
        let parsed = parse(&item, &self.naming(table)).ok_or_else(|| {
            Error::target(
                Kind::Misconfigured,
                format!("reading the history of {table}"),
                format!("its mark does not parse; see {Doctor}"),
            )
        });
        parsed.map(Some)
    }

    /// Sets the mark of a table, unless it has a later one. Repeated or late it changes nothing.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Cancel safety
    /// Repeat it.
    #[crate::boxed]
    pub async fn set_continuity_mark(
        &self,
        table: &str,
        schema: &TargetSchema,
        mark: &ContinuityMark,
    ) -> Result<()> {
        let naming = self.naming(table);
        let mut sets = "SET #v = :zero, #d = :yes, #m = :m, #h = :h, #at = :at".to_owned();
        let number = |n: i64| AttributeValue::N(n.to_string());
        let mut request = self
            .client
            .update_item()
            .table_name(table)
            .set_key(Some(place(schema).to_attributes()))
            .condition_expression("attribute_not_exists(#m) OR #m < :m")
            .expression_attribute_names("#v", VERSION_ATTRIBUTE)
            .expression_attribute_names("#d", DELETED_ATTRIBUTE)
            .expression_attribute_names("#m", MARK_ATTRIBUTE)
            .expression_attribute_names("#h", HIGHEST.called(&naming))
            .expression_attribute_names("#at", AT.called(&naming))
            .expression_attribute_values(":zero", number(Version::INITIAL_LOAD.0))
            .expression_attribute_values(":yes", AttributeValue::Bool(true))
            .expression_attribute_values(":m", number(mark.number))
            .expression_attribute_values(":h", number(mark.version.0))
            .expression_attribute_values(
                ":at",
                AttributeValue::S(mark.at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            );
        if let Some(server) = &mark.server {
            sets += ", #s = :s";
            request = request
                .expression_attribute_names("#s", SERVER.called(&naming))
                .expression_attribute_values(":s", AttributeValue::S(server.clone()));
        }
        match request
            .update_expression(sets)
            .send()
            .await
            .map_err(|e| fault::error(format!("marking {table}"), e))
        {
            Err(error) if error.kind == Kind::Refused => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// Removes the mark of a table.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn remove_continuity_mark(&self, table: &str, schema: &TargetSchema) -> Result<()> {
        let key = place(schema).to_attributes();
        let sent = self.client.delete_item().table_name(table).set_key(Some(key)).send().await;
        sent.map(drop).map_err(|e| fault::error(format!("removing the mark of {table}"), e))
    }

    /// Returns the highest version in one page of segment `segment` of `segments`, and where the next page
    /// starts.
    ///
    /// # Errors
    /// The driver's.
    #[crate::boxed]
    pub async fn highest_version_page(
        &self,
        table: &str,
        segment: (usize, usize),
        start: Option<Attributes>,
    ) -> Result<(Version, Option<Attributes>)> {
        let request = self.scan_segment(table, segment, start).projection_expression("#v");
        let sent = request.expression_attribute_names("#v", VERSION_ATTRIBUTE).send().await;
        let output =
            sent.map_err(|e| fault::error(format!("looking for the highest version in {table}"), e))?;
        let highest = output
            .items()
            .iter()
            .filter_map(lockstep_core::version_of)
            .max()
            .unwrap_or(Version::INITIAL_LOAD);
        Ok((highest, output.last_evaluated_key.filter(|key| !key.is_empty())))
    }
}

fn parse(item: &Attributes, naming: &Naming) -> Option<ContinuityMark> {
    let number = |name: &str| item.get(name)?.as_n().ok()?.parse().ok();
    let text = |name: &str| item.get(name)?.as_s().ok().cloned();
    Some(ContinuityMark {
        number: number(MARK_ATTRIBUTE)?,
        version: Version(number(HIGHEST.called(naming))?),
        server: text(SERVER.called(naming)),
        at: DateTime::parse_from_rfc3339(&text(AT.called(naming))?).ok()?.to_utc(),
    })
}

//! Expiry of an item, and the column by which days are told.

use lockstep_template::Expiry;

use super::Resolver;
use crate::kind::Kind;
use crate::shape::Column;

impl Resolver<'_> {
    pub(super) fn expiry(&self, columns: &[Column]) -> Result<Option<(usize, i64)>, String> {
        let Some(text) = &self.declaration.expires else { return Ok(None) };
        let parsed: Expiry = text.parse().map_err(|problem| format!("expires: {problem}"))?;
        let Expiry { column, after_s } = parsed;
        let place = columns
            .iter()
            .position(|c| c.name == column)
            .ok_or_else(|| self.no_column("expires", &column))?;
        match columns[place].kind {
            Kind::Instant | Kind::Timestamp | Kind::Date => Ok(Some((place, after_s))),
            _ => Err(format!(
                "expires names `{column}`, which is {} and no date or time",
                columns[place].sql_type
            )),
        }
    }

    pub(super) fn day(&self, columns: &[Column]) -> Result<Option<usize>, String> {
        let Some(name) = &self.declaration.day_column else { return Ok(None) };
        let place =
            columns.iter().position(|c| c.name == name).ok_or_else(|| self.no_column("day_column", name))?;
        let column = &columns[place];
        match column.kind {
            Kind::Instant if column.attribute == column.name => Ok(Some(place)),
            Kind::Instant => {
                Err(format!("day_column names `{name}`, so its attribute has to be called the same"))
            }
            _ => Err(format!(
                "day_column names `{name}`, which is {}; it must be timestamptz",
                column.sql_type
            )),
        }
    }
}

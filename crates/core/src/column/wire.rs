//! Parameters in PostgreSQL's own binary form, for types that the driver does not know.

use sqlx::encode::IsNull;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Encode, Postgres, Type};

/// Object id of `uuid` (PostgreSQL's `pg_type.dat`).
pub(super) const UUID: u32 = 2950;
/// Object id of `numeric`.
pub(super) const NUMERIC: u32 = 1700;
/// Lets PostgreSQL find out by where the parameter stands: a type of the application has another number in
/// each database.
pub(super) const BY_PLACE: u32 = 0;

/// A parameter; `bytes` is `None` for NULL.
pub(super) struct Wire<'a> {
    pub(super) oid: u32,
    pub(super) bytes: Option<&'a [u8]>,
}

impl Type<Postgres> for Wire<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(BY_PLACE))
    }

    fn compatible(_: &PgTypeInfo) -> bool {
        true
    }
}

impl Encode<'_, Postgres> for Wire<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, sqlx::error::BoxDynError> {
        Ok(match self.bytes {
            Some(bytes) => {
                buffer.extend_from_slice(bytes);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.oid)))
    }
}

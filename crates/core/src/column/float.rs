//! `real` and `double precision`.
//!
//! A number of DynamoDB has no NaN, no infinity and one zero. A row with either of the first two is set
//! aside; -0 becomes 0, which PostgreSQL takes for equal. They are no keys: PostgreSQL prints one of them in
//! as many ways as a session has `extra_float_digits`.

use aws_sdk_dynamodb::types::AttributeValue;
use sqlx::postgres::PgArguments;

use super::text::float;
use super::{Column, Unholdable, bind_value, exactly, number};
use crate::attribute::Attribute;

macro_rules! float {
    ($type:ty, $sql:literal, $bytes:literal, $attribute:path) => {
        impl Column for $type {
            const SQL_TYPE: &'static str = $sql;

            fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
                exactly::<$bytes>(field).map(<$type>::from_be_bytes)
            }

            fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
                $attribute(*self).map(|digits| Some(AttributeValue::N(digits)))
            }

            fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
                let read: $type = number(attribute)?
                    .parse()
                    .map_err(|_| Unholdable::because("does not read as a floating-point number"))?;
                // An item may hold what its column cannot: 1E+100 is no `real`.
                $attribute(read).map(|_| read)
            }

            fn bind(&self, arguments: &mut PgArguments) {
                bind_value(arguments, *self);
            }

            fn bind_null(arguments: &mut PgArguments) {
                bind_value(arguments, None::<Self>);
            }

            fn same(&self, other: &Self) -> bool {
                self == other || (self.is_nan() && other.is_nan())
            }
        }
    };
}

float!(f32, "real", 4, float::of_real);
float!(f64, "double precision", 8, float::of_double);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dynamodb_has_no_number_for_is_told_and_both_zeros_are_one() {
        for (odd, why) in [(f64::NAN, "NaN"), (f64::INFINITY, "infinite"), (-1e300, "outside")] {
            assert!(odd.to_attribute().expect_err("no number").reason.contains(why), "{odd}");
        }
        assert_eq!((-0.0_f64).to_attribute(), Ok(Some(AttributeValue::N("0".to_owned()))));
        assert!((-0.0_f32).same(&0.0) && f64::NAN.same(&f64::NAN) && !f64::NAN.same(&0.0));
        assert!(f32::from_attribute(Some(Attribute::N("1E+100"))).is_err());
        assert_eq!(f32::from_attribute(Some(Attribute::N("0.1"))), Ok(0.1));
    }
}

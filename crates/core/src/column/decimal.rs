//! `numeric(p, s)`: exact, with the column's scale. `numeric`: exact, with each value's own.

use std::ops::Deref;

use aws_sdk_dynamodb::types::AttributeValue;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgArguments;

use super::wire::{NUMERIC, Wire};
use super::{Column, Unholdable, bind_value, fit, number, present, string, text};
use crate::attribute::Attribute;

/// A decimal of a `numeric(p, SCALE)` column.
///
/// DynamoDB normalises numbers (`10.50` comes back as `10.5`), so the scale comes from the type and not from
/// the value. Values are kept at exactly `SCALE` digits after the point; up to 28 digits in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scaled<const SCALE: u32>(Decimal);

impl<const SCALE: u32> Scaled<SCALE> {
    /// Returns the value at this scale.
    ///
    /// # Errors
    /// When digits would be lost.
    pub fn new(value: Decimal) -> Result<Self, Unholdable> {
        let mut scaled = value;
        scaled.rescale(SCALE);
        if scaled == value && scaled.scale() == SCALE {
            Ok(Self(scaled))
        } else {
            Err(Unholdable::because(format!(
                "does not fit a decimal of 28 digits with {SCALE} after the point"
            )))
        }
    }

    /// Returns the decimal, for arithmetic.
    pub fn get(self) -> Decimal {
        self.0
    }
}

impl<const SCALE: u32> Deref for Scaled<SCALE> {
    type Target = Decimal;
    fn deref(&self) -> &Decimal {
        &self.0
    }
}

impl<const SCALE: u32> Column for Scaled<SCALE> {
    const SQL_TYPE: &'static str = "numeric";

    fn accepts(sql_type: &str) -> bool {
        // `numeric(18,2)`; at scale 0 PostgreSQL prints the scale as well.
        sql_type.starts_with("numeric(") && sql_type.ends_with(&format!(",{SCALE})"))
    }

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        from_binary(present(field)?).and_then(Self::new)
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        Ok(Some(AttributeValue::N(self.0.to_string())))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        let text = number(attribute)?;
        let parsed = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
        parsed
            .map_err(|_| Unholdable::because("does not parse as a decimal of 28 digits"))
            .and_then(Self::new)
    }

    fn bind(&self, arguments: &mut PgArguments) {
        bind_value(arguments, self.0);
    }

    fn bind_null(arguments: &mut PgArguments) {
        bind_value(arguments, None::<Decimal>);
    }

    fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
        fit::digits(&self.0.to_string(), sql_type).map(|()| self)
    }

    fn same(&self, other: &Self) -> bool {
        self.0 == other.0 && self.0.scale() == other.0.scale()
    }
}

impl Column for Decimal {
    const SQL_TYPE: &'static str = "numeric";

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        from_binary(present(field)?)
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        // A number of DynamoDB would lose the zeros at its end, and no column says how many there are.
        text::decimal::plain(&self.to_string()).map(|text| Some(AttributeValue::S(text)))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        let text = text::decimal::plain(string(attribute)?)?;
        Self::from_str_exact(&text)
            .map_err(|_| Unholdable::because("does not read as a decimal of 28 digits"))
    }

    fn bind(&self, arguments: &mut PgArguments) {
        // By the driver a zero would lose its zeros: 0.00 would be 0.
        bind_value(arguments, Wire { oid: NUMERIC, bytes: Some(&to_binary(*self)) });
    }

    fn bind_null(arguments: &mut PgArguments) {
        bind_value(arguments, Wire { oid: NUMERIC, bytes: None });
    }

    fn same(&self, other: &Self) -> bool {
        self == other && self.scale() == other.scale()
    }
}

/// Writes the form that [`from_binary`] reads.
fn to_binary(value: Decimal) -> Vec<u8> {
    let scale = value.scale();
    let padding = (4 - scale % 4) % 4;
    // 96 bits and three digits more are far from 128.
    let mut rest = value.mantissa().unsigned_abs() * 10_u128.pow(padding);
    let mut digits: Vec<u16> = Vec::new();
    while rest > 0 {
        digits.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    digits.reverse();
    let weight = digits.len() as i16 - 1 - ((scale + padding) / 4) as i16;
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let (weight, sign) = match (digits.is_empty(), value.is_sign_negative()) {
        (true, _) => (0, 0x0000),
        (false, true) => (weight, 0x4000),
        (false, false) => (weight, 0x0000),
    };
    let head = [digits.len() as u16, weight.cast_unsigned(), sign, scale as u16];
    head.iter().chain(&digits).flat_map(|word| word.to_be_bytes()).collect()
}

/// PostgreSQL's binary numeric: digit count, weight of the first digit, sign, display scale, then base-10,000
/// digits (`numeric_send` in PostgreSQL's `numeric.c`).
fn from_binary(bytes: &[u8]) -> Result<Decimal, Unholdable> {
    let malformed = || Unholdable::because("malformed numeric from PostgreSQL");
    let mut words = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut word = || words.next().ok_or_else(malformed);
    let (count, weight, sign, display_scale) = (word()?, word()? as i16, word()?, word()?);
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xC000 => return Err(Unholdable::because("is NaN, which DynamoDB cannot hold")),
        _ => return Err(Unholdable::because("is infinite, which DynamoDB cannot hold")),
    };
    let too_wide = || Unholdable::because("has more than 28 digits");
    let mut mantissa: i128 = 0;
    for _ in 0..count {
        mantissa = mantissa
            .checked_mul(10_000)
            .and_then(|m| m.checked_add(i128::from(word().ok()?)))
            .ok_or_else(too_wide)?;
    }
    // The last digit stands for 10,000^(weight - count + 1); bring that to the display scale.
    let exponent = 4 * (i32::from(weight) - i32::from(count) + 1);
    let shift = exponent + i32::from(display_scale);
    let power = 10_i128.checked_pow(shift.unsigned_abs()).ok_or_else(too_wide)?;
    mantissa = match (count, shift >= 0) {
        (0, _) => 0,
        (_, true) => mantissa.checked_mul(power).ok_or_else(too_wide)?,
        (_, false) => mantissa / power,
    };
    let signed = if negative { -mantissa } else { mantissa };
    Decimal::try_from_i128_with_scale(signed, u32::from(display_scale)).map_err(|_| too_wide())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[u16], expected: &str) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        assert_eq!(from_binary(&bytes).expect("valid").to_string(), expected);
    }

    #[test]
    fn binary_numerics_keep_value_and_scale() {
        check(&[0, 0, 0, 2], "0.00");
        check(&[2, 0, 0, 2, 10, 5000], "10.50");
        check(&[1, 1, 0, 2, 1], "10000.00");
        check(&[1, 0xFFFF, 0x4000, 2, 100], "-0.01");
        check(&[3, 1, 0, 2, 1234, 5678, 9000], "12345678.90");
    }

    #[test]
    fn a_decimal_of_its_own_scale_keeps_its_zeros() {
        for text in ["1.500", "0.000", "-0.01", "100", "7922816251426433759354395033.5"] {
            let read = Decimal::from_attribute(Some(Attribute::S(text))).expect("a decimal");
            assert_eq!(read.to_attribute(), Ok(Some(AttributeValue::S(text.to_owned()))));
            assert_eq!(from_binary(&to_binary(read)).expect("a numeric").to_string(), text);
        }
        assert!(!Decimal::new(15, 1).same(&Decimal::new(150, 2)));
        assert!(Decimal::from_attribute(Some(Attribute::S("1e40"))).is_err());
        let zero = Decimal::from_attribute(Some(Attribute::S("-0.0"))).expect("a decimal");
        assert_eq!(zero.to_attribute(), Ok(Some(AttributeValue::S("0.0".to_owned()))));
    }

    #[test]
    fn nan_is_named() {
        let bytes: Vec<u8> = [0_u16, 0, 0xC000, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
        assert!(from_binary(&bytes).expect_err("NaN").reason.contains("NaN"));
    }

    #[test]
    fn a_normalised_number_gets_its_scale_back() {
        let back = Scaled::<2>::from_attribute(Some(Attribute::N("10.5"))).expect("fits");
        assert_eq!(back.to_string(), "10.50");
        assert!(Scaled::<2>::from_attribute(Some(Attribute::N("10.505"))).is_err());
    }
}

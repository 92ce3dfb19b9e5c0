//! `timestamptz`, to the microsecond.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use sqlx::postgres::PgArguments;

use super::{Column, Unholdable, bind_value, exactly, string};
use crate::attribute::Attribute;

/// PostgreSQL counts microseconds from 2000-01-01 (PostgreSQL documentation, "Date/Time Types").
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// RFC 3339 in UTC with six digits, always 27 characters, so that text order is time order.
///
/// # Errors
/// When the year is not one of 0001 to 9999: the width, and with it the order of keys, would break, and
/// PostgreSQL prints year 0 as 1 BC, so that the key of a changed row could not be read back.
pub fn fixed_width(at: DateTime<Utc>) -> Result<String, Unholdable> {
    let year = at.year();
    if !(1..=9999).contains(&year) {
        return Err(Unholdable::because(
            "year is outside 0001 to 9999, which a fixed-width timestamp cannot hold",
        ));
    }
    // Written by hand: chrono's formatter interprets its pattern each time and was a fifth of the cost of
    // encoding a row.
    let mut out = *b"0000-00-00T00:00:00.000000Z";
    let mut put = |from: usize, digits: usize, mut value: u32| {
        for slot in out[from..from + digits].iter_mut().rev() {
            *slot = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year.unsigned_abs());
    put(5, 2, at.month());
    put(8, 2, at.day());
    put(11, 2, at.hour());
    put(14, 2, at.minute());
    put(17, 2, at.second());
    put(20, 6, (at.nanosecond() / 1_000).min(999_999));
    Ok(String::from_utf8(out.to_vec()).expect("digits and punctuation are ASCII"))
}

/// Reads what [`fixed_width`] wrote.
///
/// # Errors
/// When the text is not an RFC 3339 time in UTC of that width.
pub fn parse_fixed_width(text: &str) -> Result<DateTime<Utc>, Unholdable> {
    let bad = || Unholdable::because("is not a timestamp of the form 2026-01-31T23:59:59.000000Z");
    if text.len() != 27 || !text.ends_with('Z') {
        return Err(bad());
    }
    // As written here nearly always; what is spelled otherwise, as a leap second, is for chrono to judge.
    if let Some(at) = read_plain(text.as_bytes()) {
        return Ok(at);
    }
    DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).map_err(|_| bad())
}

/// Reads what [`fixed_width`] writes, and nothing else.
fn read_plain(text: &[u8]) -> Option<DateTime<Utc>> {
    let number = |from: usize, digits: usize| {
        text.get(from..from + digits)?.iter().try_fold(0_u32, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
        })
    };
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.')];
    if punctuation.iter().any(|(at, byte)| text.get(*at) != Some(byte)) {
        return None;
    }
    let day = NaiveDate::from_ymd_opt(number(0, 4)?.cast_signed(), number(5, 2)?, number(8, 2)?)?;
    day.and_hms_micro_opt(number(11, 2)?, number(14, 2)?, number(17, 2)?, number(20, 6)?)
        .map(|naive| naive.and_utc())
}

/// Returns a timestamp that no item can hold, as PostgreSQL reads it: it has more years than chrono, and
/// counts those before our era from 1.
pub(super) fn far_literal(since_2000_us: i64, zone: &str) -> String {
    const DAY_US: i64 = 86_400_000_000;
    match since_2000_us {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let (days, clock_us) = (since_2000_us.div_euclid(DAY_US), since_2000_us.rem_euclid(DAY_US));
    let (date, era) = far_date(days);
    let (seconds, us) = (clock_us / 1_000_000, clock_us % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{date} {hours:02}:{minutes:02}:{seconds:02}.{us:06}{zone}{era}")
}

/// Returns the date that is that many days after 2000-01-01, and its era.
pub(super) fn far_date(days: i64) -> (String, &'static str) {
    // From 2000-03-01, so that a leap day is the last of its year, in cycles of 400 years.
    let day = days - 60;
    let (cycle, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_cycle = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = 2000 + 400 * cycle + year_of_cycle + i64::from(month <= 2);
    let (shown, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{shown:04}-{month:02}-{day_of_month:02}"), era)
}

impl Column for DateTime<Utc> {
    const SQL_TYPE: &'static str = "timestamp with time zone";

    fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
        let since_2000_us = i64::from_be_bytes(exactly(field)?);
        if since_2000_us == i64::MAX || since_2000_us == i64::MIN {
            return Err(Unholdable::because("is an infinite timestamp"));
        }
        since_2000_us
            .checked_add(POSTGRES_EPOCH_US)
            .and_then(DateTime::from_timestamp_micros)
            .ok_or_else(|| Unholdable::because("is a timestamp too far from today"))
    }

    fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
        fixed_width(*self).map(|text| Some(AttributeValue::S(text)))
    }

    fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
        parse_fixed_width(string(attribute)?)
    }

    fn bind(&self, arguments: &mut PgArguments) {
        bind_value(arguments, *self);
    }

    fn bind_null(arguments: &mut PgArguments) {
        bind_value(arguments, None::<Self>);
    }

    fn fitted(self, _sql_type: &str) -> Result<Self, Unholdable> {
        // PostgreSQL counts microseconds, and so do items.
        Ok(DateTime::from_timestamp_micros(self.timestamp_micros()).unwrap_or(self))
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn from_key(element: &serde_json::Value) -> Result<Self, Unholdable> {
        element
            .as_str()
            .and_then(|text| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok())
            .map(|naive| naive.and_utc())
            .ok_or_else(|| Unholdable::because("key element is not a finite timestamp of our era"))
    }

    fn literal(&self) -> Result<String, Unholdable> {
        fixed_width(*self)
    }

    fn literal_of_field(field: Option<&[u8]>) -> Result<String, Unholdable> {
        let since_2000_us = i64::from_be_bytes(exactly(field)?);
        let near = Self::from_field(field).and_then(fixed_width);
        near.or_else(|_| Ok(far_literal(since_2000_us, "+00")))
    }

    fn key_expression(name: &str) -> String {
        // Two sessions with different TimeZone settings would print one instant in two ways: two keys for one
        // row.
        format!("({name} AT TIME ZONE 'UTC')")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinity_and_far_years_are_refused_with_a_reason() {
        for raw in [i64::MAX, i64::MIN] {
            let error = DateTime::<Utc>::from_field(Some(&raw.to_be_bytes())).expect_err("infinite");
            assert!(error.reason.contains("infinite"), "{error}");
        }
        let year_10000 = DateTime::from_timestamp(253_402_300_800, 0).expect("in range");
        assert!(fixed_width(year_10000).is_err());
    }

    /// Literals are as PostgreSQL 15 prints them in UTC.
    #[test]
    fn a_key_of_any_year_has_a_literal() {
        let of = |us: i64| DateTime::<Utc>::literal_of_field(Some(&us.to_be_bytes()));
        for (since_2000_us, literal) in [
            (0, "2000-01-01T00:00:00.000000Z"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
            (-64_464_508_800_000_000, "0044-03-15 00:00:00.000000+00 BC"),
            (-211_813_488_000_000_000, "4714-11-24 00:00:00.000000+00 BC"),
            (316_219_075_200_000_001, "12020-08-01 00:00:00.000001+00"),
            (9_223_371_331_199_999_999, "294276-12-31 23:59:59.999999+00"),
        ] {
            assert_eq!(of(since_2000_us).as_deref(), Ok(literal));
        }
        // Where chrono can say it, both say the same.
        for day in (-2_000_000_i64..1_000_000).step_by(997) {
            let us = day * 86_400_000_000 + 3_661_000_007;
            let at = DateTime::from_timestamp_micros(us + POSTGRES_EPOCH_US).expect("in range");
            let (is_ours, year) = at.year_ce();
            let rest = at.format("-%m-%d %H:%M:%S%.6f+00");
            assert_eq!(
                far_literal(us, "+00"),
                format!("{year:04}{rest}{}", if is_ours { "" } else { " BC" })
            );
        }
    }

    #[test]
    fn text_order_is_time_order_across_the_second() {
        let a = DateTime::from_timestamp_micros(1_700_000_000_999_999).expect("in range");
        let b = DateTime::from_timestamp_micros(1_700_000_001_000_000).expect("in range");
        let (a_text, b_text) = (fixed_width(a).expect("year"), fixed_width(b).expect("year"));
        assert!(a_text < b_text);
        assert_eq!(a_text, "2023-11-14T22:13:20.999999Z");
        assert_eq!(parse_fixed_width(&a_text), Ok(a));
    }

    /// The quick reader may only be quicker.
    #[test]
    fn timestamps_read_as_the_general_parser_reads_them() {
        let general = |text: &str| DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).ok();
        let written = b"2024-02-29T23:59:59.000001Z";
        assert_eq!(general("2024-02-29T23:59:59.000001Z"), read_plain(written));
        for at in 0..written.len() {
            for byte in b"0123456789-:.TtZz +".iter() {
                let mut changed = *written;
                changed[at] = *byte;
                let text = std::str::from_utf8(&changed).expect("ASCII");
                let read = parse_fixed_width(text).ok();
                assert_eq!(read, general(text).filter(|_| text.ends_with('Z')), "{text}");
            }
        }
    }
}

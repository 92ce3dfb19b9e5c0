//! `date`, `time` and `timestamp`: what has no zone.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc};
use sqlx::postgres::PgArguments;

use super::text::time::{self, FAR};
use super::time::{far_date, far_literal, fixed_width};
use super::{Column, Unholdable, bind_value, exactly, key_text, string};
use crate::attribute::Attribute;

const DAY_US: i64 = 86_400_000_000;

/// The common part of the three.
macro_rules! without_a_zone {
    () => {
        fn to_attribute(&self) -> Result<Option<AttributeValue>, Unholdable> {
            self.literal().map(|text| Some(AttributeValue::S(text)))
        }

        fn from_attribute(attribute: Option<Attribute<'_>>) -> Result<Self, Unholdable> {
            read(string(attribute)?)
        }

        fn bind(&self, arguments: &mut PgArguments) {
            bind_value(arguments, *self);
        }

        fn bind_null(arguments: &mut PgArguments) {
            bind_value(arguments, None::<Self>);
        }

        fn same(&self, other: &Self) -> bool {
            self == other
        }

        fn from_key(element: &serde_json::Value) -> Result<Self, Unholdable> {
            // PostgreSQL prints dates and times in JSON in one way, whatever the session's DateStyle is.
            key_text(element).and_then(read)
        }
    };
}

mod day {
    use super::*;

    fn read(text: &str) -> Result<NaiveDate, Unholdable> {
        time::day(text)
    }

    impl Column for NaiveDate {
        const SQL_TYPE: &'static str = "date";

        fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
            let since_2000 = i32::from_be_bytes(exactly(field)?);
            if since_2000 == i32::MAX || since_2000 == i32::MIN {
                return Err(Unholdable::because("is an infinite date"));
            }
            let first = NaiveDate::from_ymd_opt(2000, 1, 1);
            let day = first.and_then(|first| first.checked_add_signed(TimeDelta::days(since_2000.into())));
            day.ok_or_else(|| Unholdable::because("is a date too far from today"))
        }

        without_a_zone!();

        fn literal(&self) -> Result<String, Unholdable> {
            let year = self.year();
            if !(1..=9999).contains(&year) {
                return Err(Unholdable::because(FAR));
            }
            Ok(format!("{year:04}-{:02}-{:02}", self.month(), self.day()))
        }

        fn literal_of_field(field: Option<&[u8]>) -> Result<String, Unholdable> {
            let since_2000 = i32::from_be_bytes(exactly(field)?);
            let near = Self::from_field(field).and_then(|day| day.literal());
            near.or_else(|_| {
                Ok(match since_2000 {
                    i32::MAX => "infinity".to_owned(),
                    i32::MIN => "-infinity".to_owned(),
                    _ => {
                        let (date, era) = far_date(since_2000.into());
                        format!("{date}{era}")
                    }
                })
            })
        }
    }
}

mod clock {
    use super::*;

    fn read(text: &str) -> Result<NaiveTime, Unholdable> {
        let text = time::time(text)?;
        NaiveTime::parse_from_str(&text, "%H:%M:%S%.f")
            .ok()
            .filter(|at| at.nanosecond() < 1_000_000_000)
            .ok_or_else(|| Unholdable::because("is no time of a day"))
    }

    impl Column for NaiveTime {
        const SQL_TYPE: &'static str = "time without time zone";

        fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
            let since_midnight_us = i64::from_be_bytes(exactly(field)?);
            let seconds = u32::try_from(since_midnight_us.div_euclid(1_000_000)).ok();
            let nanos = u32::try_from(since_midnight_us.rem_euclid(1_000_000) * 1_000).ok();
            let time = seconds.zip(nanos).and_then(|(s, ns)| Self::from_num_seconds_from_midnight_opt(s, ns));
            time.ok_or_else(|| Unholdable::because("is 24:00:00, which is no time of a day in Rust"))
        }

        without_a_zone!();

        fn fitted(self, _sql_type: &str) -> Result<Self, Unholdable> {
            // PostgreSQL counts microseconds, and so do items.
            self.literal().and_then(|text| read(&text))
        }

        fn literal(&self) -> Result<String, Unholdable> {
            let us = self.nanosecond() / 1_000;
            if us > 999_999 {
                return Err(Unholdable::because("is a leap second, of which PostgreSQL has none"));
            }
            Ok(format!("{:02}:{:02}:{:02}.{us:06}", self.hour(), self.minute(), self.second()))
        }

        fn literal_of_field(field: Option<&[u8]>) -> Result<String, Unholdable> {
            let is_last = i64::from_be_bytes(exactly(field)?) == DAY_US;
            if is_last { Ok("24:00:00.000000".to_owned()) } else { Self::from_field(field)?.literal() }
        }
    }
}

mod moment {
    use super::*;

    fn read(text: &str) -> Result<NaiveDateTime, Unholdable> {
        let zoned = format!("{}Z", time::timestamp(text)?);
        super::super::parse_fixed_width(&zoned).map(|at| at.naive_utc())
    }

    impl Column for NaiveDateTime {
        const SQL_TYPE: &'static str = "timestamp without time zone";

        fn from_field(field: Option<&[u8]>) -> Result<Self, Unholdable> {
            DateTime::<Utc>::from_field(field).map(|at| at.naive_utc())
        }

        without_a_zone!();

        fn fitted(self, sql_type: &str) -> Result<Self, Unholdable> {
            self.and_utc().fitted(sql_type).map(|at| at.naive_utc())
        }

        fn literal(&self) -> Result<String, Unholdable> {
            let mut text = fixed_width(self.and_utc())?;
            text.pop();
            Ok(text)
        }

        fn literal_of_field(field: Option<&[u8]>) -> Result<String, Unholdable> {
            let since_2000_us = i64::from_be_bytes(exactly(field)?);
            let near = Self::from_field(field).and_then(|at| at.literal());
            near.or_else(|_| Ok(far_literal(since_2000_us, "")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Literals are as PostgreSQL 15 prints them.
    #[test]
    fn what_no_item_can_hold_is_told_and_has_a_literal() {
        for (since_2000, literal) in [
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
            (-746_117, "0044-03-15 BC"),
            (-2_451_545, "4714-11-24 BC"),
            (2_921_940 + 1, "10000-01-02"),
            (2_145_031_948, "5874897-12-31"),
        ] {
            let field = since_2000.to_be_bytes();
            assert_eq!(NaiveDate::literal_of_field(Some(&field)).as_deref(), Ok(literal));
            let day = NaiveDate::from_field(Some(&field)).and_then(|day| day.to_attribute());
            assert!(day.is_err(), "{literal}");
        }
        let last = DAY_US.to_be_bytes();
        assert!(NaiveTime::from_field(Some(&last)).expect_err("24:00").reason.contains("24:00:00"));
        assert_eq!(NaiveTime::literal_of_field(Some(&last)).as_deref(), Ok("24:00:00.000000"));
        assert_eq!(
            NaiveDateTime::literal_of_field(Some(&(-64_464_508_800_000_000_i64).to_be_bytes())).as_deref(),
            Ok("0044-03-15 00:00:00.000000 BC")
        );
        let leap = NaiveTime::from_hms_micro_opt(23, 59, 59, 1_500_000).expect("a leap second");
        assert!(leap.to_attribute().is_err() && leap.fitted("").is_err());
    }

    #[test]
    fn what_has_no_zone_is_read_as_keys_and_items_have_it() {
        let key = |text: &str| serde_json::Value::String(text.to_owned());
        let at = NaiveDateTime::from_key(&key("2026-01-31T10:00:00.5")).expect("a moment");
        assert_eq!(at.literal().as_deref(), Ok("2026-01-31T10:00:00.500000"));
        let clock = NaiveTime::from_key(&key("10:00:00.25")).expect("a time");
        assert_eq!(clock.literal().as_deref(), Ok("10:00:00.250000"));
        let day = NaiveDate::from_key(&key("2024-02-29")).expect("a day");
        assert_eq!(day.literal().as_deref(), Ok("2024-02-29"));
        for text in ["24:00:00", "23:59:60", "x"] {
            assert!(NaiveTime::from_key(&key(text)).is_err(), "{text}");
        }
        assert!(NaiveDate::from_key(&key("0044-03-15 BC")).is_err());
    }
}

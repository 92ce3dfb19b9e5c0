//! Dates and times of fixed width, so that text order is time order.

use chrono::NaiveDate;

use crate::column::parse_fixed_width;
use crate::unholdable::Unholdable;

/// Reason why a day or a moment has no text of a fixed width.
pub(in crate::column) const FAR: &str =
    "is infinite, before our era or after the year 9999, which text of a fixed width cannot hold";

/// `2026-01-31`.
///
/// # Errors
/// For a day that has no text of that width.
pub fn date(text: &str) -> Result<String, Unholdable> {
    day(text).map(|_| text.to_owned())
}

/// Returns the day that [`date`] spells.
///
/// # Errors
/// The same.
pub fn day(text: &str) -> Result<NaiveDate, Unholdable> {
    let far = || Unholdable::because(FAR);
    let right = matches!(text.as_bytes(), [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]
        if [y1, y2, y3, y4, m1, m2, d1, d2].iter().all(|byte| byte.is_ascii_digit()));
    if !right || text.starts_with("0000") {
        return Err(far());
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| far())
}

/// `23:59:59.000000`; PostgreSQL has `24:00:00` as well.
///
/// # Errors
/// For a text that is no time.
pub fn time(text: &str) -> Result<String, Unholdable> {
    let wrong = || Unholdable::because("is not a time of the form 23:59:59.000000");
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let right = matches!(clock.as_bytes(), [a, b, b':', c, d, b':', e, f]
        if [a, b, c, d, e, f].iter().all(|byte| byte.is_ascii_digit()));
    if !right || fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    Ok(format!("{clock}.{fraction:0<6}"))
}

/// `2026-01-31T23:59:59.000000`, from PostgreSQL's `2026-01-31 23:59:59`, or with a T.
///
/// # Errors
/// For a moment that has no text of that width.
pub fn timestamp(text: &str) -> Result<String, Unholdable> {
    let (day, clock) = text.split_once([' ', 'T']).ok_or_else(|| Unholdable::because(FAR))?;
    Ok(format!("{}T{}", date(day)?, time(clock).map_err(|_| Unholdable::because(FAR))?))
}

/// `2026-01-31T23:59:59.000000Z`, from PostgreSQL's `2026-01-31 23:59:59+00` in UTC, from a key, which has no
/// zone, or as it is.
///
/// # Errors
/// For a moment that has no text of that width, or is in another zone.
pub fn instant(text: &str) -> Result<String, Unholdable> {
    let utc = ["+00", "Z"].iter().find_map(|zone| text.strip_suffix(zone)).unwrap_or(text);
    let text = format!("{}Z", timestamp(utc)?);
    parse_fixed_width(&text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_fixed_width_and_what_has_none_is_refused() {
        assert_eq!(timestamp("2026-01-31 23:59:59").as_deref(), Ok("2026-01-31T23:59:59.000000"));
        assert_eq!(timestamp("2026-01-31T23:59:59.5").as_deref(), Ok("2026-01-31T23:59:59.500000"));
        assert_eq!(instant("2026-01-31 23:59:59.25+00").as_deref(), Ok("2026-01-31T23:59:59.250000Z"));
        assert_eq!(instant("2026-01-31T23:59:59.250000Z").as_deref(), Ok("2026-01-31T23:59:59.250000Z"));
        assert_eq!(time("24:00:00").as_deref(), Ok("24:00:00.000000"));
        for far in ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01", "2026-02-30"] {
            assert!(date(far).is_err() && timestamp(&format!("{far} 00:00:00")).is_err(), "{far}");
        }
        assert!(instant("infinity").is_err() && instant("2026-01-31 23:59:59+01").is_err());
    }
}

//! Intervals by ISO 8601, as `P1Y2M-3DT4H5M6.5S`.
//!
//! PostgreSQL keeps months, days and microseconds apart, each with a sign of its own, and so does this text:
//! it says each of them, and no other text says the same.

use crate::unholdable::Unholdable;

/// Microseconds of a second, a minute and an hour.
const SECOND: i128 = 1_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;

/// The three numbers of an interval.
#[derive(Clone, Copy, Default)]
struct Interval {
    months: i128,
    days: i128,
    us: i128,
}

/// Returns the ISO 8601 text of what PostgreSQL prints under `IntervalStyle = postgres`.
///
/// # Errors
/// For what is no interval, and for an infinite one.
pub fn iso(printed: &str) -> Result<String, Unholdable> {
    of_printed(printed)?.iso()
}

/// Returns the one ISO 8601 text that says the same as this one.
///
/// # Errors
/// For any other text, and for more than PostgreSQL's `interval` holds.
pub fn spelled(text: &str) -> Result<String, Unholdable> {
    of_iso(text)?.iso()
}

/// Returns what PostgreSQL's input function takes for an ISO 8601 text. It reads such a text as well, but
/// some versions only numbers of 32 bits in it.
pub fn input(iso: &str) -> String {
    let Ok(Interval { months, days, us }) = of_iso(iso) else { return iso.to_owned() };
    let sign = if us < 0 { '-' } else { '+' };
    let us = us.abs();
    let (hours, minutes, rest) = (us / HOUR, us % HOUR / MINUTE, us % MINUTE);
    let (seconds, us) = (rest / SECOND, rest % SECOND);
    format!("{months} mons {days} days {sign}{hours:02}:{minutes:02}:{seconds:02}.{us:06}")
}

impl Interval {
    fn iso(self) -> Result<String, Unholdable> {
        let Self { months, days, us } = self;
        if i32::try_from(months).is_err() || i32::try_from(days).is_err() || i64::try_from(us).is_err() {
            return Err(Unholdable::because("is longer than an interval of PostgreSQL"));
        }
        let part = |number: i128, letter| match number {
            0 => String::new(),
            number => format!("{number}{letter}"),
        };
        let date = [part(months / 12, 'Y'), part(months % 12, 'M'), part(days, 'D')].concat();
        let mut time = [part(us / HOUR, 'H'), part(us % HOUR / MINUTE, 'M')].concat();
        let seconds = us % MINUTE;
        if seconds != 0 {
            let sign = if seconds < 0 { "-" } else { "" };
            let (whole, fraction) = (seconds.abs() / SECOND, seconds.abs() % SECOND);
            let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
            time += &format!("{sign}{whole}{}S", fraction.trim_end_matches('0'));
        }
        Ok(match (date.as_str(), time.as_str()) {
            ("", "") => "PT0S".to_owned(),
            (date, "") => format!("P{date}"),
            (date, time) => format!("P{date}T{time}"),
        })
    }
}

fn wrong() -> Unholdable {
    Unholdable::because("does not read as an interval")
}

fn of_printed(text: &str) -> Result<Interval, Unholdable> {
    if text.trim_start_matches('-') == "infinity" {
        return Err(Unholdable::because("is infinite, which ISO 8601 cannot say"));
    }
    let mut interval = Interval::default();
    let mut words = text.split(' ').peekable();
    words.peek().filter(|word| !word.is_empty()).ok_or_else(wrong)?;
    while let Some(word) = words.next() {
        if word.contains(':') {
            interval.us = clock(word)?;
            return if words.next().is_none() { Ok(interval) } else { Err(wrong()) };
        }
        let number: i128 = word.parse().map_err(|_| wrong())?;
        match words.next().ok_or_else(wrong)?.trim_end_matches('s') {
            "year" => interval.months += number * 12,
            "mon" => interval.months += number,
            "day" => interval.days += number,
            _ => return Err(wrong()),
        }
    }
    Ok(interval)
}

/// Reads `-04:05:06.789`.
fn clock(text: &str) -> Result<i128, Unholdable> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut parts = rest.trim_start_matches('+').splitn(3, ':');
    let mut next = || parts.next().ok_or_else(wrong);
    let (hours, minutes, seconds) = (whole(next()?)?, whole(next()?)?, seconds(next()?)?);
    let us = hours * HOUR + minutes * MINUTE + seconds;
    Ok(if negative { -us } else { us })
}

/// Reads digits. No number of PostgreSQL's has more than this many, and none overflows in a sum.
fn whole(digits: &str) -> Result<i128, Unholdable> {
    let is = !digits.is_empty() && digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is { digits.parse().map_err(|_| wrong()) } else { Err(wrong()) }
}

/// Reads seconds with up to six digits after the point, in microseconds.
fn seconds(text: &str) -> Result<i128, Unholdable> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.trim_end_matches('0').len() > 6 {
        return Err(Unholdable::because("has more than 6 digits of a second, and PostgreSQL would round it"));
    }
    let us = format!("{:0<6}", fraction.trim_end_matches('0'));
    Ok(whole(seconds)? * SECOND + whole(&us)?)
}

fn of_iso(text: &str) -> Result<Interval, Unholdable> {
    let mut interval = Interval::default();
    let rest = text.strip_prefix('P').filter(|rest| !rest.is_empty()).ok_or_else(wrong)?;
    let (date, time) = rest.split_once('T').map_or((rest, None), |(date, time)| (date, Some(time)));
    for (number, letter) in parts(date, "YMWD")? {
        let number = signed(number, whole)?;
        match letter {
            'Y' => interval.months += number * 12,
            'M' => interval.months += number,
            'W' => interval.days += number * 7,
            _ => interval.days += number,
        }
    }
    let time = time.map_or(Ok(Vec::new()), |time| match time {
        "" => Err(wrong()),
        time => parts(time, "HMS"),
    })?;
    for (number, letter) in time {
        interval.us += match letter {
            'H' => signed(number, whole)? * HOUR,
            'M' => signed(number, whole)? * MINUTE,
            _ => signed(number, seconds)?,
        };
    }
    Ok(interval)
}

fn signed(text: &str, read: fn(&str) -> Result<i128, Unholdable>) -> Result<i128, Unholdable> {
    match text.strip_prefix('-') {
        Some(rest) => read(rest).map(|number| -number),
        None => read(text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Takes numbers with their letters apart, each letter once and in this order.
fn parts<'a>(text: &'a str, letters: &str) -> Result<Vec<(&'a str, char)>, Unholdable> {
    let (mut rest, mut letters, mut found) = (text, letters, Vec::new());
    while !rest.is_empty() {
        let at = rest.find(|c: char| c.is_ascii_uppercase()).ok_or_else(wrong)?;
        let letter = char::from(rest.as_bytes()[at]);
        let place = letters.find(letter).ok_or_else(wrong)?;
        letters = &letters[place + 1..];
        found.push((&rest[..at], letter));
        rest = &rest[at + 1..];
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts are as PostgreSQL 15 prints them under `postgres` and under `iso_8601`.
    #[test]
    fn an_interval_is_written_as_postgresql_writes_iso_8601() {
        for (printed, expected) in [
            ("1 year 2 mons -3 days +04:05:06.789", "P1Y2M-3DT4H5M6.789S"),
            ("-1 years -2 mons +3 days -04:05:06", "P-1Y-2M3DT-4H-5M-6S"),
            ("1 day", "P1D"),
            ("-1 days", "P-1D"),
            ("00:00:00", "PT0S"),
            ("-00:00:00.5", "PT-0.5S"),
            ("178000000 years", "P178000000Y"),
            ("2562047788:00:54.775807", "PT2562047788H54.775807S"),
            ("11 mons 30 days 24:00:00", "P11M30DT24H"),
        ] {
            assert_eq!(iso(printed).as_deref(), Ok(expected), "{printed}");
            assert_eq!(spelled(expected).as_deref(), Ok(expected));
            assert_eq!(iso(&input(expected)).as_deref(), Ok(expected), "{}", input(expected));
        }
    }

    #[test]
    fn another_text_of_the_same_interval_is_spelled_in_one_way_and_what_is_none_is_refused() {
        for (text, expected) in [("P14M", "P1Y2M"), ("P2W1D", "P15D"), ("PT90M", "PT1H30M"), ("P0D", "PT0S")]
        {
            assert_eq!(spelled(text).as_deref(), Ok(expected));
        }
        for text in
            ["", "P", "PT", "P1", "1 day", "P1D2Y", "P1.5Y", "PT1S1S", "P1H", "PT1.0000001S", "P2147483648D"]
        {
            assert!(spelled(text).is_err(), "{text}");
        }
        for text in ["", "1", "1 day ", "1 fortnight", "04:05", "a:b:c", "04:05:06 1 day", "infinity"] {
            assert!(iso(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_interval_reads_back_as_it_was(months: i32, days: i32, us: i64) {
            let made = Interval { months: months.into(), days: days.into(), us: us.into() };
            let text = made.iso().expect("it can be held");
            let read = of_iso(&text).expect("it reads");
            prop_assert_eq!((read.months, read.days, read.us), (made.months, made.days, made.us));
            let given = of_printed(&input(&text)).expect("PostgreSQL's own form");
            prop_assert_eq!((given.months, given.days, given.us), (made.months, made.days, made.us));
        }
    }
}

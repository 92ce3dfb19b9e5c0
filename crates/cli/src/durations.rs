//! Durations, as people type them.

use std::time::Duration;

/// `90s`, `15m`, `1h`, `2d`, or whole seconds.
///
/// # Errors
/// What it has to look like.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time: write 90s, 15m, 1h or 2d");
    let (digits, unit_s) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit_s).filter(|s| (1..=MOST_S).contains(s)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Ten years are for good, and later moments are none to PostgreSQL.
const MOST_S: u64 = 10 * 365 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_number_and_its_unit() {
        for (text, s) in [("90s", 90), ("15m", 900), ("1h", 3_600), ("2d", 172_800), ("45", 45)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(s)), "{text}");
        }
        for text in ["", "h", "-1h", "1.5h", "1w", "0s", "99999999999d", "1é"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

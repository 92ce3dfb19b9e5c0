//! Expiry of an item: `created_at + 90d`.

use std::fmt;
use std::str::FromStr;

/// A column, and how long after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expiry {
    /// The column, a date or a time.
    pub column: String,
    /// Seconds after it; 0 for the column itself.
    pub after_s: i64,
}

/// Reason why a text is no expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadExpiry(String);

impl fmt::Display for BadExpiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no expiry; write a column and how long after it, as in `created_at + 90d` (w, d, h, m or s)",
            self.0
        )
    }
}

impl std::error::Error for BadExpiry {}

impl FromStr for Expiry {
    type Err = BadExpiry;

    fn from_str(text: &str) -> Result<Self, BadExpiry> {
        let bad = || BadExpiry(text.to_owned());
        let (column, after) =
            text.rsplit_once('+').map_or((text, "0s"), |(column, after)| (column, after.trim()));
        let column = column.trim();
        let number_bytes =
            after.len().checked_sub(1).filter(|at| after.is_char_boundary(*at)).ok_or_else(bad)?;
        let (number, unit) = after.split_at(number_bytes);
        let seconds = match unit {
            "w" => 7 * 86_400,
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return Err(bad()),
        };
        let number = number.trim().parse::<u32>().map_err(|_| bad())?;
        if column.is_empty() {
            return Err(bad());
        }
        Ok(Self { column: column.to_owned(), after_s: i64::from(number) * seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_with_and_without_a_time_after_it() {
        let of = |text: &str| text.parse::<Expiry>().map(|expiry| (expiry.column, expiry.after_s));
        assert_eq!(of("created_at + 90d"), Ok(("created_at".to_owned(), 90 * 86_400)));
        assert_eq!(of("expires_at"), Ok(("expires_at".to_owned(), 0)));
        assert_eq!(of("at+2w"), Ok(("at".to_owned(), 14 * 86_400)));
        for text in ["", "+ 3d", "at + d", "at + 3", "at + 3y", "at + -3d", "at + 3ä"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}

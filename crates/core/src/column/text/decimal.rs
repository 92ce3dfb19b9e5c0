//! Decimals as digits, without a bound on their number.

use crate::unholdable::Unholdable;

/// Sign, digits, and the power of ten of the last one.
struct Digits {
    negative: bool,
    digits: String,
    power: i64,
}

/// Most digits that are written out for an exponent; a `numeric` has as many before and after its point.
const PLAIN_MAX: i64 = 131_072 + 16_383;

fn read(text: &str) -> Result<Digits, Unholdable> {
    let wrong = || {
        Unholdable::because(match text {
            "NaN" => "is NaN, which DynamoDB cannot hold",
            "Infinity" | "-Infinity" => "is infinite, which DynamoDB cannot hold",
            _ => "does not read as a decimal",
        })
    };
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let rest = rest.strip_prefix('+').unwrap_or(rest);
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let exponent: i64 = exponent.parse().map_err(|_| wrong())?;
    if exponent.abs() > PLAIN_MAX {
        return Err(Unholdable::because("has more digits than a numeric of PostgreSQL"));
    }
    Ok(Digits { negative, digits, power: exponent - fraction.len() as i64 })
}

/// Returns a decimal with exactly `scale` digits after the point, as PostgreSQL prints it.
///
/// # Errors
/// When digits would be lost, and for what is no decimal.
pub fn at_scale(text: &str, scale: u32) -> Result<String, Unholdable> {
    let Digits { negative, mut digits, power } = read(text)?;
    let missing = power + i64::from(scale);
    if missing >= 0 {
        digits.extend(std::iter::repeat_n('0', missing as usize));
    } else {
        let cut = digits.len().saturating_sub(missing.unsigned_abs() as usize);
        if digits[cut..].bytes().any(|byte| byte != b'0') {
            return Err(Unholdable::because(format!("has more than {scale} digits after the point")));
        }
        digits.truncate(cut);
    }
    Ok(written(negative, &digits, scale as usize))
}

/// Returns a decimal without an exponent, with the digits that it has.
///
/// # Errors
/// For what is no decimal.
pub fn plain(text: &str) -> Result<String, Unholdable> {
    let Digits { power, .. } = read(text)?;
    at_scale(text, u32::try_from(-power).unwrap_or(0))
}

/// Without zeros at the end, as PostgreSQL's `trim_scale` prints it: the same for equal values.
pub fn trimmed(plain: &str) -> &str {
    if plain.contains('.') { plain.trim_end_matches('0').trim_end_matches('.') } else { plain }
}

/// Most digits that a number of DynamoDB keeps (Developer Guide, "Supported data types").
const NUMBER_DIGITS_MAX: usize = 38;
/// Powers of ten of the first digit of such a number: 1E-130 to 9.9E+125.
const NUMBER_POWERS: std::ops::RangeInclusive<i64> = -130..=125;

/// Returns a decimal as a number of DynamoDB holds it: without zeros at the end, the same for equal values.
///
/// # Errors
/// When such a number has not its digits or its size, and for what is no decimal.
pub fn number(text: &str) -> Result<String, Unholdable> {
    let plain = plain(text)?;
    let trimmed = trimmed(&plain);
    let unsigned = trimmed.trim_start_matches('-');
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = [whole, fraction].concat();
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let power = whole.len() as i64 - 1 - leading as i64;
    let significant = digits.trim_matches('0');
    if significant.len() > NUMBER_DIGITS_MAX {
        return Err(Unholdable::because("has more than 38 digits, which a number of DynamoDB does not keep"));
    }
    if !significant.is_empty() && !NUMBER_POWERS.contains(&power) {
        return Err(Unholdable::because(
            "is outside 1E-130 to 9.9E+125, which a number of DynamoDB cannot hold",
        ));
    }
    Ok(trimmed.to_owned())
}

fn written(negative: bool, digits: &str, scale: usize) -> String {
    let digits = format!("{:0>width$}", digits.trim_start_matches('0'), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    // PostgreSQL has no negative zero.
    let sign = if negative && digits.bytes().any(|byte| byte != b'0') { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    [sign, whole, point, fraction].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_gets_back_the_digits_that_its_column_prints() {
        let of = |text: &str, scale| at_scale(text, scale).ok();
        assert_eq!(of("10.5", 2).as_deref(), Some("10.50"));
        assert_eq!(of("1E+3", 2).as_deref(), Some("1000.00"));
        assert_eq!(of("-5e-2", 2).as_deref(), Some("-0.05"));
        assert_eq!(of("-0.00", 2).as_deref(), Some("0.00"));
        assert_eq!(of("12345678901234567890123456789012345678", 0).map(|text| text.len()), Some(38));
        assert_eq!(of("1.005", 2), None);
        assert_eq!(of("1.500", 1).as_deref(), Some("1.5"));
        assert!(at_scale("NaN", 2).expect_err("NaN").reason.contains("NaN"));
        assert!(at_scale("", 2).is_err() && at_scale("1.2.3", 2).is_err() && at_scale(".", 2).is_err());
    }

    #[test]
    fn an_exact_numeric_keeps_its_zeros_and_a_key_does_not() {
        assert_eq!(plain("1.500").as_deref(), Ok("1.500"));
        assert_eq!(plain("1e3").as_deref(), Ok("1000"));
        assert_eq!((trimmed("1.500"), trimmed("100"), trimmed("1.00")), ("1.5", "100", "1"));
    }

    #[test]
    fn a_number_of_dynamodb_has_38_digits_wherever_they_stand() {
        let of = |text: &str| number(text).map_err(|unholdable| unholdable.reason);
        for (text, expected) in [("1.500", "1.5"), ("-0.00", "0"), ("-12e2", "-1200"), ("00.10", "0.1")] {
            assert_eq!(of(text).as_deref(), Ok(expected));
        }
        let digits = "9".repeat(38);
        for fits in ["1e-130", "9.9e125", &digits, &format!("-{digits}e87"), &format!("{digits}e-167")] {
            let held = of(fits).expect(fits);
            assert_eq!(of(&held).as_ref(), Ok(&held));
        }
        for (text, why) in [
            (format!("{digits}1"), "38 digits"),
            (format!("1.{digits}"), "38 digits"),
            ("1e126".to_owned(), "outside"),
            ("-9e-131".to_owned(), "outside"),
            ("NaN".to_owned(), "NaN"),
        ] {
            assert!(of(&text).expect_err(&text).contains(why), "{text}");
        }
    }
}

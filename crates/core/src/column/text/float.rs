//! Floating-point numbers by their shortest digits.

use crate::unholdable::Unholdable;

/// Returns the attribute of what PostgreSQL prints, or of another attribute: the shortest digits that read as
/// the same number, which is a `real` if `single`.
///
/// # Errors
/// For what is no number, and for one that DynamoDB cannot hold.
pub fn attribute(text: &str, single: bool) -> Result<String, Unholdable> {
    let wrong = || Unholdable::because("does not read as a floating-point number");
    if single {
        of_real(text.parse().map_err(|_| wrong())?)
    } else {
        of_double(text.parse().map_err(|_| wrong())?)
    }
}

/// Returns the attribute of a `double precision`.
///
/// # Errors
/// For a number that DynamoDB cannot hold.
pub fn of_double(number: f64) -> Result<String, Unholdable> {
    finite(number)?;
    Ok(laid_out(&format!("{number:e}"), -20, 20, "E"))
}

/// Returns the attribute of a `real`.
///
/// # Errors
/// For a number that DynamoDB cannot hold.
pub fn of_real(number: f32) -> Result<String, Unholdable> {
    finite(number.into())?;
    Ok(laid_out(&format!("{number:e}"), -20, 20, "E"))
}

/// DynamoDB holds a number between these, or zero.
fn finite(number: f64) -> Result<(), Unholdable> {
    if number.is_nan() {
        return Err(Unholdable::because("is NaN, which DynamoDB cannot hold"));
    }
    if number.is_infinite() {
        return Err(Unholdable::because("is infinite, which DynamoDB cannot hold"));
    }
    if number != 0.0 && !(1e-130..9.99e125).contains(&number.abs()) {
        return Err(Unholdable::because(
            "is outside 1E-130 to 9.9E+125, which a number of DynamoDB cannot hold",
        ));
    }
    Ok(())
}

/// Returns a number as text, as PostgreSQL prints it: NaN and infinities too. Of the two zeros there is one.
///
/// # Errors
/// For what is no number, and for one that is too large or too small to be told from infinity or zero.
pub fn spelled(text: &str, single: bool) -> Result<String, Unholdable> {
    let wrong = |_| Unholdable::because("does not read as a floating-point number");
    let number =
        if single { f64::from(text.parse::<f32>().map_err(wrong)?) } else { text.parse().map_err(wrong)? };
    if number.is_nan() {
        return Ok("NaN".to_owned());
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let is_lost = match number {
        number if number.is_infinite() => text.contains(|c: char| c.is_ascii_digit()),
        number => number == 0.0 && mantissa.contains(|c: char| ('1'..='9').contains(&c)),
    };
    if is_lost {
        return Err(Unholdable::because("is out of range for its type (SQLSTATE 22003)"));
    }
    Ok(match number {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => printed(text, single),
    })
}

/// Prints the number as PostgreSQL does: scientific from 15 digits before the point on, 6 for `real`, and
/// below 0.0001.
pub fn printed(attribute: &str, single: bool) -> String {
    let shortest = if single {
        attribute.parse::<f32>().map(|number| format!("{number:e}"))
    } else {
        attribute.parse::<f64>().map(|number| format!("{number:e}"))
    };
    let text = shortest.map(|text| laid_out(&text, -4, if single { 6 } else { 15 }, "e"));
    text.unwrap_or_else(|_| attribute.to_owned())
}

/// Tells whether both read as one number.
pub fn same(a: &str, b: &str) -> bool {
    matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
}

/// `d.ddde±x` written plainly where the exponent is at least `from` and below `to`. Zero has no sign: to
/// PostgreSQL both zeros are equal, and a number of DynamoDB has one.
fn laid_out(scientific: &str, from: i32, to: i32, letter: &str) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    if mantissa == "0" {
        return "0".to_owned();
    }
    let digits = mantissa.replace('.', "");
    if !(from..to).contains(&exponent) {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}{letter}{exponent_sign}{:02}", exponent.unsigned_abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits:0<whole$}");
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_by_their_shortest_digits() {
        let of = |text| attribute(text, false).ok();
        assert_eq!(of("0.1").as_deref(), Some("0.1"));
        assert_eq!(of("1e+20").as_deref(), Some("1E+20"));
        assert_eq!(of("-0").as_deref(), Some("0"));
        assert_eq!(of("123456.75").as_deref(), Some("123456.75"));
        assert_eq!(of("1e-05").as_deref(), Some("0.00001"));
        assert_eq!(attribute("0.1", true).as_deref(), Ok("0.1"));
        assert!(of("NaN").is_none() && of("Infinity").is_none() && of("1e+300").is_none());
    }

    #[test]
    fn as_text_every_number_is_held_and_reads_back() {
        for (text, single, expected) in [
            ("NaN", false, "NaN"),
            ("-Infinity", true, "-Infinity"),
            ("inf", false, "Infinity"),
            ("-0", false, "0"),
            ("1e300", false, "1e+300"),
            ("5e-324", false, "5e-324"),
            ("1e-45", true, "1e-45"),
            ("0.10", true, "0.1"),
            ("3.4028235e38", true, "3.4028235e+38"),
        ] {
            assert_eq!(spelled(text, single).as_deref(), Ok(expected));
            assert_eq!(spelled(expected, single).as_deref(), Ok(expected));
        }
        for (text, single) in
            [("1e400", false), ("1e-400", false), ("1e39", true), ("-1e-46", true), ("x", true)]
        {
            assert!(spelled(text, single).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_spelled_as_postgresql_prints_it() {
        assert_eq!(printed("1E+20", false), "1e+20");
        assert_eq!(printed("100000000000000", false), "100000000000000");
        assert_eq!(printed("1000000000000000", false), "1e+15");
        assert_eq!(printed("1000000", true), "1e+06");
        assert_eq!(printed("0.00001", false), "1e-05");
        assert_eq!(printed("0.0001", false), "0.0001");
    }
}

//! Order of numbers as they are written.

use std::cmp::Ordering;

/// Compares two numbers as they are written, to the last digit; those with an exponent by their nearest
/// values.
pub(crate) fn of_numbers(one: &str, other: &str) -> Ordering {
    let has_exponent = |text: &str| text.contains(['e', 'E']);
    if has_exponent(one) || has_exponent(other) {
        let near = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
        return near(one).total_cmp(&near(other));
    }
    let (one, other) = (digits(one), digits(other));
    let size = (one.1.len(), one.1, one.2).cmp(&(other.1.len(), other.1, other.2));
    match (one.0, other.0) {
        (false, false) => size,
        (true, true) => size.reverse(),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

/// Whether a number is below 0, its digits before the point and those after it. Of two texts of digits after
/// the point the one that goes on is the greater one, so they need no width.
fn digits(text: &str) -> (bool, &str, &str) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    (negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction)
}

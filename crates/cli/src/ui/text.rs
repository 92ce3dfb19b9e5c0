//! Numbers as people read them.

/// `1234567` → `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a rate or a size with three digits that matter: `950`, `12.3k`, `4.56M`.
pub(super) fn short(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 1e9 => (n / 1e9, "G"),
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e4 => (n / 1e3, "k"),
        n => return format!("{n:.0}"),
    };
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}{unit}")
}

/// Seconds as `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
pub fn seconds(s: f64) -> String {
    let whole = s.round() as u64;
    match whole {
        _ if s < 9.95 => format!("{s:.1} s"),
        0..=89 => format!("{whole} s"),
        90..=5_399 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in
            [(0.0, "0"), (9_999.0, "9999"), (12_340.0, "12.3k"), (4_560_000.0, "4.56M"), (2.5e9, "2.50G")]
        {
            assert_eq!(short(number), text);
        }
        for (s, text) in [(0.44, "0.4 s"), (12.3, "12 s"), (185.0, "3 min 05 s"), (7_620.0, "2 h 07 min")] {
            assert_eq!(seconds(s), text);
        }
    }
}

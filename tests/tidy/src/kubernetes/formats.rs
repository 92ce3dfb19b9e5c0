//! Formats that a scalar of the API may have, by the names that the schema calls them.

use serde_json::Value;

/// A format, and the words of a finding about what has it not.
#[derive(Debug)]
pub(super) struct Format {
    name: &'static str,
    pub(super) words: &'static str,
    pub(super) fits: fn(&Value) -> bool,
}

/// Every format of the notation.
const FORMATS: [Format; 15] = [
    format("bool", "true or false", Value::is_boolean),
    format("string", "text (a number or a truth value is put in quotes)", Value::is_string),
    format("text", "text that is not empty", |value| of(value, |text| !text.is_empty())),
    format("label", "a name of at most 63 of a-z, 0-9 and -", |value| of(value, is_label)),
    format("dns-name", "a name of a-z, 0-9, - and .", |value| of(value, is_dns_name)),
    format("label-key", "a key such as example.org/name", |value| of(value, is_label_key)),
    format("label-value", "text of at most 63 letters, digits, -, _ and .", |value| {
        of(value, is_label_value)
    }),
    format("config-key", "a key of letters, digits, -, _ and .", |value| of(value, is_config_key)),
    format("variable", "the name of a variable", |value| of(value, is_variable)),
    format("port-name", "a name of at most 15 of a-z, 0-9 and -, with a letter", |value| {
        of(value, is_port_name)
    }),
    format("port", "a port, or the name of one", is_port),
    format("count-or-percent", "a whole number, or a share such as \"25%\"", is_count_or_percent),
    format("quantity", "a quantity such as 250m or 1Gi", |value| quantity(value).is_some()),
    format("absolute-path", "a path that begins with / and has no :", |value| of(value, is_absolute_path)),
    format("cidr", "an address with the length of its prefix, such as 192.0.2.1/32", |value| {
        of(value, is_cidr)
    }),
];

const fn format(name: &'static str, words: &'static str, fits: fn(&Value) -> bool) -> Format {
    Format { name, words, fits }
}

/// The format of a name.
pub(super) fn named(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// The number that a quantity is, for two of them to be compared.
pub(super) fn quantity(value: &Value) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 16] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let (suffix, times) = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix))?;
    let digits = text.strip_suffix(suffix)?;
    // What Rust takes for a number besides (`inf`) is none here.
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && digits.ends_with(|c: char| c.is_ascii_digit() || c == '.');
    digits.parse::<f64>().ok().filter(|number| is_number && *number >= 0.0).map(|number| number * times)
}

fn of(value: &Value, fits: fn(&str) -> bool) -> bool {
    value.as_str().is_some_and(fits)
}

fn is_word(text: &str, within: &str) -> bool {
    let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    ends && text.chars().all(|c| c.is_ascii_alphanumeric() || within.contains(c))
}

fn is_small(text: &str) -> bool {
    !text.contains(|c: char| c.is_ascii_uppercase())
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_word(text, "-") && is_small(text)
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| is_word(part, "-") && is_small(part))
}

fn is_label_key(text: &str) -> bool {
    let (before, name) = text.split_once('/').map_or((None, text), |(before, name)| (Some(before), name));
    name.len() <= 63 && is_word(name, "-_.") && before.is_none_or(is_dns_name)
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || (text.len() <= 63 && is_word(text, "-_."))
}

fn is_config_key(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_variable(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_port_name(text: &str) -> bool {
    let has_letter = text.contains(|c: char| c.is_ascii_lowercase());
    text.len() <= 15 && is_label(text) && has_letter && !text.contains("--")
}

fn is_port(value: &Value) -> bool {
    value.as_i64().is_some_and(|port| (1..=65535).contains(&port)) || of(value, is_port_name)
}

fn is_count_or_percent(value: &Value) -> bool {
    let is_share = |text: &str| {
        text.strip_suffix('%').is_some_and(|share| share.parse::<u8>().is_ok_and(|share| share <= 100))
    };
    value.as_i64().is_some_and(|count| count >= 0) || of(value, is_share)
}

fn is_absolute_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(':')
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    length.parse::<u8>().is_ok_and(|length| length <= if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::{named, quantity};
    use serde_json::json;

    #[test]
    fn a_format_takes_what_the_api_takes() {
        for (name, taken, refused) in [
            (
                "label",
                vec![json!("a-1")],
                vec![json!("A"), json!("-a"), json!("a.b"), json!(""), json!("a".repeat(64))],
            ),
            (
                "label-key",
                vec![json!("a.b/C_d"), json!("a")],
                vec![json!("a/b/c"), json!("A/b"), json!("a/"), json!(1)],
            ),
            ("label-value", vec![json!(""), json!("a.B")], vec![json!(true), json!("a b"), json!("a-")]),
            (
                "port",
                vec![json!(1), json!("http")],
                vec![json!(0), json!(65536), json!("80"), json!("a--b"), json!("a".repeat(16))],
            ),
            (
                "count-or-percent",
                vec![json!(0), json!("50%")],
                vec![json!(-1), json!("50"), json!("101%"), json!(0.5)],
            ),
            (
                "quantity",
                vec![json!("250m"), json!(2), json!("1Gi"), json!("1e3"), json!("0.5")],
                vec![json!("1GB"), json!("inf"), json!(""), json!("-1"), json!(true), json!("1 Gi")],
            ),
            ("absolute-path", vec![json!("/tmp")], vec![json!("tmp"), json!("/a:b")]),
            (
                "cidr",
                vec![json!("192.0.2.1/32"), json!("fd00:ec2::23/128")],
                vec![json!("192.0.2.1"), json!("192.0.2.1/33"), json!("192.0.2/24")],
            ),
            ("variable", vec![json!("A__B")], vec![json!("A-B"), json!("1A")]),
            ("string", vec![json!("")], vec![json!(1), json!(null)]),
        ] {
            let format = named(name).expect(name);
            taken.iter().for_each(|value| assert!((format.fits)(value), "{value} is no {name}"));
            refused.iter().for_each(|value| assert!(!(format.fits)(value), "{value} is a {name}"));
        }
        assert!(
            quantity(&json!("1Gi")) > quantity(&json!("1000M"))
                && quantity(&json!("2")) > quantity(&json!("250m"))
        );
    }
}

//! Text as a TOML file takes it.

/// Returns a key as a TOML file takes it.
pub(crate) fn toml_key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { toml_text(name) }
}

/// Returns a string as a TOML file takes it.
pub(crate) fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

//! Bytes in hexadecimal.

use crate::unholdable::Unholdable;

/// Bytes as PostgreSQL prints them under `bytea_output = hex`.
pub fn printed(bytes: &[u8]) -> String {
    format!("\\x{}", hex::encode(bytes))
}

/// Reads what [`printed`] wrote.
///
/// # Errors
/// For a text that is not of that form.
pub fn read(text: &str) -> Result<Vec<u8>, Unholdable> {
    let digits = text.strip_prefix("\\x").and_then(|digits| hex::decode(digits).ok());
    digits.ok_or_else(|| Unholdable::because("does not read as bytes in hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_printed() {
        assert_eq!(printed(&[0, 255, 16]), "\\x00ff10");
        assert_eq!(read("\\x00ff10"), Ok(vec![0, 255, 16]));
        assert!(read("00").is_err() && read("\\x0").is_err() && read("\\xzz").is_err());
    }
}

//! Options as a file has them: whole numbers, whose unit is in the key's name. Each module is for one field's
//! `#[serde(with = "…")]`, so that a crate's own options are the section of the file, and are spelt once.

/// A duration in milliseconds.
pub mod ms {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Milliseconds; more than 64 bits hold are as many as they hold.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the duration of a number of milliseconds.
    ///
    /// # Errors
    /// For what is no whole number from 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// A duration in seconds.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Whole seconds; a part of one is left out.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(duration.as_secs())
    }

    /// Returns the duration of a number of seconds.
    ///
    /// # Errors
    /// For what is no whole number from 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}

/// A number of bytes in megabytes, of 2²⁰ bytes.
pub mod megabytes {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Whole megabytes; a part of one is left out.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &usize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64((bytes >> 20) as u64)
    }

    /// Returns the bytes of a number of megabytes, or as many as there can be.
    ///
    /// # Errors
    /// For what is no whole number from 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        usize::deserialize(from).map(|megabytes| megabytes.saturating_mul(1 << 20))
    }
}

/// A bound of which 0 says that there is none.
pub mod zero_is_none {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Returns the bound, or 0.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(most: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(most.unwrap_or(0))
    }

    /// Returns the bound; `None` for 0.
    ///
    /// # Errors
    /// For what is no whole number from 0.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        u64::deserialize(from).map(|most| Some(most).filter(|most| *most > 0))
    }
}

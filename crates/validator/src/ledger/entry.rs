//! Entry of a pass for one place, and its bytes.

use std::io::{self, Read, Write};

use crate::print::Print;

/// Place, state, standing, and the length of the name.
const HEAD_BYTES: usize = 16 + 16 + 1 + 4;

/// Entry of a pass for one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) print: Print,
    pub(crate) standing: Standing,
    /// Name by which it is found again; the ledger does not look inside.
    pub(crate) name: Vec<u8>,
}

/// Kind of an entry, beside its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A row or an item.
    Live,
    /// A row past its expiry: its item may be gone.
    Expired,
    /// An item that says "deleted". It is no row, so it is in no bucket.
    Tombstone,
}

impl Entry {
    /// Makes the entry of what has no place in a bucket.
    pub(crate) fn aside(name: Vec<u8>) -> Self {
        Self { print: Print { place: 0, state: 0 }, standing: Standing::Live, name }
    }

    /// Returns how many bytes it is.
    pub(crate) fn bytes(&self) -> u64 {
        (HEAD_BYTES + self.name.len()) as u64
    }

    /// Writes it.
    ///
    /// # Errors
    /// The writer's, or that the name is too long.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.name.len()).map_err(|_| io::Error::other("a name of over 4 GB"))?;
        let mut head = [0; HEAD_BYTES];
        head[..16].copy_from_slice(&self.print.place.to_le_bytes());
        head[16..32].copy_from_slice(&self.print.state.to_le_bytes());
        head[32] = self.standing as u8;
        head[33..].copy_from_slice(&length.to_le_bytes());
        out.write_all(&head)?;
        out.write_all(&self.name)
    }

    /// Reads the next one, of which no more than `left` bytes may be there.
    ///
    /// # Errors
    /// The reader's, or that it is none.
    pub(crate) fn read(from: &mut impl Read, left: u64) -> io::Result<Self> {
        let (place, state) = (number(from)?, number(from)?);
        let (mut standing, mut length) = ([0], [0; 4]);
        from.read_exact(&mut standing)?;
        from.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if HEAD_BYTES as u64 + u64::from(length) > left {
            return Err(garbled());
        }
        let mut name = vec![0; length as usize];
        from.read_exact(&mut name)?;
        let standing = standing_of(standing[0]).ok_or_else(garbled)?;
        Ok(Self { print: Print { place, state }, standing, name })
    }
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "entries do not read back")
}

fn standing_of(byte: u8) -> Option<Standing> {
    [Standing::Live, Standing::Expired, Standing::Tombstone]
        .into_iter()
        .find(|standing| *standing as u8 == byte)
}

fn number(from: &mut impl Read) -> io::Result<u128> {
    let mut bytes = [0; 16];
    from.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

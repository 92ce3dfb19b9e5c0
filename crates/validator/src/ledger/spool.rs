//! A sequence of entries that is appended to and read back: of a run that need not survive us in memory while
//! it is short, then in a temporary file without a name, so that nothing is left behind however we end; of
//! one that is kept, in a file of its folder.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::SpooledTempFile;

use super::{Entry, Standing};
use crate::print::Print;

/// Fewer bytes a write would be a system call for every few entries.
const WRITE_BYTES: usize = 8 << 10;
const READ_BYTES: usize = 64 << 10;
/// Place, state, standing, and the length of the name.
const HEAD_BYTES: usize = 16 + 16 + 1 + 4;

#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<Place>,
    bytes: u64,
}

#[derive(Debug)]
enum Place {
    Temporary(SpooledTempFile),
    Kept(File),
}

impl Spool {
    /// An empty one that may hold the given number of bytes in memory.
    pub(super) fn temporary(in_memory_bytes: usize) -> Self {
        Self::of(Place::Temporary(SpooledTempFile::new(in_memory_bytes)), 0)
    }

    /// The first `bytes` of a file; what is behind them was written and never vouched for, and is cut off.
    ///
    /// # Errors
    /// When the file is shorter, or cannot be used.
    pub(super) fn kept(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a kept file is shorter than it was"));
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self::of(Place::Kept(file), bytes))
    }

    fn of(place: Place, bytes: u64) -> Self {
        Self { file: BufWriter::with_capacity(WRITE_BYTES, place), bytes }
    }

    pub(super) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let length = u32::try_from(entry.name.len()).map_err(|_| io::Error::other("a name of over 4 GB"))?;
        let mut head = [0; HEAD_BYTES];
        head[..16].copy_from_slice(&entry.print.place.to_le_bytes());
        head[16..32].copy_from_slice(&entry.print.state.to_le_bytes());
        head[32] = entry.standing as u8;
        head[33..].copy_from_slice(&length.to_le_bytes());
        self.file.write_all(&head)?;
        self.file.write_all(&entry.name)?;
        self.bytes += HEAD_BYTES as u64 + u64::from(length);
        Ok(())
    }

    /// Hands everything to the system. Returns how long it is, and the file if it is one that is kept, to be
    /// synced.
    pub(super) fn flush(&mut self) -> io::Result<(u64, Option<File>)> {
        self.file.flush()?;
        let file = match self.file.get_ref() {
            Place::Temporary(_) => None,
            Place::Kept(file) => Some(file.try_clone()?),
        };
        Ok((self.bytes, file))
    }

    /// Reads everything back, in order. What is pushed later comes behind it as before.
    pub(super) fn read(&mut self, mut each: impl FnMut(Entry)) -> io::Result<()> {
        self.file.flush()?;
        let place = self.file.get_mut();
        place.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::with_capacity(READ_BYTES, Read::take(&mut *place, self.bytes));
        let mut left = self.bytes;
        while left > 0 {
            let (print_place, state) = (number(&mut file)?, number(&mut file)?);
            let (mut standing, mut length) = ([0], [0; 4]);
            file.read_exact(&mut standing)?;
            file.read_exact(&mut length)?;
            let length = u32::from_le_bytes(length);
            let all = HEAD_BYTES as u64 + u64::from(length);
            left = left.checked_sub(all).ok_or_else(garbled)?;
            let mut name = vec![0; length as usize];
            file.read_exact(&mut name)?;
            let standing = standing_of(standing[0]).ok_or_else(garbled)?;
            each(Entry { print: Print { place: print_place, state }, standing, name });
        }
        self.file.get_mut().seek(SeekFrom::End(0))?;
        Ok(())
    }
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a spool does not read back")
}

fn standing_of(byte: u8) -> Option<Standing> {
    [Standing::Live, Standing::Expired, Standing::Tombstone]
        .into_iter()
        .find(|standing| *standing as u8 == byte)
}

fn number(file: &mut impl Read) -> io::Result<u128> {
    let mut bytes = [0; 16];
    file.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

impl Read for Place {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Temporary(file) => file.read(buffer),
            Self::Kept(file) => file.read(buffer),
        }
    }
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Temporary(file) => file.write(bytes),
            Self::Kept(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Temporary(file) => file.flush(),
            Self::Kept(file) => file.flush(),
        }
    }
}

impl Seek for Place {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Temporary(file) => file.seek(to),
            Self::Kept(file) => file.seek(to),
        }
    }
}

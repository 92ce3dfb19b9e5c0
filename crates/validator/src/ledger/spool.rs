//! A sequence of entries that is appended to and read back: of a run that need not survive us in memory while
//! it is short, then in a temporary file without a name, so that nothing is left behind however we end; of
//! one that is kept, in a file of its folder.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::SpooledTempFile;

use super::Entry;

/// Fewer bytes a write would be a system call for every few entries.
const WRITE_BYTES: usize = 8 << 10;
const READ_BYTES: usize = 64 << 10;

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
    /// Makes an empty one that may hold the given number of bytes in memory.
    pub(super) fn temporary(in_memory_bytes: usize) -> Self {
        Self::of(Place::Temporary(SpooledTempFile::new(in_memory_bytes)), 0)
    }

    /// Returns the first `bytes` of a file; what is behind them was written and never vouched for, and is cut
    /// off.
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
        entry.write(&mut self.file)?;
        self.bytes += entry.bytes();
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

    /// Reads everything back, in order. Later entries come behind it as before.
    pub(super) fn read(&mut self, mut each: impl FnMut(Entry)) -> io::Result<()> {
        self.file.flush()?;
        let place = self.file.get_mut();
        place.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::with_capacity(READ_BYTES, Read::take(&mut *place, self.bytes));
        let mut left = self.bytes;
        while left > 0 {
            let entry = Entry::read(&mut file, left)?;
            left -= entry.bytes();
            each(entry);
        }
        self.file.get_mut().seek(SeekFrom::End(0))?;
        Ok(())
    }
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

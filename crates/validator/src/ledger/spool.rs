//! A sequence of entries that is written once and read once: in memory while it is short, then in a temporary file that
//! has no name, so that nothing is left behind however we end.

use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use tempfile::SpooledTempFile;

use super::{Entry, Standing};
use crate::print::Print;

/// What all spools of a table hold in memory before they go to disk, all together.
const IN_MEMORY_BYTES: usize = 16 << 20;
/// Fewer bytes a write would be a system call for every few entries.
const WRITE_BYTES: usize = 8 << 10;

#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<SpooledTempFile>,
    in_memory_bytes: usize,
}

impl Spool {
    /// One of `spools` of a table.
    pub(super) fn new(spools: usize) -> Self {
        let in_memory_bytes = IN_MEMORY_BYTES / spools.max(1);
        Self { file: BufWriter::with_capacity(WRITE_BYTES, SpooledTempFile::new(in_memory_bytes)), in_memory_bytes }
    }

    pub(super) fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let length = u32::try_from(entry.name.len()).map_err(|_| io::Error::other("a name of over 4 GB"))?;
        self.file.write_all(&entry.print.place.to_le_bytes())?;
        self.file.write_all(&entry.print.state.to_le_bytes())?;
        self.file.write_all(&[entry.standing as u8])?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&entry.name)
    }

    /// What was written so far; an empty one stays.
    pub(super) fn take(&mut self) -> Self {
        let empty = BufWriter::with_capacity(0, SpooledTempFile::new(self.in_memory_bytes));
        Self { file: std::mem::replace(&mut self.file, empty), in_memory_bytes: self.in_memory_bytes }
    }

    /// Reads everything back, in order.
    pub(super) fn read(self, mut each: impl FnMut(Entry)) -> io::Result<()> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::with_capacity(WRITE_BYTES.max(64 << 10), file);
        while let Some(place) = number(&mut file)? {
            let state = number(&mut file)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let (mut standing, mut length) = ([0], [0; 4]);
            file.read_exact(&mut standing)?;
            file.read_exact(&mut length)?;
            let mut name = vec![0; u32::from_le_bytes(length) as usize];
            file.read_exact(&mut name)?;
            let standing = standing_of(standing[0]).ok_or_else(|| io::Error::other("a spool does not read back"))?;
            each(Entry { print: Print { place, state }, standing, name });
        }
        Ok(())
    }
}

fn standing_of(byte: u8) -> Option<Standing> {
    [Standing::Live, Standing::Expired, Standing::Tombstone].into_iter().find(|standing| *standing as u8 == byte)
}

/// The next number, or nothing at the end.
fn number(file: &mut impl Read) -> io::Result<Option<u128>> {
    let mut bytes = [0; 16];
    let first = file.read(&mut bytes)?;
    if first == 0 {
        return Ok(None);
    }
    file.read_exact(&mut bytes[first..])?;
    Ok(Some(u128::from_le_bytes(bytes)))
}

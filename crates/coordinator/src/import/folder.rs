//! Parts on their way to an import: files of DynamoDB's JSON, compressed by gzip, in a folder that is then
//! copied to S3; and the manifest beside them.
//!
//! Where who writes a part puts it into S3, it is in memory until then, and there is no folder.
//!
//! A file gets its name when it is whole and on the disk. It is a part once the manifest in the source has
//! it, which is the transaction that moves the watermark of its range. So a run that was killed leaves at
//! most a file that is no part: its rows are read again, and the file is removed before anything is copied.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use lockstep_core::Advice::BackfillAgain;
use lockstep_core::{Item, Naming};
use lockstep_dynamo::push_initial_load_line;
use lockstep_postgres::PartRow;
use lockstep_validator::{private_file, private_folder};
use serde_json::{Value, json};

/// Name of the folder within a table's folder that holds its parts.
const DATA: &str = "data";
const UNFINISHED: &str = "unfinished";

/// Place of a part while it is written.
enum Place {
    Folder { file: BufWriter<File>, unfinished: PathBuf, data: PathBuf },
    Memory(Vec<u8>),
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Folder { file, .. } => file.write(bytes),
            Self::Memory(all) => all.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Folder { file, .. } => file.flush(),
            Self::Memory(_) => Ok(()),
        }
    }
}

/// A part that is being written.
pub(crate) struct Part {
    encoder: GzEncoder<Place>,
    name: String,
    items: i64,
    /// Bytes before they were compressed.
    pub(crate) bytes: u64,
}

impl Part {
    /// Begins a file that is no part yet.
    pub(crate) fn begin(folder: &Path, name: &str) -> io::Result<Self> {
        let data = folder.join(DATA);
        let beside = folder.join(UNFINISHED);
        for folder in [folder, &data, &beside] {
            private_folder(folder)?;
        }
        let unfinished = beside.join(name);
        let file = BufWriter::with_capacity(1 << 18, private_file(&unfinished)?);
        Ok(Self::of(Place::Folder { file, unfinished, data }, name))
    }

    /// Begins one that is kept in memory until it is put somewhere.
    pub(crate) fn in_memory(name: &str) -> Self {
        Self::of(Place::Memory(Vec::new()), name)
    }

    fn of(place: Place, name: &str) -> Self {
        let encoder = GzEncoder::new(place, Compression::fast());
        Self { encoder, name: name.to_owned(), items: 0, bytes: 0 }
    }

    pub(crate) fn add(&mut self, lines: &[u8], items: usize) -> io::Result<()> {
        self.encoder.write_all(lines)?;
        self.items += items as i64;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Gives it its name, once it is on the disk. Of one in memory the content is left to be put.
    pub(crate) fn finish(self) -> io::Result<(PartRow, Option<Bytes>)> {
        let (bytes, body) = match self.encoder.finish()? {
            Place::Memory(all) => (all.len() as u64, Some(Bytes::from(all))),
            Place::Folder { file, unfinished, data } => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.sync_all()?;
                let bytes = file.metadata()?.len();
                fs::rename(&unfinished, data.join(&self.name))?;
                File::open(&data)?.sync_all()?;
                (bytes, None)
            }
        };
        Ok((PartRow { name: self.name, items: self.items, bytes: bytes as i64, e_tag: None }, body))
    }
}

/// Items as the lines of a part.
///
/// # Errors
/// For an item that says two things of a column that is a key; encoding lets none through.
pub(crate) fn lines_of(items: Vec<Item>, naming: &Naming, lines: &mut Vec<u8>) -> io::Result<()> {
    for item in items {
        push_initial_load_line(item, naming, lines).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Makes the folder hold exactly the parts of the manifest: removes what a run that was killed left behind,
/// and writes `manifest.json`.
///
/// # Errors
/// Names a part that is not there or is not as it was written, as after a disk was replaced.
pub(super) fn reconcile(folder: &Path, parts: &[PartRow]) -> io::Result<()> {
    let data = folder.join(DATA);
    let known: HashMap<&str, i64> = parts.iter().map(|part| (part.name.as_str(), part.bytes)).collect();
    for part in parts {
        let there = fs::metadata(data.join(&part.name)).map(|found| found.len() as i64);
        if !matches!(there, Ok(bytes) if bytes == part.bytes) {
            let message = format!(
                "part {} is not in {}, or not as it was written: run this on the \
                    machine that wrote it, or read the initial load again with {BackfillAgain}",
                part.name,
                data.display()
            );
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
    }
    for entry in fs::read_dir(&data)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| known.contains_key(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    let beside = folder.join(UNFINISHED);
    if beside.is_dir() {
        fs::remove_dir_all(beside)?;
    }
    private_file(&folder.join("manifest.json"))?.write_all(&serde_json::to_vec_pretty(&manifest_of(parts))?)
}

/// The manifest, for who wants to look.
pub(super) fn manifest_of(parts: &[PartRow]) -> Value {
    let items: i64 = parts.iter().map(|part| part.items).sum();
    json!({ "items": items, "format": "DYNAMODB_JSON", "compression": "GZIP", "parts": parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_part_is_removed_and_a_part_that_is_gone_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str| {
            let mut part = Part::begin(folder.path(), name).expect("begun");
            part.add(b"{\"Item\":{}}\n", 1).expect("written");
            part.finish().expect("whole").0
        };
        let kept = write("000000-1-000001.json.gz");
        write("000000-2-000001.json.gz");
        drop(Part::begin(folder.path(), "000001-3-000001.json.gz").expect("a run that was killed"));
        reconcile(folder.path(), std::slice::from_ref(&kept)).expect("reconciled");
        let data = folder.path().join(DATA);
        let names: Vec<_> =
            fs::read_dir(&data).expect("there").map(|e| e.expect("an entry").file_name()).collect();
        assert_eq!(names, [kept.name.as_str()]);
        let manifest = fs::read_to_string(folder.path().join("manifest.json")).expect("written");
        assert!(manifest.contains("\"items\": 1") && manifest.contains(&kept.name), "{manifest}");

        fs::write(data.join(&kept.name), b"shorter").expect("garbled");
        let refused = reconcile(folder.path(), &[kept]).expect_err("it is not as it was written");
        assert!(refused.to_string().contains("000000-1-000001.json.gz"), "{refused}");
    }
}

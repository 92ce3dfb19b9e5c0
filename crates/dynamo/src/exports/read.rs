//! Reading a file of an export, page by page, and holding it against the manifest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use flate2::read::MultiGzDecoder;
use md5::{Digest, Md5};

use lockstep_core::Naming;

use super::{ExportError, ExportFile};
use crate::raw_scan::ScanBody;

/// About how many bytes a page has, before they were compressed. Where it is another number, pages end
/// elsewhere.
pub const PAGE_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 256 << 10;

impl ExportFile {
    /// Hands over its items in pages, each as a page of a scan of a table with these names. It waits for a
    /// disk or for S3, so not on a thread of the runtime, but within it.
    ///
    /// The manifest's sums are known at the end only: where they do not agree, what was handed over says
    /// nothing.
    ///
    /// # Errors
    /// Where it is not the file that the manifest names, cannot be read, or `each` fails.
    pub fn read<E: From<ExportError>>(
        &self,
        table: &str,
        naming: Naming,
        mut each: impl FnMut(&ScanBody) -> Result<u64, E>,
    ) -> Result<(), E> {
        let failed = |error| ExportError::File { path: self.path.clone(), error };
        let file: Box<dyn Read> = match &self.object {
            Some((bucket, key)) => Box::new(bucket.reader(key)),
            None => Box::new(File::open(&self.path).map_err(failed)?),
        };
        let stored = Hashing { inner: file, hash: Md5::new() };
        let mut lines = BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(stored));
        let (mut plain, mut items, mut number) = (Md5::new(), 0, 0_u64);
        let (mut page, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            let is_end = lines.read_line(&mut line).map_err(failed)? == 0;
            if !is_end {
                number += 1;
                plain.update(line.as_bytes());
                if line.trim().is_empty() {
                    continue;
                }
                let item = item_of(line.trim()).ok_or_else(|| {
                    ExportError::refused(&self.path, format!("line {number} is not an item"))
                })?;
                page.push_str(if page.is_empty() { "{\"Items\":[" } else { "," });
                page.push_str(item);
            }
            if !page.is_empty() && (is_end || page.len() >= PAGE_BYTES) {
                page.push_str("]}");
                let body = SdkBody::from(std::mem::take(&mut page));
                items += each(&ScanBody { body, table: table.to_owned(), naming })?;
            }
            if is_end {
                break;
            }
        }
        if items != self.items {
            let reason = format!("it has {items} items, and the manifest says {}", self.items);
            return Err(ExportError::refused(&self.path, reason).into());
        }
        let mut stored = lines.into_inner().into_inner();
        // Bytes behind the last member belong to the file, too.
        io::copy(&mut stored, &mut io::sink()).map_err(failed)?;
        // The guide does not say of which of the two the sum is.
        let sums = [stored.hash, plain].map(|hash| base64::encode(hash.finalize()));
        if !sums.contains(&self.md5) {
            let reason = "its MD5 is not the manifest's: it was changed, or not copied whole; copy it again";
            return Err(ExportError::refused(&self.path, reason).into());
        }
        Ok(())
    }
}

/// Returns the text that a line wraps. Whether that is an item shows when the page is read.
fn item_of(line: &str) -> Option<&str> {
    let inner = line.strip_prefix('{')?.strip_suffix('}')?.trim_start();
    Some(inner.strip_prefix("\"Item\"")?.trim_start().strip_prefix(':')?.trim())
}

struct Hashing {
    inner: Box<dyn Read>,
    hash: Md5,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Returns a file of these lines, as the manifest would have it.
    fn file(folder: &std::path::Path, lines: &str, items: u64) -> ExportFile {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(lines.as_bytes()).expect("written");
        let bytes = encoder.finish().expect("whole");
        let path = folder.join("a.json.gz");
        std::fs::write(&path, &bytes).expect("written");
        ExportFile { path, object: None, items, md5: base64::encode(Md5::digest(&bytes)) }
    }

    fn read(file: &ExportFile) -> Result<Vec<String>, ExportError> {
        let mut keys = Vec::new();
        file.read("t", Naming::USUAL, |page| {
            let mut items = 0;
            let ended = page.read(|item| {
                items += 1;
                keys.push(format!("{:?}", item.to_attributes().get("PK")));
            });
            ended.map_err(|e| ExportError::refused(&file.path, e.to_string()))?;
            Ok::<_, ExportError>(items)
        })?;
        Ok(keys)
    }

    #[test]
    fn a_file_is_read_whole_and_whatever_is_not_the_manifests_is_refused() {
        let folder = std::env::temp_dir().join(format!("lockstep-export-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let lines = "{\"Item\":{\"PK\":{\"S\":\"a}\"}}}\n{ \"Item\" : {\"PK\":{\"S\":\"b\"}} }\n";
        let whole = file(&folder, lines, 2);
        assert_eq!(read(&whole).expect("read").len(), 2);
        let of_plain = ExportFile { md5: base64::encode(Md5::digest(lines)), ..whole.clone() };
        assert_eq!(read(&of_plain).expect("the sum of what was compressed").len(), 2);
        let empty = file(&folder, "", 0);
        assert_eq!(read(&empty).expect("an empty partition").len(), 0);

        let whole = file(&folder, lines, 2);
        let cases = [
            (ExportFile { md5: "x".to_owned(), ..whole.clone() }, "MD5"),
            (ExportFile { items: 3, ..whole.clone() }, "2 items"),
            (ExportFile { path: folder.join("none.json.gz"), ..whole }, "none.json.gz"),
        ];
        for (file, expected) in cases {
            let refused = read(&file).expect_err(expected).to_string();
            assert!(refused.contains(expected), "{expected}: {refused}");
        }
        for (lines, expected) in [
            ("{\"Keys\":{}}\n", "line 1"),
            ("{\"Item\":{\"PK\":{\"S\":1}}}\n", "not a page"),
            ("{}x\n", "line 1"),
        ] {
            let refused = read(&file(&folder, lines, 1)).expect_err(expected).to_string();
            assert!(refused.contains(expected), "{expected}: {refused}");
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}

//! DynamoDB's export to S3, as it lies there or in a folder that it was copied to: manifests, and files of
//! items.
//!
//! Source: Amazon DynamoDB Developer Guide, "DynamoDB table export output format". An export that is not as
//! it is written there is refused, by name (I18).

mod manifest;
mod read;

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use chrono::{DateTime, Utc};

pub use manifest::ExportSummary;
use manifest::{files_of, summary_of};
pub use read::PAGE_BYTES as EXPORT_PAGE_BYTES;

use crate::{Backoff, Bucket, bucket_and_prefix};

const SUMMARY: &str = "manifest-summary.json";
const FILES: &str = "manifest-files.json";

/// Place of an export: a folder with its two manifests and `data/`, or the prefix in S3 that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportPlace {
    /// A folder on this machine.
    Folder(PathBuf),
    /// Objects in S3.
    S3 {
        /// Their bucket.
        bucket: String,
        /// Beginning of their keys, without the last `/`.
        prefix: String,
    },
}

impl ExportPlace {
    /// Reads a place as a person names it: `s3://bucket/prefix`, or a folder.
    pub fn of(text: &str) -> Self {
        match bucket_and_prefix(text) {
            Some((bucket, prefix)) => {
                Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_end_matches('/').to_owned() }
            }
            None => Self::Folder(PathBuf::from(text)),
        }
    }
}

impl fmt::Display for ExportPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Reason why an export cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file of it is not there, or cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// The folder is not a whole export of one moment in the format that is read here.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file that says so.
        path: PathBuf,
        /// Reason why it is refused.
        reason: String,
    },
}

impl ExportError {
    fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), reason: reason.into() }
    }
}

/// An export: its manifests are whole and agree with each other, and each file that they name is there.
#[derive(Clone, Debug)]
pub struct Export {
    /// Summary that the export gives of itself.
    pub summary: ExportSummary,
    /// Files of items.
    pub files: Vec<ExportFile>,
}

/// One file of items.
#[derive(Clone, Debug)]
pub struct ExportFile {
    /// Path of the file, or its URL.
    pub path: PathBuf,
    /// Bucket and key, where it is in S3.
    pub(crate) object: Option<(Bucket, String)>,
    /// Items that the manifest says it has.
    pub items: u64,
    /// MD5 of it, in base64, by the manifest.
    pub(crate) md5: String,
}

impl ExportFile {
    /// Returns its name in the export.
    pub fn name(&self) -> Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }

    /// Returns the MD5 of it, in base64, by the manifest.
    pub fn md5(&self) -> &str {
        &self.md5
    }
}

impl Export {
    /// Looks at a folder with `manifest-summary.json`, `manifest-files.json` and `data/`, as S3 had them
    /// below one prefix.
    ///
    /// # Errors
    /// Names what is missing, or is not as it must be.
    pub fn open(folder: &Path) -> Result<Self, ExportError> {
        let text = |name: &str| {
            let path = folder.join(name);
            match fs::read_to_string(&path) {
                Ok(text) => Ok((path, text)),
                Err(error) => Err(ExportError::File { path, error }),
            }
        };
        let (path, summary) = text(SUMMARY)?;
        let summary = summary_of(&summary).map_err(|reason| ExportError::refused(&path, reason))?;
        let (path, files) = text(FILES)?;
        let files = files_of(&files, &folder.join("data"), summary.items);
        let files = files.map_err(|reason| ExportError::refused(&path, reason))?;
        for file in &files {
            let is_there = fs::metadata(&file.path);
            is_there.map_err(|error| ExportError::File { path: file.path.clone(), error })?;
        }
        Ok(Self { summary, files })
    }

    /// Looks at what S3 has below a prefix, likewise.
    ///
    /// # Errors
    /// Names what is missing, is not as it must be, or is not answered for minutes.
    pub async fn open_in(bucket: &Bucket, prefix: &str) -> Result<Self, ExportError> {
        let key = |name: &str| match prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        let shown = |name: &str| PathBuf::from(bucket.url(&key(name)));
        let failed = |name: &str, error: lockstep_core::Error| ExportError::File {
            path: shown(name),
            error: io::Error::other(error),
        };
        let text = async |name: &str| {
            let key = key(name);
            let text = Backoff::patient().retry(|| bucket.text(&key)).await;
            text.map_err(|error| failed(name, error))
        };
        let summary = summary_of(&text(SUMMARY).await?);
        let summary = summary.map_err(|reason| ExportError::refused(&shown(SUMMARY), reason))?;
        let files = files_of(&text(FILES).await?, Path::new(""), summary.items);
        let mut files = files.map_err(|reason| ExportError::refused(&shown(FILES), reason))?;
        let data = key("data");
        let there = Backoff::patient().retry(|| bucket.list(&data)).await;
        let there = there.map_err(|error| failed("data", error))?;
        let there: HashSet<&str> = there.iter().map(|object| object.name.as_str()).collect();
        for file in &mut files {
            let name = file.path.display().to_string();
            let in_data = format!("data/{name}");
            file.path = shown(&in_data);
            if !there.contains(name.as_str()) {
                return Err(ExportError::refused(&file.path, "there is no such object"));
            }
            file.object = Some((bucket.clone(), key(&in_data)));
        }
        Ok(Self { summary, files })
    }

    /// Returns the moment whose items it has.
    pub fn at(&self) -> DateTime<Utc> {
        self.summary.at
    }
}

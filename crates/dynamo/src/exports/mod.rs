//! DynamoDB's export to S3, as it lies in a folder that it was copied to: manifests, and files of items.
//!
//! Source: Amazon DynamoDB Developer Guide, "DynamoDB table export output format". An export that is not as
//! it is written there is refused, by name (I18).

mod manifest;
mod read;

use std::path::{Path, PathBuf};
use std::{fs, io};

use chrono::{DateTime, Utc};

pub use manifest::ExportSummary;
use manifest::{files_of, summary_of};

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
    /// Path of the file.
    pub path: PathBuf,
    /// Items that the manifest says it has.
    pub items: u64,
    /// MD5 of it, in base64, by the manifest.
    pub(crate) md5: String,
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
        let (path, summary) = text("manifest-summary.json")?;
        let summary = summary_of(&summary).map_err(|reason| ExportError::refused(&path, reason))?;
        let (path, files) = text("manifest-files.json")?;
        let files = files_of(&files, &folder.join("data"), summary.items);
        let files = files.map_err(|reason| ExportError::refused(&path, reason))?;
        for file in &files {
            let is_there = fs::metadata(&file.path);
            is_there.map_err(|error| ExportError::File { path: file.path.clone(), error })?;
        }
        Ok(Self { summary, files })
    }

    /// Returns the moment whose items it has.
    pub fn at(&self) -> DateTime<Utc> {
        self.summary.at
    }
}

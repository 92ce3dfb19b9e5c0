//! A ledger that survives its process: checkpoints, and going on from one.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use super::layout::require_layout;
use super::spool::Spool;
use super::{Folder, Ledger, Manifest, Page, Side, Sums, folder};

impl Ledger {
    /// Returns the one that a folder keeps, as of its last checkpoint. The sums are made again from what was
    /// spooled.
    ///
    /// # Errors
    /// When it does not read back; then begin again.
    pub(crate) fn resume(folder: Folder, manifest: Manifest) -> io::Result<Self> {
        let (seed, partitions) = (manifest.seed, manifest.partitions);
        require_layout(partitions)?;
        let page = |side: Side, kept: &folder::KeptPage| {
            let bytes = |number| kept.bytes.get(number).copied().unwrap_or(0);
            let spool = |number| Spool::kept(&folder.spool(side.label(), number), bytes(number));
            let mut spools: Vec<Spool> = (0..=partitions).map(spool).collect::<io::Result<_>>()?;
            let mut sums = Sums::none(partitions);
            for spool in &mut spools[..partitions] {
                spool.read(|entry| _ = sums.add(&entry))?;
            }
            Ok::<_, io::Error>(Mutex::new(Page { sums, spools, pass: kept.pass.clone(), broken: false }))
        };
        let (source, target) = (page(Side::Source, &manifest.source)?, page(Side::Target, &manifest.target)?);
        Ok(Self {
            seed,
            partitions,
            source,
            target,
            kept: Some((folder, manifest)),
            is_over: Mutex::new(false),
        })
    }

    /// Makes what was entered so far durable, if it is kept. It waits for the disk, so not on an async
    /// thread.
    ///
    /// # Errors
    /// When a file cannot be written; what was durable stays so.
    pub(crate) fn checkpoint(&self) -> io::Result<()> {
        let Some((folder, manifest)) = &self.kept else { return Ok(()) };
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_over {
            return Ok(());
        }
        let mut files = Vec::new();
        let mut keep = |side| {
            // Under the lock, so that cursors and lengths are of one moment; the disk is waited for without
            // it.
            let mut page = self.page(side);
            if page.broken {
                return Err(io::Error::other("what was read could not be written down"));
            }
            let mut bytes = Vec::with_capacity(page.spools.len());
            for spool in &mut page.spools {
                let (length, file) = spool.flush()?;
                bytes.push(length);
                files.extend(file);
            }
            Ok::<_, io::Error>(folder::KeptPage { bytes, pass: page.pass.clone() })
        };
        let (source, target) = (keep(Side::Source)?, keep(Side::Target)?);
        files.iter().try_for_each(File::sync_data)?;
        folder.write(&Manifest { source, target, ..manifest.clone() })
    }

    /// Forgets what is kept: the run came to its end.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let Some((folder, _)) = &self.kept else { return Ok(()) };
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        *is_over = true;
        folder.clear()
    }
}

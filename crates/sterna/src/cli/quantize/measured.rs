//! What formats would cost, as it was measured: kept, so that the next budget for the same model begins at once.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sterna_quant::allocation::Unit;
use sterna_quant::recipe::Grid;

use super::resume::Source;
use crate::cli::own_files;

/// To be counted up with every change of what is measured.
const VERSION: u32 = 1;

/// Everything that a measurement depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Subject {
    version: u32,
    source: Source,
    grids: Vec<Grid>,
}

/// A measurement in its file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    subject: Subject,
    units: Vec<Unit>,
}

impl Subject {
    pub(super) fn new(source: Source, grids: &[Grid]) -> Subject {
        Subject { version: VERSION, source, grids: grids.to_vec() }
    }

    /// What was measured of this subject before, if that is still there.
    pub(super) fn find(&self) -> Option<Vec<Unit>> {
        let kept: Kept = serde_json::from_slice(&fs::read(self.path()?).ok()?).ok()?;
        (kept.subject == *self).then_some(kept.units)
    }

    /// Keeps `units` for the next time. Where that is not possible, it will be measured again.
    pub(super) fn keep(self, units: &[Unit]) {
        let Some(path) = self.path() else { return };
        let kept = Kept { subject: self, units: units.to_vec() };
        if let (Some(directory), Ok(text)) = (path.parent(), serde_json::to_vec(&kept)) {
            let _ = fs::create_dir_all(directory).and_then(|()| own_files::write(&path, &text));
        }
    }

    fn path(&self) -> Option<PathBuf> {
        let name = format!("{:016x}{:016x}.json", self.source.checkpoint, self.source.text);
        own_files::cache().map(|cache| cache.join("quantize").join(name))
    }
}

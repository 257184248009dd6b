//! Files of states: any bytes give a state that can be computed with, or an error. All checksums are made right first, or nothing
//! behind them would be reached.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sterna_formats::Checkpoint;
use sterna_formats::state_file::StateFile;
use sterna_model::{LoadOptions, Logits, Model, State, Workspace, forward};
use sterna_tensor::{Compute, Precision};

static COMPUTE: LazyLock<Compute> = LazyLock::new(|| Compute::new(1, Precision::Float));

/// Attention beside recurrences, so that there is a section of each kind.
static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/checkpoints/bamba");
    let checkpoint = Checkpoint::open(&directory).expect("the fixture");
    Model::load(&checkpoint, &LoadOptions::default(), &COMPUTE).expect("the fixture")
});

fuzz_target!(|data: &[u8]| {
    let Ok(file) = StateFile::parse("x.state", Bytes::from(sealed(data))) else { return };
    let Ok(mut state) = State::load(&MODEL, &COMPUTE, &file) else { return };
    if state.len() < MODEL.spec().context_length {
        let _ = forward(&MODEL, &COMPUTE, &mut state, &mut Workspace::new(), &[1], Logits::Last);
    }
});

/// `data` with the checksums of its sections, of its directory, and of its header.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let number =
        |bytes: &[u8], at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let Some(offset) = number(data, 48).filter(|offset| (64..data.len()).contains(offset)) else {
        return bytes;
    };
    for entry in (offset..data.len()).step_by(24).filter(|entry| entry + 24 <= data.len()) {
        let range = number(data, entry + 8).zip(number(data, entry + 16));
        let range = range.and_then(|(start, len)| Some(start..start.checked_add(len)?));
        if let Some(section) = range.and_then(|range| data.get(range)) {
            bytes[entry + 4..entry + 8].copy_from_slice(&crc32fast::hash(section).to_le_bytes());
        }
    }
    let directory = crc32fast::hash(&bytes[offset..]);
    bytes[56..60].copy_from_slice(&directory.to_le_bytes());
    let header = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&header.to_le_bytes());
    bytes
}

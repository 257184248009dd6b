//! Native files: any bytes give documents and tensors that can be read to the last weight, or an error. The checksum
//! of the directory is made right first, or nothing behind it would be reached.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use sterna_formats::RowOrder;
use sterna_formats::native::Native;
use sterna_tensor::{Matrix, Pool};

static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(1));

fuzz_target!(|data: &[u8]| {
    let Ok((native, tensors)) = Native::parse("model.sterna", Bytes::from(sealed(data))) else { return };
    let _ = native.about();
    for tensor in tensors {
        assert_eq!(tensor.ty.n_bytes(&tensor.shape), Some(tensor.data.len()));
        let _ = (tensor.to_f32(), tensor.rows(0..1));
        let Ok(matrix) = tensor.matrix(RowOrder::AsStored, &POOL) else { continue };
        let mut row = vec![0.0; matrix.cols()];
        (0..matrix.rows()).for_each(|r| matrix.row(r, &mut row));
        if let Matrix::Packed(matrix) = &matrix
            && let Ok(unpacked) = matrix.unpack(0..matrix.rows())
        {
            assert_eq!(unpacked.codes.len(), matrix.rows() * matrix.cols());
        }
    }
});

/// `data` with length and checksum of what follows the directory's offset.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if let Some(offset) = data.get(16..24).and_then(|offset| offset.first_chunk()) {
        let offset = usize::try_from(u64::from_le_bytes(*offset)).unwrap_or(usize::MAX).min(data.len());
        if offset >= 64 {
            bytes[24..32].copy_from_slice(&((data.len() - offset) as u64).to_le_bytes());
            bytes[32..64].copy_from_slice(&Sha256::digest(&data[offset..]));
        }
    }
    bytes
}

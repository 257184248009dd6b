//! Checkpoints of other quantizers: a line that is `config.json`, then a safetensors file. Any bytes give matrices whose
//! every weight can be read, or an error.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sterna_formats::RowOrder;
use sterna_formats::hf::{ConfigFile, quantized, read_safetensors};
use sterna_tensor::Pool;

fuzz_target!(|data: &[u8]| {
    let Some(end) = data.iter().position(|&byte| byte == b'\n') else { return };
    let Ok(config) = ConfigFile::parse(Path::new("config.json"), &data[..end]) else { return };
    let bytes = Bytes::copy_from_slice(&data[end + 1..]);
    let Ok(tensors) = read_safetensors(Path::new("model.safetensors"), &bytes) else { return };
    let Ok(tensors) = quantized::gather(&config, None, tensors) else { return };
    let pool = Pool::new(1);
    for tensor in tensors.iter().filter(|tensor| tensor.quantized.is_some()) {
        let weights = tensor.to_f32().expect("quantized tensors are weights");
        let Ok(matrix) = tensor.matrix(RowOrder::AsStored, &pool) else { continue };
        let mut row = vec![0.0; matrix.cols()];
        for (r, weights) in weights.chunks(matrix.cols()).enumerate() {
            matrix.row(r, &mut row);
            assert_eq!(row, weights, "{} row {r}", tensor.name);
        }
    }
});

//! Safetensors files: any bytes give tensors whose size fits their type and shape, or an error.
#![no_main]

use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sterna_formats::hf::read_safetensors;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(tensors) = read_safetensors(Path::new("model.safetensors"), &bytes) else { return };
    for tensor in tensors {
        assert_eq!(tensor.ty.n_bytes(&tensor.shape), Some(tensor.data.len()));
        let _ = tensor.to_f32();
    }
});

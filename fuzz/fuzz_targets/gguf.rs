//! GGUF files: any bytes give metadata and tensors that can be read to the last weight, or an error.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sterna_formats::RowOrder;
use sterna_formats::gguf::Gguf;
use sterna_tensor::Pool;

static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(1));

fuzz_target!(|data: &[u8]| {
    let Ok(gguf) = Gguf::parse("model.gguf", Bytes::copy_from_slice(data)) else { return };
    let metadata = gguf.metadata();
    for (key, value) in metadata.iter() {
        assert!(!value.describe().is_empty());
        let _ = (metadata.get::<u32>(key), metadata.get::<f32>(key), metadata.get::<bool>(key));
        let _ = (metadata.get::<&str>(key), metadata.get::<Vec<&str>>(key));
        let _ =
            (metadata.get::<Vec<i32>>(key), metadata.get::<Vec<f32>>(key), metadata.get::<Vec<bool>>(key));
    }
    for tensor in gguf.tensors() {
        assert_eq!(tensor.ty.n_bytes(&tensor.shape), Some(tensor.data.len()));
        let _ = tensor.to_f32();
        for order in [RowOrder::AsStored, RowOrder::HalfRotated { n_heads: 2, head_dim: 2, n_dims: 2 }] {
            let Ok(matrix) = tensor.matrix(order, &POOL) else { continue };
            let mut row = vec![0.0; matrix.cols()];
            (0..matrix.rows()).for_each(|r| matrix.row(r, &mut row));
        }
    }
});

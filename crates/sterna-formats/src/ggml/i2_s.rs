//! I2_S, the type of bitnet.cpp for a whole matrix of weights -1, 0 and 1 with one scale.
//!
//! It is no block type: weights are counted through the matrix, whatever its rows, and the scale comes after all of them.
//! Weight `i` is in bits `6 - 2 (i / 32 % 4)` and up of byte `32 (i / 128) + i % 32`, as one more than it is; then come 32
//! bytes, the first four of which are an `f32`. Source: `quantize_i2_s` in `src/ggml-bitnet-mad.cpp` of
//! github.com/microsoft/BitNet, as built for x86-64, and its converters. (Built for Arm it writes runs of 64 weights under the
//! same id; nothing in a file tells which.)

/// Weights that lie together in [`RUN_BYTES`] bytes.
const RUN: usize = 128;
const RUN_BYTES: usize = 32;
/// Bytes after the codes.
const TAIL: usize = 32;

/// Bytes of a matrix of `n` weights; `None` where they are not whole runs of 128.
pub(crate) fn n_bytes(n: usize) -> Option<usize> {
    (n.is_multiple_of(RUN) && n > 0).then(|| n / RUN * RUN_BYTES + TAIL)
}

/// The code of every weight, one more than the weight; a broken file may have 3.
///
/// # Panics
/// When `data` is not a matrix of I2_S.
pub fn codes(data: &[u8]) -> Vec<u8> {
    let (runs, rest) = data[..data.len() - TAIL].as_chunks::<RUN_BYTES>();
    assert!(rest.is_empty(), "{} bytes of I2_S", data.len());
    let codes = |run: &[u8; RUN_BYTES]| {
        let run = *run;
        [6, 4, 2, 0].into_iter().flat_map(move |shift| run.map(|byte| byte >> shift & 3))
    };
    runs.iter().flat_map(codes).collect()
}

/// What every weight is multiplied by.
///
/// # Panics
/// When `data` is not a matrix of I2_S.
pub fn scale(data: &[u8]) -> f32 {
    let tail = &data[data.len() - TAIL..];
    f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_where_the_reference_puts_them() {
        let weights: Vec<u8> = (0..3 * 128).map(|i: usize| (i * i + i / 7) as u8 % 3).collect();
        let mut data = vec![0; n_bytes(weights.len()).unwrap()];
        for (i, weight) in weights.iter().enumerate() {
            data[(i >> 7) * 32 + (i & 31)] |= weight << (6 - 2 * (i >> 5 & 3));
        }
        data[96..100].copy_from_slice(&0.75f32.to_le_bytes());
        assert_eq!(codes(&data), weights);
        assert_eq!(scale(&data), 0.75);
    }

    #[test]
    fn a_run_by_hand() {
        // Byte 0 holds weights 0, 32, 64 and 96 from the top, byte 31 weights 31, 63, 95 and 127.
        let mut data = [0b01_01_01_01; 64];
        data[0] = 0b10_01_00_10;
        data[31] = 0b00_10_01_00;
        let codes = codes(&data);
        let at = [0, 32, 64, 96, 31, 63, 95, 127].map(|i| codes[i]);
        assert_eq!(at, [2, 1, 0, 2, 0, 2, 1, 0]);
        assert_eq!(codes.iter().filter(|code| **code == 1).count(), 120 + 2);
    }

    #[test]
    fn only_whole_runs_have_a_size() {
        assert_eq!(n_bytes(128), Some(64));
        assert_eq!(n_bytes(2560 * 2560), Some(2560 * 2560 / 4 + 32));
        assert_eq!([0, 1, 64, 127, 129].map(n_bytes), [None; 5]);
    }
}

//! Native files of a checkpoint: the same weights in floats, or rounded to nearest.

use std::path::{Path, PathBuf};

use sterna_formats::Checkpoint;
use sterna_formats::native::{About, Documents, Writer};
use sterna_model::native::{CanonicalTensor, TensorKind, TernaryFormat, tensors};
use sterna_tensor::{GroupedCodes, PackedFormat, PackedMatrix, Pool};

/// Writes `checkpoint` to `dir/name` with all tensors in f32, and opens that.
pub fn in_floats(checkpoint: &Checkpoint, dir: &Path, name: &str) -> Checkpoint {
    write(checkpoint, dir.join(name), |_| None)
}

/// As [`in_floats`], with matrices in `format`.
pub fn packed(checkpoint: &Checkpoint, dir: &Path, name: &str, format: PackedFormat) -> Checkpoint {
    packed_by(checkpoint, dir, name, |_| format)
}

/// As [`packed`], each matrix in a format of its own.
pub fn packed_by(
    checkpoint: &Checkpoint,
    dir: &Path,
    name: &str,
    format: impl Fn(&str) -> PackedFormat,
) -> Checkpoint {
    let is_packed = |tensor: &CanonicalTensor| {
        let is_matrix = !matches!(tensor.kind, TensorKind::Vector | TensorKind::Router);
        is_matrix && tensor.cols.is_multiple_of(32)
    };
    write(checkpoint, dir.join(name), |tensor| is_packed(tensor).then(|| format(&tensor.name)))
}

/// As [`in_floats`], with ternary matrices as they are, in formats that `of_group` makes.
pub fn ternary(checkpoint: &Checkpoint, dir: &Path, name: &str, of_group: TernaryFormat) -> Checkpoint {
    let path = dir.join(name);
    let mut writer = Writer::create(&path, &Documents::of(checkpoint).unwrap()).unwrap();
    for tensor in tensors(checkpoint).unwrap() {
        match tensor.ternary(of_group, &Pool::new(1)).unwrap() {
            Some(weights) => weights.write(&tensor.name, &mut writer),
            None => writer.add_f32(&tensor.name, &tensor.shape(), &tensor.load().unwrap()),
        }
        .unwrap();
    }
    writer.finish(&About::default()).unwrap();
    Checkpoint::open(&path).unwrap()
}

fn write(
    checkpoint: &Checkpoint,
    path: PathBuf,
    format: impl Fn(&CanonicalTensor) -> Option<PackedFormat>,
) -> Checkpoint {
    let mut writer = Writer::create(&path, &Documents::of(checkpoint).unwrap()).unwrap();
    for tensor in tensors(checkpoint).unwrap() {
        let values = tensor.load().unwrap();
        assert_eq!(values.len(), tensor.rows * tensor.cols, "{}", tensor.name);
        match format(&tensor) {
            Some(format) => {
                writer.add_packed(&tensor.name, &round(&values, tensor.rows, tensor.cols, format))
            }
            None => writer.add_f32(&tensor.name, &tensor.shape(), &values),
        }
        .unwrap();
    }
    writer.finish(&About::default()).unwrap();
    Checkpoint::open(&path).unwrap()
}

/// Every group rounded to the codes between its least and its largest value.
fn round(values: &[f32], rows: usize, cols: usize, format: PackedFormat) -> PackedMatrix {
    let (mut codes, mut scales, mut zero_points) = (vec![0; values.len()], Vec::new(), Vec::new());
    let largest = f32::from(format.largest_code());
    for (row, codes) in values.chunks(cols).zip(codes.chunks_mut(cols)) {
        let size = format.group_size().unwrap();
        for (group, codes) in row.chunks(size).zip(codes.chunks_mut(size)) {
            let (low, high) = group.iter().fold((0.0f32, 0.0f32), |(l, h), &x| (l.min(x), h.max(x)));
            let (scale, zero) = match format.is_affine() {
                true => ((high - low) / largest, (-low / ((high - low) / largest)).round()),
                false => (high.max(-low) / (largest / 2.0), f32::from(format.zero())),
            };
            let scale = format.stored_scale(scale);
            for (x, code) in group.iter().zip(codes) {
                *code = (x / scale.to_f32() + zero).round().clamp(0.0, largest) as u8;
            }
            scales.push(scale);
            zero_points.push(zero as u8);
        }
    }
    if !format.is_affine() {
        zero_points.clear();
    }
    let codes = GroupedCodes { rows, cols, codes: &codes, scales: &scales, zero_points: &zero_points };
    PackedMatrix::from_codes(format, codes, &Pool::new(1)).unwrap()
}

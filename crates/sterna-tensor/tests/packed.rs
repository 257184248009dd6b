//! Packed matrices against arithmetic anyone can check: every format, ragged shapes, and all instruction sets of this
//! machine, which must agree to the bit.

use std::ops::Range;
use std::sync::Mutex;

use half::f16;
use proptest::prelude::*;
use sterna_tensor::{
    Activations, Block, BlockSource, Bytes, Compute, GroupedCodes, Isa, KernelChoice, KernelFamily, Matrix,
    PackedFormat, PackedMatrix, Pool, Precision, ShapeError, Tuning, UnpackedRows, linear,
};

/// Formats with run-time groups beside [`PackedFormat::ALL`], which has some.
const OWN: [&str; 33] = [
    "s1g32", "s1g128", "t1g32", "t1g160", "t1g256", "t2g64", "t2g4096", "s2g32", "s3g32", "s3g96", "s4g128",
    "s6g64", "s8g64", "s8g256", "a2g32", "a2g64", "a3g32", "a3g128", "a4g96", "m2g64", "m3g32", "m4g96",
    "m8g64", "w2g32", "w4g64", "w6g128", "w8g32", "s4b32", "s5b96", "s6b128", "a2b32", "a3b64", "a4b128",
];

/// All formats of these tests.
fn formats() -> Vec<(&'static str, PackedFormat)> {
    PackedFormat::ALL.into_iter().chain(OWN.map(|name| (name, name.parse().unwrap()))).collect()
}

/// Random blocks, the same for the same seed and place.
#[derive(Clone, Copy)]
struct RandomBlocks {
    format: PackedFormat,
    seed: u64,
    fill: Fill,
}

#[derive(Clone, Copy, PartialEq)]
enum Fill {
    Random,
    /// Every code and every integer scale at its limit.
    Largest,
    /// Scales that are no numbers.
    NotFinite,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// In -1..1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

impl BlockSource for RandomBlocks {
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        let mut random = Random(self.seed ^ ((row as u64) << 32 | block as u64));
        let largest = self.format.largest_code();
        let in_trits = self.format.to_string().starts_with("t1");
        for code in &mut out.codes[..self.format.block_len()] {
            *code = match self.fill {
                Fill::Largest => largest,
                _ if in_trits => (random.next() % 3) as u8,
                _ => random.next() as u8 & largest,
            };
        }
        // All blocks of a group say the same scale and zero point.
        let group = block * self.format.block_len() / columns_per_scale(self.format);
        let mut random = Random(!self.seed ^ ((row as u64) << 32 | group as u64));
        out.zero = if self.fill == Fill::Largest { 0 } else { random.next() as u8 & largest & 15 };
        let mut scale = || match self.fill {
            Fill::NotFinite if random.next().is_multiple_of(2) => f16::NAN,
            Fill::NotFinite => f16::INFINITY,
            Fill::Random | Fill::Largest => f16::from_f32(random.float() * 0.01),
        };
        (out.d, out.m) = (scale(), scale());
        if !self.format.has_signed_scales() {
            // What a byte holds of it.
            out.d = f16::from_bits(out.d.to_bits() & 0x7f80);
        }
        // In whole thousandths, which no half float holds.
        let wide = |half: f16| (half.to_f32() * 1e5).round() * 1e-3;
        (out.wide_d, out.wide_m) = (wide(out.d), wide(out.m));
        for byte in out.scales.iter_mut().chain(&mut out.mins) {
            *byte = if self.fill == Fill::Largest { 63 } else { random.next() as u8 & 63 };
        }
        if is_signed(self.format) {
            for byte in &mut out.scales {
                *byte = if self.fill == Fill::Largest { 0x80 } else { random.next() as u8 };
            }
        }
    }
}

/// Whether the format has signed scales for every sixteen columns.
fn is_signed(format: PackedFormat) -> bool {
    [PackedFormat::Q3_K, PackedFormat::Q6_K, PackedFormat::IQ4_XS].contains(&format)
}

/// Columns that share a scale, as the name of a format says.
fn columns_per_scale(format: PackedFormat) -> usize {
    let name = format.to_string();
    name.split_once(['g', 'b']).map_or(format.block_len(), |(_, size)| size.parse().unwrap())
}

/// The weight of a column, by the table in [`Block`]'s documentation.
fn weight(format: PackedFormat, block: &Block, column: usize) -> f32 {
    let (d, m) = (block.d.to_f32(), block.m.to_f32());
    let code = f32::from(block.codes[column]);
    let zero = if format.is_affine() { block.zero } else { format.zero() };
    let centred = code - f32::from(zero);
    if is_signed(format) {
        d * f32::from(block.scales[column / 16] as i8) * centred
    } else if format.block_len() == 256 {
        d * f32::from(block.scales[column / 32]) * code - m * f32::from(block.mins[column / 32])
    } else if format.to_string().starts_with('m') {
        d * code + m
    } else if format.to_string().starts_with('w') {
        block.wide_d.mul_add(code, block.wide_m)
    } else {
        d * centred
    }
}

fn weights(source: &RandomBlocks, rows: usize, cols: usize) -> Vec<f32> {
    let len = source.format.block_len();
    let mut out = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        for b in 0..cols / len {
            let mut block = Block::default();
            source.block(row, b, &mut block);
            out.extend((0..len).map(|column| weight(source.format, &block, column)));
        }
    }
    out
}

/// What int8 rounding makes of the activations.
fn rounded(x: &[f32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for group in x.chunks(32) {
        let largest = group.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let scale = largest / 127.0;
        out.extend(
            group.iter().map(|x| {
                if largest == 0.0 { 0.0 } else { (x * (127.0 / largest)).round_ties_even() * scale }
            }),
        );
    }
    out
}

/// What rounding them to one scale a token makes of the activations.
fn rounded_per_token(x: &[f32], cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for x in x.chunks(cols) {
        let s = 127.0 / x.iter().fold(1e-5, |max: f32, x| max.max(x.abs()));
        out.extend(x.iter().map(|x| (x * s).round_ties_even().clamp(-128.0, 127.0) / s));
    }
    out
}

/// How the activations are set.
#[derive(Debug, Clone, Copy)]
enum Input {
    Int8,
    PerToken,
    TwoInt8,
    Float,
}

fn product(isa: Isa, input: Input, w: &Matrix, x: &[f32], n_threads: usize) -> Vec<f32> {
    product_with(Tuning::default(), isa, input, w, x, n_threads)
}

/// Has kernels of `family`, where there are some, multiply with weights of `format`.
fn by(family: KernelFamily, format: PackedFormat) -> Tuning {
    let many_from = (family == KernelFamily::Lookup).then_some(usize::MAX);
    let mut tuning = Tuning::default();
    let choice = KernelChoice { family: Some(family), many_from, ..KernelChoice::default() };
    tuning.set(format.code_bits(), choice);
    tuning
}

fn product_with(tuning: Tuning, isa: Isa, input: Input, w: &Matrix, x: &[f32], n_threads: usize) -> Vec<f32> {
    let precision = if let Input::Float = input { Precision::Float } else { Precision::Int8 };
    let c = Compute { isa, tuning, ..Compute::new(n_threads, precision) };
    let mut activations = Activations::new();
    match input {
        Input::TwoInt8 => activations.set_refined(x, w.cols(), &c),
        Input::PerToken => activations.set_per_token(x, w.cols(), &c),
        Input::Int8 | Input::Float => activations.set(x, w.cols(), &c),
    }
    let mut y = vec![f32::NAN; activations.n_tokens() * w.rows()];
    linear(&c, &activations, &mut [(w, &mut y)]);
    y
}

/// Each result against `f64`, with the room that `f32` sums need.
fn check_close(y: &[f32], w: &[f32], x: &[f32], rows: usize, cols: usize) {
    for (i, y) in y.iter().enumerate() {
        let (x, w) = (&x[i / rows * cols..][..cols], &w[i % rows * cols..][..cols]);
        let terms = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
        let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
        // Minima and codes may cancel, so the sum of magnitudes of the parts can exceed that of the weights.
        let room = (size + 1e-2) * 2e-4;
        assert!(
            (f64::from(*y) - sum).abs() <= room,
            "token {}, row {}: {y}, expected {sum} ± {room}",
            i / rows,
            i % rows
        );
    }
}

fn activations(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random(seed);
    (0..n).map(|i| if i / 32 % 5 == 4 { 0.0 } else { random.float() * 3.0 }).collect()
}

fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| y.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn products_are_right_and_equal_on_all_instruction_sets(
        which in 0..formats().len(), rows in 1..50usize, blocks in 1..6usize, n_tokens in 1..27usize,
        seed: u64, largest: bool,
    ) {
        let (_, format) = formats()[which];
        let cols = blocks * format.block_len();
        let source = RandomBlocks { format, seed, fill: if largest { Fill::Largest } else { Fill::Random } };
        let packed = PackedMatrix::pack(format, rows, cols, &source, &Pool::new(2)).unwrap();
        let w = weights(&source, rows, cols);
        let mut row = vec![0.0; cols];
        for (r, w) in w.chunks(cols).enumerate() {
            packed.row(r, &mut row);
            prop_assert_eq!(&row, w);
        }

        let matrix = Matrix::from(packed);
        let x = activations(!seed, n_tokens * cols);
        for (input, seen) in [
            (Input::Int8, rounded(&x)),
            (Input::PerToken, rounded_per_token(&x, cols)),
            (Input::TwoInt8, x.clone()),
            (Input::Float, x.clone()),
        ] {
            let scalar = product(Isa::Scalar, input, &matrix, &x, 1);
            check_close(&scalar, &w, &seen, rows, cols);
            for family in KernelFamily::ALL {
                for isa in Isa::available() {
                    let y = product_with(by(family, format), isa, input, &matrix, &x, 2);
                    prop_assert_eq!(bits(&y), bits(&scalar), "{} {} {:?}", isa, family, input);
                }
            }
        }
    }
}

/// More columns than are multiplied at once, tiles and tokens that are left over, and no more bits than one token alone has.
#[test]
fn many_tokens_are_as_single_ones() {
    let (rows, cols, n_tokens) = (71, 2048, 23);
    let x = activations(3, n_tokens * cols);
    for (name, format) in formats() {
        let source = RandomBlocks { format, seed: 2, fill: Fill::Random };
        let matrix = Matrix::from(PackedMatrix::pack(format, rows, cols, &source, &Pool::new(2)).unwrap());
        for isa in Isa::available() {
            for input in [Input::Int8, Input::PerToken] {
                let together = product(isa, input, &matrix, &x, 2);
                let singly: Vec<f32> =
                    x.chunks(cols).flat_map(|x| product(isa, input, &matrix, x, 1)).collect();
                assert_eq!(bits(&together), bits(&singly), "{name} {isa} {input:?}");
            }
        }
    }
}

#[test]
fn integer_extremes_are_exact() {
    for (name, format) in formats() {
        let (rows, cols, n_tokens) = (16, 256, 13);
        let source = RandomBlocks { format, seed: 1, fill: Fill::Largest };
        let packed = PackedMatrix::pack(format, rows, cols, &source, &Pool::new(1)).unwrap();
        let matrix = Matrix::from(packed);
        for (x, input) in [127.0, -127.0].into_iter().flat_map(|x| [(x, Input::Int8), (x, Input::PerToken)]) {
            let x = vec![x; n_tokens * cols];
            let scalar = product(Isa::Scalar, input, &matrix, &x, 1);
            check_close(&scalar, &weights(&source, rows, cols), &x, rows, cols);
            for family in KernelFamily::ALL {
                for isa in Isa::available() {
                    let y = product_with(by(family, format), isa, input, &matrix, &x, 1);
                    assert_eq!(bits(&y), bits(&scalar), "{name} {isa} {family} {input:?}");
                }
            }
        }
    }
}

#[test]
fn scales_that_are_no_numbers_spoil_results_and_nothing_else() {
    for (name, format) in formats() {
        let source = RandomBlocks { format, seed: 2, fill: Fill::NotFinite };
        let matrix = Matrix::from(PackedMatrix::pack(format, 20, 256, &source, &Pool::new(1)).unwrap());
        let x = activations(3, 256);
        for isa in Isa::available() {
            for input in [Input::Int8, Input::Float] {
                let y = product(isa, input, &matrix, &x, 1);
                assert!(y.iter().any(|y| !y.is_finite()), "{name} {isa}");
            }
        }
    }
}

#[test]
fn strange_activations_do_not_stop_it() {
    let format = PackedFormat::Q8_0;
    let source = RandomBlocks { format, seed: 4, fill: Fill::Random };
    let matrix = Matrix::from(PackedMatrix::pack(format, 16, 32, &source, &Pool::new(1)).unwrap());
    for isa in Isa::available() {
        for strange in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = activations(5, 32);
            x[7] = strange;
            product(isa, Input::Int8, &matrix, &x, 1);
        }
        let tiny = vec![f32::from_bits(1); 32];
        let y = product(isa, Input::Int8, &matrix, &tiny, 1);
        assert!(y.iter().all(|y| *y == 0.0), "{isa}: {y:?}");
    }
}

#[test]
fn bitnet_activations_have_one_scale_per_token() {
    let (rows, cols, n_tokens) = (20, 96, 3);
    let format = PackedFormat::ternary(96).unwrap();
    let source = RandomBlocks { format, seed: 6, fill: Fill::Random };
    let matrix = Matrix::from(PackedMatrix::pack(format, rows, cols, &source, &Pool::new(1)).unwrap());
    let x = activations(7, n_tokens * cols);
    let seen = rounded_per_token(&x, cols);
    for isa in Isa::available() {
        for precision in [Precision::Int8, Precision::Float] {
            let c = Compute { isa, ..Compute::new(1, precision) };
            let mut activations = Activations::new();
            activations.set_per_token(&x, cols, &c);
            let mut y = vec![0.0; n_tokens * rows];
            linear(&c, &activations, &mut [(&matrix, &mut y)]);
            check_close(&y, &weights(&source, rows, cols), &seen, rows, cols);
        }
    }
}

#[test]
fn any_choice_of_kernels_gives_the_same_bits() {
    let (rows, cols, n_tokens) = (100, 512, 21);
    let x = activations(8, n_tokens * cols);
    for (name, format) in formats().into_iter().filter(|(_, format)| cols % columns_per_scale(*format) == 0) {
        let source = RandomBlocks { format, seed: 9, fill: Fill::Random };
        let matrix = Matrix::from(PackedMatrix::pack(format, rows, cols, &source, &Pool::new(1)).unwrap());
        let expected = bits(&product(Isa::Scalar, Input::Int8, &matrix, &x, 1));
        for few in Isa::available() {
            for (many, many_from) in Isa::available().into_iter().zip([1, 2, 5, 21, 22].into_iter().cycle()) {
                let mut c = Compute::new(2, Precision::Int8);
                let choice = KernelChoice {
                    few: Some(few),
                    family: None,
                    many: Some(many),
                    many_from: Some(many_from),
                };
                c.tuning.set(format.code_bits(), choice);
                let mut inputs = Activations::new();
                inputs.set(&x, cols, &c);
                let mut y = vec![f32::NAN; n_tokens * rows];
                linear(&c, &inputs, &mut [(&matrix, &mut y)]);
                assert_eq!(bits(&y), expected, "{name}: {choice:?}");
            }
        }
    }
}

#[test]
fn several_matrices_share_a_region() {
    let cols = 256;
    let pool = Pool::new(1);
    let matrices: Vec<Matrix> = formats()
        .into_iter()
        .zip([1, 16, 17, 200, 33, 5, 64, 15, 31, 48, 7, 100].into_iter().cycle())
        .map(|((_, format), rows)| {
            let source = RandomBlocks { format, seed: rows as u64, fill: Fill::Random };
            Matrix::from(PackedMatrix::pack(format, rows, cols, &source, &pool).unwrap())
        })
        .collect();
    let x = activations(8, 2 * cols);
    let c = Compute::new(3, Precision::Int8);
    let mut activations = Activations::new();
    activations.set(&x, cols, &c);
    let mut results: Vec<Vec<f32>> = matrices.iter().map(|m| vec![f32::NAN; 2 * m.rows()]).collect();
    let mut outputs: Vec<(&Matrix, &mut [f32])> =
        matrices.iter().zip(&mut results).map(|(m, y)| (m, y.as_mut_slice())).collect();
    linear(&c, &activations, &mut outputs);
    for (matrix, y) in matrices.iter().zip(&results) {
        assert_eq!(*y, product(c.isa, Input::Int8, matrix, &x, 1));
    }
}

#[test]
fn only_plain_narrow_codes_are_looked_up() {
    let looked_up = |name: &str| KernelFamily::Lookup.has(name.parse().unwrap());
    assert!(
        ["s1g128", "t2g256", "a2g128", "s3g64", "Q4_0", "Q4_K", "a4b32", "w4g64"].into_iter().all(looked_up)
    );
    assert!(!["t1g256", "Q3_K", "Q5_0", "Q6_K", "Q8_0", "IQ4_NL"].into_iter().any(looked_up));
    let kernel = |format: PackedFormat| {
        let tuning = by(KernelFamily::Lookup, format);
        Compute { isa: Isa::Scalar, tuning, ..Compute::new(1, Precision::Int8) }.kernel(format)
    };
    assert_eq!(kernel(PackedFormat::Q8_0), "8-bit x int8 dot, scalar, 16x4 tiles");
    assert_eq!(kernel(PackedFormat::Q4_0), "4-bit x int8 lookup, scalar, 16x4 tiles");
}

#[test]
fn sizes_are_what_the_format_says() {
    for (name, format) in formats() {
        let source = RandomBlocks { format, seed: 9, fill: Fill::Random };
        // Whole groups of 96 and spans of 160 too, and scales that fill their lines.
        let cols = 15 * 8192;
        let packed = PackedMatrix::pack(format, 32, cols, &source, &Pool::new(1)).unwrap();
        let bits = packed.n_bytes() as f64 * 8.0 / (32 * cols) as f64;
        assert!((bits - format.bits_per_weight()).abs() < 1e-9, "{name}: {bits}");
        assert_eq!(format.n_bytes(32, cols), Some(packed.n_bytes()), "{name}");
    }
    let source = RandomBlocks { format: PackedFormat::Q4_K, seed: 9, fill: Fill::Random };
    let error = PackedMatrix::pack(PackedFormat::Q4_K, 1, 32, &source, &Pool::new(1)).unwrap_err();
    assert_eq!(error, ShapeError::Columns { cols: 32, block_len: 256 });
    let empty = PackedMatrix::pack(PackedFormat::Q4_K, 0, 256, &source, &Pool::new(1)).unwrap();
    assert_eq!(empty.n_bytes(), 0);
}

/// Counts how often it is told to be done with each row.
struct Told {
    blocks: RandomBlocks,
    done: Mutex<Vec<usize>>,
}

impl BlockSource for Told {
    fn block(&self, row: usize, block: usize, out: &mut Block) {
        assert_eq!(self.done.lock().unwrap()[row], 0, "row {row} is asked for after it was done");
        self.blocks.block(row, block, out);
    }
    fn done(&self, rows: Range<usize>) {
        self.done.lock().unwrap()[rows].iter_mut().for_each(|n| *n += 1);
    }
}

#[test]
fn sources_are_told_when_rows_are_done() {
    let (rows, cols) = (70_001, 512);
    let blocks = RandomBlocks { format: PackedFormat::Q8_0, seed: 7, fill: Fill::Largest };
    let source = Told { blocks, done: Mutex::new(vec![0; rows]) };
    PackedMatrix::pack(PackedFormat::Q8_0, rows, cols, &source, &Pool::new(2)).unwrap();
    assert!(source.done.into_inner().unwrap().iter().all(|n| *n == 1));
}

/// What a quantizer would hand over for `format`.
struct Codes {
    codes: Vec<u8>,
    scales: Vec<f16>,
    zero_points: Vec<u8>,
}

impl Codes {
    fn random(format: PackedFormat, rows: usize, cols: usize, seed: u64) -> Codes {
        let mut random = Random(seed);
        let n_groups = rows * cols.div_ceil(format.group_size().unwrap());
        let mut codes = |n| (0..n).map(|_| random.next() as u8 & format.largest_code()).collect::<Vec<u8>>();
        let zero_points = codes(if format.is_affine() { n_groups } else { 0 });
        let codes = codes(rows * cols);
        let scales = (0..n_groups).map(|_| format.stored_scale(random.float())).collect();
        Codes { codes, scales, zero_points }
    }

    fn view(&self, rows: usize, cols: usize) -> GroupedCodes<'_> {
        GroupedCodes { rows, cols, codes: &self.codes, scales: &self.scales, zero_points: &self.zero_points }
    }
}

#[test]
fn codes_of_a_quantizer_are_the_weights_they_say() {
    // 576 columns are four and a half groups of 128.
    let (rows, cols) = (19, 576);
    for name in [
        "a2g32", "a3g128", "a4g128", "a4g576", "a4g1024", "s2g64", "s3g128", "s4g32", "s8g192", "a4b64",
        "s5b128",
    ] {
        let format: PackedFormat = name.parse().unwrap();
        let from = Codes::random(format, rows, cols, 11);
        let packed = PackedMatrix::from_codes(format, from.view(rows, cols), &Pool::new(2)).unwrap();
        let size = format.group_size().unwrap();
        let mut out = vec![0.0; cols];
        for row in 0..rows {
            packed.row(row, &mut out);
            for (col, found) in out.iter().enumerate() {
                let group = row * cols.div_ceil(size) + col / size;
                let zero = from.zero_points.get(group).copied().unwrap_or(format.zero());
                let code = f32::from(from.codes[row * cols + col]) - f32::from(zero);
                assert_eq!(*found, from.scales[group].to_f32() * code, "{name} {row} {col}");
            }
        }
    }
}

proptest! {
    #[test]
    fn what_was_packed_comes_back(
        bits in 2..9usize, affine: bool, byte_scales: bool, group_blocks in 1..6usize, rows in 1..40usize, blocks in 1..8usize,
        from in 0..40usize, n in 0..40usize, seed: u64,
    ) {
        let (bits, group_size, cols) = (if affine { 2 + bits % 3 } else { bits }, 32 * group_blocks, 32 * blocks);
        let make = if affine { PackedFormat::affine } else { PackedFormat::symmetric };
        let Some(format) = make(bits, group_size) else {
            prop_assert_eq!(bits, 7);
            return Ok(());
        };
        let format = format.with_byte_scales().filter(|_| byte_scales).unwrap_or(format);
        let codes = Codes::random(format, rows, cols, seed);
        let packed = PackedMatrix::from_codes(format, codes.view(rows, cols), &Pool::new(1)).unwrap();
        let (from, n_groups) = (from.min(rows), cols.div_ceil(group_size));
        let to = (from + n).min(rows);
        let expected = UnpackedRows {
            codes: codes.codes[from * cols..to * cols].to_vec(),
            scales: codes.scales[from * n_groups..to * n_groups].iter().map(|d| d.to_f32()).collect(),
            zero_points: codes.zero_points.get(from * n_groups..to * n_groups).unwrap_or(&[]).to_vec(),
            minima: Vec::new(),
        };
        prop_assert_eq!(packed.unpack(from..to).unwrap(), expected);
    }
}

#[test]
fn trits_come_back() {
    let format = PackedFormat::trits(128).unwrap();
    for blocks in 1..13 {
        let (rows, cols) = (18, 32 * blocks);
        let source = RandomBlocks { format, seed: 15, fill: Fill::Random };
        let packed = PackedMatrix::pack(format, rows, cols, &source, &Pool::new(1)).unwrap();
        let mut expected = Vec::new();
        for (row, block) in (0..rows).flat_map(|row| (0..blocks).map(move |block| (row, block))) {
            let mut out = Block::default();
            source.block(row, block, &mut out);
            expected.extend_from_slice(&out.codes[..32]);
        }
        assert_eq!(packed.unpack(0..rows).unwrap().codes, expected, "{cols} columns");
    }
}

/// No byte of a file is refused, so all must mean the same everywhere.
#[test]
fn any_bytes_are_trits() {
    let format = PackedFormat::trits(160).unwrap();
    let (rows, cols) = (32, 480);
    let n_bytes = format.n_bytes(rows, cols).unwrap();
    let mut bytes: Vec<u8> = (0..n_bytes).map(|i| (i * 7 + i / 256) as u8).collect();
    // Scales of one.
    for tile in bytes.chunks_exact_mut(format.n_bytes(16, cols).unwrap()) {
        tile[..128].as_chunks_mut::<2>().0.fill(f16::ONE.to_le_bytes());
    }
    let packed = PackedMatrix::from_bytes(format, rows, cols, Bytes::from(bytes)).unwrap();
    let codes = packed.unpack(0..rows).unwrap().codes;
    assert!(codes.iter().all(|code| *code <= 2) && (0..3).all(|code| codes.contains(&code)));
    let matrix = Matrix::from(packed);
    let x = activations(16, 3 * cols);
    let scalar = product(Isa::Scalar, Input::Int8, &matrix, &x, 1);
    for isa in Isa::available() {
        assert_eq!(bits(&product(isa, Input::Int8, &matrix, &x, 1)), bits(&scalar), "{isa}");
    }
}

#[test]
fn minima_come_back() {
    let (rows, cols) = (19, 160);
    for format in [PackedFormat::minimum, PackedFormat::wide].map(|make| make(5, 64).unwrap()) {
        let source = RandomBlocks { format, seed: 5, fill: Fill::Random };
        let packed = PackedMatrix::pack(format, rows, cols, &source, &Pool::new(1)).unwrap();
        let unpacked = packed.unpack(0..rows).unwrap();
        let mut row = vec![0.0; cols];
        for r in 0..rows {
            packed.row(r, &mut row);
            for (col, weight) in row.iter().enumerate() {
                let (code, group) = (f32::from(unpacked.codes[r * cols + col]), r * 3 + col / 64);
                assert_eq!(*weight, unpacked.scales[group].mul_add(code, unpacked.minima[group]), "{format}");
            }
        }
    }
}

#[test]
fn only_codes_with_one_level_of_scales_are_unpacked() {
    let source = RandomBlocks { format: PackedFormat::Q4_K, seed: 1, fill: Fill::Random };
    let packed = PackedMatrix::pack(PackedFormat::Q4_K, 3, 256, &source, &Pool::new(1)).unwrap();
    let error = packed.unpack(0..1).unwrap_err();
    assert_eq!(error.to_string(), "expected a format with one level of scales, found Q4_K");
}

#[test]
fn codes_that_do_not_fit_are_refused() {
    let pool = Pool::new(1);
    let format: PackedFormat = "a3g128".parse().unwrap();
    let from = Codes::random(format, 4, 160, 12);
    let refused = |format, codes| PackedMatrix::from_codes(format, codes, &pool).unwrap_err();
    assert_eq!(
        refused(format, GroupedCodes { scales: &from.scales[1..], ..from.view(4, 160) }).to_string(),
        "a 4 x 160 matrix of scales takes 16 bytes, found 14"
    );
    assert!(matches!(refused(format, from.view(4, 128)), ShapeError::Length { .. }));
    assert!(matches!(refused(format, from.view(5, 160)), ShapeError::Length { .. }));
    assert!(matches!(refused(format, from.view(usize::MAX, 160)), ShapeError::TooLarge { .. }));
    let bytes = format.with_byte_scales().unwrap();
    let signed = [f16::from_f32(-0.5); 8];
    assert_eq!(
        refused(bytes, GroupedCodes { scales: &signed, ..from.view(4, 160) }).to_string(),
        "a3b128 cannot hold the scale -0.5"
    );
    let symmetric = PackedFormat::symmetric(3, 128).unwrap();
    assert!(matches!(refused(symmetric, from.view(4, 160)), ShapeError::Length { .. }));
    assert!(matches!(refused(PackedFormat::Q4_K, from.view(4, 160)), ShapeError::Format { .. }));
    let trits: PackedFormat = "t1g128".parse().unwrap();
    let error = refused(trits, GroupedCodes { codes: &[3; 4 * 160], zero_points: &[], ..from.view(4, 160) });
    assert_eq!(error.to_string(), "codes and zero points are at most 2, found 3");
    let mut large = from.codes.clone();
    large[77] = 8;
    let error = refused(format, GroupedCodes { codes: &large, ..from.view(4, 160) });
    assert_eq!(error.to_string(), "codes and zero points are at most 7, found 8");
    let odd = Codes::random(format, 4, 100, 12);
    assert_eq!(refused(format, odd.view(4, 100)), ShapeError::Columns { cols: 100, block_len: 32 });
}

#[test]
fn bytes_are_a_matrix_wherever_they_lie() {
    let (rows, cols) = (35, 544);
    let pool = Pool::new(1);
    for (name, format) in [("Q5_1", PackedFormat::Q5_1), ("a4g128", PackedFormat::affine(4, 128).unwrap())] {
        let source = RandomBlocks { format, seed: 13, fill: Fill::Random };
        let packed = PackedMatrix::pack(format, rows, cols, &source, &pool).unwrap();
        let mut room = vec![0; packed.n_bytes() + 128];
        let aligned = room.as_ptr().align_offset(64);
        let x = activations(14, cols);
        let expected = {
            let bytes = packed.as_bytes().to_vec();
            let y = product(Isa::Scalar, Input::Int8, &Matrix::from(packed), &x, 1);
            (bytes, y)
        };
        for offset in [0, 1, 32] {
            let range = aligned + offset..aligned + offset + expected.0.len();
            room[range.clone()].copy_from_slice(&expected.0);
            // The vector's memory does not move when it becomes shared.
            let shared = Bytes::from(std::mem::take(&mut room));
            let place = shared[range.clone()].as_ptr();
            let found = PackedMatrix::from_bytes(format, rows, cols, shared.slice(range)).unwrap();
            assert_eq!(found.as_bytes().as_ptr() == place, offset == 0, "{name} at {offset}");
            let y = product(Isa::Scalar, Input::Int8, &Matrix::from(found), &x, 1);
            assert_eq!(bits(&y), bits(&expected.1), "{name} at {offset}");
            room = Vec::from(shared);
        }
    }
}

#[test]
fn bytes_of_another_size_are_refused() {
    let format = PackedFormat::affine(4, 128).unwrap();
    let n = format.n_bytes(16, 64).unwrap();
    let of = |rows, cols, n: usize| PackedMatrix::from_bytes(format, rows, cols, Bytes::from(vec![0; n]));
    assert!(of(16, 64, n).is_ok() && of(1, 64, n).is_ok());
    for n in [0, n - 1, n + 1, n + 64] {
        assert!(matches!(of(16, 64, n), Err(ShapeError::Length { .. })));
    }
    assert!(matches!(of(17, 64, n), Err(ShapeError::Length { .. })));
    assert!(matches!(of(16, 63, n), Err(ShapeError::Columns { .. })));
    assert!(matches!(of(0, 64, 0), Err(ShapeError::Empty { .. })));
    assert!(matches!(of(16, 0, 0), Err(ShapeError::Empty { .. })));
    assert!(matches!(of(usize::MAX, usize::MAX - 31, 0), Err(ShapeError::TooLarge { .. })));
    assert_eq!(format.n_bytes(usize::MAX, 1 << 40), None);
}

//! Every operation on every instruction set of this machine, against the portable one.

use proptest::prelude::*;

use super::{CodeRegister, Kernel, LANES, NibbleTable, Simd};
use crate::Isa;

/// Runs every operation once and collects the bits of all results.
struct Everything {
    a: [f32; LANES],
    b: [f32; LANES],
    halves: [u16; LANES],
    bytes: CodeRegister,
    more_bytes: CodeRegister,
    x: i32,
}

impl Kernel for Everything {
    type Output = Vec<(&'static str, Vec<u32>)>;
    const TABLES: bool = true;

    fn run<S: Simd>(self, s: S) -> Self::Output {
        let floats = |v: S::F32| {
            let mut out = [0.0; LANES];
            s.store(v, &mut out);
            out.map(f32::to_bits).to_vec()
        };
        let ints = |v: S::I32| floats(s.to_f32(v));
        // Bytes are seen through a dot product that singles out each column.
        let bytes = |v: S::U8| (0..4).flat_map(|i| floats(s.byte_to_f32(v, i))).collect::<Vec<u32>>();
        let (a, b) = (s.load(&self.a), s.load(&self.b));
        let (codes, more) = (s.load_bytes(&self.bytes), s.load_bytes(&self.more_bytes));
        let low = self.bytes.first_chunk().unwrap();
        let mut half = [0; LANES];
        s.store_f16(a, &mut half);
        let mut low_bytes = [0; LANES];
        s.store_low_bytes(s.to_i32(a), &mut low_bytes);
        let whole = s.round(s.min(s.max(b, s.splat(-126.0)), s.splat(127.0)));
        let start = s.splat_i32(-70_000);
        // The portable dot product takes nothing off the codes: undo what this one does.
        let sum_of = |x: i32| x.to_ne_bytes().iter().map(|&x| i32::from(x as i8)).sum::<i32>();
        let undo = s.splat_i32(-70_000 + S::U8_OFFSET * sum_of(self.x));
        vec![
            ("load", floats(a)),
            ("splat", floats(s.splat(self.a[0]))),
            ("load_f16", floats(s.load_f16(&self.halves))),
            ("store_f16", half.map(u32::from).to_vec()),
            ("load_bf16", floats(s.load_bf16(&self.halves))),
            ("load_u4", floats(s.load_u4(self.bytes.first_chunk().unwrap()))),
            ("load_u8", floats(s.load_u8(low))),
            ("load_i8", floats(s.load_i8(low))),
            ("add", floats(s.add(a, b))),
            ("sub", floats(s.sub(a, b))),
            ("mul", floats(s.mul(a, b))),
            ("div", floats(s.div(a, b))),
            ("mul_add", floats(s.mul_add(a, b, s.splat(self.b[3])))),
            ("min", floats(s.min(a, b))),
            ("max", floats(s.max(a, b))),
            ("abs", floats(s.abs(a))),
            ("round", floats(s.round(a))),
            ("scale_by_power_of_two", floats(s.scale_by_power_of_two(s.splat(1.5), whole))),
            ("reduce_sum", vec![s.reduce_sum(a).to_bits()]),
            ("reduce_sums", s.reduce_sums([a, b, s.mul(a, b), s.sub(a, b)]).map(f32::to_bits).to_vec()),
            ("reduce_max", vec![s.reduce_max(a).to_bits()]),
            ("to_i32", ints(s.to_i32(a))),
            ("store_low_bytes", low_bytes.map(u32::from).to_vec()),
            ("and", bytes(s.and(codes, 0x5a))),
            ("or", bytes(s.or(codes, more))),
            ("shr_and 1", bytes(s.shr_and(codes, 1, 0x10))),
            ("shr_and 2", bytes(s.shr_and(codes, 2, 0x03))),
            ("shr_and 3", bytes(s.shr_and(codes, 3, 0x10))),
            ("shr_and 4", bytes(s.shr_and(codes, 4, 0x0f))),
            ("shr_and 6", bytes(s.shr_and(codes, 6, 0x03))),
            ("shr_and 0", bytes(s.shr_and(codes, 0, 0x03))),
            ("trits", s.trits(codes).into_iter().flat_map(bytes).collect()),
            ("look_up", {
                let tables =
                    [NibbleTable { low: self.bytes, high: self.more_bytes.map(|b| (b as i8 >> 4) as u8) }; 2];
                let sums = s.look_up(s.nothing_looked_up(), &self.bytes, &tables);
                ints(s.add_i32(s.looked_up(s.look_up(sums, &self.more_bytes, &tables)), start))
            }),
            ("shl_and 1", bytes(s.shl_and(codes, 1, 0x10))),
            ("shl_and 2", bytes(s.shl_and(codes, 2, 0x30))),
            ("shl_and 3", bytes(s.shl_and(codes, 3, 0x10))),
            ("shl_and 4", bytes(s.shl_and(codes, 4, 0x30))),
            ("dot_u6", ints(s.dot_u6(start, s.and(codes, 63), self.x))),
            ("dot_u8", ints(s.dot_u8(undo, codes, self.x))),
            ("dot_pair", {
                let x = [[self.x, self.x.rotate_left(9)], [!self.x, self.x.rotate_left(18)]];
                let sums = s.dot_pair(s.splat_pair([-70_000, 40_000]), s.pair([codes, more]), x.each_ref());
                let undone = |sum: S::I32, x: [i32; 2]| {
                    s.add_i32(sum, s.splat_i32(S::U8_OFFSET * x.map(sum_of).iter().sum::<i32>()))
                };
                let [a, b] = s.unpair(sums);
                [ints(undone(a, x[0])), ints(undone(b, x[1]))].concat()
            }),
        ]
    }
}

fn check(input: impl Fn() -> Everything) {
    let expected = Isa::Scalar.run(input());
    for isa in Isa::available() {
        for ((name, found), (_, expected)) in isa.run(input()).iter().zip(&expected) {
            assert_eq!(found, expected, "{isa} {name}");
        }
    }
}

proptest! {
    #[test]
    fn every_operation_equals_the_portable_one(
        a in prop::array::uniform16(-300.0f32..300.0),
        b in prop::array::uniform16(prop_oneof![-300.0f32..-0.01, 0.01f32..300.0]),
        halves in prop::array::uniform16(any::<u16>().prop_filter("a number", |bits| {
            let (half, brain) = (half::f16::from_bits(*bits), half::bf16::from_bits(*bits));
            !half.is_nan() && !brain.is_nan()
        })),
        bytes: [u8; 32],
        more: [u8; 32],
        x: i32,
    ) {
        let twice = |b: [u8; 32], or: u8| std::array::from_fn(|i| b[i % 32] ^ if i < 32 { 0 } else { or });
        check(|| Everything { a, b, halves, bytes: twice(bytes, 0x35), more_bytes: twice(more, 0xc1), x });
    }
}

#[test]
fn dot_products_do_not_saturate() {
    for x in [[127i8; 4], [-128; 4], [-128, 127, -128, 127]] {
        for byte in [0, 63, 127, 128, 255] {
            check(|| Everything {
                a: std::array::from_fn(|i| i as f32 - 7.5),
                b: [2.5; LANES],
                halves: [0x3c00; LANES],
                bytes: [byte; 64],
                more_bytes: [!byte; 64],
                x: i32::from_ne_bytes(x.map(|x| x as u8)),
            });
        }
    }
}

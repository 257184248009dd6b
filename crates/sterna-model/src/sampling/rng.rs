//! A counter-based random number generator: draw `i` of a seed is a pure function of (seed, i).
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
//! a Weyl sequence through a bijective 64-bit mixer. It passes the usual statistical batteries, is the same on every
//! platform, and needs no dependency. It is not for secrets.

/// The 64-bit golden ratio, the increment of the Weyl sequence.
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of random numbers: a seed and how many were drawn.
#[derive(Debug, Clone)]
pub(super) struct Rng {
    seed: u64,
    draws: u64,
}

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng { seed, draws: 0 }
    }

    /// A number in `0.0..1.0`, a multiple of 2^-53.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next_u64(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(1);
        let z = self.seed.wrapping_add(self.draws.wrapping_mul(GOLDEN_GAMMA));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the reference implementation for seed 1234567.
    #[test]
    fn is_splitmix64() {
        let mut rng = Rng::new(1234567);
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431];
        for value in expected {
            assert_eq!(rng.next_u64(), value);
        }
    }

    #[test]
    fn uniform_fills_the_unit_interval() {
        let mut rng = Rng::new(7);
        let draws: Vec<f64> = (0..10_000).map(|_| rng.uniform()).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.02, "mean {mean}");
        assert!(draws.iter().any(|u| *u < 0.01) && draws.iter().any(|u| *u > 0.99));
    }
}

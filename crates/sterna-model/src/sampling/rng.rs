//! Counter-based random numbers: that of token `t` in draw `i` of a seed is a pure function of (seed, i, t), so that who
//! knows the seed can tell what another will draw.
//!
//! Two rounds of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
//! a Weyl sequence through a bijective 64-bit mixer. It passes the usual statistical batteries, is the same on every
//! platform, and needs no dependency. It is not for secrets.

/// The 64-bit golden ratio, the increment of the Weyl sequence.
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of draws: a seed and how many were made.
#[derive(Debug, Clone)]
pub(super) struct Rng {
    seed: u64,
    draws: u64,
}

/// The random numbers of one draw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng { seed, draws: 0 }
    }

    /// The next draw.
    pub(super) fn draw(&mut self) -> Draw {
        self.draws = self.draws.wrapping_add(1);
        Draw(split_mix(self.seed, self.draws))
    }
}

impl Draw {
    /// A number above 0 and below 1 for `token`, an odd multiple of 2^-54.
    pub(super) fn uniform(self, token: u32) -> f64 {
        let bits = split_mix(self.0, u64::from(token) + 1);
        ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }
}

/// Output `n` of the generator that begins with `seed`.
fn split_mix(seed: u64, n: u64) -> u64 {
    let z = seed.wrapping_add(n.wrapping_mul(GOLDEN_GAMMA));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the reference implementation for seed 1234567.
    #[test]
    fn is_splitmix64() {
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431];
        for (n, value) in (1..).zip(expected) {
            assert_eq!(split_mix(1234567, n), value);
        }
    }

    #[test]
    fn uniform_fills_the_unit_interval_for_one_token_and_in_one_draw() {
        let mut rng = Rng::new(7);
        let of_one_token: Vec<f64> = (0..10_000).map(|_| rng.draw().uniform(5)).collect();
        let draw = rng.draw();
        let in_one_draw: Vec<f64> = (0..10_000).map(|token| draw.uniform(token)).collect();
        for numbers in [of_one_token, in_one_draw] {
            assert!(numbers.iter().all(|u| 0.0 < *u && *u < 1.0));
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            assert!((mean - 0.5).abs() < 0.02, "mean {mean}");
            assert!(numbers.iter().any(|u| *u < 0.01) && numbers.iter().any(|u| *u > 0.99));
        }
    }
}

//! The parts of a network that work on each position alone.

/// The part of a block that works on each position alone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FeedForwardSpec {
    /// The block has none.
    None,
    /// One gated network for all positions.
    Dense(DenseSpec),
    /// A router picks a few of many gated networks for each position.
    Moe(MoeSpec),
}

/// `down(activation(gate x) · up x)`, or `down(activation(up x))`.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseSpec {
    /// There is a gate.
    pub gated: bool,
    /// Width between the projections.
    pub intermediate_size: usize,
    /// The non-linearity, on the gate where there is one.
    pub activation: Activation,
    /// Biases on all three projections.
    pub bias: bool,
    /// RMS norm before the down projection (BitNet).
    pub sub_norm: bool,
    /// Factor on what goes into the non-linearity (Falcon-H1).
    pub gate_scale: f32,
    /// Factor on what comes out.
    pub out_scale: f32,
}

/// Mixture of experts: a router scores all experts, and the best `n_active` are added up by their weights.
#[derive(Debug, Clone, PartialEq)]
pub struct MoeSpec {
    /// Experts there are.
    pub n_experts: usize,
    /// Experts that a position uses.
    pub n_active: usize,
    /// How scores become weights.
    pub routing: Routing,
    /// One expert.
    pub expert: DenseSpec,
    /// A network that every position uses besides.
    pub shared: Option<DenseSpec>,
    /// What that network gives is multiplied by the sigmoid of a gate.
    pub shared_gate: bool,
    /// The experts work on a stream of their own.
    pub latent: Option<LatentSpec>,
}

/// A stream for experts to work on, narrower than the residual stream: that is projected onto it, and the weighted sum of
/// what the experts give back (Nemotron 3).
#[derive(Debug, Clone, PartialEq)]
pub struct LatentSpec {
    /// Its width.
    pub size: usize,
    /// Biases on both projections.
    pub bias: bool,
}

/// How the scores of a router become the weights of the experts that it chose.
#[derive(Debug, Clone, PartialEq)]
pub enum Routing {
    /// Softmax over all experts.
    Softmax {
        /// The weights of the chosen experts are scaled to sum to one.
        renormalize: bool,
    },
    /// Softmax over the chosen experts.
    SoftmaxOfChosen,
    /// The sigmoid of each score. Experts are chosen by it and a bias of their own; of `n_groups` groups only the best
    /// `n_active_groups`, by the sum of their two best, are looked at (DeepSeek-V3, arXiv:2412.19437 §2.1.2).
    Sigmoid {
        /// Experts have such a bias.
        biased: bool,
        /// Groups of experts.
        n_groups: usize,
        /// Groups that a position uses.
        n_active_groups: usize,
        /// The weights of the chosen experts are scaled to sum to one.
        renormalize: bool,
        /// Factor on the weights.
        scale: f32,
    },
}

/// The non-linearity of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU with the error function.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
}

impl Activation {
    /// The function itself, of one value.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                const SQRT_2_OVER_PI: f32 = 0.797_884_6;
                0.5 * x * (1.0 + (SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x)).tanh())
            }
            Activation::Gelu => (0.5 * f64::from(x) * (1.0 + erf(f64::from(x) / 2f64.sqrt()))) as f32,
            Activation::Relu => x.max(0.0),
            Activation::Relu2 => x.max(0.0) * x.max(0.0),
        }
    }
}

/// The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).
fn erf(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 5] = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
    let t = 1.0 / (1.0 + 0.3275911 * x.abs());
    let series = COEFFICIENTS.iter().fold(0.0, |sum, c| (sum + c) * t);
    (1.0 - series * (-x * x).exp()).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_have_their_known_values() {
        for (activation, at_one, at_minus_one) in [
            (Activation::Silu, 0.731_058_6, -0.268_941_43),
            (Activation::GeluTanh, 0.841_192, -0.158_808),
            (Activation::Gelu, 0.841_344_8, -0.158_655_25),
            (Activation::Relu, 1.0, 0.0),
            (Activation::Relu2, 1.0, 0.0),
        ] {
            assert!((activation.apply(1.0) - at_one).abs() < 1e-6, "{activation:?}");
            assert!((activation.apply(-1.0) - at_minus_one).abs() < 1e-6, "{activation:?}");
            assert_eq!(activation.apply(0.0), 0.0);
        }
    }
}

//! The short causal convolution of recurrent mixers, and the samples that it remembers.

use sterna_tensor::Compute;
use sterna_tensor::ops::{self, ConvActivation};

use crate::rows;
use crate::workspace::sized;

/// The last inputs of a convolution, one fewer than it has taps.
#[derive(Debug, Clone)]
pub(crate) struct ConvState {
    n_channels: usize,
    /// `[n_taps - 1, n_channels]`.
    history: Vec<f32>,
}

impl ConvState {
    pub(crate) fn new(n_taps: usize, n_channels: usize) -> ConvState {
        ConvState { n_channels, history: vec![0.0; n_taps.saturating_sub(1) * n_channels] }
    }

    /// Floats that come before the inputs of a chunk.
    pub(crate) fn len(&self) -> usize {
        self.history.len()
    }

    /// A buffer for the inputs of `n` tokens, behind those that came before: `[n_taps - 1 + n, n_channels]`.
    pub(crate) fn window<'a>(&self, buffer: &'a mut Vec<f32>, n: usize) -> &'a mut [f32] {
        let window = sized(buffer, self.history.len() + n * self.n_channels);
        window[..self.history.len()].copy_from_slice(&self.history);
        window
    }

    pub(crate) fn clear(&mut self) {
        self.history.fill(0.0);
    }

    /// The inputs that it remembers.
    pub(crate) fn history(&self) -> &[f32] {
        &self.history
    }

    pub(crate) fn history_mut(&mut self) -> &mut [f32] {
        &mut self.history
    }

    pub(crate) fn n_bytes(&self) -> usize {
        size_of_val(self.history.as_slice())
    }

    pub(crate) fn fits(&self, n_taps: usize, n_channels: usize) -> bool {
        self.n_channels == n_channels && self.history.len() == n_taps.saturating_sub(1) * n_channels
    }
}

/// A convolution of every channel by itself.
#[derive(Clone, Copy)]
pub(crate) struct Convolution<'a> {
    /// `[n_taps, n_channels]`.
    pub(crate) weight: &'a [f32],
    /// `[n_channels]`.
    pub(crate) bias: Option<&'a [f32]>,
}

impl Convolution<'_> {
    /// The convolution of `window` `[n_taps - 1 + n, n_channels]`, to `out` `[n, n_channels]`.
    pub(crate) fn plain(self, c: &Compute, state: &mut ConvState, window: &[f32], out: &mut [f32]) {
        self.run(c, state, window, ConvActivation::Identity, out);
    }

    /// Silu of it.
    pub(crate) fn silu(self, c: &Compute, state: &mut ConvState, window: &[f32], out: &mut [f32]) {
        self.run(c, state, window, ConvActivation::Silu, out);
    }

    fn run(
        self,
        c: &Compute,
        state: &mut ConvState,
        window: &[f32],
        activation: ConvActivation,
        out: &mut [f32],
    ) {
        let n_before = state.history.len();
        rows::for_rows(c, out, state.n_channels, |first, out| {
            let window = &window[first..first + n_before + out.len()];
            ops::causal_conv(c.isa, window, self.weight, self.bias, activation, out);
        });
        state.history.copy_from_slice(&window[window.len() - n_before..]);
    }
}

//! The states of recurrences: of one size whatever the sequence, and forgetting as they go, so that none can be rewound.

use crate::mixer::conv::ConvState;
use crate::mixer::gated_delta::GatedDeltaState;
use crate::mixer::mamba1::Mamba1State;
use crate::mixer::mamba2::Mamba2State;

/// What a recurrent mixer keeps of a sequence.
#[derive(Debug, Clone)]
pub(crate) enum Recurrent {
    Mamba1(Mamba1State),
    Mamba2(Mamba2State),
    ShortConv(ConvState),
    GatedDelta(GatedDeltaState),
}

impl Recurrent {
    /// Goes back to the empty sequence.
    pub(crate) fn clear(&mut self) {
        match self {
            Recurrent::Mamba1(state) => state.clear(),
            Recurrent::Mamba2(state) => state.clear(),
            Recurrent::ShortConv(state) => state.clear(),
            Recurrent::GatedDelta(state) => state.clear(),
        }
    }

    /// All that it remembers.
    pub(super) fn buffers(&self) -> [&[f32]; 2] {
        match self {
            Recurrent::Mamba1(state) => state.buffers(),
            Recurrent::Mamba2(state) => state.buffers(),
            Recurrent::ShortConv(state) => [state.history(), &[]],
            Recurrent::GatedDelta(state) => state.buffers(),
        }
    }

    /// The same, to be filled.
    pub(super) fn buffers_mut(&mut self) -> [&mut [f32]; 2] {
        match self {
            Recurrent::Mamba1(state) => state.buffers_mut(),
            Recurrent::Mamba2(state) => state.buffers_mut(),
            Recurrent::ShortConv(state) => [state.history_mut(), &mut []],
            Recurrent::GatedDelta(state) => state.buffers_mut(),
        }
    }

    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Recurrent::Mamba1(state) => state.n_bytes(),
            Recurrent::Mamba2(state) => state.n_bytes(),
            Recurrent::ShortConv(state) => state.n_bytes(),
            Recurrent::GatedDelta(state) => state.n_bytes(),
        }
    }
}

//! What one mixer keeps of a sequence.

use std::ops::Range;

use sterna_tensor::{Isa, KvType};

use super::recurrent::Recurrent;
use crate::kv_cache::KvCache;
use crate::mixer::conv::ConvState;
use crate::mixer::gated_delta::GatedDeltaState;
use crate::mixer::mamba1::Mamba1State;
use crate::mixer::mamba2::Mamba2State;
use crate::spec::{AttentionSpec, MixerSpec};

/// What one mixer keeps of a sequence. Only the mixer itself looks inside.
#[derive(Debug, Clone)]
pub(crate) enum MixerState {
    None,
    Attention(KvCache),
    Recurrent(Recurrent),
    Parallel(KvCache, Recurrent),
}

impl MixerState {
    /// That of an empty sequence.
    pub(crate) fn new(spec: &MixerSpec, kv_type: KvType) -> MixerState {
        let cache = |spec: &AttentionSpec| KvCache::new(spec, kv_type);
        let recurrent = match spec {
            MixerSpec::None => return MixerState::None,
            MixerSpec::Attention(spec) => return MixerState::Attention(cache(spec)),
            MixerSpec::Parallel(spec) => {
                let mamba = Recurrent::Mamba2(Mamba2State::new(&spec.mamba));
                return MixerState::Parallel(cache(&spec.attention), mamba);
            }
            MixerSpec::Shared(spec) => {
                let mamba = Recurrent::Mamba2(Mamba2State::new(&spec.mamba));
                return MixerState::Parallel(cache(&spec.attention), mamba);
            }
            MixerSpec::Mamba1(spec) => Recurrent::Mamba1(Mamba1State::new(spec)),
            MixerSpec::Mamba2(spec) => Recurrent::Mamba2(Mamba2State::new(spec)),
            MixerSpec::ShortConv(spec) => Recurrent::ShortConv(ConvState::new(spec.conv_kernel, spec.width)),
            MixerSpec::GatedDelta(spec) => Recurrent::GatedDelta(GatedDeltaState::new(spec)),
        };
        MixerState::Recurrent(recurrent)
    }

    /// Its keys and values.
    pub(super) fn cache(&self) -> Option<&KvCache> {
        match self {
            MixerState::Attention(cache) | MixerState::Parallel(cache, _) => Some(cache),
            MixerState::None | MixerState::Recurrent(_) => None,
        }
    }

    /// What of it cannot be rewound.
    pub(super) fn recurrent(&self) -> Option<&Recurrent> {
        match self {
            MixerState::None | MixerState::Attention(_) => None,
            MixerState::Recurrent(recurrent) | MixerState::Parallel(_, recurrent) => Some(recurrent),
        }
    }

    /// Whether it still has all of the first `length` tokens that the tokens after them see.
    pub(super) fn reaches(&self, length: usize) -> bool {
        match self {
            MixerState::Attention(cache) | MixerState::Parallel(cache, _) => cache.reaches(length),
            MixerState::None | MixerState::Recurrent(_) => true,
        }
    }

    /// Goes back to `length` tokens, at which its recurrence was `earlier`: nothing for that of an empty sequence.
    pub(super) fn rewind(&mut self, length: usize, earlier: Option<&Recurrent>) {
        if let MixerState::Attention(cache) | MixerState::Parallel(cache, _) = self {
            cache.truncate(length);
        }
        if let MixerState::Recurrent(recurrent) | MixerState::Parallel(_, recurrent) = self {
            match earlier {
                Some(earlier) => recurrent.clone_from(earlier),
                None => recurrent.clear(),
            }
        }
    }

    /// Gives its attention keys and values at `positions` that mean nothing.
    pub(super) fn make_up(&mut self, isa: Isa, positions: Range<usize>) {
        if let MixerState::Attention(cache) | MixerState::Parallel(cache, _) = self {
            cache.make_up(isa, positions);
        }
    }

    pub(super) fn n_bytes(&self) -> usize {
        let cache = match self {
            MixerState::Attention(cache) | MixerState::Parallel(cache, _) => cache.n_bytes(),
            MixerState::None | MixerState::Recurrent(_) => 0,
        };
        cache + self.recurrent().map_or(0, Recurrent::n_bytes)
    }

    pub(super) fn fits(&self, spec: &MixerSpec) -> bool {
        match (self, spec) {
            (MixerState::None, MixerSpec::None) => true,
            (MixerState::Attention(cache), MixerSpec::Attention(spec)) => cache.fits(spec),
            (MixerState::Recurrent(state), spec) => match (state, spec) {
                (Recurrent::Mamba1(state), MixerSpec::Mamba1(spec)) => state.fits(spec),
                (Recurrent::Mamba2(state), MixerSpec::Mamba2(spec)) => state.fits(spec),
                (Recurrent::ShortConv(state), MixerSpec::ShortConv(spec)) => {
                    state.fits(spec.conv_kernel, spec.width)
                }
                (Recurrent::GatedDelta(state), MixerSpec::GatedDelta(spec)) => state.fits(spec),
                _ => false,
            },
            (MixerState::Parallel(cache, Recurrent::Mamba2(state)), MixerSpec::Parallel(spec)) => {
                cache.fits(&spec.attention) && state.fits(&spec.mamba)
            }
            (MixerState::Parallel(cache, Recurrent::Mamba2(state)), MixerSpec::Shared(spec)) => {
                cache.fits(&spec.attention) && state.fits(&spec.mamba)
            }
            _ => false,
        }
    }
}

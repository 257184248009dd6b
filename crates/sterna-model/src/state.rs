//! What a sequence has left behind in a network.

use sterna_tensor::KvType;

use crate::kv_cache::KvCache;
use crate::mixer::conv::ConvState;
use crate::mixer::gated_delta::GatedDeltaState;
use crate::mixer::mamba1::Mamba1State;
use crate::mixer::mamba2::Mamba2State;
use crate::mixer::parallel::ParallelState;
use crate::model::Model;
use crate::rope::Regime;
use crate::spec::{MixerSpec, ParallelSpec, Spec};

/// The state of one sequence: one `MixerState` per block, and the tokens it has seen.
///
/// Memory grows with the sequence, page by page.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) mixers: Vec<MixerState>,
    /// The tokens so far; what a change of rotary regime computes again.
    pub(crate) tokens: Vec<u32>,
    /// The regime that `mixers` were computed in.
    pub(crate) regime: Regime,
    /// Length that the sequence is known to reach.
    expected_length: usize,
    kv_type: KvType,
}

/// What one mixer keeps of a sequence. Only the mixer itself looks inside.
#[derive(Debug, Clone)]
pub(crate) enum MixerState {
    None,
    Attention(KvCache),
    Mamba1(Mamba1State),
    Mamba2(Mamba2State),
    ShortConv(ConvState),
    GatedDelta(GatedDeltaState),
    Parallel(ParallelState),
}

impl MixerState {
    /// That of an empty sequence.
    pub(crate) fn new(spec: &MixerSpec, kv_type: KvType) -> MixerState {
        match spec {
            MixerSpec::None => MixerState::None,
            MixerSpec::Attention(spec) => {
                MixerState::Attention(KvCache::new(spec.n_kv_heads, spec.head_dim, kv_type))
            }
            MixerSpec::Mamba1(spec) => MixerState::Mamba1(Mamba1State::new(spec)),
            MixerSpec::Mamba2(spec) => MixerState::Mamba2(Mamba2State::new(spec)),
            MixerSpec::ShortConv(spec) => MixerState::ShortConv(ConvState::new(spec.conv_kernel, spec.width)),
            MixerSpec::GatedDelta(spec) => MixerState::GatedDelta(GatedDeltaState::new(spec)),
            MixerSpec::Parallel(ParallelSpec { attention, mamba, .. }) => {
                MixerState::Parallel(ParallelState {
                    attention: KvCache::new(attention.n_kv_heads, attention.head_dim, kv_type),
                    mamba: Mamba2State::new(mamba),
                })
            }
        }
    }

    /// Whether it can go back to any earlier length.
    fn can_rewind(&self) -> bool {
        matches!(self, MixerState::None | MixerState::Attention(_))
    }

    /// Goes back to `length` tokens, which is 0 where it cannot rewind.
    fn truncate(&mut self, length: usize) {
        match self {
            MixerState::None => {}
            MixerState::Attention(cache) => cache.truncate(length),
            MixerState::Mamba1(state) => state.clear(),
            MixerState::Mamba2(state) => state.clear(),
            MixerState::ShortConv(state) => state.clear(),
            MixerState::GatedDelta(state) => state.clear(),
            MixerState::Parallel(ParallelState { attention, mamba }) => {
                attention.truncate(length);
                mamba.clear();
            }
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            MixerState::None => 0,
            MixerState::Attention(cache) => cache.n_bytes(),
            MixerState::Mamba1(state) => state.n_bytes(),
            MixerState::Mamba2(state) => state.n_bytes(),
            MixerState::ShortConv(state) => state.n_bytes(),
            MixerState::GatedDelta(state) => state.n_bytes(),
            MixerState::Parallel(ParallelState { attention, mamba }) => attention.n_bytes() + mamba.n_bytes(),
        }
    }

    fn fits(&self, spec: &MixerSpec) -> bool {
        match (self, spec) {
            (MixerState::None, MixerSpec::None) => true,
            (MixerState::Attention(cache), MixerSpec::Attention(spec)) => {
                cache.fits(spec.n_kv_heads, spec.head_dim)
            }
            (MixerState::Mamba1(state), MixerSpec::Mamba1(spec)) => state.fits(spec),
            (MixerState::Mamba2(state), MixerSpec::Mamba2(spec)) => state.fits(spec),
            (MixerState::ShortConv(state), MixerSpec::ShortConv(spec)) => {
                state.fits(spec.conv_kernel, spec.width)
            }
            (MixerState::GatedDelta(state), MixerSpec::GatedDelta(spec)) => state.fits(spec),
            (MixerState::Parallel(state), MixerSpec::Parallel(ParallelSpec { attention, mamba, .. })) => {
                state.attention.fits(attention.n_kv_heads, attention.head_dim) && state.mamba.fits(mamba)
            }
            _ => false,
        }
    }
}

impl State {
    /// An empty sequence of `model`, with keys and values stored as `kv_type`.
    pub fn new(model: &Model, kv_type: KvType) -> State {
        let blocks = model.spec().blocks.iter();
        State {
            mixers: blocks.map(|block| MixerState::new(&block.mixer, kv_type)).collect(),
            tokens: Vec::new(),
            regime: Regime::default(),
            expected_length: 0,
            kv_type,
        }
    }

    /// Number of tokens so far.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token yet.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Announces that the sequence will be at least `length` tokens long, as one knows when a prompt is fed in
    /// chunks. LongRoPE models rotate by the length of the whole sequence; without the announcement a sequence that
    /// grows over the border is computed a second time there.
    pub fn expect_length(&mut self, length: usize) {
        self.expected_length = length;
    }

    /// Forgets all tokens but the first `length`, and any announced length. Returns how many are left: `length`, or
    /// none if a mixer cannot go back to just there (attention always can, recurrences never).
    pub fn truncate(&mut self, length: usize) -> usize {
        let goes_back = length < self.len();
        let length = match goes_back && !self.mixers.iter().all(MixerState::can_rewind) {
            true => 0,
            false => length.min(self.len()),
        };
        if goes_back {
            self.mixers.iter_mut().for_each(|mixer| mixer.truncate(length));
        }
        self.tokens.truncate(length);
        self.expected_length = 0;
        length
    }

    /// Bytes that the state takes in memory now.
    pub fn n_bytes(&self) -> usize {
        self.mixers.iter().map(MixerState::n_bytes).sum()
    }

    /// Whether this is a state of a network like `spec`.
    pub(crate) fn fits(&self, spec: &Spec) -> bool {
        let blocks = spec.blocks.iter().zip(&self.mixers);
        spec.blocks.len() == self.mixers.len()
            && blocks.into_iter().all(|(block, mixer)| mixer.fits(&block.mixer))
    }

    /// Empties the state for `regime` and returns the tokens that it had seen.
    pub(crate) fn restart(&mut self, regime: Regime) -> Vec<u32> {
        let expected_length = self.expected_length;
        let seen = self.tokens.clone();
        self.truncate(0);
        self.expected_length = expected_length;
        self.regime = regime;
        seen
    }

    /// The length by which the rotary regime is chosen when the sequence grows to `length`.
    pub(crate) fn final_length(&self, length: usize) -> usize {
        length.max(self.expected_length)
    }
}

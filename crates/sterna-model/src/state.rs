//! What a sequence has left behind in a network.

mod mixer;
mod recurrent;
mod saved;
mod snapshots;

use sterna_tensor::{Isa, KvType};

use crate::model::Model;
use crate::rope::Regime;
use crate::spec::Spec;
use snapshots::Snapshots;

pub(crate) use mixer::MixerState;
pub(crate) use recurrent::Recurrent;

/// The state of one sequence: one `MixerState` per block, and the tokens it has seen.
///
/// Memory grows with the sequence, page by page.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) mixers: Vec<MixerState>,
    snapshots: Snapshots,
    /// The tokens so far; what a change of rotary regime computes again.
    pub(crate) tokens: Vec<u32>,
    /// The regime that `mixers` were computed in.
    pub(crate) regime: Regime,
    /// Length that the sequence is known to reach.
    expected_length: usize,
    kv_type: KvType,
}

impl State {
    /// An empty sequence of `model`, with keys and values stored as `kv_type`.
    pub fn new(model: &Model, kv_type: KvType) -> State {
        let blocks = model.spec().blocks.iter();
        State {
            mixers: blocks.map(|block| MixerState::new(&block.mixer, kv_type)).collect(),
            snapshots: Snapshots::default(),
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

    /// Whether the state goes back without having been [marked](State::mark): recurrences do not.
    pub fn can_rewind(&self) -> bool {
        self.mixers.iter().all(|mixer| mixer.recurrent().is_none())
    }

    /// Makes this a length that the state can go back to, at the price of a copy of its recurrences. The older of such
    /// lengths are thinned out when their copies take too much memory.
    pub fn mark(&mut self) {
        if !self.can_rewind() && !self.is_empty() {
            self.snapshots.take(self.len(), &self.mixers);
        }
    }

    /// Forgets all tokens but the first `length`, and any announced length. Returns how many are left: `length`, or
    /// fewer if a mixer cannot go back to just there. Recurrences can to where they were [marked](State::mark), attention
    /// always, but with a sliding window only by some thousand tokens.
    pub fn truncate(&mut self, length: usize) -> usize {
        self.expected_length = 0;
        if length >= self.len() {
            return self.len();
        }
        let earlier = if self.can_rewind() { None } else { self.snapshots.at_most(length) };
        let length = match earlier {
            Some(snapshot) => snapshot.length,
            None if self.can_rewind() => length,
            None => 0,
        };
        let is_there = self.mixers.iter().all(|mixer| mixer.reaches(length));
        let (length, earlier) = if is_there { (length, earlier) } else { (0, None) };
        for (i, mixer) in self.mixers.iter_mut().enumerate() {
            mixer.rewind(length, earlier.and_then(|snapshot| snapshot.states[i].as_ref()));
        }
        self.snapshots.truncate(length);
        self.tokens.truncate(length);
        length
    }

    /// Adds made-up tokens until there are `length`, with keys and values that mean nothing, and leaves recurrences as they are:
    /// for measuring what a long context costs without computing it.
    pub fn make_up(&mut self, isa: Isa, length: usize) {
        let first = self.len();
        for mixer in &mut self.mixers {
            mixer.make_up(isa, first..length);
        }
        self.tokens.resize(length.max(first), 0);
    }

    /// Bytes that the state takes in memory now.
    pub fn n_bytes(&self) -> usize {
        self.mixers.iter().map(MixerState::n_bytes).sum::<usize>() + self.snapshots.n_bytes()
    }

    /// Whether this is a state of a network like `spec`.
    pub(crate) fn fits(&self, spec: &Spec) -> bool {
        let mut blocks = spec.blocks.iter().zip(&self.mixers);
        spec.blocks.len() == self.mixers.len() && blocks.all(|(block, mixer)| mixer.fits(&block.mixer))
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

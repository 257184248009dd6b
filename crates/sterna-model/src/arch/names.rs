//! What tensors are for, and what they are called in a checkpoint.

pub(super) mod exceptions;
mod patterns;

use crate::weights::Seat;
use patterns::{ROLES, gguf_pattern, hf_pattern, native_pattern};

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    FinalNorm,
    Head,
    MixerNorm,
    MixerPostNorm,
    FeedForwardNorm,
    FeedForwardPostNorm,
    Q,
    K,
    V,
    /// In other files than native ones, the second half of each head of Q's tensor.
    QGate,
    /// Rows of q, k and v, in this order.
    Qkv,
    O,
    QNorm,
    KNorm,
    AttentionSubNorm,
    Gate,
    Up,
    /// Rows of gate and up, in this order.
    GateUp,
    Down,
    FeedForwardSubNorm,
    Router,
    RouterBias,
    ExpertGate,
    ExpertUp,
    /// Rows of gate and up, in this order.
    ExpertGateUp,
    ExpertDown,
    /// Onto the stream that experts work on, where that is not the residual stream.
    LatentIn,
    /// And back.
    LatentOut,
    SharedGate,
    SharedUp,
    /// Rows of gate and up, in this order.
    SharedGateUp,
    SharedDown,
    /// Of what the network gives that all positions use.
    SharedExpertGate,
    SsmInZ,
    SsmInX,
    SsmInXbc,
    SsmInDt,
    /// Rows of z, xBC and dt of Mamba-2, or of x and z of Mamba-1, in this order.
    SsmIn,
    /// What time steps are made of, B and C.
    SsmSelect,
    SsmDtNorm,
    SsmBNorm,
    SsmCNorm,
    SsmDt,
    SsmConv,
    SsmConvBias,
    SsmDtBias,
    /// Below zero; in Hugging Face files the logarithm of its magnitude.
    SsmA,
    SsmD,
    SsmNorm,
    SsmOut,
    DeltaInQ,
    DeltaInK,
    DeltaInV,
    DeltaInZ,
    /// Rows of q, k and v, in this order.
    DeltaInQkv,
    /// Rows of these four for one head of keys, then for the next.
    DeltaInQkvz,
    DeltaInB,
    DeltaInA,
    /// Rows of these two for one head of keys, then for the next.
    DeltaInBa,
    ConvInB,
    ConvInC,
    ConvInV,
    /// Rows of these three, in this order.
    ConvIn,
    ConvTaps,
    ConvBias,
    ConvOut,
    /// Before a transformer that blocks share, of the residual stream and the embedding side by side.
    TransformerNorm,
    /// What such a transformer gives, back to the stream.
    TransformerOut,
    QAdapterIn,
    QAdapterOut,
    KAdapterIn,
    KAdapterOut,
    VAdapterIn,
    VAdapterOut,
    NetworkAdapterIn,
    GateAdapterOut,
    UpAdapterOut,
    /// Rows of gate and up, in this order.
    GateUpAdapterOut,
}

impl Role {
    /// The role of what does the same in an expert's network.
    pub(crate) fn of_expert(self) -> Role {
        match self {
            Role::Gate => Role::ExpertGate,
            Role::Up => Role::ExpertUp,
            Role::Down => Role::ExpertDown,
            role => role,
        }
    }

    /// Whether this layer reads what the one `before` it reads.
    pub(crate) fn reads_what(self, before: Role) -> bool {
        matches!(
            (before, self),
            (Role::Q, Role::K)
                | (Role::K, Role::V)
                | (Role::SsmInZ, Role::SsmInXbc)
                | (Role::SsmInXbc, Role::SsmInDt)
                | (Role::SsmInX, Role::SsmInZ)
                | (Role::V, Role::QGate)
                | (Role::DeltaInQ, Role::DeltaInK)
                | (Role::DeltaInK, Role::DeltaInV)
                | (Role::DeltaInV, Role::DeltaInZ)
                | (Role::DeltaInZ, Role::DeltaInB)
                | (Role::DeltaInB, Role::DeltaInA)
                | (Role::ConvInB, Role::ConvInC)
                | (Role::ConvInC, Role::ConvInV)
                | (Role::Gate, Role::Up)
                | (Role::ExpertGate, Role::ExpertUp)
                | (Role::SharedGate, Role::SharedUp)
        )
    }

    /// The role of what does the same in the network that all positions use beside the experts.
    pub(crate) fn of_shared_expert(self) -> Role {
        match self {
            Role::Gate => Role::SharedGate,
            Role::Up => Role::SharedUp,
            Role::GateUp => Role::SharedGateUp,
            Role::Down => Role::SharedDown,
            role => role,
        }
    }
}

/// `{i}` stands for the block, `{e}` for the expert; a name of an expert's matrix without `{e}` is a stack of all.
pub(crate) type Pattern = &'static str;

/// The names of one family where they differ from those that most families share.
pub(crate) type Exceptions = &'static [Vocabulary];

/// Names of some roles.
pub(crate) type Vocabulary = &'static [(Role, Pattern)];

/// What a tensor of a native file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) role: Role,
    /// 0 for what is in no block.
    pub(crate) block: usize,
    /// 0 for what is of no expert.
    pub(crate) expert: usize,
    /// The bias of the matrix with this role.
    pub(crate) is_bias: bool,
}

impl Place {
    /// The place of the tensor that native files call `name`, unless it is of none that is known.
    pub(crate) fn of_native(name: &str) -> Option<Place> {
        let place = |name: &str, is_bias| {
            ROLES.iter().find_map(|&role| {
                let numbers = numbers(native_pattern(role), name)?;
                let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
                Some(Place { role, block: number(0), expert: number(1), is_bias })
            })
        };
        place(name, false).or_else(|| place(&format!("{}.weight", name.strip_suffix(".bias")?), true))
    }
}

/// The numbers that stand in `name` where `pattern` has braces, if the rest is the same.
fn numbers(mut pattern: &str, mut name: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    while let Some((before, after)) = pattern.split_once('{') {
        name = name.strip_prefix(before)?;
        let n_digits = name.bytes().take_while(u8::is_ascii_digit).count();
        numbers.push(name[..n_digits].parse().ok()?);
        (pattern, name) = (after.split_once('}')?.1, &name[n_digits..]);
    }
    (pattern == name).then_some(numbers)
}

/// The vocabulary of one checkpoint.
#[derive(Debug, Clone)]
pub(crate) enum Names {
    Native,
    Gguf {
        exceptions: Exceptions,
    },
    Hf {
        /// `model.`, or `language_model.model.` where the language model is part of a larger one.
        prefix: &'static str,
        /// Prefix of the head.
        head: &'static str,
        exceptions: Exceptions,
    },
}

/// Where language models are found in Hugging Face checkpoints: prefix of the model, prefix of its head.
const HF_PREFIXES: [(&str, &str); 5] = [
    ("model.", ""),
    ("model.language_model.", ""),
    ("language_model.model.", "language_model."),
    ("backbone.", ""),
    ("", ""),
];

fn pattern_of(role: Role, exceptions: Exceptions, usual: fn(Role) -> Pattern) -> Pattern {
    let exception = exceptions.iter().copied().flatten().find(|(special, _)| *special == role);
    exception.map_or_else(|| usual(role), |&(_, pattern)| pattern)
}

impl Names {
    /// The names of a Hugging Face checkpoint, of which `has` says whether it holds a tensor.
    pub(crate) fn hf(exceptions: Exceptions, has: impl Fn(&str) -> bool) -> Names {
        let embedding = pattern_of(Role::Embedding, exceptions, hf_pattern);
        let holds_embedding = |(prefix, _): &&(&str, &str)| has(&format!("{prefix}{embedding}"));
        // Without an embedding the first prefix is as good as any: loading will report the missing tensor.
        let &(prefix, head) = HF_PREFIXES.iter().find(holds_embedding).unwrap_or(&HF_PREFIXES[0]);
        Names::Hf { prefix, head, exceptions }
    }

    fn pattern(&self, role: Role) -> (&'static str, Pattern) {
        match self {
            Names::Native => ("", native_pattern(role)),
            Names::Gguf { exceptions } => ("", pattern_of(role, exceptions, gguf_pattern)),
            Names::Hf { prefix, head, exceptions } => {
                let pattern = pattern_of(role, exceptions, hf_pattern);
                (if role == Role::Head { head } else { prefix }, pattern)
            }
        }
    }

    /// Whether files of this vocabulary may have a tensor with this role.
    pub(crate) fn has(&self, role: Role) -> bool {
        !self.pattern(role).1.is_empty()
    }

    /// The block of a tensor that one of these families would call `name`; none for what is in no block, and for what several
    /// blocks share.
    pub(crate) fn block_of(&self, name: &str) -> Option<usize> {
        ROLES.iter().find_map(|&role| {
            let (prefix, pattern) = self.pattern(role);
            let name = name.strip_prefix(prefix).filter(|_| pattern.contains("{i}"))?;
            let block = |pattern: &str| numbers(pattern, name)?.first().copied();
            match pattern.split_once("{mamba}") {
                None => block(pattern),
                Some((before, after)) => ["", "mamba_decoder."]
                    .into_iter()
                    .find_map(|mamba| block(&format!("{before}{mamba}{after}"))),
            }
        })
    }

    /// The name of the tensor with this role in block `block`.
    pub(crate) fn of(&self, role: Role, block: usize) -> String {
        let (prefix, pattern) = self.pattern(role);
        format!("{prefix}{}", pattern.replace("{i}", &block.to_string()))
    }

    /// The name of the tensor in `seat` of block `block`, in files where every expert has tensors of its own.
    pub(crate) fn of_seat(&self, seat: Seat, block: usize) -> String {
        self.of_expert(seat.role, block, seat.expert).0
    }

    /// The name of the tensor that holds the matrix of `expert`, and whether it is a stack of all experts' matrices.
    pub(crate) fn of_expert(&self, role: Role, block: usize, expert: usize) -> (String, bool) {
        let name = self.of(role, block);
        let is_stack = !name.contains("{e}");
        (name.replace("{e}", &expert.to_string()), is_stack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_names_say_their_place() {
        for (index, &role) in ROLES.iter().enumerate() {
            let (name, _) = Names::Native.of_expert(role, 7, 3);
            let place = Place::of_native(&name).unwrap();
            assert_eq!((place.role, place.is_bias), (role, false), "{name}");
            assert_eq!(place.block, if index < 3 { 0 } else { 7 }, "{name}");
            assert_eq!(place.expert, if name.contains("_exps") { 3 } else { 0 }, "{name}");
        }
        let bias = Place { role: Role::Q, block: 12, expert: 0, is_bias: true };
        assert_eq!(Place::of_native("blk.12.attn_q.bias"), Some(bias));
        for name in ["rope_freqs.weight", "blk.x.attn_q.weight", "blk.1.attn_q", "blk..attn_q.weight", ""] {
            assert_eq!(Place::of_native(name), None);
        }
    }
}

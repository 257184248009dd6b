//! What the tensors are called in the three kinds of file.

use crate::weights::Seat;

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
    SharedGate,
    SharedUp,
    /// Rows of gate and up, in this order.
    SharedGateUp,
    SharedDown,
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
    ConvInB,
    ConvInC,
    ConvInV,
    /// Rows of these three, in this order.
    ConvIn,
    ConvTaps,
    ConvBias,
    ConvOut,
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
pub(crate) type Exceptions = &'static [(Role, Pattern)];

/// The name that most families on the Hugging Face hub use, without the prefix of the language model.
fn hf_pattern(role: Role) -> Pattern {
    match role {
        Role::Embedding => "embed_tokens.weight",
        Role::FinalNorm => "norm.weight",
        Role::Head => "lm_head.weight",
        Role::MixerNorm => "layers.{i}.input_layernorm.weight",
        Role::MixerPostNorm => "layers.{i}.post_attention_layernorm.weight",
        Role::FeedForwardNorm => "layers.{i}.post_attention_layernorm.weight",
        Role::FeedForwardPostNorm => "layers.{i}.post_feedforward_layernorm.weight",
        Role::Q => "layers.{i}.self_attn.q_proj.weight",
        Role::K => "layers.{i}.self_attn.k_proj.weight",
        Role::V => "layers.{i}.self_attn.v_proj.weight",
        Role::Qkv => "layers.{i}.self_attn.qkv_proj.weight",
        Role::O => "layers.{i}.self_attn.o_proj.weight",
        Role::QNorm => "layers.{i}.self_attn.q_norm.weight",
        Role::KNorm => "layers.{i}.self_attn.k_norm.weight",
        Role::AttentionSubNorm => "layers.{i}.self_attn.attn_sub_norm.weight",
        Role::Gate => "layers.{i}.mlp.gate_proj.weight",
        Role::Up => "layers.{i}.mlp.up_proj.weight",
        Role::GateUp => "layers.{i}.mlp.gate_up_proj.weight",
        Role::Down => "layers.{i}.mlp.down_proj.weight",
        Role::FeedForwardSubNorm => "layers.{i}.mlp.ffn_sub_norm.weight",
        Role::Router => "layers.{i}.mlp.gate.weight",
        Role::ExpertGate => "layers.{i}.mlp.experts.{e}.gate_proj.weight",
        Role::ExpertUp => "layers.{i}.mlp.experts.{e}.up_proj.weight",
        Role::ExpertGateUp => "layers.{i}.mlp.experts.gate_up_proj",
        Role::ExpertDown => "layers.{i}.mlp.experts.{e}.down_proj.weight",
        Role::RouterBias => "layers.{i}.mlp.gate.e_score_correction_bias",
        Role::SharedGate => "layers.{i}.mlp.shared_expert.gate_proj.weight",
        Role::SharedUp => "layers.{i}.mlp.shared_expert.up_proj.weight",
        Role::SharedGateUp => "layers.{i}.mlp.shared_expert.gate_up_proj.weight",
        Role::SharedDown => "layers.{i}.mlp.shared_expert.down_proj.weight",
        // No file has these apart.
        Role::SsmInZ | Role::SsmInX | Role::SsmInXbc | Role::SsmInDt => "",
        Role::ConvInB | Role::ConvInC | Role::ConvInV => "",
        Role::SsmSelect => "layers.{i}.mamba.x_proj.weight",
        Role::SsmDtNorm => "layers.{i}.mamba.dt_layernorm.weight",
        Role::SsmBNorm => "layers.{i}.mamba.b_layernorm.weight",
        Role::SsmCNorm => "layers.{i}.mamba.c_layernorm.weight",
        Role::SsmDt => "layers.{i}.mamba.dt_proj.weight",
        Role::ConvIn => "layers.{i}.conv.in_proj.weight",
        Role::ConvTaps => "layers.{i}.conv.conv.weight",
        Role::ConvBias => "layers.{i}.conv.conv.bias",
        Role::ConvOut => "layers.{i}.conv.out_proj.weight",
        Role::SsmIn => "layers.{i}.mamba.in_proj.weight",
        Role::SsmConv => "layers.{i}.mamba.conv1d.weight",
        Role::SsmConvBias => "layers.{i}.mamba.conv1d.bias",
        Role::SsmDtBias => "layers.{i}.mamba.dt_bias",
        Role::SsmA => "layers.{i}.mamba.A_log",
        Role::SsmD => "layers.{i}.mamba.D",
        Role::SsmNorm => "layers.{i}.mamba.norm.weight",
        Role::SsmOut => "layers.{i}.mamba.out_proj.weight",
    }
}

/// The name in GGUF files, where all families share one vocabulary (gguf-py, `constants.py`).
fn gguf_pattern(role: Role) -> Pattern {
    match role {
        Role::Embedding => "token_embd.weight",
        Role::FinalNorm => "output_norm.weight",
        Role::Head => "output.weight",
        Role::MixerNorm => "blk.{i}.attn_norm.weight",
        Role::MixerPostNorm => "blk.{i}.post_attention_norm.weight",
        Role::FeedForwardNorm => "blk.{i}.ffn_norm.weight",
        Role::FeedForwardPostNorm => "blk.{i}.post_ffw_norm.weight",
        Role::Q => "blk.{i}.attn_q.weight",
        Role::K => "blk.{i}.attn_k.weight",
        Role::V => "blk.{i}.attn_v.weight",
        Role::Qkv => "blk.{i}.attn_qkv.weight",
        Role::O => "blk.{i}.attn_output.weight",
        Role::QNorm => "blk.{i}.attn_q_norm.weight",
        Role::KNorm => "blk.{i}.attn_k_norm.weight",
        Role::AttentionSubNorm => "blk.{i}.attn_sub_norm.weight",
        Role::Gate => "blk.{i}.ffn_gate.weight",
        // A file without `ffn_gate` (phi3) keeps gate and up under the name of up.
        Role::Up | Role::GateUp => "blk.{i}.ffn_up.weight",
        Role::Down => "blk.{i}.ffn_down.weight",
        Role::FeedForwardSubNorm => "blk.{i}.ffn_sub_norm.weight",
        Role::Router => "blk.{i}.ffn_gate_inp.weight",
        Role::ExpertGate => "blk.{i}.ffn_gate_exps.weight",
        Role::ExpertUp => "blk.{i}.ffn_up_exps.weight",
        Role::ExpertGateUp => "blk.{i}.ffn_gate_up_exps.weight",
        Role::ExpertDown => "blk.{i}.ffn_down_exps.weight",
        Role::RouterBias => "blk.{i}.exp_probs_b.bias",
        Role::SharedGate => "blk.{i}.ffn_gate_shexp.weight",
        Role::SharedUp | Role::SharedGateUp => "blk.{i}.ffn_up_shexp.weight",
        Role::SharedDown => "blk.{i}.ffn_down_shexp.weight",
        Role::SsmInZ => "blk.{i}.ssm_in_z.weight",
        Role::SsmInX => "blk.{i}.ssm_in_x.weight",
        Role::SsmSelect => "blk.{i}.ssm_x.weight",
        Role::SsmDtNorm => "blk.{i}.ssm_dt_norm.weight",
        Role::SsmBNorm => "blk.{i}.ssm_b_norm.weight",
        Role::SsmCNorm => "blk.{i}.ssm_c_norm.weight",
        Role::SsmDt => "blk.{i}.ssm_dt.weight",
        Role::ConvInB => "blk.{i}.shortconv.in_b.weight",
        Role::ConvInC => "blk.{i}.shortconv.in_c.weight",
        Role::ConvInV => "blk.{i}.shortconv.in_v.weight",
        Role::ConvIn => "blk.{i}.shortconv.in_proj.weight",
        Role::ConvTaps => "blk.{i}.shortconv.conv.weight",
        Role::ConvBias => "blk.{i}.shortconv.conv.bias",
        Role::ConvOut => "blk.{i}.shortconv.out_proj.weight",
        Role::SsmInXbc => "blk.{i}.ssm_in_xbc.weight",
        Role::SsmInDt => "blk.{i}.ssm_in_dt.weight",
        Role::SsmIn => "blk.{i}.ssm_in.weight",
        Role::SsmConv => "blk.{i}.ssm_conv1d.weight",
        Role::SsmConvBias => "blk.{i}.ssm_conv1d.bias",
        Role::SsmDtBias => "blk.{i}.ssm_dt.bias",
        Role::SsmA => "blk.{i}.ssm_a",
        Role::SsmD => "blk.{i}.ssm_d",
        Role::SsmNorm => "blk.{i}.ssm_norm.weight",
        Role::SsmOut => "blk.{i}.ssm_out.weight",
    }
}

/// The name in native files: as in GGUF files, but every expert has a matrix of its own.
fn native_pattern(role: Role) -> Pattern {
    match role {
        Role::ExpertGate => "blk.{i}.ffn_gate_exps.{e}.weight",
        Role::ExpertUp => "blk.{i}.ffn_up_exps.{e}.weight",
        Role::ExpertDown => "blk.{i}.ffn_down_exps.{e}.weight",
        role => gguf_pattern(role),
    }
}

/// All roles but those of several matrices in one, which native files do not have.
const ROLES: &[Role] = &[
    Role::Embedding,
    Role::FinalNorm,
    Role::Head,
    Role::MixerNorm,
    Role::MixerPostNorm,
    Role::FeedForwardNorm,
    Role::FeedForwardPostNorm,
    Role::Q,
    Role::K,
    Role::V,
    Role::O,
    Role::QNorm,
    Role::KNorm,
    Role::AttentionSubNorm,
    Role::Gate,
    Role::Up,
    Role::Down,
    Role::FeedForwardSubNorm,
    Role::Router,
    Role::RouterBias,
    Role::ExpertGate,
    Role::ExpertUp,
    Role::ExpertDown,
    Role::SharedGate,
    Role::SharedUp,
    Role::SharedDown,
    Role::SsmInZ,
    Role::SsmInX,
    Role::SsmInXbc,
    Role::SsmInDt,
    Role::SsmSelect,
    Role::SsmDtNorm,
    Role::SsmBNorm,
    Role::SsmCNorm,
    Role::SsmDt,
    Role::SsmConv,
    Role::SsmConvBias,
    Role::SsmDtBias,
    Role::SsmA,
    Role::SsmD,
    Role::SsmNorm,
    Role::SsmOut,
    Role::ConvInB,
    Role::ConvInC,
    Role::ConvInV,
    Role::ConvTaps,
    Role::ConvBias,
    Role::ConvOut,
];

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
    Gguf,
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

fn hf_pattern_of(role: Role, exceptions: Exceptions) -> Pattern {
    let exception = exceptions.iter().find(|(special, _)| *special == role);
    exception.map_or_else(|| hf_pattern(role), |&(_, pattern)| pattern)
}

impl Names {
    /// The names of a Hugging Face checkpoint, of which `has` says whether it holds a tensor.
    pub(crate) fn hf(exceptions: Exceptions, has: impl Fn(&str) -> bool) -> Names {
        let embedding = hf_pattern_of(Role::Embedding, exceptions);
        let holds_embedding = |(prefix, _): &&(&str, &str)| has(&format!("{prefix}{embedding}"));
        // Without an embedding the first prefix is as good as any: loading will report the missing tensor.
        let &(prefix, head) = HF_PREFIXES.iter().find(holds_embedding).unwrap_or(&HF_PREFIXES[0]);
        Names::Hf { prefix, head, exceptions }
    }

    fn pattern(&self, role: Role) -> (&'static str, Pattern) {
        match self {
            Names::Native => ("", native_pattern(role)),
            Names::Gguf => ("", gguf_pattern(role)),
            Names::Hf { prefix, head, exceptions } => {
                let pattern = hf_pattern_of(role, exceptions);
                (if role == Role::Head { head } else { prefix }, pattern)
            }
        }
    }

    /// Whether files of this vocabulary may have a tensor with this role.
    pub(crate) fn has(&self, role: Role) -> bool {
        !self.pattern(role).1.is_empty()
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

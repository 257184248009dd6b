//! What inspect says, as text or JSON.

use std::fmt::Write;

use serde::Serialize;
use sterna::spec::{AttentionSpec, FeedForwardSpec, Mamba2Spec, MixerSpec};
use sterna::{Checkpoint, Compute, Isa, KvType, Size, Spec, Tensor, TuningSource};

use super::kernels;
use super::memory::Memory;
use super::native::About;
use crate::cli::{table, units};

/// Everything; field names and units are those of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    path: String,
    /// What a native file says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) native: Option<About>,
    architecture: String,
    params: u64,
    size_bytes: u64,
    bits_per_weight: f64,
    trained_context: usize,
    vocab_size: usize,
    hidden_size: usize,
    /// Blocks by kind, such as `30 x attention 9/3 heads of 64 + dense 1536`.
    blocks: Vec<Blocks>,
    isa: &'static str,
    available_isas: Vec<&'static str>,
    /// Who says which of several kernels is fastest.
    kernels: String,
    groups: Vec<Group>,
    memory: Memory,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<Vec<Row>>,
}

/// Equal blocks.
#[derive(Debug, Serialize)]
struct Blocks {
    count: usize,
    mixer: String,
    feed_forward: String,
}

/// Tensors of one type that are used in the same way.
#[derive(Debug, Serialize)]
struct Group {
    r#type: String,
    tensors: usize,
    params: u64,
    size_bytes: u64,
    bits_per_weight: f64,
    kernel: String,
    /// `profile`, `default`, `STERNA_ISA`, or `only choice`.
    chosen_by: &'static str,
    why: &'static str,
}

/// One tensor.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    shape: Vec<usize>,
    r#type: String,
    size_bytes: u64,
    kernel: String,
}

impl Report {
    pub(super) fn new(
        checkpoint: &Checkpoint,
        spec: &Spec,
        compute: &Compute,
        context: usize,
        kv: KvType,
        with_tensors: bool,
        kernels: &TuningSource,
    ) -> Report {
        let size = Size::of(checkpoint);
        let rows: Vec<(Row, kernels::Use)> = checkpoint
            .tensors()
            .map(|tensor| {
                let used = kernels::of(tensor, spec, compute);
                (Row::new(tensor, &used), used)
            })
            .collect();
        let memory = Memory::of(checkpoint, spec, compute, context, kv);
        Report {
            path: checkpoint.path().display().to_string(),
            native: None,
            architecture: spec.architecture.to_string(),
            params: size.n_params,
            size_bytes: size.n_bytes,
            bits_per_weight: size.bits_per_weight(),
            trained_context: spec.context_length,
            vocab_size: spec.vocab_size,
            hidden_size: spec.hidden_size,
            blocks: blocks(spec),
            isa: compute.isa.name(),
            available_isas: Isa::available().into_iter().map(Isa::name).collect(),
            kernels: kernels.to_string(),
            groups: groups(&rows, kernels),
            memory,
            tensors: with_tensors.then(|| rows.into_iter().map(|(row, _)| row).collect()),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "file           {}", self.path)?;
        if let Some(native) = &self.native {
            native.write(out)?;
        }
        writeln!(out, "architecture   {}", self.architecture)?;
        writeln!(out, "parameters     {}", units::count(self.params))?;
        let (size, bits) = (units::bytes(self.size_bytes), self.bits_per_weight);
        writeln!(out, "weights        {size}, {bits:.2} bits per weight")?;
        writeln!(out, "context        {} tokens", self.trained_context)?;
        writeln!(out, "vocabulary     {} tokens", self.vocab_size)?;
        writeln!(out, "hidden size    {}", self.hidden_size)?;
        for (i, blocks) in self.blocks.iter().enumerate() {
            let title = if i == 0 { "blocks" } else { "" };
            writeln!(out, "{title:<14} {} x ({}; {})", blocks.count, blocks.mixer, blocks.feed_forward)?;
        }
        self.memory.write(out)?;
        writeln!(out, "instructions   {}, of {}", self.isa, self.available_isas.join(", "))?;
        writeln!(out, "kernels        {}", self.kernels)?;
        writeln!(out)?;
        let titles = ["type", "tensors", "params", "size", "bits", "kernel", "chosen by"];
        let mut cells = vec![titles.map(str::to_owned)];
        cells.extend(self.groups.iter().map(Group::cells));
        out.push_str(&table::aligned(&cells, &[1, 2, 3, 4]));
        writeln!(out)?;
        let mut explained: Vec<&str> = Vec::new();
        for group in &self.groups {
            if !explained.contains(&group.kernel.as_str()) {
                explained.push(&group.kernel);
                writeln!(out, "{}: {}", group.kernel, group.why)?;
            }
        }
        if let Some(rows) = &self.tensors {
            writeln!(out)?;
            let mut cells = vec![["tensor", "shape", "type", "size", "kernel"].map(str::to_owned)];
            cells.extend(rows.iter().map(Row::cells));
            out.push_str(&table::aligned(&cells, &[1, 3]));
        }
        Ok(())
    }
}

/// Runs of equal blocks, counted together wherever they are.
fn blocks(spec: &Spec) -> Vec<Blocks> {
    let mut kinds: Vec<Blocks> = Vec::new();
    for block in &spec.blocks {
        let (mixer, feed_forward) = (mixer(&block.mixer), feed_forward(&block.feed_forward));
        match kinds.iter_mut().find(|kind| kind.mixer == mixer && kind.feed_forward == feed_forward) {
            Some(kind) => kind.count += 1,
            None => kinds.push(Blocks { count: 1, mixer, feed_forward }),
        }
    }
    kinds
}

fn mixer(mixer: &MixerSpec) -> String {
    match mixer {
        MixerSpec::None => "no mixer".to_owned(),
        MixerSpec::Attention(spec) => attention(spec),
        MixerSpec::Mamba1(spec) => {
            format!("mamba, {} channels with {} states", spec.inner_size, spec.state_size)
        }
        MixerSpec::Mamba2(spec) => mamba2(spec),
        MixerSpec::ShortConv(spec) => format!("convolution over {} tokens", spec.conv_kernel),
        MixerSpec::GatedDelta(spec) => {
            let (n_heads, key_dim) = (spec.n_value_heads, spec.key_dim);
            format!("gated delta rule, {n_heads} heads of {} over keys of {key_dim}", spec.value_dim)
        }
        MixerSpec::Parallel(spec) => format!("{} beside {}", attention(&spec.attention), mamba2(&spec.mamba)),
        MixerSpec::Shared(spec) => {
            let (owner, recurrence) = (spec.owner, mamba2(&spec.mamba));
            format!("{} (weights of block {owner}), then {recurrence}", attention(&spec.attention))
        }
        other => format!("{other:?}"),
    }
}

fn attention(spec: &AttentionSpec) -> String {
    let window = spec.window.map_or(String::new(), |window| format!(", window {window}"));
    format!("attention, {} heads over {} of {}{window}", spec.n_heads, spec.n_kv_heads, spec.head_dim)
}

fn mamba2(spec: &Mamba2Spec) -> String {
    format!("mamba-2, {} heads of {} with {} states", spec.n_heads, spec.head_dim, spec.state_size)
}

fn feed_forward(feed_forward: &FeedForwardSpec) -> String {
    match feed_forward {
        FeedForwardSpec::None => "no feed-forward".to_owned(),
        FeedForwardSpec::Dense(dense) => format!("feed-forward {}", dense.intermediate_size),
        FeedForwardSpec::Moe(moe) => {
            format!("{} of {} experts of {}", moe.n_active, moe.n_experts, moe.expert.intermediate_size)
        }
        other => format!("{other:?}"),
    }
}

fn groups(rows: &[(Row, kernels::Use)], source: &TuningSource) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (row, used) in rows {
        let same = |group: &&mut Group| group.r#type == row.r#type && group.kernel == row.kernel;
        let group = match groups.iter_mut().find(same) {
            Some(group) => group,
            None => groups.push_mut(Group {
                r#type: row.r#type.clone(),
                tensors: 0,
                params: 0,
                size_bytes: 0,
                bits_per_weight: 0.0,
                kernel: row.kernel.clone(),
                chosen_by: if used.is_choice { source.name() } else { "only choice" },
                why: used.why,
            }),
        };
        group.tensors += 1;
        group.params += row.shape.iter().map(|n| *n as u64).product::<u64>();
        group.size_bytes += row.size_bytes;
        group.bits_per_weight = 8.0 * group.size_bytes as f64 / group.params.max(1) as f64;
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.size_bytes));
    groups
}

impl Group {
    fn cells(&self) -> [String; 7] {
        [
            self.r#type.clone(),
            self.tensors.to_string(),
            units::count(self.params),
            units::bytes(self.size_bytes),
            format!("{:.2}", self.bits_per_weight),
            self.kernel.clone(),
            self.chosen_by.to_owned(),
        ]
    }
}

impl Row {
    fn new(tensor: &Tensor, used: &kernels::Use) -> Row {
        Row {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            r#type: tensor.ty.to_string(),
            size_bytes: tensor.n_bytes() as u64,
            kernel: used.kernel.clone(),
        }
    }

    fn cells(&self) -> [String; 5] {
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let (shape, size) = (shape.join(" x "), units::bytes(self.size_bytes));
        [self.name.clone(), shape, self.r#type.clone(), size, self.kernel.clone()]
    }
}

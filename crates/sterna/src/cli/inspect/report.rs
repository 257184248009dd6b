//! What inspect says, as text or JSON.

use std::fmt::Write;

use serde::Serialize;
use sterna::{Checkpoint, EngineOptions, Isa, Size, Spec, Tensor, TuningSource};

use super::blocks::Blocks;
use super::kernels;
use super::memory::Memory;
use super::native::About;
use crate::cli::quality::percent;
use crate::cli::settings::tuned;
use crate::cli::{table, units};

/// Everything; field names and units are those of the JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    path: String,
    /// What a native file says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    native: Option<About>,
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
    /// What quantizing made its layer's outputs lose: [`Quality::layers`](crate::cli::quality::Quality::layers).
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<f64>,
}

impl Report {
    pub(super) fn new(
        checkpoint: &Checkpoint,
        spec: &Spec,
        options: &EngineOptions,
        native: Option<About>,
        with_tensors: bool,
    ) -> anyhow::Result<Report> {
        let (compute, context) = (options.compute()?, options.context_of(spec)?);
        let kernels = &tuned().source;
        let size = Size::of(checkpoint);
        let errors = native.as_ref().and_then(About::quality).unwrap_or_default().layers;
        let rows: Vec<(Row, kernels::Use)> = checkpoint
            .tensors()
            .map(|tensor| {
                let used = kernels::of(tensor, spec, &compute);
                (Row::new(tensor, &used, errors.get(&tensor.name).copied()), used)
            })
            .collect();
        let memory = Memory::of(checkpoint, spec, &compute, context, options.kv);
        Ok(Report {
            path: checkpoint.path().display().to_string(),
            native,
            architecture: spec.architecture.to_string(),
            params: size.n_params,
            size_bytes: size.n_bytes,
            bits_per_weight: size.bits_per_weight(),
            trained_context: spec.context_length,
            vocab_size: spec.vocab_size,
            hidden_size: spec.hidden_size,
            blocks: Blocks::of(spec),
            isa: compute.isa.name(),
            available_isas: Isa::available().into_iter().map(Isa::name).collect(),
            kernels: kernels.to_string(),
            groups: groups(&rows, kernels),
            memory,
            tensors: with_tensors.then(|| rows.into_iter().map(|(row, _)| row).collect()),
        })
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
            writeln!(out, "{title:<14} {blocks}")?;
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
            let error = if rows.iter().any(|row| row.error.is_some()) { "error" } else { "" };
            let mut cells = vec![["tensor", "shape", "type", "size", error, "kernel"].map(str::to_owned)];
            cells.extend(rows.iter().map(Row::cells));
            out.push_str(&table::aligned(&cells, &[1, 3, 4]));
        }
        Ok(())
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
    fn new(tensor: &Tensor, used: &kernels::Use, error: Option<f64>) -> Row {
        Row {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            r#type: tensor.ty.to_string(),
            size_bytes: tensor.n_bytes() as u64,
            kernel: used.kernel.clone(),
            error,
        }
    }

    fn cells(&self) -> [String; 6] {
        let shape: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        let (shape, size) = (shape.join(" x "), units::bytes(self.size_bytes));
        let error = self.error.map(percent).unwrap_or_default();
        [self.name.clone(), shape, self.r#type.clone(), size, error, self.kernel.clone()]
    }
}

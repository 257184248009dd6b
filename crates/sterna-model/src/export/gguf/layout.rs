//! Where a tensor of a native file goes in a GGUF file: several matrices may be the rows of one tensor there, in an order of
//! their own, and weights may be multiplied by what native files keep as constant factors.

use std::ops::Range;

use crate::arch::names::{Place, Role};
use crate::arch::{FactorsInGguf, GgufForm, Reading};
use crate::native::{CanonicalTensor, TensorKind};
use crate::spec::{AttentionSpec, BlockSpec, FeedForwardSpec, Mamba2Scales, Mamba2Spec, MixerSpec, Spec};
use crate::weights::bias_of;

/// Where one tensor goes.
pub(super) struct Destination {
    pub(super) name: String,
    /// The tensor there is a stack of experts' matrices, of which this is one.
    pub(super) is_stacked: bool,
    /// The shape there, if it is not that of the tensor, or of several below each other.
    pub(super) shape: Option<Vec<usize>>,
    /// All its rows, in pieces.
    pub(super) pieces: Vec<Piece>,
}

/// Some rows of a matrix, or elements of a vector.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) rows: Range<usize>,
    /// Pieces of one tensor lie by this number, and those of the same as they come.
    pub(super) place: usize,
    /// On all values.
    pub(super) factor: f32,
    pub(super) order: Order,
}

/// How rows, or elements, lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As in native files.
    AsIs,
    /// Of the first `n_dims` rows of each head, `i` and `i + n_dims / 2` side by side.
    Interleaved { head_dim: usize, n_dims: usize },
    /// A matrix of so many rows by its columns.
    Transposed { rows: usize },
}

impl Destination {
    /// Where `tensor` of the network that `reading` describes goes.
    pub(super) fn of(tensor: &CanonicalTensor, reading: &Reading) -> Destination {
        let is_vector = tensor.kind == TensorKind::Vector;
        let n_rows = if is_vector { tensor.cols } else { tensor.rows };
        let whole = Piece { rows: 0..n_rows, place: 0, factor: 1.0, order: Order::AsIs };
        let (spec, form) = (&reading.spec, &reading.gguf);
        let Some(place) = Place::of_native(&tensor.name) else {
            let name = tensor.name.clone();
            return Destination { name, is_stacked: false, shape: None, pieces: vec![whole] };
        };
        let (name, is_stacked) = form.names.of_expert(holder(place.role, form), place.block, 0);
        let is_expert = [Role::ExpertGate, Role::ExpertUp, Role::ExpertDown].contains(&place.role);
        let block = spec.blocks.get(place.block);
        let mut pieces = vec![Piece { order: order(place.role, block, form), ..whole }];
        if let Some(rows_of_group) = block.and_then(|block| rows_of_group(place.role, block)) {
            pieces = in_groups(&pieces[0], rows_of_group);
        }
        if form.factors == FactorsInGguf::InWeights {
            let factors = |piece: Piece| scaled(piece, place, spec);
            pieces = pieces.into_iter().flat_map(factors).collect();
        }
        Destination {
            name: if place.is_bias { bias_of(&name) } else { name },
            is_stacked: is_stacked && is_expert,
            shape: match place.role {
                Role::SharedExpertGate => Some(vec![tensor.cols]),
                role => block.and_then(|block| shape(role, block)),
            },
            pieces,
        }
    }
}

/// The role of the tensor that holds the matrix of `role` in GGUF files.
fn holder(role: Role, form: &GgufForm) -> Role {
    match role {
        Role::Q | Role::K | Role::V if form.is_phi3 => Role::Qkv,
        Role::Gate | Role::Up if form.is_phi3 => Role::GateUp,
        Role::QGate => Role::Q,
        Role::SsmInZ | Role::SsmInX | Role::SsmInXbc | Role::SsmInDt => Role::SsmIn,
        Role::ConvInB | Role::ConvInC | Role::ConvInV => Role::ConvIn,
        Role::DeltaInQ | Role::DeltaInK | Role::DeltaInV => Role::DeltaInQkv,
        Role::DeltaInB | Role::DeltaInA => Role::DeltaInBa,
        role => role,
    }
}

fn order(role: Role, block: Option<&BlockSpec>, form: &GgufForm) -> Order {
    let mixer = block.map(|block| &block.mixer);
    match (role, mixer) {
        (Role::Q | Role::K, Some(mixer)) if form.permuted_qk => {
            let rotation = mixer.attention().and_then(|it| Some((it.head_dim, it.rope.as_ref()?.n_dims)));
            rotation.map_or(Order::AsIs, |(head_dim, n_dims)| Order::Interleaved { head_dim, n_dims })
        }
        (Role::SsmConv | Role::ConvTaps, Some(mixer)) => {
            conv_kernel(mixer).map_or(Order::AsIs, |rows| Order::Transposed { rows })
        }
        (Role::SsmA, Some(MixerSpec::Mamba1(spec))) => Order::Transposed { rows: spec.state_size },
        _ => Order::AsIs,
    }
}

fn conv_kernel(mixer: &MixerSpec) -> Option<usize> {
    match mixer {
        MixerSpec::Mamba1(spec) => Some(spec.conv_kernel),
        MixerSpec::Mamba2(spec) => Some(spec.conv_kernel),
        MixerSpec::Parallel(spec) => Some(spec.mamba.conv_kernel),
        MixerSpec::Shared(spec) => Some(spec.mamba.conv_kernel),
        MixerSpec::GatedDelta(spec) => Some(spec.conv_kernel),
        MixerSpec::ShortConv(spec) => Some(spec.conv_kernel),
        MixerSpec::None | MixerSpec::Attention(_) => None,
    }
}

/// The shape of what llama.cpp wants in more dimensions than one, or in fewer than two.
fn shape(role: Role, block: &BlockSpec) -> Option<Vec<usize>> {
    let mamba2 = match &block.mixer {
        MixerSpec::Mamba2(spec) => Some(spec),
        MixerSpec::Parallel(spec) => Some(&spec.mamba),
        _ => None,
    };
    match (role, &block.mixer) {
        (Role::SsmConv, MixerSpec::Mamba1(spec)) => Some(vec![spec.inner_size, spec.conv_kernel]),
        (Role::SsmConv, MixerSpec::GatedDelta(spec)) => {
            Some(vec![2 * spec.keys_size() + spec.values_size(), spec.conv_kernel])
        }
        (Role::SsmConv, _) => mamba2.map(|spec| vec![spec.conv_size(), spec.conv_kernel]),
        (Role::ConvTaps, MixerSpec::ShortConv(spec)) => Some(vec![spec.width, spec.conv_kernel]),
        (Role::SsmA, MixerSpec::Mamba1(spec)) => Some(vec![spec.inner_size, spec.state_size]),
        (Role::SsmA | Role::SsmD, _) => mamba2.map(|spec| vec![spec.n_heads, 1]),
        (Role::SsmNorm, _) => mamba2.map(|spec| vec![spec.n_groups, spec.inner_size() / spec.n_groups]),
        _ => None,
    }
}

/// Rows of each group, where those of another matrix lie between them.
fn rows_of_group(role: Role, block: &BlockSpec) -> Option<usize> {
    match (role, &block.mixer) {
        (Role::Q | Role::QGate, MixerSpec::Attention(spec)) => spec.output_gate.then_some(spec.head_dim),
        (Role::DeltaInB | Role::DeltaInA, MixerSpec::GatedDelta(spec)) => {
            Some(spec.n_value_heads / spec.n_key_heads)
        }
        _ => None,
    }
}

fn in_groups(whole: &Piece, rows_of_group: usize) -> Vec<Piece> {
    let firsts = whole.rows.clone().step_by(rows_of_group).enumerate();
    let piece = |(place, first)| Piece { rows: first..first + rows_of_group, place, ..whole.clone() };
    firsts.map(piece).collect()
}

/// `spec` with all its constant factors in the weights.
pub(super) fn folded(spec: &Spec) -> Spec {
    let mut folded = spec.clone();
    (folded.embedding_scale, folded.logit_scale) = (1.0, 1.0);
    folded.tied_embeddings &= !must_untie(spec);
    for block in &mut folded.blocks {
        if let FeedForwardSpec::Dense(dense) = &mut block.feed_forward {
            (dense.gate_scale, dense.out_scale) = (1.0, 1.0);
        }
        if let MixerSpec::Parallel(spec) = &mut block.mixer {
            (spec.attention_in, spec.attention_out) = (1.0, 1.0);
            (spec.mamba_in, spec.mamba_out) = (1.0, 1.0);
            spec.mamba.scales = None;
            spec.attention.scale = usual_scale(&spec.attention);
        }
    }
    folded
}

/// Whether embedding and head, which are one matrix, are multiplied by different factors.
pub(super) fn must_untie(spec: &Spec) -> bool {
    spec.tied_embeddings && spec.embedding_scale != spec.logit_scale
}

fn usual_scale(attention: &AttentionSpec) -> f32 {
    (1.0 / (attention.head_dim as f64).sqrt()) as f32
}

/// `piece` multiplied by what the network multiplies its product by, in as many pieces as there are factors.
fn scaled(piece: Piece, place: Place, spec: &Spec) -> Vec<Piece> {
    let factor = match (place.role, spec.blocks.get(place.block)) {
        (Role::Embedding, _) => spec.embedding_scale,
        (Role::Head, _) => spec.logit_scale,
        (_, None) => 1.0,
        (Role::SsmInZ | Role::SsmInXbc | Role::SsmInDt, Some(block)) => {
            return scaled_input(&piece, place, block);
        }
        (role, Some(block)) => factor(role, place.is_bias, block),
    };
    vec![Piece { factor, ..piece }]
}

fn factor(role: Role, is_bias: bool, block: &BlockSpec) -> f32 {
    let of_input = |factor: f32| if is_bias { 1.0 } else { factor };
    match (role, &block.mixer, &block.feed_forward) {
        (Role::Gate, _, FeedForwardSpec::Dense(dense)) => dense.gate_scale,
        (Role::Down, _, FeedForwardSpec::Dense(dense)) => dense.out_scale,
        (Role::Q | Role::V, MixerSpec::Parallel(spec), _) => of_input(spec.attention_in),
        (Role::K, MixerSpec::Parallel(spec), _) => {
            of_input(spec.attention_in) * (spec.attention.scale / usual_scale(&spec.attention))
        }
        (Role::O, MixerSpec::Parallel(spec), _) => spec.attention_out,
        (Role::SsmOut, MixerSpec::Parallel(spec), _) => spec.mamba_out,
        _ => 1.0,
    }
}

/// What goes into Mamba-2, with the factors of its parts.
fn scaled_input(piece: &Piece, place: Place, block: &BlockSpec) -> Vec<Piece> {
    let MixerSpec::Parallel(spec) = &block.mixer else { return vec![piece.clone()] };
    let input = if place.is_bias { 1.0 } else { spec.mamba_in };
    let one = Mamba2Scales { z: 1.0, x: 1.0, b: 1.0, c: 1.0, dt: 1.0 };
    let scales = spec.mamba.scales.unwrap_or(one);
    let scaled = |rows, factor: f32| Piece { rows, factor: input * factor, ..piece.clone() };
    match place.role {
        Role::SsmInZ => vec![scaled(piece.rows.clone(), scales.z)],
        Role::SsmInDt => vec![scaled(piece.rows.clone(), scales.dt)],
        _ => {
            let [x, b, c] = parts_of_xbc(&spec.mamba);
            vec![scaled(x, scales.x), scaled(b, scales.b), scaled(c, scales.c)]
        }
    }
}

fn parts_of_xbc(spec: &Mamba2Spec) -> [Range<usize>; 3] {
    let (x, b) = (spec.inner_size(), spec.inner_size() + spec.n_groups * spec.state_size);
    [0..x, x..b, b..spec.conv_size()]
}

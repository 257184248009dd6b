//! The tensors of mixers.

use sterna_formats::RowOrder;

use super::{Finder, Leaves, Linear, LinearTensors, Vector};
use crate::arch::names::{Names, Role};
use crate::error::{ModelError, Result};
use crate::spec::{
    AttentionSpec, GatedDeltaSpec, InnerNorms, Mamba1Spec, Mamba2Gate, Mamba2Spec, MixerSpec, SharedSpec,
    ShortConvSpec,
};
use crate::weights::{
    Adapter, AdapterWeights, AttentionWeights, GatedDeltaWeights, Mamba1Weights, Mamba2Weights, MixerWeights,
    ParallelWeights, SharedWeights, ShortConvWeights, TransformerWeights, VectorForm,
};

impl<L: Leaves> Finder<'_, L> {
    pub(super) fn mixer(&self, spec: &MixerSpec) -> Result<MixerWeights<Linear<L>, Vector<L>>> {
        Ok(match spec {
            MixerSpec::None => MixerWeights::None,
            MixerSpec::Attention(spec) => {
                MixerWeights::Attention(self.attention(spec, self.spec().hidden_size)?)
            }
            MixerSpec::Shared(spec) => MixerWeights::Shared(self.shared(spec)?),
            MixerSpec::Mamba1(spec) => MixerWeights::Mamba1(self.mamba1(spec)?),
            MixerSpec::Mamba2(spec) => MixerWeights::Mamba2(self.mamba2(spec)?),
            MixerSpec::ShortConv(spec) => MixerWeights::ShortConv(self.short_conv(spec)?),
            MixerSpec::GatedDelta(spec) => MixerWeights::GatedDelta(self.gated_delta(spec)?),
            MixerSpec::Parallel(spec) => MixerWeights::Parallel(ParallelWeights {
                attention: self.attention(&spec.attention, self.spec().hidden_size)?,
                mamba: self.mamba2(&spec.mamba)?,
            }),
        })
    }

    /// `width` is that of what it reads.
    fn attention(
        &self,
        spec: &AttentionSpec,
        width: usize,
    ) -> Result<AttentionWeights<Linear<L>, Vector<L>>> {
        let hidden_size = self.spec().hidden_size;
        let (q_size, kv_size) = (spec.q_size(), spec.kv_size());
        let mut parts = self.parts(Role::Q, Role::Qkv, q_size + 2 * kv_size, width, spec.qkv_bias)?;
        let (mut q, gate) = match spec.output_gate {
            true => {
                // Each head of the tensor is a query and a gate.
                let slots = [(Role::Q, spec.head_dim), (Role::QGate, spec.head_dim)];
                let [q, gate] = self.interleaved(Role::Q, slots, spec.n_heads, spec.qkv_bias)?;
                (q, Some(gate))
            }
            false => (parts.take(Role::Q, q_size)?, None),
        };
        let mut k = parts.take(Role::K, kv_size)?;
        let v = parts.take(Role::V, kv_size)?;
        // Without a rotation any order will do, as long as queries and keys have the same.
        if let Some(rope) = spec.rope.as_ref().filter(|_| self.reading.permuted_qk) {
            let order =
                |n_heads| RowOrder::HalfRotated { n_heads, head_dim: spec.head_dim, n_dims: rope.n_dims };
            (q.order, k.order) = (order(spec.n_heads), order(spec.n_kv_heads));
        }
        Ok(AttentionWeights {
            q: self.leaves.linear(q)?,
            k: self.leaves.linear(k)?,
            v: self.leaves.linear(v)?,
            gate: gate.map(|gate| self.leaves.linear(gate)).transpose()?,
            o: self.linear(Role::O, hidden_size, q_size, spec.o_bias)?,
            q_norm: self.norm_if(spec.qk_norm, Role::QNorm, spec.head_dim)?,
            k_norm: self.norm_if(spec.qk_norm, Role::KNorm, spec.head_dim)?,
            sub_norm: self.norm_if(spec.sub_norm, Role::AttentionSubNorm, q_size)?,
        })
    }

    fn shared(&self, spec: &SharedSpec) -> Result<SharedWeights<Linear<L>, Vector<L>>> {
        let transformer = if spec.owner == self.block { Some(self.transformer(spec)?) } else { None };
        Ok(SharedWeights { transformer, adapters: self.adapters(spec)?, mamba: self.mamba2(&spec.mamba)? })
    }

    fn transformer(&self, spec: &SharedSpec) -> Result<TransformerWeights<Linear<L>, Vector<L>>> {
        let hidden_size = self.spec().hidden_size;
        Ok(TransformerWeights {
            norm: self.norm(Role::TransformerNorm, 2 * hidden_size)?,
            attention: self.attention(&spec.attention, 2 * hidden_size)?,
            feed_forward_norm: self.norm(Role::FeedForwardNorm, hidden_size)?,
            feed_forward: self.dense(&spec.feed_forward)?,
        })
    }

    fn adapters(&self, spec: &SharedSpec) -> Result<AdapterWeights<Linear<L>>> {
        let (hidden_size, rank) = (self.spec().hidden_size, spec.adapter_rank);
        let (q_size, kv_size) = (spec.attention.q_size(), spec.attention.kv_size());
        let width = spec.feed_forward.intermediate_size;
        let adapter = |down, up, rows| {
            let down = self.linear(down, rank, 2 * hidden_size, false)?;
            Ok::<_, ModelError>(Adapter { down, up: self.linear(up, rows, rank, false)? })
        };
        let qkv = match spec.adapts_attention {
            true => Some([
                adapter(Role::QAdapterIn, Role::QAdapterOut, q_size)?,
                adapter(Role::KAdapterIn, Role::KAdapterOut, kv_size)?,
                adapter(Role::VAdapterIn, Role::VAdapterOut, kv_size)?,
            ]),
            false => None,
        };
        let mut parts = self.parts(Role::GateAdapterOut, Role::GateUpAdapterOut, 2 * width, rank, false)?;
        Ok(AdapterWeights {
            qkv,
            network_in: self.linear(Role::NetworkAdapterIn, rank, hidden_size, false)?,
            gate_out: self.leaves.linear(parts.take(Role::GateAdapterOut, width)?)?,
            up_out: self.leaves.linear(parts.take(Role::UpAdapterOut, width)?)?,
            out: self.linear(Role::TransformerOut, hidden_size, hidden_size, false)?,
        })
    }

    fn mamba1(&self, spec: &Mamba1Spec) -> Result<Mamba1Weights<Linear<L>, Vector<L>>> {
        let hidden_size = self.spec().hidden_size;
        let &Mamba1Spec { inner_size, state_size, dt_rank, .. } = spec;
        let (select_size, biased) = (dt_rank + 2 * state_size, spec.proj_bias);
        let normed = spec.inner_norms == InnerNorms::Weighted;
        let mut parts = self.parts(Role::SsmInX, Role::SsmIn, 2 * inner_size, hidden_size, biased)?;
        let rates = match self.reading.rates {
            VectorForm::LogOfNegative => VectorForm::TransposedLogOfNegative { rows: inner_size },
            VectorForm::Negative if !matches!(self.reading.names, Names::Native) => {
                VectorForm::TransposedNegative { rows: inner_size }
            }
            rates => rates,
        };
        Ok(Mamba1Weights {
            in_x: self.leaves.linear(parts.take(Role::SsmInX, inner_size)?)?,
            in_z: self.leaves.linear(parts.take(Role::SsmInZ, inner_size)?)?,
            conv: self.taps(Role::SsmConv, inner_size, spec.conv_kernel)?,
            conv_bias: self.vector_if(spec.conv_bias, Role::SsmConvBias, inner_size)?,
            select: self.linear(Role::SsmSelect, select_size, inner_size, false)?,
            dt_norm: self.vector_if(normed, Role::SsmDtNorm, dt_rank)?,
            b_norm: self.vector_if(normed, Role::SsmBNorm, state_size)?,
            c_norm: self.vector_if(normed, Role::SsmCNorm, state_size)?,
            dt: self.linear(Role::SsmDt, inner_size, dt_rank, false)?,
            dt_bias: self.vector(Role::SsmDtBias, inner_size, VectorForm::Plain)?,
            a: self.matrix_as_vector(Role::SsmA, inner_size, state_size, rates)?,
            d: self.vector(Role::SsmD, inner_size, VectorForm::Plain)?,
            out: self.linear(Role::SsmOut, hidden_size, inner_size, biased)?,
        })
    }

    fn gated_delta(&self, spec: &GatedDeltaSpec) -> Result<GatedDeltaWeights<Linear<L>, Vector<L>>> {
        let hidden_size = self.spec().hidden_size;
        let (keys_size, values_size) = (spec.keys_size(), spec.values_size());
        let per_key = spec.n_value_heads / spec.n_key_heads;
        let slots = [
            (Role::DeltaInQ, spec.key_dim),
            (Role::DeltaInK, spec.key_dim),
            (Role::DeltaInV, per_key * spec.value_dim),
            (Role::DeltaInZ, per_key * spec.value_dim),
        ];
        let [q, k, v, z] = match self.has(Role::DeltaInQkv) {
            false => self.interleaved(Role::DeltaInQkvz, slots, spec.n_key_heads, false)?,
            true => {
                let rows = 2 * keys_size + values_size;
                let mut parts = self.parts(Role::DeltaInQ, Role::DeltaInQkv, rows, hidden_size, false)?;
                [
                    parts.take(Role::DeltaInQ, keys_size)?,
                    parts.take(Role::DeltaInK, keys_size)?,
                    parts.take(Role::DeltaInV, values_size)?,
                    self.projection(Role::DeltaInZ, values_size, hidden_size, false)?,
                ]
            }
        };
        let slots = [(Role::DeltaInB, per_key), (Role::DeltaInA, per_key)];
        let [b, a] = self.interleaved(Role::DeltaInBa, slots, spec.n_key_heads, false)?;
        Ok(GatedDeltaWeights {
            in_q: self.leaves.linear(q)?,
            in_k: self.leaves.linear(k)?,
            in_v: self.leaves.linear(v)?,
            in_z: self.leaves.linear(z)?,
            in_b: self.leaves.linear(b)?,
            in_a: self.leaves.linear(a)?,
            conv: self.taps(Role::SsmConv, 2 * keys_size + values_size, spec.conv_kernel)?,
            dt_bias: self.vector(Role::SsmDtBias, spec.n_value_heads, VectorForm::Plain)?,
            a: self.vector(Role::SsmA, spec.n_value_heads, self.reading.rates)?,
            norm: self.vector(Role::SsmNorm, spec.value_dim, VectorForm::Plain)?,
            out: self.linear(Role::SsmOut, hidden_size, values_size, false)?,
        })
    }

    /// Matrices whose rows a tensor `fused` holds in `n_groups` groups: some rows of each matrix, as many as its slot
    /// says, then the next group. Native files have them apart.
    fn interleaved<const N: usize>(
        &self,
        fused: Role,
        slots: [(Role, usize); N],
        n_groups: usize,
        has_bias: bool,
    ) -> Result<[LinearTensors; N]> {
        let hidden_size = self.spec().hidden_size;
        let group_rows: usize = slots.iter().map(|(_, len)| len).sum();
        let mut first = 0;
        let mut matrices = Vec::with_capacity(N);
        for (role, len) in slots {
            matrices.push(match self.reading.names {
                Names::Native => self.projection(role, n_groups * len, hidden_size, has_bias)?,
                _ => {
                    let all = self.projection(fused, n_groups * group_rows, hidden_size, has_bias)?;
                    let order = RowOrder::Strided { group_rows, first, len };
                    LinearTensors { rows: n_groups * len, order, ..all }
                }
            });
            first += len;
        }
        Ok(matrices.try_into().unwrap_or_else(|_| unreachable!("one matrix for each slot")))
    }

    fn short_conv(&self, spec: &ShortConvSpec) -> Result<ShortConvWeights<Linear<L>, Vector<L>>> {
        let width = spec.width;
        let mut parts = self.parts(Role::ConvInB, Role::ConvIn, 3 * width, width, spec.bias)?;
        Ok(ShortConvWeights {
            in_b: self.leaves.linear(parts.take(Role::ConvInB, width)?)?,
            in_c: self.leaves.linear(parts.take(Role::ConvInC, width)?)?,
            in_v: self.leaves.linear(parts.take(Role::ConvInV, width)?)?,
            conv: self.taps(Role::ConvTaps, width, spec.conv_kernel)?,
            conv_bias: self.vector_if(spec.bias, Role::ConvBias, width)?,
            out: self.linear(Role::ConvOut, width, width, spec.bias)?,
        })
    }

    fn mamba2(&self, spec: &Mamba2Spec) -> Result<Mamba2Weights<Linear<L>, Vector<L>>> {
        let hidden_size = self.spec().hidden_size;
        let (n_heads, inner_size, conv_size) = (spec.n_heads, spec.inner_size(), spec.conv_size());
        let in_size = inner_size + conv_size + n_heads;
        let mut parts = self.parts(Role::SsmInZ, Role::SsmIn, in_size, hidden_size, spec.in_bias)?;
        Ok(Mamba2Weights {
            in_z: self.leaves.linear(parts.take(Role::SsmInZ, inner_size)?)?,
            in_xbc: self.leaves.linear(parts.take(Role::SsmInXbc, conv_size)?)?,
            in_dt: self.leaves.linear(parts.take(Role::SsmInDt, n_heads)?)?,
            conv: self.taps(Role::SsmConv, conv_size, spec.conv_kernel)?,
            conv_bias: self.vector_if(spec.conv_bias, Role::SsmConvBias, conv_size)?,
            dt_bias: self.vector(Role::SsmDtBias, n_heads, VectorForm::Plain)?,
            a: self.vector(Role::SsmA, n_heads, self.reading.rates)?,
            d: self.vector(Role::SsmD, n_heads, VectorForm::Plain)?,
            norm: self.vector_if(spec.gate != Mamba2Gate::Alone, Role::SsmNorm, inner_size)?,
            out: self.linear(Role::SsmOut, hidden_size, inner_size, spec.out_bias)?,
        })
    }
}

//! One walk over all weights of a block, in the order in which they are computed with: to look at each, to change each,
//! or to make something else of each. It says what each tensor is for.

use std::convert::Infallible;

use super::{
    Adapter, AdapterWeights, BlockWeights, DenseWeights, FeedForwardWeights, MixerWeights, MoeWeights,
    ParallelWeights, SharedWeights, TransformerWeights,
};
use crate::arch::names::Role;

/// What a tensor of a block is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) role: Role,
    /// 0 for what is of no expert.
    pub(crate) expert: usize,
}

/// A tensor of a block.
pub(crate) enum Part<L, V> {
    Linear(L),
    Vector(V),
}

impl<L, V> Part<L, V> {
    pub(crate) fn linear(self) -> Option<L> {
        match self {
            Part::Linear(linear) => Some(linear),
            Part::Vector(_) => None,
        }
    }
}

/// What is made of the tensors of a block.
pub(super) trait Mapping<L, V> {
    type Linear;
    type Vector;
    type Error;

    fn linear(&mut self, seat: Seat, linear: L) -> Result<Self::Linear, Self::Error>;
    fn vector(&mut self, seat: Seat, vector: V) -> Result<Self::Vector, Self::Error>;
}

/// Declares the weights of one part of a network, `field: type as kind role` for each tensor. The kind says again what
/// the type says, because a macro cannot look into a type.
macro_rules! weights {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty as $kind:ident $role:ident,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<L, V> {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl<L, V> $name<L, V> {
            fn as_ref(&self) -> $name<&L, &V> {
                $name { $($field: $crate::weights::walk::kind!($kind, ref self.$field),)* }
            }

            fn as_mut(&mut self) -> $name<&mut L, &mut V> {
                $name { $($field: $crate::weights::walk::kind!($kind, mut self.$field),)* }
            }

            fn map<M: walk::Mapping<L, V>>(
                self,
                mapping: &mut M,
            ) -> Result<$name<M::Linear, M::Vector>, M::Error> {
                $(let $field = {
                    let seat = Seat { role: $crate::arch::names::Role::$role, expert: 0 };
                    $crate::weights::walk::kind!($kind, map self.$field, mapping, seat)
                };)*
                Ok($name { $($field),* })
            }
        }
    };
}
pub(super) use weights;

/// The kinds of fields that [`weights`] knows.
macro_rules! kind {
    (linear, ref $field:expr) => {
        &$field
    };
    (vector, ref $field:expr) => {
        &$field
    };
    ($optional:ident, ref $field:expr) => {
        $field.as_ref()
    };
    (linear, mut $field:expr) => {
        &mut $field
    };
    (vector, mut $field:expr) => {
        &mut $field
    };
    ($optional:ident, mut $field:expr) => {
        $field.as_mut()
    };
    (linear, map $field:expr, $mapping:ident, $seat:ident) => {
        $mapping.linear($seat, $field)?
    };
    (vector, map $field:expr, $mapping:ident, $seat:ident) => {
        $mapping.vector($seat, $field)?
    };
    (optional_linear, map $field:expr, $mapping:ident, $seat:ident) => {
        $field.map(|linear| $mapping.linear($seat, linear)).transpose()?
    };
    (optional_vector, map $field:expr, $mapping:ident, $seat:ident) => {
        $field.map(|vector| $mapping.vector($seat, vector)).transpose()?
    };
}
pub(super) use kind;

impl<L, V> BlockWeights<L, V> {
    /// The tensors themselves, to look at.
    pub(crate) fn as_ref(&self) -> BlockWeights<&L, &V> {
        BlockWeights {
            mixer_norm: self.mixer_norm.as_ref(),
            mixer: match &self.mixer {
                MixerWeights::None => MixerWeights::None,
                MixerWeights::Attention(weights) => MixerWeights::Attention(weights.as_ref()),
                MixerWeights::Mamba1(weights) => MixerWeights::Mamba1(weights.as_ref()),
                MixerWeights::Mamba2(weights) => MixerWeights::Mamba2(weights.as_ref()),
                MixerWeights::ShortConv(weights) => MixerWeights::ShortConv(weights.as_ref()),
                MixerWeights::Shared(weights) => MixerWeights::Shared(weights.as_ref()),
                MixerWeights::GatedDelta(weights) => MixerWeights::GatedDelta(weights.as_ref()),
                MixerWeights::Parallel(ParallelWeights { attention, mamba }) => {
                    let (attention, mamba) = (attention.as_ref(), mamba.as_ref());
                    MixerWeights::Parallel(ParallelWeights { attention, mamba })
                }
            },
            mixer_post_norm: self.mixer_post_norm.as_ref(),
            feed_forward_norm: self.feed_forward_norm.as_ref(),
            feed_forward: match &self.feed_forward {
                FeedForwardWeights::None => FeedForwardWeights::None,
                FeedForwardWeights::Dense(weights) => FeedForwardWeights::Dense(weights.as_ref()),
                FeedForwardWeights::Moe(weights) => FeedForwardWeights::Moe(MoeWeights {
                    router: &weights.router,
                    router_bias: weights.router_bias.as_ref(),
                    latent_in: weights.latent_in.as_ref(),
                    experts: weights.experts.iter().map(DenseWeights::as_ref).collect(),
                    latent_out: weights.latent_out.as_ref(),
                    shared: weights.shared.as_ref().map(DenseWeights::as_ref),
                    shared_gate: weights.shared_gate.as_ref(),
                }),
            },
            feed_forward_post_norm: self.feed_forward_post_norm.as_ref(),
        }
    }

    /// The tensors themselves, to change.
    pub(crate) fn as_mut(&mut self) -> BlockWeights<&mut L, &mut V> {
        BlockWeights {
            mixer_norm: self.mixer_norm.as_mut(),
            mixer: match &mut self.mixer {
                MixerWeights::None => MixerWeights::None,
                MixerWeights::Attention(weights) => MixerWeights::Attention(weights.as_mut()),
                MixerWeights::Mamba1(weights) => MixerWeights::Mamba1(weights.as_mut()),
                MixerWeights::Mamba2(weights) => MixerWeights::Mamba2(weights.as_mut()),
                MixerWeights::ShortConv(weights) => MixerWeights::ShortConv(weights.as_mut()),
                MixerWeights::Shared(weights) => MixerWeights::Shared(weights.as_mut()),
                MixerWeights::GatedDelta(weights) => MixerWeights::GatedDelta(weights.as_mut()),
                MixerWeights::Parallel(ParallelWeights { attention, mamba }) => {
                    let (attention, mamba) = (attention.as_mut(), mamba.as_mut());
                    MixerWeights::Parallel(ParallelWeights { attention, mamba })
                }
            },
            mixer_post_norm: self.mixer_post_norm.as_mut(),
            feed_forward_norm: self.feed_forward_norm.as_mut(),
            feed_forward: match &mut self.feed_forward {
                FeedForwardWeights::None => FeedForwardWeights::None,
                FeedForwardWeights::Dense(weights) => FeedForwardWeights::Dense(weights.as_mut()),
                FeedForwardWeights::Moe(weights) => FeedForwardWeights::Moe(MoeWeights {
                    router: &mut weights.router,
                    router_bias: weights.router_bias.as_mut(),
                    latent_in: weights.latent_in.as_mut(),
                    experts: weights.experts.iter_mut().map(DenseWeights::as_mut).collect(),
                    latent_out: weights.latent_out.as_mut(),
                    shared: weights.shared.as_mut().map(DenseWeights::as_mut),
                    shared_gate: weights.shared_gate.as_mut(),
                }),
            },
            feed_forward_post_norm: self.feed_forward_post_norm.as_mut(),
        }
    }

    /// All tensors, each with what it is for.
    pub(crate) fn into_parts(self) -> Vec<(Seat, Part<L, V>)> {
        let mut parts = Parts(Vec::new());
        let Ok(_) = self.map(&mut parts);
        parts.0
    }

    fn map<M: Mapping<L, V>>(self, to: &mut M) -> Result<BlockWeights<M::Linear, M::Vector>, M::Error> {
        let optional = |role, vector: Option<V>, to: &mut M| {
            vector.map(|vector| to.vector(Seat { role, expert: 0 }, vector)).transpose()
        };
        Ok(BlockWeights {
            mixer_norm: optional(Role::MixerNorm, self.mixer_norm, to)?,
            mixer: match self.mixer {
                MixerWeights::None => MixerWeights::None,
                MixerWeights::Attention(weights) => MixerWeights::Attention(weights.map(to)?),
                MixerWeights::Mamba1(weights) => MixerWeights::Mamba1(weights.map(to)?),
                MixerWeights::Mamba2(weights) => MixerWeights::Mamba2(weights.map(to)?),
                MixerWeights::ShortConv(weights) => MixerWeights::ShortConv(weights.map(to)?),
                MixerWeights::Shared(weights) => MixerWeights::Shared(weights.map(to)?),
                MixerWeights::GatedDelta(weights) => MixerWeights::GatedDelta(weights.map(to)?),
                MixerWeights::Parallel(ParallelWeights { attention, mamba }) => {
                    let (attention, mamba) = (attention.map(to)?, mamba.map(to)?);
                    MixerWeights::Parallel(ParallelWeights { attention, mamba })
                }
            },
            mixer_post_norm: optional(Role::MixerPostNorm, self.mixer_post_norm, to)?,
            feed_forward_norm: optional(Role::FeedForwardNorm, self.feed_forward_norm, to)?,
            feed_forward: match self.feed_forward {
                FeedForwardWeights::None => FeedForwardWeights::None,
                FeedForwardWeights::Dense(weights) => FeedForwardWeights::Dense(weights.map(to)?),
                FeedForwardWeights::Moe(weights) => FeedForwardWeights::Moe(weights.map(to)?),
            },
            feed_forward_post_norm: optional(Role::FeedForwardPostNorm, self.feed_forward_post_norm, to)?,
        })
    }
}

impl<L, V: Clone> BlockWeights<L, V> {
    /// The same block with every linear layer, router included, made into something else.
    ///
    /// # Errors
    /// The first that `f` gives.
    pub fn try_map<M, E>(&self, f: &mut impl FnMut(&L) -> Result<M, E>) -> Result<BlockWeights<M, V>, E> {
        self.as_ref().map(&mut Linears(f))
    }
}

impl<L, V> SharedWeights<L, V> {
    fn as_ref(&self) -> SharedWeights<&L, &V> {
        SharedWeights {
            transformer: self.transformer.as_ref().map(|transformer| TransformerWeights {
                norm: &transformer.norm,
                attention: transformer.attention.as_ref(),
                feed_forward_norm: &transformer.feed_forward_norm,
                feed_forward: transformer.feed_forward.as_ref(),
            }),
            adapters: self.adapters.as_ref(),
            mamba: self.mamba.as_ref(),
        }
    }

    fn as_mut(&mut self) -> SharedWeights<&mut L, &mut V> {
        SharedWeights {
            transformer: self.transformer.as_mut().map(|transformer| TransformerWeights {
                norm: &mut transformer.norm,
                attention: transformer.attention.as_mut(),
                feed_forward_norm: &mut transformer.feed_forward_norm,
                feed_forward: transformer.feed_forward.as_mut(),
            }),
            adapters: self.adapters.as_mut(),
            mamba: self.mamba.as_mut(),
        }
    }

    fn map<M: Mapping<L, V>>(self, to: &mut M) -> Result<SharedWeights<M::Linear, M::Vector>, M::Error> {
        let transformer = self.transformer.map(|transformer| {
            Ok(TransformerWeights {
                norm: to.vector(Seat { role: Role::TransformerNorm, expert: 0 }, transformer.norm)?,
                attention: transformer.attention.map(to)?,
                feed_forward_norm: to
                    .vector(Seat { role: Role::FeedForwardNorm, expert: 0 }, transformer.feed_forward_norm)?,
                feed_forward: transformer.feed_forward.map(to)?,
            })
        });
        let transformer = transformer.transpose()?;
        let adapters = self.adapters.map(|role, linear| to.linear(Seat { role, expert: 0 }, linear))?;
        Ok(SharedWeights { transformer, adapters, mamba: self.mamba.map(to)? })
    }
}

impl<L> AdapterWeights<L> {
    fn as_ref(&self) -> AdapterWeights<&L> {
        AdapterWeights {
            qkv: self.qkv.as_ref().map(|qkv| qkv.each_ref().map(|Adapter { down, up }| Adapter { down, up })),
            network_in: &self.network_in,
            gate_out: &self.gate_out,
            up_out: &self.up_out,
            out: &self.out,
        }
    }

    fn as_mut(&mut self) -> AdapterWeights<&mut L> {
        AdapterWeights {
            qkv: self.qkv.as_mut().map(|qkv| qkv.each_mut().map(|Adapter { down, up }| Adapter { down, up })),
            network_in: &mut self.network_in,
            gate_out: &mut self.gate_out,
            up_out: &mut self.up_out,
            out: &mut self.out,
        }
    }

    fn map<M, E>(self, mut to: impl FnMut(Role, L) -> Result<M, E>) -> Result<AdapterWeights<M>, E> {
        let mut adapter = |Adapter { down, up }, roles: [Role; 2]| {
            Ok(Adapter { down: to(roles[0], down)?, up: to(roles[1], up)? })
        };
        let qkv = self.qkv.map(|[q, k, v]| {
            Ok([
                adapter(q, [Role::QAdapterIn, Role::QAdapterOut])?,
                adapter(k, [Role::KAdapterIn, Role::KAdapterOut])?,
                adapter(v, [Role::VAdapterIn, Role::VAdapterOut])?,
            ])
        });
        Ok(AdapterWeights {
            qkv: qkv.transpose()?,
            network_in: to(Role::NetworkAdapterIn, self.network_in)?,
            gate_out: to(Role::GateAdapterOut, self.gate_out)?,
            up_out: to(Role::UpAdapterOut, self.up_out)?,
            out: to(Role::TransformerOut, self.out)?,
        })
    }
}

impl<L, V> MoeWeights<L, V> {
    fn map<M: Mapping<L, V>>(self, to: &mut M) -> Result<MoeWeights<M::Linear, M::Vector>, M::Error> {
        let optional = |role, linear: Option<L>, to: &mut M| {
            linear.map(|linear| to.linear(Seat { role, expert: 0 }, linear)).transpose()
        };
        let router = to.linear(Seat { role: Role::Router, expert: 0 }, self.router)?;
        let router_bias = self.router_bias;
        let router_bias = router_bias
            .map(|bias| to.vector(Seat { role: Role::RouterBias, expert: 0 }, bias))
            .transpose()?;
        let latent_in = optional(Role::LatentIn, self.latent_in, to)?;
        let experts = self.experts.into_iter().enumerate();
        let experts =
            experts.map(|(expert, weights)| weights.map(&mut Within { owner: Owner::Expert(expert), to }));
        let experts = experts.collect::<Result<_, _>>()?;
        let latent_out = optional(Role::LatentOut, self.latent_out, to)?;
        let shared = self.shared;
        let shared =
            shared.map(|weights| weights.map(&mut Within { owner: Owner::Shared, to })).transpose()?;
        let shared_gate = optional(Role::SharedExpertGate, self.shared_gate, to)?;
        Ok(MoeWeights { router, router_bias, latent_in, experts, latent_out, shared, shared_gate })
    }
}

/// Lists all tensors.
struct Parts<L, V>(Vec<(Seat, Part<L, V>)>);

impl<L, V> Mapping<L, V> for Parts<L, V> {
    type Linear = ();
    type Vector = ();
    type Error = Infallible;

    fn linear(&mut self, seat: Seat, linear: L) -> Result<(), Infallible> {
        self.0.push((seat, Part::Linear(linear)));
        Ok(())
    }

    fn vector(&mut self, seat: Seat, vector: V) -> Result<(), Infallible> {
        self.0.push((seat, Part::Vector(vector)));
        Ok(())
    }
}

/// Makes something else of linear layers, and copies vectors.
struct Linears<'a, F>(&'a mut F);

impl<'a, L, V: Clone, M, E, F: FnMut(&L) -> Result<M, E>> Mapping<&'a L, &'a V> for Linears<'_, F> {
    type Linear = M;
    type Vector = V;
    type Error = E;

    fn linear(&mut self, _: Seat, linear: &'a L) -> Result<M, E> {
        (self.0)(linear)
    }

    fn vector(&mut self, _: Seat, vector: &'a V) -> Result<V, E> {
        Ok(vector.clone())
    }
}

/// Does to one network of a mixture of experts what `to` does, and tells it whose network it is.
struct Within<'a, M> {
    owner: Owner,
    to: &'a mut M,
}

#[derive(Clone, Copy)]
enum Owner {
    Expert(usize),
    Shared,
}

impl<M> Within<'_, M> {
    fn seat(&self, role: Role) -> Seat {
        match self.owner {
            Owner::Expert(expert) => Seat { role: role.of_expert(), expert },
            Owner::Shared => Seat { role: role.of_shared_expert(), expert: 0 },
        }
    }
}

impl<L, V, M: Mapping<L, V>> Mapping<L, V> for Within<'_, M> {
    type Linear = M::Linear;
    type Vector = M::Vector;
    type Error = M::Error;

    fn linear(&mut self, seat: Seat, linear: L) -> Result<M::Linear, M::Error> {
        self.to.linear(self.seat(seat.role), linear)
    }

    fn vector(&mut self, seat: Seat, vector: V) -> Result<M::Vector, M::Error> {
        self.to.vector(self.seat(seat.role), vector)
    }
}

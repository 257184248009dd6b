//! How fast a model writes: what quality is weighed against.

use std::time::Instant;

use sterna::{Logits, Network, State, Workspace, forward};

/// Tokens written before the clock starts, and while it runs.
const WARM_UP: usize = 4;
const TIMED: usize = 32;

/// Tokens per second of decoding a short text; `None` where the context has no room for it. `sterna bench` measures better.
pub(super) fn decode_rate(network: &Network) -> anyhow::Result<Option<f64>> {
    let Network { model, compute, context, kv, .. } = network;
    if *context < WARM_UP + TIMED {
        return Ok(None);
    }
    let (mut state, mut workspace) = (State::new(model, *kv), Workspace::new());
    let mut start = Instant::now();
    for i in 0..WARM_UP + TIMED {
        if i == WARM_UP {
            start = Instant::now();
        }
        // Any ids do: the work is the same.
        let token = (i * 7919 % model.spec().vocab_size) as u32;
        forward(model, compute, &mut state, &mut workspace, &[token], Logits::Last)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok((seconds > 0.0).then(|| TIMED as f64 / seconds))
}

"""Answers a request of `cargo xtask interop` with MLX; the forms of both are in peer.rs."""

import json
import sys

import mlx.core as mx
import numpy as np
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache

request = json.load(sys.stdin)
model, tokenizer = load(request["model"])
# On a CPU, MLX computes in half precision a hundred times slower than in single precision.
model.set_dtype(mx.float32)


def logits(ids, cache):
    """[n, vocabulary] of the tokens, which follow those in the cache."""
    return np.array(model(mx.array([ids]), cache=cache)[0])


def continuation(prompt):
    cache, ids = make_prompt_cache(model), []
    following = prompt
    while len(ids) < request["n_generated"]:
        following = [int(logits(following, cache)[-1].argmax())]
        ids += following
    return ids


tokens = [tokenizer.encode(text) for text in request["texts"]]
continuations = [continuation(prompt) for prompt in request["prompts"]]
passage = logits(request["passage"], make_prompt_cache(model))
passage.astype("<f4").tofile(request["logits"])
print(json.dumps({"tokens": tokens, "continuations": continuations}))

"""Answers a request of `cargo xtask interop` with llama.cpp; the forms of both are in peer.rs."""

import ctypes
import json
import sys

import llama_cpp as llama
import numpy as np

request = json.load(sys.stdin)
silent = llama.llama_log_callback(lambda level, message, data: None)
llama.llama_log_set(silent, ctypes.c_void_p(0))
llama.llama_backend_init()

model_params = llama.llama_model_default_params()
model_params.n_gpu_layers = 0
model = llama.llama_model_load_from_file(request["model"].encode(), model_params)
if not model:
    sys.exit(f"llama.cpp cannot load {request['model']}")
passage = request["passage"]
context_params = llama.llama_context_default_params()
context_params.n_ctx = context_params.n_batch = context_params.n_ubatch = 1024
context = llama.llama_init_from_model(model, context_params)
memory = llama.llama_get_memory(context)
vocab = llama.llama_model_get_vocab(model)
n_vocab = llama.llama_vocab_n_tokens(vocab)


def tokenized(text):
    encoded = text.encode()
    room = (llama.llama_token * (len(encoded) + 8))()
    return room[: llama.llama_tokenize(vocab, encoded, len(encoded), room, len(room), True, True)]


def decode(tokens, first, all_logits=False):
    """Logits [n, n_vocab] of the tokens, or of the last alone."""
    batch = llama.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for index, token in enumerate(tokens):
        batch.token[index], batch.pos[index] = token, first + index
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
        batch.logits[index] = all_logits or index + 1 == len(tokens)
    if llama.llama_decode(context, batch) != 0:
        sys.exit("llama_decode failed")
    n = len(tokens) if all_logits else 1
    rows = np.ctypeslib.as_array(llama.llama_get_logits(context), (n, n_vocab)).copy()
    llama.llama_batch_free(batch)
    return rows


def continuation(prompt):
    llama.llama_memory_clear(memory, True)
    logits, tokens = decode(prompt, 0), []
    while True:
        tokens.append(int(logits[-1].argmax()))
        if len(tokens) == request["n_generated"]:
            return tokens
        logits = decode(tokens[-1:], len(prompt) + len(tokens) - 1)


tokens = [tokenized(text) for text in request["texts"]]
continuations = [continuation(prompt) for prompt in request["prompts"]]
llama.llama_memory_clear(memory, True)
decode(passage, 0, all_logits=True).astype("<f4").tofile(request["logits"])
print(json.dumps({"tokens": tokens, "continuations": continuations}))

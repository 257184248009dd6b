"""Times llama.cpp through llama-cpp-python's low-level calls; prints one JSON object.

Arguments: model, threads, prompt tokens, generated tokens, repetitions, tokens before those that are generated, text of the first prompt.
Sampling is not timed. Times are nanoseconds; the first token counts from the start of loading, so that the start of
Python itself is not held against llama.cpp.
"""

import ctypes
import json
import resource
import sys
import time

import llama_cpp as llama

model_path, *numbers, text = sys.argv[1:8]
threads, n_prompt, n_generated, repetitions, depth = map(int, numbers)

silent = llama.llama_log_callback(lambda level, message, data: None)
llama.llama_log_set(silent, ctypes.c_void_p(0))
llama.llama_backend_init()

begun = time.perf_counter_ns()
model_params = llama.llama_model_default_params()
model_params.n_gpu_layers = 0
model = llama.llama_model_load_from_file(model_path.encode(), model_params)
context_params = llama.llama_context_default_params()
context_params.n_ctx = depth + 1024
context_params.n_batch = context_params.n_ubatch = 512
context_params.n_threads = context_params.n_threads_batch = threads
if depth > 0:
    context_params.flash_attn_type = 1
context = llama.llama_init_from_model(model, context_params)
if not model or not context:
    sys.exit(f"llama.cpp cannot load {model_path}")
memory = llama.llama_get_memory(context)
vocab = llama.llama_model_get_vocab(model)
n_vocab = llama.llama_vocab_n_tokens(vocab)


def decode(tokens):
    array = (llama.llama_token * len(tokens))(*tokens)
    if llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens))) != 0:
        sys.exit("llama_decode failed")
    llama.llama_synchronize(context)


def timed(work):
    start = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - start


def some_token(index):
    return (index * 37 + 11) % min(n_vocab, 30_000)


encoded = text.encode()
room = (llama.llama_token * (len(encoded) + 8))()
n_tokens = llama.llama_tokenize(vocab, encoded, len(encoded), room, len(room), True, False)
decode(list(room[:n_tokens]))
first_token = time.perf_counter_ns() - begun

prompt = [some_token(index) for index in range(n_prompt)]
prefill, generation = [], []
for _ in range(repetitions):
    llama.llama_memory_clear(memory, True)
    prefill.append(timed(lambda: decode(prompt)))

llama.llama_memory_clear(memory, True)
for start in range(0, depth, 512):
    decode([some_token(index) for index in range(start, min(start + 512, depth))])
for _ in range(repetitions):
    llama.llama_memory_seq_rm(memory, 0, depth, -1)
    generation.append(timed(lambda: [decode([some_token(index)]) for index in range(n_generated)]))

peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(
    json.dumps(
        {
            "first_token_ns": first_token,
            "prefill_ns": prefill,
            "decode_ns": generation,
            "peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024,
        }
    )
)

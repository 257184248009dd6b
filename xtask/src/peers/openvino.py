"""Times OpenVINO GenAI on a GGUF file; prints one JSON object.

Arguments: model, threads, prompt tokens, generated tokens, repetitions, tokens before those that are generated, text of the first prompt.
Times are nanoseconds, as the library tells them; the first token counts from the start of loading, so that the start of Python
itself is not held against it. Every prompt begins with another token, or the library would remember the last one.
"""

import json
import os
import resource
import sys
import time

# The library talks on the standard output.
results = os.dup(1)
os.dup2(2, 1)

import numpy
import openvino
import openvino_genai as genai

model_path, *numbers, text = sys.argv[1:8]
threads, n_prompt, n_generated, repetitions, depth = map(int, numbers)

begun = time.perf_counter_ns()
pipeline = genai.LLMPipeline(model_path, "CPU", INFERENCE_NUM_THREADS=threads)


def generate(tokens, max_new_tokens):
    config = genai.GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, ignore_eos=True)
    ids = numpy.array([tokens], dtype=numpy.int64)
    inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
    return pipeline.generate(inputs, config).perf_metrics


def tokens_from(first, n):
    return [((first + i) * 37 + 11) % 30_000 for i in range(n)]


generate(pipeline.get_tokenizer().encode(text).input_ids.data[0].tolist(), 1)
first_token_ns = time.perf_counter_ns() - begun

generate(tokens_from(1, n_prompt), 1)
prefill_ns, decode_ns = [], []
for repetition in range(repetitions):
    metrics = generate(tokens_from(1000 * (repetition + 1), n_prompt), 1)
    prefill_ns.append(round(metrics.get_ttft().mean * 1e6))
    metrics = generate(tokens_from(100 * (repetition + 1), max(depth, 8)), n_generated + 1)
    decode_ns.append(round(metrics.get_tpot().mean * 1e6 * n_generated))

peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
os.write(
    results,
    json.dumps(
        {"first_token_ns": first_token_ns, "prefill_ns": prefill_ns, "decode_ns": decode_ns, "peak_rss_bytes": peak}
    ).encode(),
)

"""Answers a request of `cargo xtask interop` with transformers; the forms of both are in peer.rs."""

import json
import os
import sys

# What libraries print goes to standard error: standard output is for the answer.
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
# Compiling kernels would take longer than running them a few times.
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

# More threads wait for each other where other programs run too.
torch.set_num_threads(1)
request = json.load(sys.stdin)
config = AutoConfig.from_pretrained(request["model"])
quantization = getattr(config, "quantization_config", None)
if quantization is not None:
    # Those chosen by themselves are made for other machines than any CPU; these are plain PyTorch.
    quantization["backend"] = {"awq": "torch_awq", "gptq": "torch"}[quantization["quant_method"]]
model = AutoModelForCausalLM.from_pretrained(request["model"], config=config, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(request["model"])


def dense(layer):
    """The layer with the weight that its kernel multiplies by, which it would unpack again for every token."""
    product = layer(torch.eye(layer.in_features))
    if layer.bias is not None:
        product = product - layer.bias
    linear = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    linear.weight.data = product.T.float().contiguous()
    if layer.bias is not None:
        linear.bias.data = layer.bias.float()
    return linear


with torch.inference_mode():
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "qweight"):
            model.set_submodule(name, dense(layer))


@torch.inference_mode()
def continuation(prompt):
    cache, following, ids = None, prompt, []
    while len(ids) < request["n_generated"]:
        output = model(torch.tensor([following]), past_key_values=cache, use_cache=True)
        cache, following = output.past_key_values, [int(output.logits[0, -1].argmax())]
        ids += following
    return ids


tokens = [tokenizer(text).input_ids for text in request["texts"]]
continuations = [continuation(prompt) for prompt in request["prompts"]]
with torch.inference_mode():
    passage = model(torch.tensor([request["passage"]])).logits[0]
passage.float().numpy().astype("<f4").tofile(request["logits"])
json.dump({"tokens": tokens, "continuations": continuations}, answer)
answer.close()

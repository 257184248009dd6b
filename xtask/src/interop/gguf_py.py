"""Prints what the gguf package reads in a file: name, shape, type and some weights of every tensor, as JSON."""

import json
import sys

import gguf
import numpy as np

tensors = []
for tensor in gguf.GGUFReader(sys.argv[1]).tensors:
    weights = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).ravel()
    half = min(64, len(weights))
    tensors.append(
        {
            "name": tensor.name,
            "shape": [int(dim) for dim in reversed(tensor.shape)],
            "ty": tensor.tensor_type.name,
            "weights": [float(weight) for weight in [*weights[:half], *weights[len(weights) - half :]]],
        }
    )
print(json.dumps(tensors))

"""Quantizes a GGUF file with llama.cpp, from what its weights stand for: ORIGIN TARGET TYPE."""

import ctypes
import sys

import llama_cpp

origin, target, kind = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
params.allow_requantize = True
sys.exit(llama_cpp.llama_model_quantize(origin.encode(), target.encode(), ctypes.byref(params)))

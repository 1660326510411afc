#!/usr/bin/env python3
"""Logits of a Llama checkpoint folder, computed with numpy alone.

    reference_logits.py FOLDER TOKEN...

Written from the model's definition, independently of the C++ code, to check it: reads config.json
and model.safetensors (float32, one file) and prints one line of logits per token.
"""
import json
import pathlib
import struct
import sys

import numpy as np


def read_safetensors(path):
    """Name -> float32 array."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    data = memoryview(raw)[8 + length :]
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        if info["dtype"] != "F32":
            sys.exit(f"{name}: only F32 is read here, not {info['dtype']}")
        begin, end = info["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(info["shape"])
    return tensors


def rms_norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def rotate(x, theta):
    """x: (positions, heads, size). Element i turns with element i + size / 2."""
    positions, _, size = x.shape
    frequency = theta ** (-np.arange(0, size, 2) / size)
    angle = np.arange(positions)[:, None, None] * frequency
    a, b = x[..., : size // 2], x[..., size // 2 :]
    return np.concatenate(
        [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1
    )


def attention(x, layer, config):
    positions, heads = len(x), config["num_attention_heads"]
    kv_heads = config["num_key_value_heads"]
    base = config["rope_theta"]
    q = rotate((x @ layer("self_attn.q_proj").T).reshape(positions, heads, -1), base)
    k = rotate((x @ layer("self_attn.k_proj").T).reshape(positions, kv_heads, -1), base)
    v = (x @ layer("self_attn.v_proj").T).reshape(positions, kv_heads, -1)
    mask = np.triu(np.full((positions, positions), -np.inf), 1)
    mixed = np.empty_like(q)
    for h in range(heads):
        g = h // (heads // kv_heads)
        scores = q[:, h] @ k[:, g].T / np.sqrt(q.shape[-1]) + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed[:, h] = weights / weights.sum(-1, keepdims=True) @ v[:, g]
    return mixed.reshape(positions, -1) @ layer("self_attn.o_proj").T


def mlp(x, layer):
    gate = x @ layer("mlp.gate_proj").T
    return (gate / (1 + np.exp(-gate)) * (x @ layer("mlp.up_proj").T)) @ layer("mlp.down_proj").T


def logits(folder, tokens):
    """(tokens, vocabulary) in float64."""
    config = json.loads((folder / "config.json").read_text())
    weights = {
        name: values.astype(np.float64)
        for name, values in read_safetensors(folder / "model.safetensors").items()
    }
    epsilon = config["rms_norm_eps"]
    x = weights["model.embed_tokens.weight"][tokens]
    for i in range(config["num_hidden_layers"]):
        layer = lambda name: weights[f"model.layers.{i}.{name}.weight"]
        x = x + attention(rms_norm(x, layer("input_layernorm"), epsilon), layer, config)
        x = x + mlp(rms_norm(x, layer("post_attention_layernorm"), epsilon), layer)
    tied = config["tie_word_embeddings"]
    head = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]
    return rms_norm(x, weights["model.norm.weight"], epsilon) @ head.T


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for row in logits(pathlib.Path(sys.argv[1]), [int(t) for t in sys.argv[2:]]):
        print(" ".join(f"{v:.9g}" for v in row))


if __name__ == "__main__":
    main()

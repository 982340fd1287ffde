#!/usr/bin/env python3
"""Makes tests/data/rope.json: [config.json, inverse frequencies, factor of cosines and sines], as
transformers computes them of each configuration.

    make-rope-goldens.py > tests/data/rope.json
"""
import json

from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=2048)
ROPES = [
    dict(rope_type="default"),
    dict(rope_type="linear", factor=4.0),
    dict(rope_type="linear", factor=2.7),
    dict(rope_type="dynamic", factor=3.0),
    YARN,
    dict(YARN, factor=32.0, original_max_position_embeddings=8192),
    dict(YARN, factor=1.0),
    dict(YARN, beta_fast=24, beta_slow=0.5),
    dict(YARN, beta_fast=4, beta_slow=4),
    dict(YARN, truncate=False),
    dict(YARN, beta_fast=4, beta_slow=4, truncate=False),
    dict(YARN, attention_factor=0.8),
    dict(YARN, mscale=0.707, mscale_all_dim=0.9),
    dict(YARN, mscale=1.0, mscale_all_dim=0.0),
    dict(YARN, mscale=1.2),
    dict(YARN, original_max_position_embeddings=16),
    dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
         original_max_position_embeddings=8192),
]  # fmt: skip


def main():
    rows = []
    for i, rope in enumerate(ROPES):
        head_dim, theta = (64, 10000.0) if i % 2 == 0 else (32, 500000.0)
        config = dict(model_type="llama", hidden_size=2 * head_dim, num_attention_heads=2, head_dim=head_dim,
                      max_position_embeddings=8192, rope_theta=theta, rope_scaling=rope)
        made = LlamaConfig(hidden_size=2 * head_dim, num_attention_heads=2, head_dim=head_dim,
                           max_position_embeddings=8192, rope_parameters=dict(rope, rope_theta=theta))
        rotary = LlamaRotaryEmbedding(made)
        rows.append([config, rotary.inv_freq.tolist(), float(rotary.attention_scaling)])
    print("[" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "]")


main()

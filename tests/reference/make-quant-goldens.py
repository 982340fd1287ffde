#!/usr/bin/env python3
"""Makes tests/data/quant/*.bin: random blocks of every weight type and the f32 they stand for.

    make-quant-goldens.py [--out tests/data/quant]

Each file is some blocks followed by their values as the gguf package expands them, little-endian
f32. Codes and sub-scales are random bytes; the f16 fields are random finite numbers, the first few
picked: zeros of both signs, the smallest and largest subnormal, one, the largest.
"""
import argparse
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

BLOCKS = 12
# Where the f16 fields are in a block.
HALVES = {
    Q.F16: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0],
    Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208], Q.IQ4_NL: [0],
}  # fmt: skip
PICKED = [0x0000, 0x8000, 0x0001, 0x83FF, 0x3C00, 0x7BFF]


def random_halves(rng, n):
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] ^= 0x4000
    bits[: len(PICKED)] = PICKED
    return rng.permutation(bits)


def make(rng, kind):
    block, size = gguf.GGML_QUANT_SIZES[kind]
    n = BLOCKS if block > 1 else 64
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for offset in HALVES.get(kind, []):
        raw[:, offset : offset + 2] = random_halves(rng, n).view(np.uint8).reshape(n, 2)
    if kind in (Q.F32, Q.BF16):  # finite
        top = raw[:, -2:].copy().view("<u2")
        top[(top & 0x7F80) == 0x7F80] ^= 0x4000
        raw[:, -2:] = top.view(np.uint8)
    if kind == Q.F32:
        values = raw.reshape(-1).view("<f4")
    elif kind == Q.F16:
        values = raw.reshape(-1).view("<f2").astype("<f4")
    else:
        values = gguf.quants.dequantize(raw.reshape(1, -1), kind)
    values = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
    assert values.size == n * block and np.isfinite(values).all()
    return raw.tobytes() + values.tobytes()


def main():
    parser = argparse.ArgumentParser()
    data = Path(__file__).resolve().parent.parent / "data"
    parser.add_argument("--out", default=data / "quant", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    kinds = [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K,
             Q.IQ4_NL]  # fmt: skip
    for seed, kind in enumerate(kinds):
        content = make(np.random.default_rng(seed), kind)
        (out / f"{kind.name.lower()}.bin").write_bytes(content)


main()

#!/usr/bin/env python3
"""Makes tests/data/quant/*.bin: random blocks of every weight type and the f32 they stand for.

    make-quant-goldens.py [--out tests/data/quant] [--ggml libggml-base.so]

Each file is some blocks followed by their values as the gguf package expands them, little-endian
f32. Codes and sub-scales are random bytes; the f16 fields are random finite numbers, the first few
picked: zeros of both signs, the smallest and largest subnormal, one, the largest.

sums.txt has a sum over the values of thousands of blocks, so that every code is among them: i.e. of
f32 bits times 1, 3, 5 and so on, modulo 2^64. Byte i of these blocks is the lowest of splitmix64's
number i, with the second highest bit cleared in the last byte of each float. --ggml compares the
values of these blocks with what llama.cpp's library makes of them, bit for bit.
"""
import argparse
import ctypes
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q

BLOCKS = 12
SUMMED = 4096
# Where the f16 fields are in a block. iq1_m's is in the upper 4 bits of four numbers.
HALVES = {
    Q.F16: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0],
    Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208], Q.IQ4_NL: [0], Q.Q2_K: [80, 82], Q.Q3_K: [108],
    Q.IQ4_XS: [0], Q.IQ3_S: [0], Q.IQ3_XXS: [0], Q.IQ2_S: [0], Q.IQ2_XS: [0], Q.IQ2_XXS: [0],
    Q.IQ1_S: [0], Q.IQ1_M: [], Q.TQ1_0: [52], Q.TQ2_0: [64], Q.Q8_K: [], Q.MXFP4: [], Q.NVFP4: [],
}  # fmt: skip
# In the order of enum dtype.
KINDS = [
    Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL,
    Q.Q2_K, Q.Q3_K, Q.Q8_K, Q.IQ4_XS, Q.IQ3_S, Q.IQ3_XXS, Q.IQ2_S, Q.IQ2_XS, Q.IQ2_XXS, Q.IQ1_S,
    Q.IQ1_M, Q.TQ1_0, Q.TQ2_0, Q.MXFP4, Q.NVFP4,
]  # fmt: skip
PICKED = [0x0000, 0x8000, 0x0001, 0x83FF, 0x3C00, 0x7BFF]


def random_halves(rng, n):
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] ^= 0x4000
    bits[: len(PICKED)] = PICKED
    return rng.permutation(bits)


def expand(raw, kind):
    if kind == Q.F32:
        values = raw.reshape(-1).view("<f4")
    elif kind == Q.F16:
        values = raw.reshape(-1).view("<f2").astype("<f4")
    elif kind == Q.Q8_K:  # which the package doesn't expand
        codes = raw[:, 4:260].view(np.int8).astype("<f4")
        values = np.ascontiguousarray(raw[:, :4]).view("<f4") * codes
    else:
        with np.errstate(over="ignore"):  # the largest of mxfp4 are infinite
            values = gguf.quants.dequantize(raw.reshape(1, -1), kind)
    return np.ascontiguousarray(values, dtype="<f4").reshape(-1)


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
    if kind == Q.IQ1_M:
        halves = random_halves(rng, n)
        for i in range(4):
            raw[:, 49 + i * 2] = raw[:, 49 + i * 2] & 15 | (halves >> i * 4 & 15) << 4
    if kind == Q.Q8_K:
        raw[:, 3] &= 0xBF
    if kind == Q.MXFP4:
        raw[:4, 0] = [0, 1, 2, 251]
        raw[4:, 0] %= 251
    values = expand(raw, kind)
    assert values.size == n * block and np.isfinite(values).all()
    return raw.tobytes() + values.tobytes()


def splitmix(n):
    x = (np.arange(1, n + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def summed_blocks(kind):
    size = gguf.GGML_QUANT_SIZES[kind][1]
    raw = splitmix(SUMMED * size).astype(np.uint8).reshape(SUMMED, size)
    last = {Q.IQ1_M: [55], Q.Q8_K: [3]}.get(kind, [at + 1 for at in HALVES[kind]])
    raw[:, last] &= 0xBF
    return raw


def compare_ggml(path):
    library = ctypes.CDLL(path)
    for kind in KINDS[KINDS.index(Q.Q4_0) :]:
        raw = summed_blocks(kind)
        ours, theirs = expand(raw, kind), np.empty(SUMMED * gguf.GGML_QUANT_SIZES[kind][0], "<f4")
        function = getattr(library, "dequantize_row_" + kind.name.lower().replace("_k", "_K"))
        function(ctypes.c_void_p(raw.ctypes.data), ctypes.c_void_p(theirs.ctypes.data),
                 ctypes.c_int64(theirs.size))  # fmt: skip
        assert (ours.view("<u4") == theirs.view("<u4")).all(), f"{kind.name}: ggml has others"
    print("ggml: the same bits")


def checksum(kind):
    bits = expand(summed_blocks(kind), kind).view("<u4").astype(np.uint64)
    odd = np.arange(bits.size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return int((bits * odd).sum(dtype=np.uint64))


def main():
    parser = argparse.ArgumentParser()
    data = Path(__file__).resolve().parent.parent / "data"
    parser.add_argument("--out", default=data / "quant", type=Path)
    parser.add_argument("--ggml", metavar="LIBRARY")
    args = parser.parse_args()
    if args.ggml:
        compare_ggml(args.ggml)
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    for seed, kind in enumerate(KINDS):
        content = make(np.random.default_rng(seed), kind)
        (out / f"{kind.name.lower()}.bin").write_bytes(content)
    sums = [f"{kind.name.lower()} {checksum(kind):016x}\n" for kind in KINDS if kind in HALVES]
    (out / "sums.txt").write_text("".join(sums))


main()

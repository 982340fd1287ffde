#!/usr/bin/env python3
"""Holds our logits, as llama3-eval writes them, to those of transformers; exits 1 where they are too far apart.

    compare.py tiny --program llama3-eval DIR...       folders made by make-fixtures.py
    compare.py smollm2 --program llama3-eval MODEL.gguf
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MAX_DIFFERENCE = 2e-4
MAX_MEAN_KL = 1e-6
CLEAR_MARGIN = 4e-3


def our_logits(program, model, ids, n_vocab):
    """[n][vocab], from the scalar kernels with f32 KV."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "logits"
        subprocess.run(
            [program, "-m", model, "--kv", "f32", "--logits", out, "--tokens", ",".join(map(str, ids))],
            check=True, env=dict(os.environ, LLAMA3_CPU="scalar"))  # fmt: skip
        return np.fromfile(out, "<f4").reshape(len(ids), n_vocab)


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def kl(reference, ours):
    p, q = log_softmax(reference), log_softmax(ours)
    return (np.exp(p) * (p - q)).sum(axis=-1)


def compare_tiny(program, folders):
    ok = True
    for folder in map(Path, folders):
        golden = json.loads((folder / "golden.json").read_text())
        reference = np.fromfile(folder / "golden.f32", "<f4").reshape(len(golden["rows"]), -1)
        parts = sorted(folder.glob("*.gguf"))
        ours = our_logits(program, parts[0] if parts else folder, golden["ids"],
                          reference.shape[1])[golden["rows"]]  # fmt: skip
        worst = np.abs(reference - ours).max()
        same = (reference.argmax(axis=1) == ours.argmax(axis=1)).all()
        print(f"{folder.name:20} max difference {worst:.2e}, argmax {'same' if same else 'DIFFERS'}")
        ok &= bool(worst <= MAX_DIFFERENCE and same)
    return ok


def compare_smollm2(program, path):
    import smollm2

    model, tokenizer = smollm2.load(Path(path))
    text = (Path(__file__).parent / "smollm2.txt").read_text(encoding="utf-8")
    text += (Path(__file__).parent.parent.parent / "COPYING").read_text(encoding="utf-8")
    ids = tokenizer(text)["input_ids"]
    reference = smollm2.logits(model, ids)
    ours = our_logits(program, path, ids, reference.shape[1])
    divergence = kl(reference, ours)
    best = np.sort(reference, axis=1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > CLEAR_MARGIN
    changed = int((clear & (reference.argmax(axis=1) != ours.argmax(axis=1))).sum())
    print(f"SmolLM2, {len(ids)} positions: mean KL {divergence.mean():.3g}, largest "
          f"{divergence.max():.3g}, max logit difference {np.abs(reference - ours).max():.3g}, "
          f"{changed} of {int(clear.sum())} clear best tokens changed")  # fmt: skip
    return divergence.mean() <= MAX_MEAN_KL and changed == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["tiny", "smollm2"])
    parser.add_argument("--program", required=True)
    parser.add_argument("paths", nargs="+")
    args = parser.parse_args()
    if args.what == "tiny":
        ok = compare_tiny(args.program, args.paths)
    else:
        ok = compare_smollm2(args.program, args.paths[0])
    sys.exit(0 if ok else 1)


main()

#!/usr/bin/env python3
"""Writes tests/data/smollm2.json ("ids", "rows") and smollm2.f32: the logits that transformers
computes in float32 from SmolLM2's GGUF file, at a dozen positions of smollm2.txt.

    make-smollm2-golden.py [MODEL.gguf]
"""
import json
import sys
from pathlib import Path

import numpy as np
import smollm2

N_ROWS = 12


def main():
    here = Path(__file__).resolve().parent
    data = here.parent / "data"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else smollm2.default_path()
    model, tokenizer = smollm2.load(path)
    ids = tokenizer((here / "smollm2.txt").read_text(encoding="utf-8"))["input_ids"]
    rows = np.linspace(0, len(ids) - 1, N_ROWS).round().astype(int).tolist()
    logits = smollm2.logits(model, ids)[rows]
    (data / "smollm2.json").write_text(json.dumps(dict(ids=ids, rows=rows)) + "\n")
    (data / "smollm2.f32").write_bytes(logits.tobytes())
    best = np.sort(logits, axis=1)[:, -2:]
    print(f"{len(ids)} tokens, rows {rows}, margins {np.round(best[:, 1] - best[:, 0], 3).tolist()}")


main()

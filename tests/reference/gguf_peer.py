#!/usr/bin/env python3
"""What others make of the GGUF files of llama3-quantize.

    gguf_peer.py [--build BUILD] [--types q4_0 ...] [--lines FILE] CHECKPOINT...

For each checkpoint and type, without calibration: the gguf package reads the file, and dequantizes
every tensor to what llama3-quantize --type f32 expands it to. If llama_cpp can be imported
(llama-cpp-python, as bench/peer builds it), llama.cpp loads the file as well, has the same ids for
each line of FILE, and predicts what llama3-eval does: the mean KL divergence is printed, and has to
be below 0.02; llama.cpp rounds activations to 8 bits, too.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy

try:
    import llama_cpp
except ImportError:
    llama_cpp = None

HERE = Path(__file__).resolve().parent
TYPES = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "iq4_nl", "bf16", "f16"]
MOST_KL = 0.02


def tensors(path):
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        found[tensor.name] = (tensor.tensor_type.name,
                              gguf.dequantize(tensor.data, tensor.tensor_type).ravel())
    return found


def check_tensors(made, floats):
    a, b = tensors(made), tensors(floats)
    if a.keys() != b.keys():
        sys.exit(f"{made}: expected tensors {sorted(b)}, found {sorted(a)}")
    for name, (kind, values) in a.items():
        if not numpy.array_equal(values, b[name][1]):
            sys.exit(f"{made}: {name}, {kind}: other values than ours")
    return len(a)


def run(*command, stdin=None):
    done = subprocess.run([str(word) for word in command], input=stdin, stdout=subprocess.PIPE,
                          check=True)
    return done.stdout


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - numpy.log(numpy.exp(x).sum(-1, keepdims=True))


def check_peer(build, made, lines):
    """The lines that were compared, and the mean KL."""
    model = llama_cpp.Llama(str(made), n_ctx=512, n_batch=512, logits_all=True, verbose=False)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    ours = run(build / "llama3-eval", "-q", "-m", made, "--tokenize", "-", "--json-lines",
               stdin=text.encode())
    ids = []
    for line, answer in zip(lines, ours.decode().splitlines(), strict=True):
        theirs = model.tokenize(line.encode(), add_bos=False, special=False)
        if json.loads(answer) != theirs:
            sys.exit(f"{made}: {line!r}: expected {theirs}, found {answer}")
        ids += theirs
    ids = ids[:256]
    logits = numpy.frombuffer(run(build / "llama3-eval", "-q", "-m", made, "--logits", "-",
                                  "--tokens", ",".join(map(str, ids))), "<f4")
    logits = log_softmax(logits.reshape(len(ids), -1).astype(numpy.float64))
    model.eval(ids)
    theirs = log_softmax(numpy.array(model.scores[:len(ids)], numpy.float64))
    kl = (numpy.exp(theirs) * (theirs - logits)).sum(-1).mean()
    if not kl < MOST_KL:
        sys.exit(f"{made}: expected a mean KL below {MOST_KL}, found {kl}")
    return len(lines), kl


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--build", type=Path, default=HERE.parent.parent / "build")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--lines", type=Path, default=HERE.parent.parent / "README.md")
    args = parser.parse_args()
    lines = [line for line in args.lines.read_text().splitlines() if line][:400]
    quantize = args.build / "llama3-quantize"
    with tempfile.TemporaryDirectory() as folder:
        made, floats = Path(folder, "made.gguf"), Path(folder, "floats.gguf")
        for checkpoint in args.checkpoints:
            for kind in args.types:
                run(quantize, "-q", "--no-calibrate", "--format", "gguf", "--type", kind,
                    checkpoint, made)
                run(quantize, "-q", "--format", "gguf", "--type", "f32", made, floats)
                line = f"{checkpoint.name} {kind}: {check_tensors(made, floats)} tensors"
                if llama_cpp is not None:
                    line += ", %d lines, KL %.2g" % check_peer(args.build, made, lines)
                print(line, flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What quantizing costs: mean KL to the source over held-out texts, for several quantizers.

    quality.py WORK [--build BUILD] [--seeds 0 1 2] [--domains manual prose ...]
               [--variant NAME=OPTIONS ...] [--llama.cpp DIR] [--anew]

The sources are rotations of SmolLM2, 768 wide (rotate.py). The texts are those of texts.py and, as
chat, dialogue.json by the checkpoint's template. A variant is what llama3-quantize is called with;
{vim} in it stands for the path of that text. Embedding and head have 8 bits in every file, so that
only the layers' matrices differ. A table of the means over the seeds is printed, and one for each
seed.

--llama.cpp adds llama.cpp's types, with an importance matrix made of {vim}. DIR is a folder of
llama.cpp's sources in which llama-quantize and llama-imatrix have been built (in DIR or in
DIR/build/bin); its convert_hf_to_gguf.py also wants the Python package sentencepiece. Its files are
read by llama3-eval; IQ4_XS, which llama3 doesn't know, as float32 weights of the same values, which
spares it activations of 8 bits.

Models, files and results are kept in WORK (about 2 GB for each seed with llama.cpp's), so that an
interrupted run goes on. A file is made again when its options change; after a change of
llama3-quantize, --anew makes its files again.
"""
import argparse
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import jinja2
import numpy

import texts

HERE = Path(__file__).resolve().parent
WIDTH = 768
VARIANTS = ["uncalibrated=--no-calibrate", "by default=", "with vim=--calibrate {vim}"]
DOMAINS = ["manual", "prose", "code", "chat", "korean", "german"]
# name: type, whether the importance matrix is used, whether llama3 reads it
LLAMA_CPP = {
    "Q4_0": ("Q4_0", False, True),
    "Q4_0 imatrix": ("Q4_0", True, True),
    "Q4_K_M imatrix": ("Q4_K_M", True, True),
    "IQ4_XS imatrix": ("IQ4_XS", True, False),
}


def run(*command, stdin=None):
    """Its standard output; what it says on standard error is shown if it fails."""
    command = [str(argument) for argument in command]
    print("+", shlex.join(word if len(word) < 300 else "..." for word in command), file=sys.stderr,
          flush=True)
    done = subprocess.run(command, input=stdin, capture_output=True, encoding="utf-8",
                          errors="replace")
    if done.returncode:
        raise SystemExit(f"{done.stderr[-2000:]}\n{command[0]}: exit status {done.returncode}")
    return done.stdout


def write(path, value):
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    partial.replace(path)


def read(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def make(path, *command, anew=False):
    """Runs the command that writes path, unless path is the work of the same command already.
    Returns what the command printed."""
    note = path.with_name(path.name + ".made")
    words = [str(argument) for argument in command[1:]]
    made = read(note)
    if not anew and path.exists() and made.get("command") == words:
        return made["output"]
    note.unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    output = run(*command)
    write(note, {"command": words, "output": output})
    return output


def absolute(path):
    return Path(path).resolve()


def find(folder, name):
    for path in (folder / name, folder / "build" / "bin" / name):
        if path.is_file():
            return path
    raise SystemExit(f"{folder}: no {name} there, nor in its build/bin")


class Bench:
    """One seed: its source, the files made of it, and the results."""

    def __init__(self, args, seed, paths):
        self.args, self.seed, self.texts = args, seed, paths
        self.folder = args.work / f"seed-{seed}"
        self.folder.mkdir(exist_ok=True)
        self.source = self.folder / "source"
        make(self.source, sys.executable, HERE / "rotate.py", self.source, "--seed", seed,
             "--width", WIDTH)

    def ours(self, name, options):
        """Path and bits a weight of the layers' matrices, as of all that make a file."""
        path = self.folder / f"{name}.safetensors"
        words = [word.format(**self.texts) for word in shlex.split(options)]
        output = make(path, self.args.build / "llama3-quantize", "--embeddings", "int8", "--head",
                      "int8", *words, self.source, path, anew=self.args.anew)
        return path, float(re.search(r"^bits/weight .* ([0-9.]+) of the layers", output,
                                     re.MULTILINE)[1])

    def llama_cpp(self, name):
        kind, weighted, is_read = LLAMA_CPP[name]
        folder = self.args.llama_cpp
        source = self.folder / "source.gguf"
        make(source, sys.executable, find(folder, "convert_hf_to_gguf.py"), self.source,
             "--outfile", source, "--outtype", "bf16")
        options = ["--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"]
        if weighted:
            matrix = self.folder / "imatrix.gguf"
            make(matrix, find(folder, "llama-imatrix"), "-m", source, "-f", self.texts["vim"], "-o",
                 matrix)
            options += ["--imatrix", matrix]
        path = self.folder / f"{name.replace(' ', '-')}.gguf"
        quantize = find(folder, "llama-quantize")
        make(path, quantize, *options, source, path, kind)
        bits, weights = 0, 0
        for tensor in gguf.GGUFReader(path).tensors:
            if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
                bits += 8 * int(tensor.n_bytes)
                weights += int(tensor.n_elements)
        if not is_read:
            floats = path.with_suffix(".f32.gguf")
            make(floats, quantize, "--allow-requantize", path, floats, "F32")
            path = floats
        return path, bits / weights

    def chat_ids(self):
        template = jinja2.Environment().from_string(
            (self.source / "chat_template.jinja").read_text(encoding="utf-8"))
        text = template.render(messages=json.loads((HERE / "dialogue.json").read_text("utf-8")))
        return run(self.args.build / "llama3-eval", "-m", self.source, "--special", "--tokenize",
                   "-", stdin=text)

    def chat_kl(self, path):
        """Of the dialogue in one context, by its ids: llama3-eval --kl takes no control tokens."""
        ids = self.chat_ids()
        n = len(ids.split())
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            logits = []
            for model, name in (self.source, "source"), (path, "model"):
                out = Path(scratch) / name
                run(self.args.build / "llama3-eval", "-q", "-m", model, "--logits", out, "--tokens",
                    ids)
                logits.append(numpy.memmap(out, "<f4").reshape(n, -1)[:-1])
            divergences = []
            for rows in zip(*logits):
                p, q = (row - numpy.logaddexp.reduce(row) for row in
                        (row.astype(numpy.float64) for row in rows))
                divergences.append(float((numpy.exp(p) * (p - q)).sum()))
        return sum(divergences) / len(divergences)

    def kl(self, path, domain):
        if domain == "chat":
            return self.chat_kl(path)
        return json.loads(run(self.args.build / "llama3-eval", "-q", "--json", "--kl", self.source,
                              "-m", path, "-f", self.texts[domain]))["mean_kl"]

    def results(self, name, path):
        """{domain: mean KL}, those known of this very file kept."""
        kept = self.folder / f"{name.replace(' ', '-')}.results"
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        results = read(kept)
        if results.get("file") != stamp:
            results = {"file": stamp, "kl": {}}
        for domain in self.args.domains:
            if domain not in results["kl"]:
                results["kl"][domain] = self.kl(path, domain)
                write(kept, results)
        return {domain: results["kl"][domain] for domain in self.args.domains}


def table(title, rows, domains):
    """rows: {name: [(bits, {domain: KL})]}, of which the means are printed."""
    print(f"{title}\n\n| | bits/weight | {' | '.join(domains)} |")
    print("| --- " * (2 + len(domains)) + "|")
    for name, of_seeds in rows.items():
        mean = sum(bits for bits, _ in of_seeds) / len(of_seeds)
        cells = [sum(kl[domain] for _, kl in of_seeds) / len(of_seeds) for domain in domains]
        print(f"| {name} | {mean:.2f} | {' | '.join(f'{cell:.4f}' for cell in cells)} |")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0],
                                     epilog=__doc__.split("\n", 5)[5],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=absolute)
    parser.add_argument("--build", type=absolute, default=HERE.parents[1] / "build")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=DOMAINS)
    parser.add_argument("--variant", metavar="NAME=OPTIONS", action="append",
                        help=f"default: {', '.join(VARIANTS)}")
    parser.add_argument("--llama.cpp", type=absolute, metavar="DIR", dest="llama_cpp")
    parser.add_argument("--anew", action="store_true")
    args = parser.parse_args()

    # As an exception, so that subprocess.run() ends the program that it waits for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args.work.mkdir(parents=True, exist_ok=True)
    paths = texts.write(args.work / "texts", texts.default_cache())
    rows = {}
    for seed in args.seeds:
        bench = Bench(args, seed, paths)
        files = {}
        for variant in args.variant or VARIANTS:
            name, _, options = variant.partition("=")
            files[name] = bench.ours(name, options)
        for name in LLAMA_CPP if args.llama_cpp else ():
            files[name] = bench.llama_cpp(name)
        for name, (path, bits) in files.items():
            rows.setdefault(name, []).append((bits, bench.results(name, path)))
    if len(args.seeds) > 1:
        table(f"Mean KL, the mean of seeds {', '.join(map(str, args.seeds))}:", rows, args.domains)
    for i, seed in enumerate(args.seeds):
        table(f"Mean KL, seed {seed}:", {name: [of_seeds[i]] for name, of_seeds in rows.items()},
              args.domains)


if __name__ == "__main__":
    main()

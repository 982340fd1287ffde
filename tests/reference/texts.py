#!/usr/bin/env python3
"""The texts that the quality of quantized models is measured on, out of Debian's packages.

    texts.py OUT [--cache DIR]

writes OUT/NAME.txt for each, and OUT/vim.txt, a text to calibrate on, which is another manual.
apt-get downloads the packages, and they are unpacked in the cache; nothing is installed. Another
version of a package may have another text: a note says so, and figures don't compare then.
"""
import argparse
import hashlib
import html
import os
import re
import subprocess
import sys
from pathlib import Path

DOC = "usr/share/doc"
# name: package, files, first character, number of characters, sha256 of the text. manual and vim
# are those of BENCHMARKS.md's section on the quality of int4.
SOURCES = {
    "manual": ("valgrind", [f"{DOC}/valgrind/html/manual-core.html"], 3000, 18500,
               "ae00e4eea7064af0c76413aeedc827323b664001ae2ee562ce115592c7c1a158"),
    "prose": ("anarchism", [f"{DOC}/anarchism/html/secA5.html"], 3000, 21000,
              "1ed974b11e2ab2694f832128b2dfe0d337942e6c86ac55441282ad27a953ae1e"),
    "code": ("libcurl4-doc",
             [f"{DOC}/libcurl4/examples/ephiperfifo.c", f"{DOC}/libcurl4/examples/synctime.c"],
             0, 13000, "fea18a6682aef05282cc1dabd6810e8bcbe97084e1858c3d044198cf1bb7418d"),
    "korean": ("installation-guide-amd64",
               [f"{DOC}/installation-guide-amd64/ko/ch06s03.html"], 2000, 2600,
               "f819ff330e71db744917f7aead03c54c02073cffee07ea4a0ff914d2a4b6222e"),
    "german": ("debian-faq-de", [f"{DOC}/debian/FAQ/de/choosing.de.html"], 2500, 12500,
               "4ce623ed2a95981bc3a4fd1b644abf99418f66086f77c757bbb86a7dbccdb351"),
    "vim": ("vim-runtime", "usr/share/vim/vim*/doc/usr_[0-9]*.txt", 0, 60000,
            "422fdba4b511effe6a665724dbad7d9fc7fcde2f00570d3dbdfbbee5b6f73b8a"),
}


def default_cache():
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "llama3" / "texts"


def unpacked(package, cache):
    """The folder of the package's files."""
    folder = cache / package
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", package], cwd=cache, check=True,
                       stdout=sys.stderr)
        [archive] = cache.glob(f"{package}_*.deb")
        partial = cache / f"{package}.part"
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
        partial.rename(folder)
        archive.unlink()
    return folder


def plain(path):
    """The file's text: of HTML without tags and empty lines, of C without the licence on top."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".c":
        return re.sub(r"\A/\*.*?\*/\n", "", text, flags=re.DOTALL)
    if path.suffix == ".html":
        text = html.unescape(re.sub(r"<[^>]*>", "", text))
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())
    return text


def make(name, cache):
    package, files, first, count, sha256 = SOURCES[name]
    folder = unpacked(package, cache)
    paths = sorted(folder.glob(files)) if isinstance(files, str) else [folder / f for f in files]
    text = "".join(map(plain, paths))[first:first + count]
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != sha256:
        print(f"{name}: of another version of {package} (its sha256 is {found}): "
              "figures don't compare", file=sys.stderr)
    return text


def write(out, cache):
    """{name: path}; a text that is there stays."""
    out.mkdir(parents=True, exist_ok=True)
    paths = {name: out / f"{name}.txt" for name in SOURCES}
    for name, path in paths.items():
        if not path.exists():
            partial = path.with_suffix(".part")
            partial.write_text(make(name, cache), encoding="utf-8")
            partial.rename(path)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path, default=default_cache())
    args = parser.parse_args()
    for path in write(args.out, args.cache).values():
        print(path)


if __name__ == "__main__":
    main()

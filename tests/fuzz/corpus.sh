#!/bin/sh
# Every file of the corpus through its fuzz target, built with libFuzzer or without. A target that
# ends badly has printed the name of the file before.
set -u
source=${srcdir:-$(dirname "$0")/../..}
status=0 n=0
for target in tests/fuzz/fuzz_*; do
    [ -f "$target" ] && [ -x "$target" ] || continue
    name=${target##*/fuzz_}
    set -- "$source/tests/fuzz/corpus/$name"/*
    if [ ! -f "$1" ]; then
        echo "no corpus for $target"
        status=1
        continue
    fi
    if "$target" "$@"; then
        n=$((n + 1))
    else
        echo "FAILED: $target"
        status=1
    fi
done
[ $n -gt 0 ] || { echo "no fuzz target is built" && exit 1; }
exit $status

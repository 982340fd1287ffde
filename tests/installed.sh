#!/bin/sh
# `make installcheck`: what `make install` put in place works where it is - the program finds its
# library, the library exports what llama3.h declares and nothing else.
#
#     installed.sh SRCDIR BINDIR LIBDIR INCLUDEDIR
set -eu
srcdir=$1 bindir=$2 library=$3/libllama3.so header=$4/llama3.h

fail()
{
    echo "installed: $*" >&2
    exit 1
}

nm -D --defined-only "$library" | sed 's/.* //' | sort >installed.tmp
trap 'rm -f installed.tmp' EXIT
declared=$(sed -n 's/^LLAMA3_API.*[ *]\(llama3_[a-z0-9_]*\)(.*/\1/p' "$header" | sort)
[ -n "$declared" ] || fail "$header declares nothing"
printf '%s\n' "$declared" | diff - installed.tmp >&2 ||
    fail "$library does not export what $header declares"

answer=$(env -u LD_LIBRARY_PATH "$bindir/llama3" -m "$srcdir/tests/data/tiny-f32" --seed 1 -n 8 \
    -p "What is the capital of France?") || fail "$bindir/llama3 exits with $?"
[ -n "$answer" ] || fail "$bindir/llama3 does not answer"

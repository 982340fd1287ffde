#!/bin/sh
# What `make install` put in place works for others: the example in llama3.h compiles without a
# warning against the installed library, in C and as part of C++, and answers; nothing but llama3_*
# is exported.
#
#     installed.sh SRCDIR LIBDIR INCLUDEDIR; CC and PKG_CONFIG in the environment
set -eu
srcdir=$1 libdir=$2 includedir=$3
model=$srcdir/tests/data/tiny-f32
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PKG_CONFIG_PATH="$libdir/pkgconfig"
export LD_LIBRARY_PATH="$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

fail()
{
    echo "installed: $*" >&2
    exit 1
}

sed -n '/^ \* Example:/,/^ \*\//s/^ \*     //p' "$includedir/llama3.h" >"$work/example.c"
[ "$(wc -l <"$work/example.c")" -ge 10 ] || fail "no example in llama3.h"
flags=$("${PKG_CONFIG:-pkg-config}" --cflags --libs llama3)
# shellcheck disable=SC2086 # lists of flags
${CC:-cc} -std=c11 -Wall -Wextra -Werror -o "$work/example" "$work/example.c" $flags ${CFLAGS-}
"$work/example" "$model" "What is the capital of France?" >"$work/answer" ||
    fail "the example exits with $?"
[ -s "$work/answer" ] || fail "the example prints nothing"
if "$work/example" "$work/no-such-model" "?" >"$work/answer" 2>"$work/error"; then
    fail "the example takes a model that is not there"
fi
[ ! -s "$work/answer" ] || fail "the example answers without a model"
grep -q no-such-model "$work/error" || fail "the example's error does not name the file"

exported=$(nm -D --defined-only "$libdir/libllama3.so" | sed 's/.* //' | grep -v '^llama3_' || true)
[ -z "$exported" ] || fail "libllama3 exports $exported"
# shellcheck disable=SC2013 # names
for function in $(sed -n 's/^LLAMA3_API.*[ *]\(llama3_[a-z_]*\)(.*/\1/p' "$includedir/llama3.h"); do
    nm -D --defined-only "$libdir/libllama3.so" | grep -q " $function\$" ||
        fail "libllama3 lacks $function"
done

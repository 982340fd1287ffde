#!/bin/sh
# Includes point down, hardware stays in its room, and the library neither prints nor exits: what
# HACKING.md says about the house, proven on every build. Every source names its licence, and no two
# structs share a name.
set -eu
cd "${srcdir:-$(dirname "$0")/..}"
status=0

# may_include WHAT FILES MAY...: these files include, of this project's headers, only those rooms.
may_include()
{
    what=$1 files=$2
    shift 2
    pattern=$(printf '|%s' "$@")
    # shellcheck disable=SC2086 # a list of files
    wrong=$(grep -HnE '^#include "' $files |
        grep -vE "#include \"(config\\.h|llama3\\.h${pattern})" || true)
    [ -z "$wrong" ] || { printf '%s\n' "$what may not include:" "$wrong" && status=1; }
}

room()
{
    name=$1
    shift
    [ -d "src/$name" ] || return 0
    may_include "src/$name" "$(find "src/$name" -name '*.[ch]' -o -name '*.cu*')" "$@"
}

# absent WHAT PATTERN FILE...: no line of these files matches.
absent()
{
    what=$1 pattern=$2
    shift 2
    wrong=$(grep -HnE "$pattern" "$@" || true)
    [ -z "$wrong" ] || { printf '%s\n' "$what:" "$wrong" && status=1; }
}

room base base/
room quant quant/ base/
room checkpoint checkpoint/ quant/ base/
room text text/ checkpoint/vocab.h base/
room backend backend/ checkpoint/model.h checkpoint/vocab.h quant/ base/
room grammar grammar/ text/ base/
room engine engine/ grammar/constraint.h text/ backend/backend.h backend/hessian.h backend/quantize.h checkpoint/ quant/ \
    base/
room meter meter/ backend/ base/
# The programs stand on llama3.h, but for llama3-bench, which measures the inside.
may_include src/tool "$(find src/tool -name '*.[ch]' ! -name 'bench*' ! -name 'server*' \
    ! -name 'pull*')" tool/ base/
may_include "the server's program" "$(find src/tool -name 'server*.[ch]')" tool/ server/ base/
may_include "llama3-pull" "$(find src/tool -name 'pull*.[ch]')" tool/ hub/ base/
room server server/ base/
room hub hub/ checkpoint/hub_cache.h checkpoint/gguf_names.h checkpoint/resolve.h base/
may_include "llama3-bench" "$(find src/tool -name 'bench*.[ch]')" tool/ meter/ \
    engine/load.h engine/placement.h checkpoint/ base/
absent "a program but llama3-bench links the core" \
    '^llama3(|_[ac-z][a-z]*)_LDADD.*(libllama3-core|core_libs)' Makefile.am

unlicensed=$(find src include tests bench examples \( -name '*.[ch]' -o -name '*.cc' -o \
    -name '*.cu*' -o -name '*.inc' \) \
    -exec grep -L '^/\* SPDX-License-Identifier: MIT \*/$' {} +)
[ -z "$unlicensed" ] || { printf '%s\n' "no SPDX line:" "$unlicensed" && status=1; }

# A name is one struct's, but for the opaque ones that each backend completes (backend.h, meter.h).
twice=$(find src \( -name '*.[ch]' -o -name '*.cu*' -o -name '*.inc' \) \
    -exec sed -nE 's/^(static )?(const )?(struct [a-z_0-9]+) \{.*/\3/p' {} + |
    grep -vxE 'struct (backend|buffer|weight|meter)' | sort | uniq -d)
[ -z "$twice" ] || { printf '%s\n' "two structs of one name:" "$twice" && status=1; }

# wrong_order FILE...: messages that say "X expected, Y found". Literals are joined first, wherever
# the source cuts them.
wrong_order()
{
    awk 'FNR == 1 { flush(); line = "" } { gsub(/^[ \t]+/, "") } !/"/ { flush(); next }
        { if (line == "") at = FILENAME ":" FNR ": "; line = line $0 }
        !/("|PRI[a-z0-9]+|[A-Z_]+)$/ { flush() } END { flush() }
        function flush()
        {
            gsub(/\\"/, "`", line)
            gsub(/" *(PRI[a-z0-9]+|[A-Z_]+)? *"/, "", line)
            if (line ~ /[^ :;(,] expected([,:"]| \(| (at|for|in|beside) )/ &&
                line !~ /(than|sizeof) expected/)
                print at line
            line = ""
        }' "$@"
}

outside_cpu=$(find src -name '*.[ch]' ! -path 'src/backend/cpu/*' ! -path 'src/meter/cpu*' \
    ! -path src/backend/backend.c)
outside_cuda=$(find src -name '*.[ch]' ! -path 'src/backend/cuda/*' ! -path 'src/meter/cuda*')
library=$(find src -name '*.[ch]' ! -path 'src/tool/*')
# shellcheck disable=SC2046,SC2086 # lists of files
{
    absent "hardware outside src/backend and src/meter" \
        '__(AVX|SSE|FMA|ARM|aarch64|x86_64|amd64)|immintrin|arm_neon|_mm(256|512)?_|cblas' $outside_cpu
    absent "a wait by the time of day, which jumps when it is set" CLOCK_REALTIME \
        $(find src -name '*.[ch]')
    wrong=$(wrong_order $(find src -name '*.[ch]'))
    [ -z "$wrong" ] || { printf '%s\n' 'write "expected X, found Y":' "$wrong" && status=1; }
    absent "CUDA outside src/backend/cuda" 'cuda_runtime|cublas|__(global|device|host)__' $outside_cuda
    absent "the library prints, exits or aborts" \
        '(^|[^a-z_])(printf|fprintf|puts|fputs|putchar|perror|exit|_exit|abort|assert) ?\(' $library
}
exit $status

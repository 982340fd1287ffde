#!/bin/sh
# Includes point down, hardware stays in its room, and the library neither prints nor exits: what
# HACKING.md says about the house, proven on every build.
set -eu
cd "${srcdir:-$(dirname "$0")/..}"
status=0

# room MAY...: files of src/room include, of this project's headers, only those rooms.
room()
{
    name=$1
    shift
    pattern=$(printf '|%s' "$@")
    [ -d "src/$name" ] || return 0
    wrong=$(find "src/$name" -name '*.[ch]' -exec grep -HnE '^#include "' {} + |
        grep -vE "#include \"(config\\.h|llama3\\.h${pattern})" || true)
    [ -z "$wrong" ] || { printf '%s\n' "src/$name may not include:" "$wrong" && status=1; }
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
room engine engine/ text/ backend/backend.h checkpoint/ quant/ base/
room tool tool/ base/

outside_cpu=$(find src -name '*.[ch]' ! -path 'src/backend/cpu/*' ! -path src/backend/backend.c)
library=$(find src -name '*.[ch]' ! -path 'src/tool/*')
# shellcheck disable=SC2086 # lists of files
{
    absent "hardware outside src/backend" \
        '__(AVX|SSE|FMA|ARM|aarch64|x86_64|amd64)|immintrin|arm_neon|_mm(256|512)?_|cblas' $outside_cpu
    absent "the library prints, exits or aborts" \
        '(^|[^a-z_])(printf|fprintf|puts|fputs|putchar|perror|exit|_exit|abort|assert) ?\(' $library
}
exit $status

#!/bin/sh
# `make installcheck`: what `make install` put in place works where it is - the program finds its
# library, the library exports what llama3.h declares and nothing else, the static one, where it
# was built, links with what pkg-config says, and shells find the completions of each program.
#
#     installed.sh SRCDIR BINDIR LIBDIR INCLUDEDIR DATADIR
set -eu
srcdir=$1 bindir=$2 libdir=$3 includedir=$4 datadir=$5
header=$includedir/llama3.h model=$srcdir/tests/data/tiny-f32

fail()
{
    echo "installed: $*" >&2
    exit 1
}

trap 'rm -f installed.tmp installed.tmp.c' EXIT
declared=$(sed -n 's/^LLAMA3_API.*[ *]\(llama3_[a-z0-9_]*\)(.*/\1/p' "$header" | sort)
[ -n "$declared" ] || fail "$header declares nothing"
if [ -f "$libdir/libllama3.so" ]; then
    nm -D --defined-only "$libdir/libllama3.so" | sed '/ A LLAMA3_0/d; s/.* //; s/@@LLAMA3_0$//' |
        sort >installed.tmp
    printf '%s\n' "$declared" | diff - installed.tmp >&2 ||
        fail "$libdir/libllama3.so does not export what $header declares"
fi

answer=$(env -u LD_LIBRARY_PATH "$bindir/llama3" -m "$model" --seed 1 -n 8 \
    -p "What is the capital of France?") || fail "$bindir/llama3 exits with $?"
[ -n "$answer" ] || fail "$bindir/llama3 does not answer"

for path in "$bindir"/llama3*; do
    name=${path##*/}
    for file in "bash-completion/completions/$name" "fish/vendor_completions.d/$name.fish" \
        zsh/site-functions/_llama3; do
        grep -q "$name" "$datadir/$file" || fail "$datadir/$file completes no $name"
    done
done

if [ -f "$libdir/libllama3.a" ] && command -v pkg-config >/dev/null; then
    cat >installed.tmp.c <<'END'
#include <llama3.h>
#include <stddef.h>

int main(int argc, char **argv)
{
    struct llama3_model *model = llama3_model_open(argv[argc - 1], NULL, NULL);
    llama3_model_close(model);
    return model == NULL;
}
END
    flags=$(PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config --define-variable=libdir="$libdir" \
        --define-variable=includedir="$includedir" --static --cflags --libs llama3) ||
        fail "pkg-config knows no llama3"
    # shellcheck disable=SC2046,SC2086 # lists of flags; the shared library may be there as well
    ${CC:-cc} -o installed.tmp installed.tmp.c \
        $(printf '%s\n' "$flags" | sed 's/-lllama3/-l:libllama3.a/') ||
        fail "$libdir/libllama3.a does not link with $flags"
    ./installed.tmp "$model" || fail "a program linked with $libdir/libllama3.a can't open $model"
fi

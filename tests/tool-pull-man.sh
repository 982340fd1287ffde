#!/bin/sh
# llama3-pull(1): its examples run, as they stand, on models that stand for those they name.
. "${srcdir:-.}/tests/lib.sh"
srcdir=$(cd "$srcdir" && pwd)
. "$srcdir/tests/hub-lib.sh"

serve meta-llama/Llama-3.2-1B-Instruct tiny-sharded
serve meta-llama/Meta-Llama-3-8B-Instruct tiny-f32
gguf=bartowski/Llama-3.2-1B-Instruct-GGUF
serve "$gguf" tiny-gguf-k
mv "$tmp/root/$gguf/model.gguf" "$tmp/root/$gguf/Llama-3.2-1B-Instruct-Q4_K_M.gguf"
: >"$tmp/root/$gguf/Llama-3.2-1B-Instruct-Q8_0.gguf"
hub_start

mkdir "$tmp/bin" "$tmp/here"
printf '#!/bin/sh\nexec "%s" "$@"\n' "$PWD/llama3-pull" >"$tmp/bin/llama3-pull"
printf '#!/bin/sh\nexec "%s" -n 8 "$@"\n' "$PWD/llama3" >"$tmp/bin/llama3"
chmod +x "$tmp/bin"/*
PATH=$tmp/bin:$PATH
sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/s/^\$ //p' "$srcdir/man/llama3-pull.1" >"$tmp/examples"
[ "$(wc -l <"$tmp/examples")" -ge 10 ] || fail "expected 10 examples or more"
cd "$tmp/here" || exit 99
while read -r example; do
    last="example: $example"
    run 0 sh -c "$example" </dev/null
    case $example in
    *--remove*) out_empty ;;
    *) [ -s "$tmp/out" ] || fail "$last: nothing on stdout" ;;
    esac
done <"$tmp/examples"
case $(llama3-pull --list --quiet | tr '\n' ' ') in
"$gguf meta-llama/Meta-Llama-3-8B-Instruct ") ;;
*) fail "after the examples the cache has: $(llama3-pull --list)" ;;
esac
hub_stop
finish

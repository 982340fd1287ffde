#!/bin/sh
# What memory llama3-server takes: keys and values in whole pages.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/server-lib.sh"
real=${LLAMA3_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/llama3/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -e "$real" ] || skip "$real is missing"

# ---- a page is 64 tokens of 23,040 bytes: memory for 102 tokens holds one of them
start -m "$real" --ctx 100 --kv-memory 2300K
ready
grep -q 'note: --kv-memory holds 64 of the context.s 100 tokens' "$tmp/log" ||
    fail "--kv-memory 2300K: the context is not said to be 64 tokens: $(cat "$tmp/log")"
post 200 /v1/completions '{"prompt":"The capital of France is","max_tokens":90,"temperature":0}' -m 30
post 200 /v1/completions '{"prompt":"Count to three: 1","max_tokens":2}' -m 30
stop 0

# ---- how far a prompt is read tells no more than pages, though 37 of its tokens are held
start -m "$real" --ctx 4096
ready
post 200 /v1/completions "{\"prompt\":[$(awk 'BEGIN { for (i = 1000; i < 1037; i++) printf "%d,", i; print 5 }')],\"max_tokens\":1}"
post 200 /v1/completions "{\"prompt\":[$(awk 'BEGIN { for (i = 1000; i < 5000; i++) printf "%d,", i; print 5 }')],\"max_tokens\":1,\"stream\":true}" -N
sed -n 's,^: prompt \([0-9]*\)/4001$,\1,p' "$tmp/out" >"$tmp/told"
[ -s "$tmp/told" ] || fail "a prompt of 4001 tokens: its progress is not told"
while read -r n; do
    [ $((n % 64)) = 0 ] || fail "a prompt's progress tells $n tokens"
done <"$tmp/told"
stop 0
finish

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
finish

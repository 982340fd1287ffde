#!/bin/sh
# A real model's answer: SmolLM2-135M-Instruct, where scripts/quickstart has fetched it.
. "${srcdir:-.}/tests/lib.sh"
model=${LLAMA3_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/llama3/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -f "$model" ] || skip "$model is missing; scripts/quickstart fetches it, LLAMA3_TEST_MODEL names it"

run 0 "$program" -m "$model" --ctx 2048 --temperature 0 -p "What is the capital of France?"
out_has Paris
err_empty
cp "$tmp/out" "$tmp/answer"
echo "What is the capital of France?" | "$program" -m "$model" --ctx 2048 --threads 1 \
    --temperature 0 --stats >"$tmp/out" 2>"$tmp/err"
same "$tmp/out" "$tmp/answer" "one thread gives another answer: $(cat "$tmp/out")"
err_has ", complete"

run 0 "$program" -m "$model" --ctx 2048 --info
out_has "gguf"
out_has "mostly q4_1"
out_has "134.5 million parameters"
out_has "<|im_end|>"

run 0 "$program" -m "$model" --ctx 2048 --temperature 0 --raw -n 5 -p "The capital of France is"
out_has Paris
finish

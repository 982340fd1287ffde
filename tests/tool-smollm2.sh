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

# As scripts/quickstart leaves it, it answers README's question as README shows, whatever the seed.
mkdir -p "$tmp/cache/llama3"
ln -s "$(cd "$(dirname "$model")" && pwd)/${model##*/}" \
    "$tmp/cache/llama3/SmolLM2-135M-Instruct.Q4_1.gguf"
sed -n '/^    \$ scripts\/quickstart /{n;s/^    //p;}' "$srcdir/README.md" >"$tmp/want"
[ -s "$tmp/want" ] || fail "README.md shows no answer"
XDG_CACHE_HOME=$tmp/cache
export XDG_CACHE_HOME
(. "$srcdir/scripts/lib.sh" && fetch_model) || fail "fetch_model: status $?"
for seed in 1 2 3 4 5 6 7 8; do
    run 0 "$program" --ctx 2048 --seed $seed -p "What is the capital of France?"
    same "$tmp/out" "$tmp/want" "seed $seed: found $(cat "$tmp/out")"
done
unset XDG_CACHE_HOME

run 0 "$program" -m "$model" --ctx 2048 --info
out_has "gguf"
out_has "mostly q4_1"
out_has "134.5 million parameters"
out_has "<|im_end|>"

run 0 "$program" -m "$model" --ctx 2048 --temperature 0 --raw -n 5 -p "The capital of France is"
out_has Paris

# Made into our own file, with an embedding of 8 bits as it has, it is the same model.
quantize=${LLAMA3_QUANTIZE:-./llama3-quantize}
eval=${LLAMA3_EVAL:-./llama3-eval}
run 0 "$quantize" --embeddings int8 "$model" "$tmp/smollm2.safetensors"
out_has "carried over 134.5 million weights"
ids=1,9690,198,2683,359,260,3575,282,4649,47,2
run 0 "$eval" -m "$model" --kv f32 --logits "$tmp/want" --tokens $ids
run 0 "$eval" -m "$tmp/smollm2.safetensors" --kv f32 --logits "$tmp/got" --tokens $ids
same "$tmp/got" "$tmp/want" "the file made of $model has other logits"

# Its tokens are those of tokenizers, and so are the control tokens of a conversation.
run 0 "$eval" -m "$model" --tokenize "$srcdir/tests/reference/smollm2.txt"
sed 's/.*"ids": \[\([^]]*\)\].*/\1/; s/,//g' "$srcdir/tests/data/smollm2.json" >"$tmp/want"
same "$tmp/out" "$tmp/want" "other tokens than the golden's"
run 0 "$eval" -m "$model" --detokenize "$tmp/want"
same "$tmp/out" "$srcdir/tests/reference/smollm2.txt" "the text does not come back from its ids"
printf '<|im_start|>user\nHi<|im_end|>\n' >"$tmp/chat"
run 0 "$eval" -m "$model" --special --tokenize "$tmp/chat"
[ "$(cat "$tmp/out")" = "1 4093 198 26843 2 198" ] || fail "$last: found $(cat "$tmp/out")"
finish

#!/bin/sh
# llama3-server with many at once: each answer is the command line's, none is mixed with another, a
# common beginning is read once, and the next turn of a conversation reads what is new.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/server-lib.sh"
real=${LLAMA3_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/llama3/SmolLM2-135M-Instruct.Q4_1.gguf}

# Asks $1 times at once, from $tmp/ask-N to $tmp/answer-N.
ask_all()
{
    asking=
    i=0
    while [ $i -lt "$1" ]; do
        curl -s -m 300 -H 'Content-Type: application/json' -d "@$tmp/ask-$i" -o "$tmp/answer-$i" \
            "$url/v1/chat/completions" &
        asking="$asking $!"
        i=$((i + 1))
    done
    # shellcheck disable=SC2086 # a list
    wait $asking
}

for model in "$tiny" "$real"; do
    [ -e "$model" ] || { echo "$model is missing: without it"; continue; }
    start -m "$model" --ctx 512 --parallel 5
    ready
    n=0
    for what in France Spain Italy Japan Chile Kenya Norway Egypt; do
        printf '{"messages":[{"role":"user","content":"Name the capital of %s."}],"temperature":0,"max_tokens":12,"stream":%s}' \
            $what "$([ $((n % 2)) = 1 ] && echo true || echo false)" >"$tmp/ask-$n"
        run 0 "$program" -m "$model" --ctx 512 --temperature 0 -n 12 -p "Name the capital of $what."
        cp "$tmp/out" "$tmp/want-$n"
        n=$((n + 1))
    done
    ask_all $n
    i=0
    while [ $i -lt $n ]; do
        if [ $((i % 2)) = 1 ]; then
            sed -n 's/^data: .*"delta":{"content":"\(\([^"\\]\|\\.\)*\)"}.*/\1/p' "$tmp/answer-$i" | tr -d '\n' >"$tmp/got"
        else
            cp "$tmp/answer-$i" "$tmp/out"
            content | tr -d '\n' >"$tmp/got"
        fi
        # what JSON escapes is told by the other tests
        if grep -q '\\' "$tmp/got"; then
            echo "$model, answer $i: not compared, it has escapes"
        else
            printf '\n' >>"$tmp/got"
            same "$tmp/got" "$tmp/want-$i" "$model, answer $i: not the command line's: $(cat "$tmp/got"), $(cat "$tmp/want-$i")"
        fi
        i=$((i + 1))
    done

    # A long beginning that six have in common, at once: it is read once.
    read_before=$(($(metric prompt_tokens_total) - $(metric cached_tokens_total)))
    rules=$([ "$model" = "$tiny" ] && echo 10 || echo 30)
    common=$(awk -v n="$rules" 'BEGIN { for (i = 0; i < n; i++) printf "Rule %d is to be kind. ", i }')
    for i in 0 1 2 3 4 5; do
        printf '{"messages":[{"role":"system","content":"%s"},{"role":"user","content":"Question %d."}],"max_tokens":4,"temperature":0}' \
            "$common" $i >"$tmp/ask-$i"
    done
    ask_all 6
    cp "$tmp/answer-0" "$tmp/out"
    length=$(field prompt_tokens)
    read=$(($(metric prompt_tokens_total) - $(metric cached_tokens_total) - read_before))
    # what is held is told in pages of 64 tokens, so that up to 63 of each seem to be read
    [ "$length" -gt 150 ] && [ "$read" -lt $((length + 5 * 80)) ] ||
        fail "$model: six prompts of $length tokens that begin alike: $read tokens were read"

    # The next turn.
    last="the next turn"
    answer=$(content)
    printf '{"messages":[{"role":"system","content":"%s"},{"role":"user","content":"Question 0."},{"role":"assistant","content":"%s"},{"role":"user","content":"And?"}],"max_tokens":4,"temperature":0}' \
        "$common" "$answer" >"$tmp/ask-0"
    ask_all 1
    cp "$tmp/answer-0" "$tmp/out"
    [ "$(field cached_tokens)" -ge $(((length - 1) / 64 * 64)) ] ||
        fail "$model: the next turn reads $(($(field prompt_tokens) - $(field cached_tokens))) of $(field prompt_tokens) tokens: $(cat "$tmp/out")"
    [ "$(metric sequences)" = 0 ] && [ "$(metric requests)" = 0 ] || fail "something still runs"
    stop 0
done
finish

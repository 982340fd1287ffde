#!/bin/sh
# What memory llama3-server takes: of what clients send and get no more than its limit, and of keys
# and values whole pages.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/server-lib.sh"
real=${LLAMA3_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/llama3/SmolLM2-135M-Instruct.Q4_1.gguf}
model=$tiny
case ${LLAMA3_CFLAGS-} in *-fsanitize*) skip "the sanitizers keep what was freed" ;; esac

# status FIELD: MB of the server's memory: VmRSS is what it has, VmHWM the most it had.
status()
{
    awk -v field="$1:" '$1 == field { print int($2 / 1024) }' "/proc/$pid/status"
}

# grown: MB that the server had at most since `watch`, beside what it had before it was asked
# anything (`base`).
watch()
{
    echo 5 >"/proc/$pid/clear_refs"
}
grown()
{
    echo $(($(status VmHWM) - base))
}
# settle: waits until no request holds memory: the last one was answered before it let go of it.
settle()
{
    i=0
    until [ "$(metric request_bytes)" = 0 ]; do
        i=$((i + 1))
        [ $i -le 100 ] || { fail "$(metric request_bytes) bytes are held by no request"; return; }
        sleep 0.1
    done
}
start -m "$model"
ready
if ! [ -r "/proc/$pid/status" ] || ! echo 5 >"/proc/$pid/clear_refs" 2>/dev/null; then
    stop 0
    skip "/proc does not tell how much memory a process had"
fi
base=$(status VmRSS)

# ---- 8 MB of text cost a small multiple of that, whatever they are
# text FILE UNIT: a request of 8 MiB
text()
{
    awk -v unit="$2" 'BEGIN {
        while (length(unit) < 100000) unit = unit unit
        printf "{\"content\":\""
        for (left = 8388608 - 14; left >= length(unit); left -= length(unit)) printf "%s", unit
        printf "%s\"}", substr(unit, 1, left) }' >"$1"
}
for unit in a 'lorem ipsum ' 1; do
    text "$tmp/text" "$unit"
    watch
    post 200 /tokenize "@$tmp/text"
    echo "8 MiB of '$unit': $(grown) MB"
    [ "$(grown)" -le 120 ] || fail "/tokenize of 8 MiB of '$unit' takes $(grown) MB"
done
head_has 'Transfer-Encoding: chunked'
cp "$tmp/out" "$tmp/list"
# a template makes more texts of what is said
for field in content reasoning; do
    awk -v field=$field 'BEGIN {
        printf "{\"messages\":[{\"role\":\"assistant\""
        if (field != "content") printf ",\"content\":\"\""
        printf ",\"%s\":\"", field
        for (i = 0; i < 262144; i++) printf "lorem ipsum 1234"
        printf "\"}]}" }' >"$tmp/chat"
    watch
    post 200 /apply-template "@$tmp/chat"
    echo "4 MiB of $field: $(grown) MB"
    [ "$(grown)" -le 120 ] || fail "/apply-template of 4 MiB of $field takes $(grown) MB"
done
cp "$tmp/list" "$tmp/out"
tail -c 3 "$tmp/out" | grep -q '[0-9]]}' || fail "a long list of tokens has no end"

stop 0

# ---- an answer's probabilities
start -m "$model"
ready
base=$(status VmRSS)
odds='"prompt":"x","n":8,"max_tokens":450,"temperature":2,"logprobs":20,"logit_bias":{"369":-100,"377":-100}'
watch
post 200 /v1/completions "{$odds,\"seed\":1}"
echo "8 answers of 450 tokens with 20 probabilities each: $(grown) MB"
[ "$(grown)" -le 16 ] || fail "8 answers of 450 tokens with their probabilities take $(grown) MB"
[ "$(field completion_tokens)" = 3600 ] || fail "expected 3600 tokens, found $(field completion_tokens)"
head_has 'Transfer-Encoding: chunked'
if command -v python3 >/dev/null; then
    python3 -c 'import json, sys
choices = json.load(open(sys.argv[1]))["choices"]
assert [c["index"] for c in choices] == list(range(8))
for c in choices:
    for name, values in c["logprobs"].items():
        assert len(values) == 450, (name, len(values))
    assert all(0 < len(t) <= 20 for t in c["logprobs"]["top_logprobs"])' "$tmp/out" ||
        fail "a long answer is not what it has to be"
fi
# a stream whose tokens have no text keeps none of them: control tokens that end nothing
watch
post 200 /v1/completions '{"prompt":"x","n":8,"max_tokens":450,"logprobs":20,"stream":true,"logit_bias":{"370":100}}'
[ "$(grown)" -le 16 ] || fail "a stream takes $(grown) MB"
stop 0

# A file to a route, seven times at once.
ask_seven()
{
    base=$(status VmRSS)
    watch
    asking=
    for i in 0 1 2 3 4 5 6; do
        curl -s -m 120 -o "$tmp/answer-$i" -D "$tmp/head-$i" -H 'Content-Type: application/json' \
            --data-binary "@$1" "$url$2" &
        asking="$asking $!"
    done
    # shellcheck disable=SC2086 # a list
    wait $asking
}

# ---- many at once: within the limit, or refused until there is room
start -m "$model" --request-memory 256M
ready
text "$tmp/text" a
ask_seven "$tmp/text" /tokenize
echo "7 times 8 MiB at once, with --request-memory 256M: $(grown) MB"
[ "$(grown)" -le 350 ] || fail "7 texts of 8 MiB at once take $(grown) MB of 256"
grep -q '^HTTP/1.1 200' "$tmp"/head-? || fail "of 7 texts at once none is answered"
for i in 0 1 2 3 4 5 6; do
    grep -q '^HTTP/1.1 200' "$tmp/head-$i" && continue
    grep -q '^HTTP/1.1 503' "$tmp/head-$i" && grep -q '^Retry-After: ' "$tmp/head-$i" &&
        grep -q 'not enough memory for this request beside the others' "$tmp/answer-$i" ||
        fail "a text too many: $(cat "$tmp/head-$i" "$tmp/answer-$i")"
done
grep -q '^HTTP/1.1 503' "$tmp"/head-? || fail "7 texts of 8 MiB at once are not too many for 256 MB"
settle
[ "$(metric request_limit_bytes)" = 268435456 ] || fail "--request-memory is not told"
post 200 /tokenize "@$tmp/text"
stop 0

# ---- and chats, of which each has what its template may take
start -m "$model" --request-memory 256M
ready
awk 'BEGIN {
    printf "{\"messages\":[{\"role\":\"user\",\"content\":\""
    for (i = 0; i < 131072; i++) printf "lorem ipsum 1234"
    printf "\"}]}" }' >"$tmp/chat"
ask_seven "$tmp/chat" /apply-template
echo "7 chats of 2 MiB at once, with --request-memory 256M: $(grown) MB"
[ "$(grown)" -le 256 ] || fail "7 chats of 2 MiB at once take $(grown) MB of 256"
for i in 0 1 2 3 4 5 6; do
    grep -q '^HTTP/1.1 \(200\|503\)' "$tmp/head-$i" ||
        fail "one of several chats: $(head -1 "$tmp/head-$i")"
done
grep -q '^HTTP/1.1 200' "$tmp"/head-? || fail "of 7 chats at once none is answered"
settle
post 200 /apply-template "@$tmp/chat"
stop 0

# ---- a template takes no more than what was taken for it: 32 bytes of each, and some
mkdir "$tmp/greedy"
for name in config.json generation_config.json model.safetensors tokenizer.json; do
    ln -s "$(realpath "$model")/$name" "$tmp/greedy"
done
echo '{{ messages[0].content * 30 }}' >"$tmp/greedy/chat_template.jinja"
start -m "$tmp/greedy"
ready
post 400 /apply-template "@$tmp/chat"
out_has 'expected a template that takes at most '
settle
stop 0

# ---- what alone is more than there may be is never going to fit: not 503
start -m "$model" --request-memory 1M
ready
post 400 /tokenize "@$tmp/text"
out_has 'expected a request that takes at most 1048576 bytes of memory'
settle
post 400 /apply-template "@$tmp/chat"
out_has 'expected a request that takes at most 1048576 bytes of memory'
settle
post 400 /v1/completions "{$odds}"
out_has 'expected a request that takes at most 1048576 bytes of memory'
settle
post 200 /v1/completions '{"prompt":"x","max_tokens":450}'
stop 0

[ -e "$real" ] || { echo "$real is missing: without it"; finish; }
# ---- a page is 64 tokens of 12,240 bytes: memory for 102 tokens holds one of them
start -m "$real" --ctx 100 --kv-memory 1220K
ready
grep -q 'note: --kv-memory holds 64 of the context.s 100 tokens' "$tmp/log" ||
    fail "--kv-memory 1220K: the context is not said to be 64 tokens: $(cat "$tmp/log")"
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

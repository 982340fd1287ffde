#!/bin/sh
# llama3-eval(1): results, JSON, refusals.
. "${srcdir:-.}/tests/lib.sh"
eval=${LLAMA3_EVAL:-./llama3-eval}
data=$srcdir/tests/data
text=$tmp/text
printf 'The capital of France is Paris. The capital of Spain is Madrid.\nAnd so on, %s.\n' \
    "for quite a while, as one does in texts that only fill a page" >"$text"

# number KEY: of the JSON in $tmp/out.
number()
{
    sed -n 's/^ *"'"$1"'": \(.*[^,]\),*$/\1/p' "$tmp/out"
}

# near A B TOLERANCE
near()
{
    awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; exit !(a != "" && d <= t && -d <= t) }' ||
        fail "$last: expected $2, found '$1'"
}

# Perplexity alone, from a file and from stdin.
run 0 "$eval" "$tiny" -f "$text"
out_has "perplexity   "
[ "$(wc -l <"$tmp/out")" = 2 ] || fail "$last: expected two lines, found $(cat "$tmp/out")"
err_empty
run 0 "$eval" "$data/tiny-bf16" -f "$text"
cp "$tmp/out" "$tmp/alone"
run 0 env LLAMA3_MODEL="$data/tiny-bf16" "$eval" --threads 1 -f - <"$text"
same "$tmp/out" "$tmp/alone" "a text from stdin and one thread give another perplexity"
run 0 "$eval" --json "$tiny" -f "$text"
alone=$(number perplexity)
[ -n "$alone" ] || fail "no perplexity in $(cat "$tmp/out")"

# A model against itself.
run 0 "$eval" --json --kl "$tiny" "$tiny" -f "$text"
near "$(number mean_kl)" 0 0
near "$(number p99_kl)" 0 0
near "$(number top1)" 1 0
near "$(number perplexity)" "$alone" 1e-9
near "$(number reference_perplexity)" "$alone" 1e-9
run 0 "$eval" --kl "$tiny" "$tiny" -f "$text"
out_has "100.000 %"

# Against another, in small windows, with other threads.
f32=$data/tiny-gguf-f32/model.gguf q4_0=$data/tiny-gguf-q4_0/model.gguf
run 0 "$eval" --json --ctx 16 --kl "$f32" "$q4_0" -f "$text"
awk -v kl="$(number mean_kl)" -v p99="$(number p99_kl)" -v max="$(number max_kl)" \
    'BEGIN { exit !(0 < kl && kl < p99 && p99 <= max) }' ||
    fail "$last: expected 0 < mean < p99 <= max, found $(cat "$tmp/out")"
cp "$tmp/out" "$tmp/two"
run 0 "$eval" --json --threads 3 --ctx 16 --kl "$f32" "$q4_0" -f "$text"
same "$tmp/out" "$tmp/two" "threads change the result"
if command -v python3 >/dev/null; then
    run 0 python3 -c '
import json, sys
o = json.load(open(sys.argv[1]))
want = {"model", "reference", "predictions", "perplexity", "reference_perplexity", "mean_kl",
        "p99_kl", "max_kl", "top1"}
sys.exit(set(o) != want and str(set(o)))' "$tmp/two"
fi

# Refusals
refuse()
{
    status=$1 word=$2
    shift 2
    run "$status" "$eval" "$@"
    err_has "$word"
    out_empty
}
refuse 2 "expected a text to predict: --file TEXT" "$tiny"
refuse 2 "unexpected argument 'b': one model is evaluated" a b -f "$text"
refuse 2 "--ctx: expected an integer in [2, " --ctx 1 "$tiny" -f "$text"
refuse 1 "No such file or directory" "$tiny" -f "$tmp/none"
refuse 1 "$tmp/none: " "$tmp/none" -f "$text"
refuse 1 "expected windows of 2 to " --ctx 100000 "$tiny" -f "$text"
: >"$tmp/empty"
refuse 1 "expected a text of " "$tiny" -f "$tmp/empty"
HOME=$tmp XDG_CACHE_HOME='' refuse 1 \
    "no model: name one with the argument MODEL or LLAMA3_MODEL, or let scripts/quickstart" -f "$text"
: >"$tmp/empty.safetensors"
refuse 1 "$tmp/empty.safetensors: a checkpoint expected, an empty file found" \
    "$tmp/empty.safetensors" -f "$text"
mkdir "$tmp/other"
cp "$tiny"/*.json "$tiny/model.safetensors" "$tmp/other"
sed 's/"Y":56,"Z":57/"Y":57,"Z":56/' "$tiny/tokenizer.json" >"$tmp/other/tokenizer.json"
refuse 1 "token 56 is 'Y' in $tiny and 'Z' in $tmp/other: expected the same vocabulary" \
    --kl "$tiny" "$tmp/other" -f "$text"
if [ -c /dev/full ]; then
    "$eval" "$tiny" -f "$text" >/dev/full 2>"$tmp/err"
    [ $? = 1 ] || fail "a full disk: expected status 1"
    err_has "llama3-eval: stdout: No space left on device"
fi
run 0 "$eval" --version
out_has "llama3-eval "
finish

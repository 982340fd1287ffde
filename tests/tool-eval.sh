#!/bin/sh
# llama3-eval(1): logits and tokens against goldens, perplexity and divergence, JSON, refusals.
. "${srcdir:-.}/tests/lib.sh"
eval=${LLAMA3_EVAL:-./llama3-eval}
case $eval in /*) ;; *) eval=$PWD/$eval ;; esac
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

# refuse STATUS WORD ARGUMENT...: one line, and nothing on stdout.
refuse()
{
    status=$1 word=$2
    shift 2
    run "$status" "$eval" "$@"
    err_has "$word"
    out_empty
}

# ---- logits ----------------------------------------------------------------------------------

# The goldens are what transformers computes in float32; scalar kernels and f32 KV do so too.
# floats FILE: one a line
floats()
{
    od -An -v -tf4 -w4 "$1"
}
for name in tiny-f32 tiny-tied tiny-bf16 tiny-sharded tiny-rope tiny-gqa-6-2 tiny-gguf-q4_0 \
    tiny-gguf-k tiny-gguf-low tiny-gguf-iq; do
    model=$data/$name golden=$data/$name/golden.json
    case $name in *gguf*) model=$model/model.gguf ;; esac
    ids=$(sed 's/.*"ids": \[\([^]]*\)\].*/\1/' "$golden")
    rows=$(sed 's/.*"rows": \[\([^]]*\)\].*/\1/' "$golden")
    run 0 env LLAMA3_CPU=scalar "$eval" -m "$model" --kv f32 --logits "$tmp/logits" --tokens "$ids"
    out_empty
    err_empty
    floats "$tmp/logits" >"$tmp/ours"
    floats "$data/$name/golden.f32" | awk -v rows="$rows" '
        NR == FNR { golden[n++] = $1; next }
        FNR == 1 { size = n / split(rows, list, ", *"); for (i in list) at[list[i]] = i - 1 }
        { row = int((FNR - 1) / size) }
        row in at {
            d = $1 - golden[at[row] * size + (FNR - 1) % size]
            seen++
            far += !(d <= 2e-4 && -d <= 2e-4)
        }
        END { exit !(seen == n && n > 1000 && !far) }' - "$tmp/ours" ||
        fail "$last: other logits than the golden's"
done

# The same bytes for any number of threads, spelling of the ids and kind of output, also beyond one
# piece of 64 rows; and a text is its ids after the token that begins it.
many=$(awk 'BEGIN { for (i = 0; i < 150; i++) printf "%d,", (i * 37 + 5) % 384; print 7 }')
run 0 "$eval" -m "$tiny" --logits "$tmp/many" --tokens "$many"
[ "$(wc -c <"$tmp/many")" = $((151 * 384 * 4)) ] || fail "$last: $(wc -c <"$tmp/many") bytes"
run 0 "$eval" --threads 3 -m "$tiny" --logits - --tokens "$(echo "$many" | tr , ' ')"
same "$tmp/out" "$tmp/many" "three threads, ids between spaces and stdout give other logits"
run 0 "$eval" -m "$tiny" --logits "$tmp/few" --tokens " 5 , 42,79 "
head -c $((3 * 384 * 4)) "$tmp/many" | cmp -s - "$tmp/few" || fail "$last: other first rows"
run 0 "$eval" -m "$tiny" --logits "$tmp/from-text" -f "$text"
run 0 "$eval" -m "$tiny" --tokenize "$text"
run 0 "$eval" -m "$tiny" --logits - --tokens "368 $(cat "$tmp/out")"
same "$tmp/out" "$tmp/from-text" "a text has other logits than its ids after <|begin_of_text|>"
run 0 "$eval" -m "$tiny" --logits - -f - <"$text"
same "$tmp/out" "$tmp/from-text" "a text from stdin has other logits"

# The file is there whole or not at all.
mkdir "$tmp/made"
echo before >"$tmp/made/before"
only_before()
{
    [ "$(ls -A "$tmp/made")" = before ] || fail "$last: found $(ls -A "$tmp/made")"
    [ "$(cat "$tmp/made/before")" = before ] || fail "$last: the file that was there has changed"
}
before=$tmp/made/before
for bad in "" " " ,1 1,,2 "1," 1,x -1 +1 1.5 0x10 384 99999999999999999999 1e1 "1;2"; do
    refuse 1 "--tokens: " -m "$tiny" --logits "$before" --tokens "$bad"
    err_lines 1
    only_before
done
refuse 1 "llama3-eval: --tokens: number 3: expected an id from 0 to 383, found \"384\"" \
    -m "$tiny" --logits "$before" --tokens "1, 2, 384, 4"
refuse 1 "--tokens: expected ids, found none" -m "$tiny" --logits "$before" --tokens ""
refuse 1 ": expected a text of at most 150 tokens, which the context holds, found 151" -m "$tiny" --ctx 150 --logits "$before" \
    --tokens "$many"
limit=$(sed -n 's/.*"max_position_embeddings": \([0-9]*\).*/\1/p' "$tiny/config.json")
refuse 1 "expected a context of at most the model's $limit tokens, found $((limit + 1))" \
    -m "$tiny" --ctx $((limit + 1)) --logits "$before" --tokens 1
awk -v n="$limit" 'BEGIN { for (i = 0; i <= n; i++) printf "%d ", i % 10 }' >"$tmp/long"
refuse 1 "$tiny: expected a text of at most $limit tokens, which the context holds, found " \
    -m "$tiny" --logits "$before" -f "$tmp/long"
err_lines 1
only_before
printf 'a\000b' >"$tmp/nul"
printf 'caf\351' >"$tmp/latin1"
: >"$tmp/empty"
refuse 1 "llama3-eval: $tmp/empty: expected a text, found none" -m "$tiny" --logits "$before" \
    -f "$tmp/empty"
refuse 1 "llama3-eval: stdin: expected a text, found none" -m "$tiny" --logits "$before" \
    -f - </dev/null
only_before
for mode in "--logits $before -f" --tokenize --perplexity "--kl $tiny -f" --detokenize; do
    # shellcheck disable=SC2086 # several words
    {
        refuse 1 "$tmp/nul: expected text, found a NUL byte at byte 1" -m "$tiny" $mode "$tmp/nul"
        err_lines 1
        refuse 1 "$tmp/latin1: expected UTF-8, found an invalid sequence at byte 3" -m "$tiny" \
            $mode "$tmp/latin1"
        err_lines 1
        refuse 1 "$tmp/none: No such file or directory" -m "$tiny" $mode "$tmp/none"
        err_lines 1
    }
done
refuse 1 "$tmp/made: expected a regular file or nothing, found a directory" \
    -m "$tiny" --logits "$tmp/made" --tokens 1
refuse 1 "$tmp/none/x: No such file or directory" -m "$tiny" --logits "$tmp/none/x" --tokens 1
refuse 1 "$tmp/none: No such file or directory" -m "$tmp/none" --logits "$before" --tokens 1
only_before
cp -R "$tiny" "$tmp/source"
chmod -R u+w "$tmp/source"
ln -s source/model.safetensors "$tmp/link"
for out in source/model.safetensors source/config.json link; do
    refuse 2 "$tmp/$out: expected a file that is not the checkpoint's, found one of $tmp/source's own" \
        -m "$tmp/source" --logits "$tmp/$out" --tokens 1
done
diff -r "$tiny" "$tmp/source" || fail "the model has changed"
last="ulimit -f 16"
(
    ulimit -f 16
    exec "$eval" -m "$tiny" --logits "$before" --tokens "$many"
) >"$tmp/out" 2>"$tmp/err"
[ $? = 1 ] || fail "$last: expected status 1"
err_has "$before: File too large: $((151 * 384 * 4)) bytes needed"
err_lines 1
only_before
if [ -f "$PWD/tests/.libs/preload.so" ] && command -v timeout >/dev/null; then
    need_preload
    last="^C"
    SLOW_RESERVE=3000 LD_PRELOAD=$preload timeout --preserve-status -s INT 1 \
        "$eval" -m "$tiny" --logits "$before" --tokens "$many" >"$tmp/out" 2>"$tmp/err"
    [ $? = 130 ] || fail "$last: expected status 130"
    err_empty
    only_before
    run 1 env FULL="$(cd "$tmp/made" && pwd -P)" LD_PRELOAD="$preload" \
        "$eval" -m "$tiny" --logits "$before" --tokens "$many"
    err_has "$before: No space left on device: $((151 * 384 * 4)) bytes needed"
    err_lines 1
    only_before
fi
# A weight that is no number.
size=$(wc -c <"$tmp/source/model.safetensors")
printf '\000\000\300\177' | dd of="$tmp/source/model.safetensors" bs=1 seek=$((size - 4)) \
    conv=notrunc 2>"$tmp/dd"
refuse 1 "$tmp/source: expected finite logits, found nan for token 0: the weights are damaged" \
    -m "$tmp/source" --logits "$before" --tokens "1,2,3"
err_lines 1
only_before

# ---- tokens ----------------------------------------------------------------------------------

# The goldens are what tokenizers makes of the texts.
lines=$data/text/lines
for kind in ids special pretokens; do
    option=--$kind
    [ $kind != ids ] || option=
    # shellcheck disable=SC2086 # none, or one
    run 0 "$eval" -m "$tiny" --tokenize "$lines/texts.jsonl" --json-lines $option
    err_empty
    same "$tmp/out" "$lines/$kind.jsonl" "$last: other tokens than the golden's"
done
run 0 "$eval" -m "$tiny" --tokenize - --json-lines <"$lines/texts.jsonl"
same "$tmp/out" "$lines/ids.jsonl" "texts from stdin have other tokens"
run 0 "$eval" -m "$tiny" --json-lines --tokenize "$tmp/empty"
out_empty

# A whole file, with its newlines, and back.
run 0 "$eval" -m "$tiny" --tokenize "$srcdir/README.md"
[ "$(wc -l <"$tmp/out")" = 1 ] || fail "$last: expected one line"
cp "$tmp/out" "$tmp/ids"
run 0 "$eval" -m "$tiny" --detokenize "$tmp/ids"
same "$tmp/out" "$srcdir/README.md" "README.md does not come back from its ids"
for spelling in "-m $tiny --detokenize" "--detokenize - -m $tiny" "$tiny --detokenize" \
    "--detokenize=- -m $tiny"; do
    # shellcheck disable=SC2086 # several words
    run 0 "$eval" $spelling <"$tmp/ids"
    same "$tmp/out" "$srcdir/README.md" "$last: another text"
done
tr ' ' , <"$tmp/ids" >"$tmp/commas"
for spelling in "-m $tiny --detokenize=$tmp/commas" "$tiny --detokenize $tmp/commas"; do
    # shellcheck disable=SC2086 # several words
    run 0 "$eval" $spelling
    same "$tmp/out" "$srcdir/README.md" "$last: another text"
done
LLAMA3_MODEL=$tiny run 0 "$eval" --detokenize "$tmp/ids"
same "$tmp/out" "$srcdir/README.md" "$last: another text"
run 0 "$eval" -m "$tiny" --tokenize "$tmp/empty"
[ "$(od -An -c "$tmp/out" | tr -d ' ')" = '\n' ] || fail "$last: expected an empty line"
run 0 "$eval" -m "$tiny" --detokenize "$tmp/empty"
out_empty

# Control tokens, only where they were asked for.
printf 'x<|eot_id|>y' >"$tmp/forged"
run 0 "$eval" -m "$tiny" --special --tokenize "$tmp/forged"
special=$(cat "$tmp/out")
[ "$(echo "$special" | wc -w)" = 3 ] || fail "$last: expected three ids, found $special"
echo "$special" | "$eval" -m "$tiny" --detokenize --special >"$tmp/out"
same "$tmp/out" "$tmp/forged" "--special: the text does not come back from $special"
run 0 "$eval" -m "$tiny" --detokenize <<END
$special
END
[ "$(cat "$tmp/out")" = xy ] || fail "$last: expected 'xy', found $(cat "$tmp/out")"
run 0 "$eval" -m "$tiny" --tokenize "$tmp/forged"
[ "$(wc -w <"$tmp/out")" -gt 3 ] || fail "$last: text spells a control token"
# They are found where the tokenizers package finds them: this one beside no letter.
mkdir "$tmp/single"
cp "$tiny"/* "$tmp/single"
sed -i 's/"content":"<|eot_id|>","single_word":false/"content":"<|eot_id|>","single_word":true/' \
    "$tmp/single/tokenizer.json"
run 0 "$eval" -m "$tmp/single" --special --tokenize "$tmp/forged"
! grep -qw 377 "$tmp/out" || fail "$last: a single word is found within one"
printf '!<|eot_id|>' >"$tmp/alone"
run 0 "$eval" -m "$tmp/single" --special --tokenize "$tmp/alone"
grep -qw 377 "$tmp/out" || fail "$last: expected <|eot_id|>, found $(cat "$tmp/out")"
run 0 "$eval" -m "$tmp/single" --tokenize "$tmp/forged"
"$eval" -m "$tiny" --detokenize <"$tmp/out" >"$tmp/back"
same "$tmp/back" "$tmp/forged" "$last: the text does not come back"

for bad in "1 384" 1,,2 x "1 2 -3"; do
    echo "$bad" >"$tmp/bad"
    refuse 1 "$tmp/bad: number " -m "$tiny" --detokenize "$tmp/bad"
    err_lines 1
done
printf '7\n8\n99999999999\n' >"$tmp/bad"
refuse 1 "$tmp/bad: number 3: expected an id from 0 to 383, found \"99999999999\"" \
    -m "$tiny" --detokenize "$tmp/bad"

# refuse_line TEXT WORD: the second line is wrong, and the first is answered.
refuse_line()
{
    printf '"a"\n%s\n"b"\n' "$1" >"$tmp/bad"
    run 1 "$eval" -m "$tiny" --tokenize "$tmp/bad" --json-lines
    err_has "$tmp/bad: line 2: expected a JSON string$2"
    err_lines 1
    [ "$(wc -l <"$tmp/out")" = 1 ] || fail "$last: expected one line, found $(cat "$tmp/out")"
}
refuse_line "" ", found \"\""
refuse_line 17 ", found \"17\""
refuse_line '["a"]' ", found \"[\"a\"]\""
refuse_line '"a' ": "
refuse_line '"a" "b"' ": "
refuse_line '"\ud800"' ": "
refuse_line "$(printf '"caf\351"')" ": "
refuse 1 "$tmp/none: No such file or directory" -m "$tiny" --json-lines --tokenize "$tmp/none"

# ---- perplexity and divergence ---------------------------------------------------------------

# Perplexity alone, from a file and from stdin.
run 0 "$eval" "$tiny" -f "$text"
out_has "perplexity   "
[ "$(wc -l <"$tmp/out")" = 2 ] || fail "$last: expected two lines, found $(cat "$tmp/out")"
err_empty
run 0 "$eval" "$data/tiny-bf16" -f "$text"
cp "$tmp/out" "$tmp/alone"
run 0 env LLAMA3_MODEL="$data/tiny-bf16" "$eval" --threads 1 -f - <"$text"
same "$tmp/out" "$tmp/alone" "a text from stdin and one thread give another perplexity"
run 0 "$eval" -m "$data/tiny-bf16" --perplexity "$text"
same "$tmp/out" "$tmp/alone" "--model and --perplexity give another perplexity than MODEL and -f"
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

# --int4 is the model that is judged, as llama3-quantize makes it.
quantize=${LLAMA3_QUANTIZE:-./llama3-quantize}
for how in calibrated uncalibrated; do
    option=--no-calibrate
    [ $how = uncalibrated ] || option=-q
    run 0 "$quantize" -q $option "$tiny" "$tmp/int4.safetensors"
    run 0 "$eval" --json --kl "$tiny" -m "$tmp/int4.safetensors" -f "$text"
    grep -v '"model"' "$tmp/out" >"$tmp/want"
    run 0 "$eval" --json --kl "$tiny" -m "$tiny" --int4=$how --no-cache -f "$text"
    err_has "llama3-eval: note: $tiny: int4 weights are made "
    err_lines 1
    grep -v '"model"' "$tmp/out" | cmp -s - "$tmp/want" || fail "$last: found $(cat "$tmp/out")"
done
run 0 "$eval" --logits "$tmp/want" -m "$tmp/int4.safetensors" --tokens 1,2,3
run 0 "$eval" --logits - -m "$tiny" --int4 --no-cache --tokens 1,2,3
same "$tmp/out" "$tmp/want" "--int4 has other logits than what llama3-quantize makes"

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

# ---- refusals --------------------------------------------------------------------------------

refuse 2 "expected one of --logits, --tokenize, --detokenize, --perplexity and --kl" "$tiny"
err_lines 2
refuse 2 "Try 'llama3-eval --help'."
refuse 2 "unexpected argument \"b\": it takes one model only" a b -f "$text"
refuse 2 "unexpected argument \"b\": --model names the model" -m a b -f "$text"
modes="--logits=x --tokenize=x --detokenize=x --perplexity=x --kl=x"
for one in $modes; do
    for other in $modes; do
        [ "$one" != "$other" ] || continue
        refuse 2 " exclude each other" "$one" "$other"
        err_has "${one%=x}"
        err_has "${other%=x}"
        err_lines 1
    done
done
refuse 2 "--tokens has no meaning with --tokenize" --tokenize x --tokens 1
refuse 2 "--tokens has no meaning with --perplexity" -f x --tokens 1
for option in "--file x" --special --json-lines --pretokens; do
    # shellcheck disable=SC2086 # two words
    refuse 2 "${option%% *} has no meaning with --perplexity" --perplexity x $option
    err_lines 1
done
refuse 2 "--special has no meaning with --pretokens" --tokenize x --special --pretokens
refuse 2 "--json has no meaning with --logits" --logits x --tokens 1 --json
refuse 2 "--json-lines has no meaning with --detokenize" --detokenize --json-lines
refuse 2 "--logits: expected --tokens IDS or --file TEXT, found neither" --logits x
refuse 2 "--tokens and --file exclude each other" --logits x --tokens 1 -f x
refuse 2 "--kl: expected a text to predict, found no --file TEXT" --kl x
refuse 2 "--no-cache has no meaning without --int4" --perplexity x --no-cache
refuse 2 "--gpu-layers 0 uses no GPU, so --device has no meaning" -f x --gpu-layers 0 --device 1
refuse 1 "expected windows of 2 tokens or more, found 1" --ctx 1 "$tiny" -f "$text"
refuse 1 "No such file or directory" "$tiny" -f "$tmp/none"
refuse 1 "$tmp/none: " "$tmp/none" -f "$text"
refuse 1 "--ctx: expected at most the model's $limit tokens, found 100000" --ctx 100000 "$tiny" -f "$text"
refuse 1 "expected a text of " "$tiny" -f "$tmp/empty"
HOME=$tmp XDG_CACHE_HOME='' refuse 1 \
    "no model: name one with --model or LLAMA3_MODEL, or let scripts/quickstart" -f "$text"
: >"$tmp/empty.safetensors"
refuse 1 "$tmp/empty.safetensors: expected a directory, a .gguf file, model.safetensors or a file of llama3-quantize, found an empty file" \
    "$tmp/empty.safetensors" -f "$text"
mkdir "$tmp/other"
cp "$tiny"/*.json "$tiny/model.safetensors" "$tmp/other"
sed 's/"Y":56,"Z":57/"Y":57,"Z":56/' "$tiny/tokenizer.json" >"$tmp/other/tokenizer.json"
refuse 1 "token 56 is \"Y\" in $tiny and \"Z\" in $tmp/other: expected the same vocabulary" \
    --kl "$tiny" "$tmp/other" -f "$text"
if [ -c /dev/full ]; then
    "$eval" "$tiny" -f "$text" >/dev/full 2>"$tmp/err"
    [ $? = 1 ] || fail "a full disk: expected status 1"
    err_has "llama3-eval: stdout: No space left on device"
    for mode in "--logits - --tokens 1,2" "--tokenize $text" "--detokenize $tmp/ids"; do
        # shellcheck disable=SC2086 # several words
        "$eval" -m "$tiny" $mode >/dev/full 2>"$tmp/err"
        [ $? = 1 ] || fail "$mode to a full disk: expected status 1"
        err_has "llama3-eval: stdout: No space left on device"
        err_lines 1
    done
fi
run 0 "$eval" --version
out_has "llama3-eval "
finish

#!/bin/sh
# llama3's answers, with a checkpoint of random weights: streams, seeds, stop strings, ends.
. "${srcdir:-.}/tests/lib.sh"
export LLAMA3_MODEL="$tiny"
ask="$program -n 24"

# stdout holds the answer alone, ended by one newline; stderr nothing.
run 0 $ask -q --temperature 0 -p "What is the capital of France?"
err_empty
cp "$tmp/out" "$tmp/greedy"
[ "$(tail -c 1 "$tmp/out" | od -An -tx1)" = " 0a" ] || fail "no newline at the end"
[ "$(wc -c <"$tmp/out")" -gt 2 ] || fail "no answer"

# However the text comes in, it is the same; one newline at the end of a file is not part of it.
printf 'What is the capital of France?' >"$tmp/bare"
printf 'What is the capital of France?\n' >"$tmp/lf"
printf 'What is the capital of France?\r\n' >"$tmp/crlf"
for file in bare lf crlf; do
    run 0 $ask --temperature 0 -f "$tmp/$file"
    same "$tmp/out" "$tmp/greedy" "-f $file: another answer than -p"
    run 0 $ask --temperature 0 <"$tmp/$file"
    same "$tmp/out" "$tmp/greedy" "stdin $file: another answer than -p"
done
run 0 $ask --temperature 0 -f - <"$tmp/lf"
same "$tmp/out" "$tmp/greedy" "-f -: another answer than -p"
printf 'What is the capital of France?\n\none\n' >"$tmp/both"
for file in bare lf crlf; do
    run 0 $ask --show-prompt --raw -p "one" -f "$tmp/$file"
    drop_cut
    sed 's/^<|begin_of_text|>//' "$tmp/err" >"$tmp/shown"
    same "$tmp/shown" "$tmp/both" "-p and -f $file: not the text, an empty line, the prompt"
done
# Several files stand in the order given, and what is asked about them comes last.
printf 'two' >"$tmp/two"
: >"$tmp/nothing"
printf 'What is the capital of France?\n\ntwo\n\npiped\n\none\n' >"$tmp/all"
run 0 $ask --show-prompt --raw -p one -f "$tmp/lf" -f "$tmp/nothing" --file "$tmp/two" -f - <<END
piped
END
drop_cut
sed 's/^<|begin_of_text|>//' "$tmp/err" >"$tmp/shown"
same "$tmp/shown" "$tmp/all" "several -f: found $(cat "$tmp/shown")"
run 2 $ask -f "$tmp/nothing" -f "$tmp/nothing"
err_has "llama3: the prompt is empty: $tmp/nothing holds no text"
run 1 $ask -f "$tmp/lf" -f "$tmp" -p x
err_has "llama3: $tmp: expected a file, found a directory; name the files in it, as the shell does with $tmp/*.txt"
err_lines 1
out_empty
printf 'one\ntwo\nthree\n' | while read -r line; do
    $ask -q --temperature 0 -p "$line" >/dev/null
    echo "$line"
done >"$tmp/lines"
[ "$(wc -l <"$tmp/lines")" -eq 3 ] || fail "-p reads a stdin that is not its own"

# A seed reproduces its answer; without one, answers differ; --stats names the seed.
run 0 $ask --temperature 2 --top-p 1 --seed 7 -p x
cp "$tmp/out" "$tmp/seven"
for threads in 1 2 3; do
    run 0 $ask --temperature 2 --top-p 1 --seed 7 --threads $threads -p x
    same "$tmp/out" "$tmp/seven" "--seed 7 with $threads threads: another answer"
done
run 0 $ask --temperature 2 --top-p 1 --seed 8 -p x
cmp -s "$tmp/out" "$tmp/seven" && fail "--seed 8 answers as --seed 7"
run 0 $ask --temperature 2 --top-p 1 --stats -p x
cp "$tmp/out" "$tmp/random"
seed=$(awk '$1 == "seed" { print $2 }' "$tmp/err")
run 0 $ask --temperature 2 --top-p 1 -p x
cmp -s "$tmp/out" "$tmp/random" && fail "two answers without a seed are the same"
run 0 $ask --temperature 2 --top-p 1 --seed "$seed" -p x
same "$tmp/out" "$tmp/random" "the seed that --stats names gives another answer"

# --stop: the answer ends before the text, whichever of several comes first.
run 0 $ask --raw --temperature 0 -p "The capital of"
cp "$tmp/out" "$tmp/whole"
head -n 1 "$tmp/whole" | tr -cd ' -~' | cut -c 3-4 >"$tmp/stop"
stop=$(cat "$tmp/stop")
run 0 $ask --raw --temperature 0 --stop "never said" --stop "$stop" -p "The capital of"
out=$(cat "$tmp/out")
case $(cat "$tmp/whole") in
"$out$stop"*) ;;
*) fail "--stop '$stop': found '$out' of '$(cat "$tmp/whole")'" ;;
esac

# -n counts tokens; an answer that is cut is one with a note, whatever cut it.
run 0 $ask --temperature 0 -n 3 --stats -p x
err_has "answer       3 tokens"
err_has "llama3: note: the answer was cut after 3 tokens (--max-tokens)"
run 0 $ask --temperature 0 -n 3 -q -p x
err_empty
run 0 "$program" --temperature 0 --ctx 40 --raw -p "The capital of"
err_has "note: the answer was cut: the context of 40 tokens is full"
run 0 "$program" -q --temperature 0 --ctx 40 --raw -p "The capital of"
err_empty

# What the checkpoint says about sampling counts, in a directory, beside a GGUF file and in it; what
# of it would change answers and is not supported has a note.
sampled="$program --top-p 1 -n 24 -q -p x"
cp -R "$tiny" "$tmp/said"
cp -R "$srcdir/tests/data/tiny-gguf-f32" "$tmp/said-gguf"
chmod -R u+w "$tmp/said" "$tmp/said-gguf"
for model in "$tmp/said" "$tmp/said-gguf/model.gguf"; do
    folder=${model%/model.gguf}
    run 0 $sampled -m "$model" --temp 0
    cp "$tmp/out" "$tmp/want"
    run 0 "$program" -m "$model" --info
    out_has "sampling     temperature 0.6, top-p 0.9"
    echo '{"do_sample": false, "temperature": 2.0}' >"$folder/generation_config.json"
    for seed in 1 2 3 4; do
        run 0 $sampled -m "$model" --seed $seed
        same "$tmp/out" "$tmp/want" "$last: do_sample: false is not temperature 0"
    done
    run 0 "$program" -m "$model" --info
    grep -q '^sampling  *temperature 0$' "$tmp/out" || fail "--info: $(grep sampling "$tmp/out")"
    run 0 $sampled -m "$model" --temp 2 --seed 1
    ! cmp -s "$tmp/out" "$tmp/want" || fail "$last: the checkpoint wins over the option"
    echo '{"num_beams": 4, "typical_p": 0.9, "max_length": 5}' >"$folder/generation_config.json"
    run 0 "$program" -m "$model" --temp 0 -n 24 -p x
    same "$tmp/out" "$tmp/want" "$last: another answer"
    err_has "llama3: note: $model: num_beams 4, typical_p 0.9 are not supported: answers are made without"
    err_lines 2 # the other is about -n
    run 0 "$program" -m "$model" --temp 0 -n 24 -p x -q
    err_empty
    XDG_CACHE_HOME=$tmp/said-cache
    export XDG_CACHE_HOME
    for _ in made found; do # --int4 keeps the model, and what is to be said about it
        run 0 "$program" -m "$model" --int4 --info
        err_has "num_beams 4, typical_p 0.9 are not supported"
    done
    echo '{"min_p": 1, "temperature": 2.0, "top_p": 1}' >"$folder/generation_config.json"
    run 0 "$program" -m "$model" --int4 --info # made anew, as the file has changed
    out_has "sampling     temperature 2, min-p 1"
    err_has "int4 weights are made without calibration: "
    err_lines 1
    run 0 $sampled -m "$model" --seed 1
    same "$tmp/out" "$tmp/want" "$last: min_p 1 leaves more than the likeliest token"
    unset XDG_CACHE_HOME
done

# So have scales of activations, keys and values in fewer bits than these have here.
run 0 "$program" -m "$srcdir/tests/data/tiny-fp8-tensor" --raw --temp 0 -n 3 -p x
err_has "9 scales of activations, keys or values are not used"

# What does not fit is an error with both counts.
run 1 "$program" --ctx 8 -p "What is the capital of France? What is the capital of Spain?"
err_lines 1
err_has "8"
out_empty

# --session: the second answer knows the first; what the command line said is kept.
session=$tmp/session.json
run 0 $ask --temperature 0 --session "$session" --system "Be kind." -p "First words"
cp "$tmp/out" "$tmp/first"
for part in '"format": "llama3-session"' '"system": "Be kind."' '"max_tokens": 24' \
    '"model": "tiny-f32"' '"content": "First words"'; do
    grep -qF "$part" "$session" || fail "$last: expected $part in the file"
done
grep -qx ' *"temperature": 0,*' "$session" || fail "$last: expected a temperature of 0 in the file"
run 0 "$program" --session "$session" --show-prompt --stats -p "Second words"
err_has "Be kind.<|eot_id|>"
err_has "First words<|eot_id|>"
err_has "Second words<|eot_id|>"
err_has "answer       24 tokens"
[ "$(grep -c '"role": "assistant"' "$session")" -eq 2 ] || fail "$last: expected two answers kept"
[ "$(grep -cF '<|start_header_id|>assistant<|end_header_id|>' "$tmp/err")" -eq 2 ] ||
    fail "$last: expected the first answer in the prompt"

# A conversation is for its owner alone, whatever the umask; the mode of a file that is there stays.
mode_is()
{
    [ "$(stat -c %a "$session")" = "$1" ] ||
        fail "$last: expected mode $1, found $(stat -c %a "$session")"
}
mode_is 600
chmod 640 "$session"
run 0 sh -c 'umask 022 && exec "$@"' sh "$program" --session "$session" -p "Third words"
mode_is 640
for mask in 000 277; do
    rm "$session"
    run 0 sh -c 'umask $1 && shift && exec "$@"' sh $mask "$program" -n 1 --session "$session" -p x
    mode_is 600
done

# Nor is it lost where a file may not grow.
cp "$session" "$tmp/before"
last="ulimit -f 0"
{
    (
        ulimit -f 0
        exec "$program" -n 1 --session "$session" -p x
    ) 2>&1 >/dev/null
    echo "status $?"
} | cat >"$tmp/err"
err_has "status 1"
err_has "$session: File too large"
cmp "$session" "$tmp/before" || fail "$last: the session has changed"

# What is no session, or can't be kept, is said before anything is answered, and left as it is.
printf '{"format": "llama3-session", "version": 2}' >"$tmp/other"
cp "$tmp/other" "$tmp/before"
run 1 "$program" --session "$tmp/other" -p x
err_has "llama3: $tmp/other: \"version\": expected 1, found 2"
err_lines 1
out_empty
same "$tmp/other" "$tmp/before" "$last: the file was changed"
printf 'llama3-kv 1\n\001' >"$tmp/saved" # also where it is larger than what is read of a conversation
truncate -s 20M "$tmp/saved"
run 1 "$program" --session "$tmp/saved" -p x
err_has "llama3: $tmp/saved: expected a conversation, found a llama3_session_save() file"
err_lines 1
run 1 "$program" --session "$tmp/missing/file" -p x
err_has "llama3: $tmp/missing/file: No such file or directory"
err_lines 1
out_empty
if [ "$(id -u)" -ne 0 ]; then # root may write anywhere
    mkdir "$tmp/kept"
    cp "$session" "$tmp/kept/session.json"
    chmod a-w "$tmp/kept"
    run 1 "$program" --session "$tmp/kept/session.json" -p x
    err_has "llama3: $tmp/kept/session.json: Permission denied"
    err_lines 1
    out_empty
    chmod u+w "$tmp/kept"
fi
cat >"$tmp/open" <<'END'
{"format": "llama3-session", "version": 1, "messages": [{"role": "user", "content": "Well?"}]}
END
run 1 $ask --session "$tmp/open" -p x
err_has "llama3: $tmp/open ends with a question: expected an answer to go on from"
err_lines 1
run 2 "$program" --session "$session" --raw -p x
err_has "--raw uses no chat template, so --session has no meaning"
run 2 "$program" --session "$session" --seed 9007199254740992 -p x
err_has "--seed: expected at most 9007199254740991 with --session, found \"9007199254740992\""

# --system @FILE reads it; a file that is missing, empty or none is said.
printf 'Be kind.\nBe brief.\n' >"$tmp/system"
run 0 $ask --show-prompt --system "@$tmp/system" -p x
err_has "Be brief.<|eot_id|>"
run 0 $ask --show-prompt --system @- -p x <"$tmp/system"
err_has "Be brief.<|eot_id|>"
run 1 $ask --system "@$tmp/missing" -p x
err_has "llama3: $tmp/missing: No such file or directory"
run 1 $ask --system "@$tmp/nothing" -p x
err_has "llama3: --system: $tmp/nothing holds no text"
run 1 $ask --system "@$tmp" -p x
err_has "llama3: $tmp: expected a file, found a directory"
out_empty

# --show-prompt shows control tokens, which text can't forge.
run 0 $ask --show-prompt --system "Be kind." -p "<|eot_id|>"
err_has "<|start_header_id|>system<|end_header_id|>"
err_has "Be kind.<|eot_id|>"
err_has "<|start_header_id|>assistant<|end_header_id|>"

# Thoughts: between tags where nothing can be dimmed, or not at all; in the session they are what the
# template expects back.
printf '%s' "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}" \
    "{% if add_generation_prompt %}assistant: {{ '<think>\n' }}{% endif %}" >"$tmp/thinks.jinja"
think="$ask --temperature 0 --template $tmp/thinks.jinja"
run 0 $think --show-prompt -p x
err_has "assistant: <think>" # random weights never end a thought
cp "$tmp/out" "$tmp/thought"
[ "$(head -n 1 "$tmp/thought")" = "<think>" ] || fail "$last: expected <think>, found $(cat "$tmp/thought")"
[ "$(wc -c <"$tmp/thought")" -gt 10 ] || fail "$last: no thought"
! grep -q '/think' "$tmp/thought" || fail "$last: a thought that was cut looks whole"
run 0 $think -p x --think show
same "$tmp/out" "$tmp/thought" "--think show is not the default"
run 0 $think -q -p x --think hide --session "$tmp/thinks.json"
err_empty
printf '\n' | cmp -s - "$tmp/out" || fail "--think hide shows $(cat "$tmp/out")"
grep -qF '"content": "<think>\n' "$tmp/thinks.json" && grep -qF '\n</think>\n\n"' "$tmp/thinks.json" ||
    fail "a thought is not kept: $(cat "$tmp/thinks.json")"
run 0 $think -p x --think hide
err_has "llama3: note: the answer ended within its thoughts, which --think hide leaves out"
run 0 $think --show-prompt --session "$tmp/thinks.json" -p y
sed '1d; /^<\/think>$/,$d' "$tmp/err" >"$tmp/again"
sed 1d "$tmp/thought" >"$tmp/bare"
[ "$(cat "$tmp/again")" = "$(cat "$tmp/bare")" ] || fail "the next prompt has another thought: $(cat "$tmp/err")"
run 0 $ask --temperature 0 --raw -p 'x <think>' # a text that is continued has none
! grep -q '<think>' "$tmp/out" || fail "--raw: expected no thoughts, found $(cat "$tmp/out")"
run 2 $ask --think dimmed -p x
err_has "llama3: --think: expected one of show, hide, found \"dimmed\""
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    need_preload
    for mode in show hide; do
        rm -f "$tmp/thinks.json"
        run 0 env THINK='a b' SAY='c
d' LD_PRELOAD="$preload" $think -q --think $mode -p x --session "$tmp/thinks.json"
        [ $mode = hide ] && printf 'c\nd\n' >"$tmp/want"
        [ $mode = show ] && printf '<think>\na b\n</think>\n\nc\nd\n' >"$tmp/want"
        same "$tmp/out" "$tmp/want" "$last: found $(cat "$tmp/out")"
        err_empty
        grep -qF '"content": "<think>\na b\n</think>\n\nc\nd"' "$tmp/thinks.json" ||
            fail "$last: expected thought and answer, found $(cat "$tmp/thinks.json")"
    done
fi

# An answer that goes in circles is ended with a note, and kept; --repeat-stop off lets it go on.
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    need_preload
    circles=$(for _ in $(seq 100); do printf 'I say this again and again, as small models do.\n'; done)
    for temperature in 0 0.8; do
        rm -f "$tmp/circles.json"
        run 0 env SAY="$circles" LD_PRELOAD="$preload" $ask --seed 3 --temperature $temperature -p x --session "$tmp/circles.json"
        err_has 'llama3: note: the answer was ended, as it says again and again "I say this again and again, as small models do." (--repeat-stop)'
        lines=$(wc -l <"$tmp/out")
        [ "$lines" -ge 25 ] && [ "$lines" -le 30 ] || fail "expected some 26 lines, found $lines"
        grep -q 'as small models do' "$tmp/circles.json" || fail "$last: expected what was said in the session"
    done
    run 0 env SAY="$circles" LD_PRELOAD="$preload" $ask --repeat-stop off -p x
    err_empty
    [ "$(wc -l <"$tmp/out")" -eq 100 ] || fail "$last: expected 100 lines"
fi

# --load changes no answer; what was copied is said.
for load in auto map read; do
    run 0 $ask --temperature 0 -n 8 --stats --load $load -p x
    [ $load = auto ] && cp "$tmp/out" "$tmp/loaded"
    same "$tmp/out" "$tmp/loaded" "--load $load: another answer"
    if [ $load = read ]; then
        err_has "copied       "
    else
        ! grep -q "^copied" "$tmp/err" || fail "--load $load: copies of a small model"
    fi
done

# --stats, -v
run 0 $ask --stats -p x
for name in model prompt answer "peak memory" seed; do
    grep -q "^$name " "$tmp/err" || fail "--stats shows no $name"
done
# The speed of an answer counts the passes that it took: the last token needs none.
run 0 $ask --temperature 0 -n 1 --stats -p x
err_has "answer       1 tokens in "
grep "^answer " "$tmp/err" | grep -q "tokens/s" && fail "-n 1 --stats: a speed without a pass"
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    need_preload
    run 0 env SLOW_TEXT=200 LD_PRELOAD="$preload" $ask --temperature 0 -n 3 --stats -p x
    passes=$(awk '$1 == "answer" { printf "%.1f", $5 * $7 }' "$tmp/err")
    case $passes in
    1.9 | 2.0 | 2.1) ;;
    *) fail "-n 3 --stats: expected the speed of 2 passes, found $passes: $(cat "$tmp/err")" ;;
    esac
fi
run 0 $ask -v -p x
err_has "llama3: $tiny: "
err_has "peak memory"

# --info answers nothing, and reads nothing.
run 0 "$program" --info --ctx 64 --kv f32
err_empty
for name in model format architecture width attention vocabulary template "stop ids" context \
    "KV cache" memory backend exactness; do
    grep -q "^$name  *[^ ]" "$tmp/out" || fail "--info shows no $name"
done
! grep -q thinks "$tmp/out" || fail "--info: expected a model that does not think"
out_has "64 tokens"
out_has "per token (f32)"
run 0 "$program" --info --template "$tmp/thinks.jinja"
grep -q "^template  *custom, of a model that thinks before it answers$" "$tmp/out" ||
    fail "--info does not tell that the model thinks: $(cat "$tmp/out")"

# What a file calls its tokens, and its own name, can't speak to a terminal.
escape=$(printf '\033')
odd="$tmp/odd${escape}[31m"
cp -R "$tiny" "$odd"
chmod -R u+w "$odd"
sed 's/<|end_of_text|>/<|\\u001b[32m\\u009b2J\\u007f|>/' "$tiny/tokenizer.json" >"$odd/tokenizer.json"
run 0 "$program" -m "$odd" --info
out_has "model        $tmp/odd\\x1b[31m"
out_has "369 <|\\x1b[32m\\xc2\\x9b2J\\x7f|>, 377 <|eot_id|>"
run 0 "$program" -m "$odd" -v -n 1 -p x
err_has "llama3: $tmp/odd\\x1b[31m: "
run 1 "$program" -m "$odd${escape}[0m" -p x
err_has "[31m"
! grep -q "$escape" "$tmp/err" || fail "$last: an escape sequence on stderr"

# Weights that are no numbers, in a file that is otherwise valid: no answer instead of any.
cp -R "$tiny" "$tmp/damaged"
chmod -R u+w "$tmp/damaged"
size=$(wc -c <"$tmp/damaged/model.safetensors")
printf '\000\000\300\177' | dd of="$tmp/damaged/model.safetensors" bs=1 seek=$((size - 4)) \
    conv=notrunc 2>"$tmp/dd"
run 1 "$program" -m "$tmp/damaged" -n 5 -p x
err_has "llama3: $tmp/damaged: expected finite logits, found "
err_has ": the weights are damaged"
err_lines 1
out_empty

# Where stdout goes wrong.
if [ -c /dev/full ]; then
    for option in "-p x" --info; do
        "$program" -n 5 $option >/dev/full 2>"$tmp/err"
        [ $? = 1 ] || fail "$option to a full disk: expected status 1"
        err_has "llama3: stdout: No space left on device"
        err_lines 1
    done
fi
"$program" -n 5 -p x >&- 2>"$tmp/err"
[ $? = 1 ] || fail "stdout closed: expected status 1"
err_has "llama3: stdout: Bad file descriptor"

# A reader that leaves: no word about it, killed or with status 1.
mkfifo "$tmp/pipe"
head -c 1 <"$tmp/pipe" >/dev/null &
"$program" -q -n 200 --raw --temperature 0 -p "The capital of" >"$tmp/pipe" 2>"$tmp/err"
status=$?
last="a closed pipe"
wait
[ $status = 141 ] || [ $status = 0 ] || fail "a closed pipe: expected death by SIGPIPE, found $status"
err_empty
head -c 1 <"$tmp/pipe" >/dev/null &
(
    trap '' PIPE
    "$program" -q -n 200 --raw --temperature 0 -p "The capital of" >"$tmp/pipe" 2>"$tmp/err"
    echo $? >"$tmp/status"
)
wait
last="a closed pipe, SIGPIPE ignored"
case $(cat "$tmp/status") in
0 | 1) ;;
*) fail "$last: expected status 1, found $(cat "$tmp/status")" ;;
esac
! grep -q . "$tmp/err" || fail "$last: expected no word, found $(cat "$tmp/err")"
finish

#!/bin/sh
# llama3's command line and its input: what is refused, how, and with which exit status.
. "${srcdir:-.}/tests/lib.sh"

# A refused option: status 2, one clear line and the hint, nothing on stdout.
refused()
{
    message=$1
    shift
    run 2 "$program" "$@" </dev/null
    err_has "$message"
    err_lines 2
    err_has "Try 'llama3 --help'."
    out_empty
}

refused "llama3: --top-p: expected a number in (0, 1], found \"x\"" --top-p x
refused "llama3: --top-p: expected a number in (0, 1], found \"0\"" --top-p 0
refused "llama3: --top-p: expected a number in (0, 1], found \"nan\"" --top-p nan
refused "llama3: --top-p: expected a number in (0, 1], found \"1e-60\"" --top-p 1e-60
refused "llama3: --top-p: expected a number in (0, 1], found \"\"" --top-p ""
refused "--min-p: expected a number in [0, 1], found \"1.1\"" --min-p 1.1
refused "--temperature: expected a number in [0, 100], found \"-1\"" --temperature -1
refused "--temperature: expected a number in [0, 100], found \"inf\"" --temperature inf
refused "--temperature: expected a number in [0, 100], found \"1 \"" --temperature "1 "
refused "--repeat-penalty: expected a number in (0, 100], found \"0\"" --repeat-penalty 0
refused "--frequency-penalty: expected a number in [-100, 100]" --frequency-penalty 101
refused "--presence-penalty: expected a number in [-100, 100]" --presence-penalty -101
refused "--threads: expected an integer in [1, 1024], found \"0\"" --threads 0
refused "--threads: expected an integer in [1, 1024], found \"1.5\"" --threads 1.5
refused "--threads: expected an integer in [1, 1024], found \"99999999999999999999\"" \
    --threads 99999999999999999999
refused "--ctx: expected an integer in [1, 16777216], found \"16777217\"" --ctx 16777217
refused "--max-tokens: expected an integer in [1, 16777216], found \"0\"" -n 0
refused "--top-k: expected an integer in [0, 1048576], found \"-1\"" --top-k -1
refused "--seed: expected an integer in [0, 18446744073709551615], found \"-1\"" --seed -1
refused "found \"18446744073709551616\"" --seed 18446744073709551616
refused "--kv: expected one of auto, f16, f32, int8, int4, found \"f8\"" --kv f8
refused "--load: expected one of auto, map, read, found \"x\"" --load x
for value in on 0 "" AUTO "auto " 1,2; do
    refused "llama3: --numa: expected one of auto, off, found \"$value\"" --numa "$value"
done
refused "option '--numa' requires an argument" --numa
for name in llama3-eval llama3-server llama3-bench; do
    run 2 "$(dirname "$program")/$name" -m "$tiny" --numa interleave </dev/null
    err_has "$name: --numa: expected one of auto, off, found \"interleave\""
done
for layers in x 513 -1 1.5 "" al; do
    refused "--gpu-layers: expected auto, all, 0 or an integer in [1, 512], found \"$layers\"" \
        --gpu-layers "$layers"
done
refused "--kv-gpu: expected one of yes, no, found \"f\"" --kv-gpu f
refused "--device: expected an integer in [0, 63], found \"64\"" --device 64
run 2 "$program" -p x --template-arg x
err_has "--template-arg: expected NAME=VALUE, found \"x\""
refused "--stop: expected TEXT, found nothing" --stop ""
refused "--model: expected PATH, found nothing" -m ""
refused "--prompt: expected UTF-8, found an invalid sequence at byte 2" -p "$(printf 'ab\377')"
refused "--system: expected UTF-8, found an invalid sequence at byte 0" --system "$(printf '\300\200')"
refused "--prompt: expected once, found twice" -p a -p b
refused "--prompt: expected once, found twice" -p "" --prompt=b
# The same of what is found out later, without a word about --help.
odd()
{
    message=$1
    shift
    run 2 "$program" "$@"
    err_has "llama3: $message"
    err_lines 1
}
odd "--file: expected - once, found it twice" -f - -f -
odd "stdin can be read once, by --system @- or by --file -" --system @- -f -
odd "--system: expected a file after '@', found nothing" --system @ -p x
for option in image mmproj audio; do
    refused "--image: Llama 3 models are of text alone, so no image or sound can be read" --$option x -p x
done
refused "unrecognized option '--nosuch'" --nosuch
refused "option requires an argument -- 'p'" -p

# Words are a prompt; one that names a model is a -m that was forgotten.
named()
{
    run 2 "$program" "$@" </dev/null
    err_has "which names a model: -m "
    err_lines 1
    out_empty
}
named "$tiny"
named hello "$tiny/model.safetensors"
named meta-llama/Llama-3.2-1B-Instruct hello
named org/name:Q4_K_M
named nosuch.gguf
run 2 "$program" "$srcdir/README.md"
err_has "which names a file: -f "
run 2 "$program" "$srcdir"
err_has "which names a file: -f "
run 2 "$program" -p a b
err_has 'expected one prompt, found --prompt and "b"'
run 2 "$program" a "$(printf 'b\377')"
err_has "word 2: expected UTF-8, found an invalid sequence at byte 1"
run 0 "$program" -m "$tiny" -n 1 -q --show-prompt What is -t 1 "this and/or that?" nosuch.gguf </dev/null
err_has "What is this and/or that? nosuch.gguf<|eot_id|>"

# Where there is one memory node, --numa has nothing to do and nothing to say.
case $(cat /sys/devices/system/node/has_memory 2>/dev/null) in
*[-,]*) ;; # scripts/check-numa looks at several
*)
    for numa in auto off; do
        run 0 "$program" -m "$tiny" --numa $numa --threads 2 --info
        err_empty
        ! grep -q "memory node" "$tmp/out" || fail "$last: found $(grep "memory node" "$tmp/out")"
        run 0 "$program" -m "$tiny" --numa $numa --threads 2 --temp 0 -n 5 -p x -q
        mv "$tmp/out" "$tmp/numa-$numa"
    done
    same "$tmp/numa-auto" "$tmp/numa-off" "--numa gives another answer"
    ;;
esac

# Names of llama.cpp's and ollama's, and letters, set the option that they mean.
while read -r spelling name; do
    refused "llama3: --$name: expected " "$spelling" x
done <<'END'
--temp temperature
-n max-tokens
--n-predict max-tokens
--predict max-tokens
--num-predict max-tokens
-c ctx
--ctx-size ctx
--num-ctx ctx
-t threads
--num-thread threads
-s seed
END
run 0 "$program" -m "$tiny" --temp 0 --n-predict 3 --num-ctx=64 -t 1 -s 1 -p x -q
cp "$tmp/out" "$tmp/aliases"
run 0 "$program" -m "$tiny" --temperature 0 --max-tokens 3 --ctx 64 --threads 1 --seed 1 -p x -q
same "$tmp/out" "$tmp/aliases" "the names of others give another answer"
run 0 "$program" -m "$tiny" -n 1 -q --show-prompt --system-prompt "Be kind." -p x
err_has "Be kind.<|eot_id|>"

# What the model has to say about an option names it as it was given.
run 1 "$program" -m "$tiny" --ctx 4096000 -p x
err_has "llama3: --ctx: expected at most the model's "
err_lines 1
published=$srcdir/tests/data/text/templates/llama3.1.jinja
run 1 "$program" -m "$srcdir/tests/data/tiny-rope" --template "$published" --date yesterday -p x
err_has 'llama3: --date: expected one like "26 Jul 2024", found "yesterday"'
err_lines 1

# An option without effect says so.
run 0 "$program" -m "$tiny" -n 1 --temp 0 --date "26 Jul 2024" -p x
err_has "llama3: note: --date has no effect: the chat template llama3 doesn't use it"
run 0 "$program" -m "$tiny" -n 1 --temp 0 --date "26 Jul 2024" -p x -q
err_empty
run 0 "$program" -m "$tiny" -n 1 --temp 0 --template "$published" --date "26 Jul 2024" -p x
! grep -q "no effect" "$tmp/err" || fail "$last: found $(cat "$tmp/err")"

printf '{{ messages[-1].content }}{{ used }}' >"$tmp/last.jinja"
run 0 "$program" -m "$tiny" -n 1 --temp 0 --template "$tmp/last.jinja" --system x -p x \
    --template-arg used=1 --template-arg 'a b=1'
err_has "llama3: note: --system has no effect: the chat template custom doesn't use it"
err_has "llama3: note: --template-arg a b has no effect: the chat template custom doesn't use it"
! grep -q "used has no\|says has no" "$tmp/err" || fail "$last: found $(cat "$tmp/err")"
printf 'x{{ messages[0].content if messages[0].role == "system" }}' >"$tmp/deaf.jinja"
run 0 "$program" -m "$tiny" -n 1 --temp 0 --template "$tmp/deaf.jinja" --system x -p x
err_has "llama3: note: what a user says has no effect: the chat template custom doesn't use it"
! grep -q "system has no" "$tmp/err" || fail "$last: found $(cat "$tmp/err")"
for value in '{"a": 1' '[1' '"a' 18446744073709551616; do
    run 0 "$program" -m "$tiny" -n 1 --temp 0 --template "$tmp/last.jinja" -p x --template-arg "used=$value"
    err_has "llama3: note: --template-arg used: the value is not valid JSON, so it is a string"
done
run 0 "$program" -m "$tiny" -n 1 --temp 0 --template "$tmp/last.jinja" -p x --template-arg "used=26 Jul 2024"
! grep -q "valid JSON" "$tmp/err" || fail "$last: found $(cat "$tmp/err")"

# Without a template an option that only one could use is an error.
mkdir "$tmp/base"
cp "$tiny"/* "$tmp/base"
sed -i 's/"chat_template"/"no_template"/' "$tmp/base/tokenizer_config.json"
for option in --system=x --session="$tmp/no.json" --template-arg=x=1 --date=x --think=hide; do
    run 1 "$program" -m "$tmp/base" -n 1 -p x "$option"
    err_has "$tmp/base has no chat template, so $(echo "${option%%=*}" | sed 's/think/think hide/') has no meaning"
    err_lines 1
done

# A template that is no template, that is not there, or that needs other tokens.
run 1 "$program" -m "$tiny" --template nosuch -p x
err_has 'llama3: --template: expected one of the checkpoint'"'"'s ("default"), llama3 or chatml, found "nosuch"'
err_lines 1
run 1 "$program" -m "$tiny" --template chatml -p x
err_has "expected the control token <|im_start|> in the vocabulary, found none"
printf 'a\n{%% if %%}' >"$tmp/broken.jinja"
run 1 "$program" -m "$tiny" --template "$tmp/broken.jinja" -p x
err_has "$tmp/broken.jinja: line 2: expected an expression, found %}"

run 1 "$program" -m "$tiny" --template ./nosuch.jinja -p x
err_has "llama3: ./nosuch.jinja: No such file or directory"
err_lines 1
printf 'a\0b' >"$tmp/nul.jinja"
run 1 "$program" -m "$tiny" --template "$tmp/nul.jinja" -p x
err_has "llama3: $tmp/nul.jinja: expected text, found a NUL byte at byte 1"

# A pipe is read to its end, if that comes.
mkfifo "$tmp/pipe"
printf 'piped {{ messages[0].content }}' >"$tmp/pipe" &
run 0 "$program" -m "$tiny" -n 1 --temp 0 --template "$tmp/pipe" --show-prompt -p x
err_has "piped x"
wait $!
head -c 4194305 /dev/zero | tr '\0' x >"$tmp/large"
run 1 "$program" -m "$tiny" --template /dev/stdin -p x <"$tmp/large"
err_has "llama3: /dev/stdin: expected a chat template of at most 4 MiB, found more"

# A name is first one of the checkpoint's templates, then a built-in one, then a file.
mkdir -p "$tmp/named/additional_chat_templates" "$tmp/here/llama3"
cp "$tiny"/* "$tmp/named"
printf 'the checkpoint says' >"$tmp/named/additional_chat_templates/rag.jinja"
printf 'the file says' >"$tmp/here/rag"
printf 'the file says' >"$tmp/here/chatml"
printf 'x' >"$tmp/named/additional_chat_templates/$(printf 'a\tb').jinja"
program=$(cd "$(dirname "$program")" && pwd)/$(basename "$program")
cd "$tmp/here" || exit
for name in rag ./rag; do
    run 0 "$program" -m "$tmp/named" -n 1 --temp 0 --template "$name" --show-prompt -p x
    case $name in
    rag) err_has "the checkpoint says" ;;
    *) err_has "the file says" ;;
    esac
    err_has "note: $tmp/named/additional_chat_templates/a?b.jinja: a chat template is left out: expected a name of"
done
run 0 "$program" -m "$tmp/named" -n 1 --temp 0 --template llama3 --show-prompt -p x # not the folder
err_has "<|start_header_id|>user<|end_header_id|>"
run 1 "$program" -m "$tmp/named" --template chatml -p x
err_has "expected the control token <|im_start|> in the vocabulary, found none"
run 1 "$program" -m "$tmp/named" --template nosuch -p x
err_has '("default", "rag"), llama3 or chatml, found "nosuch"'
run 0 "$program" -m "$tmp/named" --info
grep -q '^template .* (--template chooses rag)$' "$tmp/out" || fail "--info names no other template"
# Without a default one, the text is continued.
rm "$tmp/named"/tokenizer_config.json
run 0 "$program" -m "$tmp/named" -n 1 --temp 0 -p x
err_has "no default chat template; it continues the text (--raw); --info lists those that"
cd "$OLDPWD" || exit

# Variables of the template: JSON, or else a text.
printf '%s' "{{ bos_token }}{{ [a, b, c] }}{{ messages[0].content }}" >"$tmp/own.jinja"
run 0 "$program" -m "$tiny" -n 1 --temp 0 --template "$tmp/own.jinja" --template-arg a=false \
    --template-arg 'b={"x": [1]}' --template-arg c=word --show-prompt -p Hello
err_has "<|begin_of_text|>[False, {'x': [1]}, 'word']Hello"

# What could not be meant.
run 1 "$program" -m "$tiny" --template-arg 'messages=[]' -p x
err_has 'llama3: --template-arg: expected no variable that is set already, found "messages"'
run 1 "$program" -m "$tiny" --template-arg tools=5 -p x
err_has 'llama3: --template-arg: tools: expected an array, found an integer'

for option in --system=x --template=llama3 --template-arg=x=1 --date=x --think=hide; do
    run 2 "$program" --raw -p x $option
    err_has "--raw uses no chat template, so $(echo "${option%%=*}" | sed 's/think/think hide/') has no meaning"
done
run 2 "$program" -q -v -p x
err_has "contradict"
for option in --kv-gpu=no --device=1 --gpu-bf16-prompt; do
    run 2 "$program" -p x --gpu-layers 0 $option
    err_has "--gpu-layers 0 uses no GPU, so ${option%=*} has no meaning"
done

# No text.
run 2 "$program" -m "$tiny" -p ""
err_has "llama3: the prompt is empty: --prompt says nothing"
run 2 "$program" -m "$tiny" </dev/null
err_has "llama3: the prompt is empty: stdin holds no text"
echo >"$tmp/newline"
run 2 "$program" -m "$tiny" -f "$tmp/newline"
err_has "the prompt is empty"

# No text that is one.
printf 'good \303\251 \355\240\200' >"$tmp/surrogate"
run 1 "$program" -m "$tiny" -f "$tmp/surrogate"
err_has "llama3: $tmp/surrogate: expected UTF-8, found an invalid sequence at byte 8"
err_lines 1
printf 'a\000b' >"$tmp/nul"
run 1 "$program" -m "$tiny" <"$tmp/nul"
err_has "llama3: stdin: expected text, found a NUL byte at byte 1"
truncate -s 67108865 "$tmp/large"
run 1 "$program" -m "$tiny" -f "$tmp/large"
err_has "$tmp/large: expected at most 64 MiB of text, found more"
run 1 "$program" -m "$tiny" -f "$tmp/missing"
err_has "llama3: $tmp/missing: No such file or directory"
run 1 "$program" -m "$tiny" -f "$tmp"
err_has "llama3: $tmp: expected a file, found a directory"
run 1 "$program" -m "$tiny" <&-
err_has "llama3: stdin: Bad file descriptor"

# No model.
HOME=$tmp XDG_CACHE_HOME='' run 1 "$program" -p x
err_has "llama3: no model: name one with --model or LLAMA3_MODEL, or let scripts/quickstart"
err_has "$tmp/.cache/llama3/SmolLM2-135M-Instruct.Q4_1.gguf"
XDG_CACHE_HOME=$tmp/cache run 1 "$program" -p x
err_has "$tmp/cache/llama3/SmolLM2-135M-Instruct.Q4_1.gguf"
run 1 "$program" -m "$tmp/missing.gguf" -p x
err_has "missing.gguf"
err_lines 1
out_empty
LLAMA3_MODEL=$tmp/variable.gguf run 1 "$program" -p x
err_has "variable.gguf"
LLAMA3_MODEL=$tmp/variable.gguf run 1 "$program" -p x -m "$tmp/option.gguf"
err_has "option.gguf"

# Help and version are answers: stdout, status 0, or 1 if it can't be written.
for help in -h --help --hel; do
    run 0 "$program" $help
    out_has "usage: llama3"
    err_empty
done
[ "$(awk 'length > 80' "$tmp/out")" = "" ] || fail "--help has lines over 80 columns"
run 0 "$program" -V
out_has "llama3 "
[ "$(wc -l <"$tmp/out")" -eq 1 ] || fail "-V prints more than a line"
if [ -c /dev/full ]; then
    for option in -h -V; do
        "$program" $option >/dev/full 2>"$tmp/err"
        [ $? = 1 ] || fail "$option to a full disk: expected status 1"
        err_has "llama3: stdout: No space left on device"
    done
fi
finish

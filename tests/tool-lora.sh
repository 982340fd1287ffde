#!/bin/sh
# --lora in the programs: what it takes and refuses, and adapters by request in llama3-server.
. "${srcdir:-.}/tests/lib.sh"
eval=${LLAMA3_EVAL:-./llama3-eval}
data=$srcdir/tests/data

# ---- the command line
ids=$(sed 's/.*"ids": \[\([^]]*\)\].*/\1/; s/ //g' "$data/lora-f32-plain/golden.json")
logits()
{
    out=$1
    shift
    run 0 "$eval" -q -m "$tiny" --no-cache --int4 --logits "$out" --tokens "$ids" "$@"
}
logits "$tmp/base"
logits "$tmp/peft" --lora "$data/lora-plain"
logits "$tmp/gguf" --lora "$data/lora-plain/model.gguf"
logits "$tmp/one" --lora "$data/lora-plain:1"
logits "$tmp/half" --lora "$data/lora-plain:0.5"
logits "$tmp/two" --lora "$data/lora-plain" --lora "$data/lora-all:-1.5"
cmp -s "$tmp/peft" "$tmp/gguf" || fail "PEFT's file and GGUF's are not the same adapter"
cmp -s "$tmp/peft" "$tmp/one" || fail "a scale of 1 is not the default"
for other in base half two; do
    ! cmp -s "$tmp/peft" "$tmp/$other" || fail "$other: the logits of another adapter"
done
run 0 "$program" -m "$tiny" --lora "$data/lora-plain:0.5" --lora "$data/lora-all/model.gguf" --info
out_has "lora-plain, scale 0.5, rank 4"
out_has "model.gguf, scale 1, rank 6"
out_has "of weights with adapters"
err_has " KB of memory"
err_has "note: adapters are added to copies of weights: "
# Trainers call the folders of all runs the same.
mkdir -p "$tmp/run1" "$tmp/run2"
cp -R "$data/lora-plain" "$tmp/run1/checkpoint-500"
cp -R "$data/lora-all" "$tmp/run2/checkpoint-500"
logits "$tmp/runs" --lora "$tmp/run1/checkpoint-500" --lora "$tmp/run2/checkpoint-500:-1.5"
cmp -s "$tmp/runs" "$tmp/two" || fail "adapters of the same name are not both added"
run 0 "$program" -m "$tiny" -q --lora "$data/lora-plain" -n 3 -p Hello
for scale in 0 1001 -1e9; do
    run 2 "$program" -m "$tiny" --lora "$data/lora-plain:$scale" -p Hello
    err_has "--lora: expected a scale of -1000 to 1000 that is not 0, found \"$scale\""
done
run 1 "$program" -m "$tiny" --lora "$tmp/none:2" -p Hello
err_has "$tmp/none"
err_lines 1
cp -R "$data/lora-plain" "$tmp/integers"
LC_ALL=C sed 's/"F32"/"I32"/g' "$data/lora-plain/adapter_model.safetensors" >"$tmp/integers/adapter_model.safetensors"
run 1 "$program" -m "$tiny" --lora "$tmp/integers" -p Hello
err_has "expected F32, F16 or BF16, found I32"
run 1 "$program" -m "$srcdir/tests/data/tiny-gqa-6-2" --lora "$data/lora-plain" -p Hello
err_has "expected [4, 36], found [4, 32]"

# ---- the server
. "$srcdir/tests/server-lib.sh"
run 1 "$server" -m "$tiny" --port 0 --lora "tiny-f32=$data/lora-plain"
err_has "--lora: expected another name than the model's"
run 1 "$server" -m "$tiny" --port 0 --lora "$tmp/run1/checkpoint-500" --lora "$tmp/run2/checkpoint-500"
err_has 'expected a name of its own for each, as in NAME=PATH, found "checkpoint-500" twice'
start -m "$tiny" --lora "sql=$data/lora-plain" --lora "$data/lora-all:0.5"
ready
get 200 /v1/models
out_has '"id":"tiny-f32"'
out_has '"id":"sql","object":"model"'
out_has '"parent":"tiny-f32"'
get 200 /v1/models/sql
out_has '"id":"sql"'
get 404 /v1/models/other
get 200 /lora-adapters
out_has '[{"id":0,"name":"sql","scale":0.0},{"id":1,"name":"lora-all","scale":0.5}]'
post 405 /lora-adapters '[]'

# ask FIELDS: the answer's text is then in $answer.
ask()
{
    post 200 /v1/completions "{\"prompt\":[$ids,$ids,$ids,$ids],\"temperature\":0,\"max_tokens\":12${1:+,}$1}"
    answer=$(sed 's/"id":"cmpl[^"]*",//; s/"created":[0-9]*,//; s/"usage".*//' "$tmp/out")
}
ask '"lora":[]'
none=$answer
ask ''
plain=$answer
ask '"model":"gpt-4"'
[ "$answer" = "$plain" ] || fail "an unknown model is not the server's"
ask '"lora":[{"name":"lora-all"}]'
[ "$answer" = "$plain" ] || fail "an adapter without a name is not that of all requests"
ask '"lora":[{"id":1,"scale":0.5},{"id":0,"scale":0}]'
[ "$answer" = "$plain" ] || fail "adapters by their ids are not those by name"
ask '"model":"sql"'
sql=$answer
out_has '"model":"sql"'
ask '"model":"tiny-f32:sql"'
[ "$answer" = "$sql" ] || fail "BASE:ADAPTER is not ADAPTER"
ask '"lora":[{"name":"sql","scale":1}]'
[ "${answer#*choices}" = "${sql#*choices}" ] || fail "an adapter as a model is not the one in a list"
[ "${none#*choices}" != "${plain#*choices}" ] && [ "${none#*choices}" != "${sql#*choices}" ] &&
    [ "${plain#*choices}" != "${sql#*choices}" ] || fail "adapters change nothing"

# What an adapter has read is not another's prefix.
ask '"lora":[{"name":"sql","scale":0.25}]'
out_has '"cached_tokens":0'
ask '"lora":[{"id":0,"scale":0.25}]'
out_has '"cached_tokens":64'
ask '"lora":[{"name":"sql","scale":-0.0}]'
[ "$answer" = "$none" ] || fail "a scale of -0 is not 0"

# Requests with different adapters at the same time have the answers that each has alone.
i=0
while [ $i -lt 12 ]; do
    case $((i % 3)) in
    0) field='"lora":[]' ;;
    1) field='"lora":[{"name":"lora-all"}]' ;;
    2) field='"model":"sql"' ;;
    esac
    curl -s -m 60 -H 'Content-Type: application/json' -o "$tmp/many$i" \
        -d "{\"prompt\":[$i,$ids,$ids,$ids,$ids],\"temperature\":0,\"max_tokens\":40,$field}" "$url/v1/completions" &
    eval "curl$i=$!"
    i=$((i + 1))
done
i=0
while [ $i -lt 12 ]; do
    eval "wait \$curl$i"
    i=$((i + 1))
done
stop 0
start -m "$tiny" --lora "sql=$data/lora-plain" --lora "$data/lora-all:0.5" --parallel 1
ready
text()
{
    sed 's/.*"choices"//; s/"usage".*//' "$1"
}
i=0
while [ $i -lt 12 ]; do
    case $((i % 3)) in
    0) field='"lora":[]' ;;
    1) field='"lora":[{"name":"lora-all"}]' ;;
    2) field='"model":"sql"' ;;
    esac
    post 200 /v1/completions "{\"prompt\":[$i,$ids,$ids,$ids,$ids],\"temperature\":0,\"max_tokens\":40,$field}"
    [ "$(text "$tmp/out")" = "$(text "$tmp/many$i")" ] || fail "request $i: another answer beside others"
    i=$((i + 1))
done

# refuse FIELD ERROR
refuse()
{
    post 400 /v1/completions "{\"prompt\":\"Hello\",\"max_tokens\":1,$1}"
    out_has "$2"
}
refuse '"lora":{}' 'expected a list, found an object'
refuse '"lora":[1]' 'expected objects'
refuse '"lora":[{}]' 'for each'
refuse '"lora":[{"name":"sql","id":0}]' 'for each'
refuse '"lora":[{"id":"0"}]' 'for each'
refuse '"lora":[{"id":7}]' 'expected adapters of /lora-adapters, found the id 7'
refuse '"lora":[{"name":"sql"},{"name":"x"}]' 'expected adapters of /lora-adapters, found the name \"x\"'
refuse '"lora":[{"name":"sql"},{"id":0}]' 'found one twice'
refuse '"lora":[{"name":"sql","scale":1e9}]' '-1000 to 1000'
refuse '"lora":[{"name":"sql","scale":"1"}]' '-1000 to 1000'
refuse '"lora":[{"name":"sql","weight":1}]' 'is not supported'
refuse '"lora":[],"model":"sql"' 'has no meaning with an adapter as the model'
stop 0
finish

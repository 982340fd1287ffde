#!/bin/sh
# llama3-pull(1): what it fetches, from where and to where, and what is done with it afterwards.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/hub-lib.sh"
serve_tiny org/tiny
hub_start

# ---- the command line ------------------------------------------------------------------------

for name in '' tiny org/ /tiny org/tiny/more 'org/ti ny' org/../tiny ../tiny org/.tiny -- org--x/tiny org/tiny: \
    https://huggingface.co/org https://other.example/org/tiny \
    https://huggingface.co/org/tiny/tree/main "$(printf 'org/%0100d' 0)"; do
    run 2 "$pull" "$name"
    out_empty
    grep -q '^llama3-pull: ' "$tmp/err" || fail "'$name': expected an error, found $(cat "$tmp/err")"
done
asked 0 .
for options in '--jobs 0' '--jobs x' '-j 1000' '--int4=best' '--no-such-option' '--list --remove org/tiny' \
    '--drop-source org/tiny' 'org/tiny org/other'; do
    # shellcheck disable=SC2086 # options are several words
    run 2 "$pull" $options
    out_empty
done
run 2 "$pull"
err_has "expected a model's name, such as meta-llama/"
err_has "Try 'llama3-pull --help'."
err_lines 2
run 2 "$pull" org/tiny org/other
err_has "unexpected argument \"org/other\": it takes one model only"
asked 0 .
run 0 "$pull" --version
out_has "llama3-pull "
run 0 "$pull" --help
out_has "--local-dir"

# ---- into the cache --------------------------------------------------------------------------

fresh
run 0 "$pull" org/tiny
out_has "$(snapshot org/tiny)"
[ "$(wc -l <"$tmp/out")" = 1 ] || fail "$last: expected one line on stdout, found $(cat "$tmp/out")"
err_has "llama3 -m org/tiny"
# shellcheck disable=SC2086 # a list of names
whole "$(snapshot org/tiny)" org/tiny $needed
no_leftovers
# as huggingface_hub lays it out
folder=$(folder_of org/tiny)
commit=$(cat "$folder/refs/main")
[ "${#commit}" = 40 ] && [ "$(wc -c <"$folder/refs/main")" = 40 ] || fail "refs/main: '$commit'"
for name in $needed; do
    link=$(readlink "$folder/snapshots/$commit/$name") || fail "$name is no link"
    case $name in
    *.safetensors) etag=$(sha256sum <"$tmp/root/org/tiny/$name" | cut -d ' ' -f 1) ;;
    *) etag=$({
        printf 'blob %d\0' "$(wc -c <"$tmp/root/org/tiny/$name")"
        cat "$tmp/root/org/tiny/$name"
    } | sha1sum | cut -d ' ' -f 1) ;;
    esac
    [ "$link" = "../../blobs/$etag" ] || fail "$name: expected a link to ../../blobs/$etag, found $link"
done
[ "$(find "$folder/blobs" -type f | wc -l)" = 8 ] || fail "other blobs than 8: $(ls "$folder/blobs")"
# It runs, and says what the folder says.
run 0 "$program" -m "$tmp/root/org/tiny" --temperature 0 -n 8 -p "a b c"
cp "$tmp/out" "$tmp/answer"
run 0 "$program" -m org/tiny --temperature 0 -n 8 -p "a b c"
same "$tmp/out" "$tmp/answer" "$last: another answer than of the folder that was served"

# Again: the hub is asked what there is, and nothing is fetched.
: >"$tmp/log"
run 0 "$pull" -q org/tiny
out_has "$folder/snapshots/$commit"
err_empty
asked 1 '"/api/models/org/tiny/revision/main?blobs=true"'
asked 0 /resolve/
# A file that is gone is fetched, alone.
rm "$folder/snapshots/$commit/tokenizer.json"
run 0 "$pull" -q org/tiny
asked 0 /resolve/ # its contents are still there
rm "$(readlink -f "$folder/snapshots/$commit/tokenizer.json")"
run 0 "$pull" -q org/tiny
asked 1 'GET.*/resolve/'
# shellcheck disable=SC2086
whole "$(snapshot org/tiny)" org/tiny $needed

# The address of the model's page, in each form.
for address in "https://huggingface.co/org/tiny" "https://huggingface.co/org/tiny/" \
    "http://huggingface.co/org/tiny" "https://hf.co/org/tiny" "$hub/org/tiny"; do
    : >"$tmp/log"
    run 0 "$pull" -q "$address"
    out_has "$folder/snapshots/$commit"
done

# Without a network: what is there.
: >"$tmp/log"
run 0 "$pull" -q --offline org/tiny
out_has "$folder/snapshots/$commit"
run 0 env HF_HUB_OFFLINE=1 "$pull" -q org/tiny
out_has "$folder/snapshots/$commit"
refuses 1 "org/other" "$pull" -q --offline org/other
for name in config.json model-00002-of-00003.safetensors; do
    blob=$(readlink -f "$folder/snapshots/$commit/$name")
    mv "$blob" "$tmp/blob"
    refuses 1 "llama3-pull org/tiny" "$pull" -q --offline org/tiny
    mv "$tmp/blob" "$blob"
done
asked 0 .

# The environment says where it is, as huggingface_hub reads it.
for place in "HF_HUB_CACHE=$tmp/a:$tmp/a" "HUGGINGFACE_HUB_CACHE=$tmp/b:$tmp/b" "HF_HOME=$tmp/c:$tmp/c/hub" \
    "XDG_CACHE_HOME=$tmp/d:$tmp/d/huggingface/hub" "HF_HUB_CACHE=~/e:$HOME/e" "HF_HOME=~/f:$HOME/f/hub"; do
    run 0 env -u HF_HUB_CACHE "${place%%:*}" "$pull" -q --include config.json org/tiny
    [ -e "${place#*:}/models--org--tiny/snapshots/$commit/config.json" ] ||
        fail "${place%%:*}: not in ${place#*:}: $(cat "$tmp/out")"
done

# Files of the same contents, and of none: each name is there.
serve org/odd tiny-f32
echo '{"a": 1}' | tee "$tmp/root/org/odd/special_tokens_map.json" >"$tmp/root/org/odd/added_tokens.json"
: >"$tmp/root/org/odd/vocab.json"
fresh
run 0 "$pull" -q --local-dir "$tmp/odd" org/odd
for where in "$(cat "$tmp/out")" "$("$pull" -q org/odd)"; do
    whole "$where" org/odd config.json generation_config.json model.safetensors tokenizer.json \
        tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json
done

# ---- which files -----------------------------------------------------------------------------

fresh
run 0 "$pull" -q --include '*.json' --exclude 'tokenizer*' org/tiny
whole "$(snapshot org/tiny)" org/tiny config.json generation_config.json model.safetensors.index.json \
    original/params.json
fresh
run 0 "$pull" -q --include original/ --include README.md org/tiny
whole "$(snapshot org/tiny)" org/tiny README.md original/params.json original/consolidated.00.pth
fresh
run 0 "$pull" -q --include 'model-0000[12]-*' --include '?ICENSE*' org/tiny
whole "$(snapshot org/tiny)" org/tiny LICENSE.txt model-00001-of-00003.safetensors \
    model-00002-of-00003.safetensors
refuses 1 "none" "$pull" -q --include '*.onnx' org/tiny
fresh
run 0 "$pull" -q --exclude '*.safetensors' org/tiny
[ ! -e "$(snapshot org/tiny)/model-00001-of-00003.safetensors" ] || fail "$last: weights are fetched"
# All of it in the end: what was left out is added.
run 0 "$pull" -q org/tiny
# shellcheck disable=SC2086
whole "$(snapshot org/tiny)" org/tiny $needed

# ---- revisions -------------------------------------------------------------------------------

serve org/tiny@v1.0 tiny-f32
serve 'org/tiny@refs%2Fpr%2F1' tiny-tied
small="config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json"
for revision in v1.0 refs/pr/1; do
    fresh
    served=org/tiny@$(echo $revision | sed 's,/,%2F,g')
    run 0 "$pull" -q --revision $revision org/tiny
    at=$(cat "$folder/refs/$revision")
    # shellcheck disable=SC2086
    whole "$folder/snapshots/$at" "$served" $small
    [ ! -e "$folder/refs/main" ] || fail "$last: refs/main is there"
    run 0 "$pull" -q --offline --revision $revision org/tiny
    # by its commit, which leaves no ref
    rm -rf "$cache"
    run 0 "$pull" -q --revision "$at" org/tiny
    # shellcheck disable=SC2086
    whole "$folder/snapshots/$at" "$served" $small
    [ -z "$(find "$folder/refs" -type f 2>/dev/null)" ] || fail "$last: a ref is there"
done
# main goes on: the old snapshot stays, what both have is fetched once.
fresh
run 0 "$pull" -q org/tiny
old=$(snapshot org/tiny)
echo '{"do_sample": false}' >"$tmp/root/org/tiny/generation_config.json"
: >"$tmp/log"
run 0 "$pull" -q org/tiny
[ "$(snapshot org/tiny)" != "$old" ] || fail "main has another commit, refs/main hasn't"
# shellcheck disable=SC2086
whole "$(snapshot org/tiny)" org/tiny $needed
asked 1 'GET.*/resolve/'
[ -e "$old/generation_config.json" ] || fail "the old snapshot is gone"
no_leftovers

# A repository that was renamed.
settings='"moved": {"old/name": "org/tiny"}'
fresh
run 0 "$pull" -q old/name
# shellcheck disable=SC2086
whole "$(snapshot old/name)" org/tiny $needed
settings=

# ---- a folder --------------------------------------------------------------------------------

fresh
run 0 "$pull" -q --local-dir "$tmp/dir" org/tiny
out_has "$tmp/dir"
# shellcheck disable=SC2086
whole "$tmp/dir" org/tiny $needed
[ -z "$(find "$tmp/dir" -type l)" ] || fail "$last: links in it"
[ ! -e "$cache/models--org--tiny/blobs" ] || fail "$last: the cache is used as well"
commit=$(sed -n 1p "$tmp/dir/.cache/huggingface/download/config.json.metadata")
[ "${#commit}" = 40 ] || fail "$last: metadata of config.json: $commit"
etag=$(sed -n 2p "$tmp/dir/.cache/huggingface/download/model-00001-of-00003.safetensors.metadata")
[ "$etag" = "$(sha256sum <"$tmp/dir/model-00001-of-00003.safetensors" | cut -d ' ' -f 1)" ] ||
    fail "$last: metadata of a shard: $etag"
run 0 "$program" -m "$tmp/dir" --temperature 0 -n 8 -p "a b c"
same "$tmp/out" "$tmp/answer" "$last: another answer than of the folder that was served"
: >"$tmp/log"
run 0 "$pull" -q --local-dir "$tmp/dir" org/tiny
asked 0 '"GET".*/resolve/'
# A file that was changed there is not what was fetched.
echo '{}' >"$tmp/dir/generation_config.json"
run 0 "$pull" -q --local-dir "$tmp/dir" org/tiny
# shellcheck disable=SC2086
whole "$tmp/dir" org/tiny $needed
run 0 "$pull" -q --offline --local-dir "$tmp/dir" org/tiny

# ---- GGUF ------------------------------------------------------------------------------------

mkdir -p "$tmp/root/org/tiny-GGUF/Q8_0"
for type in Q4_0:tiny-gguf-q4_0 Q4_K_M:tiny-gguf-k F16:tiny-gguf-f16; do
    cp "$srcdir/tests/data/${type#*:}/model.gguf" "$tmp/root/org/tiny-GGUF/Tiny-${type%%:*}.gguf"
done
for shard in 1 2; do
    cp "$srcdir/tests/data/tiny-gguf-split/model-0000$shard-of-00002.gguf" \
        "$tmp/root/org/tiny-GGUF/Q8_0/Tiny-Q8_0-0000$shard-of-00002.gguf"
done
echo x >"$tmp/root/org/tiny-GGUF/mmproj-F16.gguf"
chmod -R u+w "$tmp/root/org/tiny-GGUF"
fresh
run 0 "$pull" -q org/tiny-GGUF:Q4_K_M
out_has "$(snapshot org/tiny-GGUF)/Tiny-Q4_K_M.gguf"
whole "$(snapshot org/tiny-GGUF)" org/tiny-GGUF Tiny-Q4_K_M.gguf
run 0 "$program" -m org/tiny-GGUF:Q4_K_M --info
run 0 "$pull" -q org/tiny-GGUF:q4_0
out_has "$(snapshot org/tiny-GGUF)/Tiny-Q4_0.gguf"
run 0 "$pull" -q org/tiny-GGUF:Q8_0
out_has "$(snapshot org/tiny-GGUF)/Q8_0/Tiny-Q8_0-00001-of-00002.gguf"
whole "$(snapshot org/tiny-GGUF)" org/tiny-GGUF Tiny-Q4_K_M.gguf Tiny-Q4_0.gguf \
    Q8_0/Tiny-Q8_0-00001-of-00002.gguf Q8_0/Tiny-Q8_0-00002-of-00002.gguf
run 0 "$program" -m "$(snapshot org/tiny-GGUF)/Q8_0/Tiny-Q8_0-00001-of-00002.gguf" --info
run 0 "$program" -m org/tiny-GGUF:q8_0 --info
refuses 1 "Q4_K_M" "$pull" -q org/tiny-GGUF:Q2_K
# Without one: what there is, with sizes, and one is suggested.
fresh
run 2 "$pull" org/tiny-GGUF
out_empty
for type in Q4_0 Q4_K_M Q8_0 F16; do
    err_has $type
done
err_has "llama3-pull org/tiny-GGUF:"
nothing_arrived
asked 0 /resolve/
# Of one alone no name is needed.
mkdir "$tmp/root/org/one-GGUF"
cp "$tmp/root/org/tiny-GGUF/Tiny-Q4_0.gguf" "$tmp/root/org/one-GGUF"
run 0 "$pull" -q org/one-GGUF
out_has "$(snapshot org/one-GGUF)/Tiny-Q4_0.gguf"

# ---- what somebody left in the cache ---------------------------------------------------------

fresh
run 0 "$pull" -q org/tiny
echo mine >"$tmp/victim"
ln -sf "$tmp/victim" "$folder/refs/main"
run 0 "$pull" -q org/tiny
ln -sf "$tmp/victim" "$tmp/metadata"
rm -rf "$tmp/dir" && mkdir -p "$tmp/dir/.cache/huggingface/download"
ln -s "$tmp/victim" "$tmp/dir/.cache/huggingface/download/config.json.metadata"
run 0 "$pull" -q --local-dir "$tmp/dir" org/tiny
[ "$(cat "$tmp/victim")" = mine ] || fail "a link in the cache or the folder is written through"
# Shards that are missing are missed, and what is no file is not read.
rm "$folder"/snapshots/*/model-00002-of-00003.safetensors
run 0 "$pull" --list
out_has "incomplete"
run 1 "$pull" -q --verify org/tiny
err_has "incomplete"
run 0 "$pull" -q org/tiny
mkfifo "$folder/blobs/$(printf %064d 0)"
run 1 timeout 20 "$pull" -q --verify org/tiny
rm "$folder"/blobs/0*

# ---- several at once -------------------------------------------------------------------------

# parallel: the most requests of the storage that were answered at a time
parallel()
{
    python3 -c 'import json, sys
begun, events = {}, []
for line in map(json.loads, open(sys.argv[1])):
    if line.get("host") == "storage":
        begun[line["id"]] = line["time"]
        events.append((line["time"], 1))
    elif line.get("id") in begun and "end" in line:
        events.append((begun[line["id"]] + line["seconds"], -1))
most = now = 0
for _, step in sorted(events):
    now += step
    most = max(most, now)
print(most)' "$tmp/log"
}
settings='"rate": 100000'
fresh
run 0 "$pull" -q -j 1 org/tiny
[ "$(parallel)" = 1 ] || fail "$last: $(parallel) connections at a time"
fresh
run 0 "$pull" -q org/tiny
[ "$(parallel)" -ge 2 ] || fail "$last: $(parallel) connections at a time"
settings=

# Two runs: each file is fetched once.
settings='"rate": 60000'
fresh
"$pull" -q org/tiny >"$tmp/first" 2>&1 &
first=$!
run 0 "$pull" -q org/tiny
wait $first || fail "the first of two: status $?, $(cat "$tmp/first")"
# shellcheck disable=SC2086
whole "$(snapshot org/tiny)" org/tiny $needed
no_leftovers
once=$(cd "$tmp/root/org/tiny" && cat *.safetensors | wc -c)
[ "$(sent)" = "$once" ] || fail "two runs fetched $(sent) bytes of weights, not $once"
settings=

# ---- the token -------------------------------------------------------------------------------

settings="\"tokens\": [\"$token\", \"hf_other\"], \"gated\": {\"org/tiny\": [\"$token\"]}"
fresh
run 0 env HF_TOKEN=$token "$pull" org/tiny
kept_secret
[ "$(requests "\"host\": \"hub\".*\"Authorization\": \"Bearer $token\"")" = "$(requests '"host": "hub"')" ] ||
    fail "$last: the token is not in each request of the hub"
asked 3 '"host": "storage"'
for from in HUGGING_FACE_HUB_TOKEN=$token HF_TOKEN_PATH=$tmp/token HF_HOME=$tmp/hf; do
    fresh
    mkdir -p "$tmp/hf"
    printf '%s\n' $token >"$tmp/token"
    cp "$tmp/token" "$tmp/hf/token"
    run 0 env "$from" HF_HUB_CACHE="$cache" "$pull" org/tiny
    kept_secret
    # shellcheck disable=SC2086
    whole "$(snapshot org/tiny)" org/tiny $needed
done
mkdir -p "$HOME/.cache/huggingface"
echo $token >"$HOME/.cache/huggingface/token"
fresh
run 0 "$pull" -q org/tiny
# what HF_TOKEN says counts more
fresh
refuses 1 "$hub/org/tiny" env HF_TOKEN=hf_other "$pull" -q org/tiny
rm "$HOME/.cache/huggingface/token"
settings=

# ---- the cache -------------------------------------------------------------------------------

fresh
run 0 "$pull" --list
out_empty
run 0 "$pull" -q org/tiny
run 0 "$pull" -q org/tiny-GGUF:Q4_0
: >"$tmp/log"
run 0 "$pull" --list
out_has "org/tiny "
out_has "org/tiny-GGUF"
run 0 "$pull" --verify
run 0 "$pull" --verify org/tiny
blob=$(readlink -f "$(snapshot org/tiny)/model-00002-of-00003.safetensors")
printf x | dd of="$blob" bs=1 seek=20000 conv=notrunc 2>"$tmp/dd"
run 1 "$pull" --verify org/tiny
grep -q model-00002-of-00003.safetensors "$tmp/out" "$tmp/err" || fail "$last: the bad file is not named"
run 1 "$pull" --verify
refuses 1 "org/none" "$pull" --verify org/none
refuses 2 "--yes" "$pull" --remove org/tiny
[ -d "$folder" ] || fail "$last: it is gone"
run 0 "$pull" --remove --yes org/tiny
[ ! -e "$folder" ] || fail "$last: it is still there"
refuses 1 "org/tiny" "$pull" --remove --yes org/tiny
run 0 "$pull" --list
! grep -q 'org/tiny ' "$tmp/out" || fail "$last: what was removed is listed"
run 0 "$pull" --remove --yes org/tiny-GGUF:Q4_0
asked 0 .
finish

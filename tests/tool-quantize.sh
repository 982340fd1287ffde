#!/bin/sh
# llama3-quantize(1), and llama3 --int4: what they make, what they refuse, and that a file is there
# whole or not at all.
. "${srcdir:-.}/tests/lib.sh"
quantize=${LLAMA3_QUANTIZE:-./llama3-quantize}
eval=${LLAMA3_EVAL:-./llama3-eval}
data=$srcdir/tests/data
out=$tmp/out.safetensors
head -c 2000 "$srcdir/README.md" >"$tmp/short" # where nothing depends on the length of a text

# Nothing but these files is in $tmp/made.
only()
{
    found=$(ls -A "$tmp/made" | tr '\n' ' ')
    [ "$found" = "$*${1+ }" ] || fail "$last: expected '$*' in the folder, found '$found'"
}

# column KIND N: of the report in $tmp/out
column()
{
    awk -v kind="$1" -v n="$2" '$1 == kind { print $n }' "$tmp/out"
}

# below VALUE LIMIT
below()
{
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a + 0 < b) }' ||
        fail "$last: expected less than $2, found '$1'"
}

# ---- what it makes ---------------------------------------------------------------------------

run 0 "$quantize" --no-calibrate "$tiny" "$out"
err_empty
out_has "made         $out"
for kind in q k v o gate up down embed head; do
    [ "$(column $kind 2)" = int4 ] || fail "$kind: expected int4, found '$(column $kind 2)'"
    below "$(column $kind 4)" 0.01
done

# The file keeps all templates by their names.
mkdir -p "$tmp/named/additional_chat_templates"
cp "$tiny"/* "$tmp/named"
printf 'a template by name' >"$tmp/named/additional_chat_templates/rag.jinja"
run 0 "$quantize" -q --no-calibrate "$tmp/named" "$tmp/named.safetensors"
run 0 "$program" -m "$tmp/named.safetensors" --template rag -n 1 --temp 0 --show-prompt -p x
err_has "a template by name"
run 1 "$program" -m "$tmp/named.safetensors" --template nosuch -p x
err_has '("default", "rag"), llama3 or chatml, found "nosuch"'

for option in --no-calibrate --quiet; do # and calibrated
    run 0 "$quantize" -q --threads 1 $option "$tiny" "$tmp/first"
    run 0 "$quantize" -q --threads 3 $option "$tiny" "$out"
    out_empty
    err_empty
    same "$out" "$tmp/first" "three threads make another file, $option"
done
run 0 "$program" -m "$out" --temperature 0 -n 8 -p Hello
run 0 "$program" -m "$out" --info
out_has "llama3, "
out_has "mostly int4"
out_has "llama3" # its template
run 0 "$program" -m "$tiny" --info
grep -E '^(width|attention|vocabulary|template|stop ids)' "$tmp/out" >"$tmp/want"
run 0 "$program" -m "$out" --info
grep -E '^(width|attention|vocabulary|template|stop ids)' "$tmp/out" >"$tmp/got"
same "$tmp/got" "$tmp/want" "the file describes another model than its source"

# GGUF
run 0 "$quantize" --format gguf --type q4_0 --head q8_0 --embeddings bf16 "$tiny" "$tmp/out.gguf"
[ "$(column q 2) $(column head 2) $(column embed 2)" = "q4_0 q8_0 bf16" ] ||
    fail "$last: other types: $(cat "$tmp/out")"
out_has "calibrated   on "
run 0 "$quantize" -q --format gguf --type q4_0 --head q8_0 --embeddings bf16 -t 3 "$tiny" "$tmp/2.gguf"
same "$tmp/2.gguf" "$tmp/out.gguf" "three threads make another GGUF file"
run 0 "$program" -m "$tmp/out.gguf" --info
grep -E '^(width|attention|vocabulary|template|stop ids)' "$tmp/out" >"$tmp/got"
same "$tmp/got" "$tmp/want" "the GGUF file describes another model than its source"
run 0 "$quantize" --format gguf --type q4_0 "$tmp/out.gguf" "$tmp/2.gguf"
[ "$(column q 4) $(column head 4)" = "carried carried" ] || fail "$last: $(cat "$tmp/out")"

cp "$tmp/out.gguf" "$tmp/2.gguf"
run 1 "$quantize" --format gguf --type q8_0 "$tmp/out.gguf" "$tmp/out.gguf"
err_has "$tmp/out.gguf: expected a file that is not the checkpoint's, found one of $tmp/out.gguf's own"
same "$tmp/2.gguf" "$tmp/out.gguf" "the checkpoint has changed"
for source in tiny-sentencepiece tiny-gguf-sentencepiece; do # scores instead of merges, and back
    run 0 "$quantize" -q --format gguf --type q4_0 "$data/$source" "$tmp/2.gguf"
    run 0 "$program" -m "$data/$source" --info
    grep -E '^(width|attention|vocabulary|template|stop ids)' "$tmp/out" >"$tmp/want"
    run 0 "$program" -m "$tmp/2.gguf" --info
    grep -E '^(width|attention|vocabulary|template|stop ids)' "$tmp/out" >"$tmp/got"
    same "$tmp/got" "$tmp/want" "the GGUF file describes another model than $source"
done

run 0 "$quantize" --type int8 --head f16 --embeddings bf16 "$tiny" "$out"
[ "$(column q 2) $(column head 2) $(column embed 2)" = "int8 f16 bf16" ] ||
    fail "$last: other types: $(cat "$tmp/out")"
below "$(column q 4)" 0.0001
below "$(column head 4)" 0.000001
run 0 "$quantize" "$out" "$tmp/again.safetensors" # from int8
run 0 "$quantize" --head bf16 "$data/tiny-tied" "$out"
[ "$(column q 2) $(column embed 2) $(column head 2)" = "int4 bf16 " ] ||
    fail "$last: other types: $(cat "$tmp/out")"
run 0 "$quantize" "$data/tiny-tied" "$out" # a head of 4 bits would cost too much
[ "$(column q 2) $(column embed 2)" = "int4 int8" ] ||
    fail "$last: other types: $(cat "$tmp/out")"
out_has "the head is the embedding"
for source in tiny-bf16 tiny-f16 tiny-sharded tiny-rope tiny-head-dim tiny-gqa-6-2 tiny-gguf-f32 \
    tiny-gguf-mixed tiny-gguf-k tiny-gguf-low tiny-gguf-rope tiny-gguf-split; do
    run 0 "$quantize" --type int8 "$data/$source" "$out" --verify="$tmp/short"
    below "$(awk '$1 == "KL" { print $2 }' "$tmp/out")" 0.01
done

# Codes that GGUF has of the type asked for are carried over: the same logits, bit for bit.
# carried SOURCE OPTION...
carried()
{
    source=$1
    shift
    run 0 "$quantize" "$@" "$source" "$out"
    out_has "carried over $weights weights, in the checkpoint's codes"
    [ "$(grep -c '^  .* carried over$' "$tmp/out")" = 8 ] || fail "$last: $(cat "$tmp/out")"
    for table in LLAMA3_CPU=scalar no=table; do
        run 0 env $table "$eval" -m "$source" --logits "$tmp/want" --tokens 5,6,7,8,9,10,11
        run 0 env $table "$eval" -m "$out" --logits "$tmp/got" --tokens 5,6,7,8,9,10,11
        same "$tmp/got" "$tmp/want" "$source $* ($table): other logits than the source's"
    done
}
weights=30720
carried "$data/tiny-gguf-q4_0/model.gguf"
carried "$data/tiny-gguf-q8_0/model.gguf" --type int8
carried "$data/tiny-gguf-v2/model.gguf" --type int8
weights=196608
carried "$data/tiny-gguf-low/model.gguf" # groups of 16 to 128, scales with blocks
run 0 "$quantize" --no-calibrate --head int4 "$data/tiny-gguf-q8_0" "$out" # its codes are no int4's
below "$(column q 4)" 0.01
grep "carried over" "$tmp/out" && fail "$last: int8 carried over to int4"
run 0 "$quantize" "$data/tiny-gguf-k" "$out"
[ "$(column q 4) $(column o 4) $(column embed 4)" = "carried carried carried" ] ||
    fail "$last: $(cat "$tmp/out")"
below "$(column v 4)" 0.01
run 0 "$quantize" --type int8 "$data/tiny-gguf-k" "$out"
[ "$(column v 4) $(column gate 4) $(column k 4)" = "carried carried carried" ] ||
    fail "$last: $(cat "$tmp/out")"
run 0 "$quantize" "$data/tiny-gguf-mixed" "$out" --calibrate "$tmp/short"
[ "$(column q 4) $(column gate 4)" = "carried carried" ] || fail "$last: $(cat "$tmp/out")"

# --verify in its spellings.
printf 'The capital of France is Paris, and so on for a while.\n' >"$tmp/text"
run 0 "$quantize" "$tiny" "$out" --verify "$tmp/text"
out_has "predictions of $tmp/text"
cp "$tmp/out" "$tmp/want"
run 0 "$quantize" "$tiny" --verify "$tmp/text" "$out"
same "$tmp/out" "$tmp/want" "--verify TEXT before OUT says something else"
run 0 "$quantize" --verify="$tmp/text" "$tiny" "$out"
same "$tmp/out" "$tmp/want" "--verify=TEXT says something else"
run 0 "$quantize" --verify "$tiny" "$out"
out_has "predictions of the built-in text"
run 0 "$quantize" "$tiny" "$out" --verify
out_has "predictions of the built-in text"
for spelling in "--verify -" --verify=-; do
    run 0 "$quantize" "$tiny" "$out" $spelling <"$tmp/text"
    out_has "predictions of stdin"
    run 0 "$quantize" $spelling "$tiny" "$out" <"$tmp/text"
    out_has "predictions of stdin"
done

# Calibrated, unless told not to: other codes for the layers, and closer to the source; the closer
# the more the texts that are given besides the built-in one are like what is read.
kl()
{
    run 0 "$quantize" "$@" "$tiny" "$out" --verify="$srcdir/README.md"
    awk '$1 == "KL" { print $2 }' "$tmp/out"
}
plain=$(kl --no-calibrate)
cp "$out" "$tmp/plain.safetensors"
built_in=$(kl)
cp "$out" "$tmp/built-in.safetensors"
given=$(kl --calibrate "$srcdir/README.md")
cp "$out" "$tmp/given.safetensors"
below "$built_in" "$plain"
below "$given" "$plain"
grep -q "without OpenBLAS" "$tmp/err" || below "$given" "$built_in"
run 0 "$quantize" -q --calibrate "$srcdir/README.md" --calibrate "$srcdir/NEWS" "$tiny" "$out"
for one in plain built-in given; do
    cmp -s "$out" "$tmp/$one.safetensors" && fail "two texts make the same as $one"
done
run 0 "$quantize" --type int8 -q --calibrate - "$data/tiny-tied" "$out" <"$tmp/short"

# What that gained is a line of the report; where nothing was calibrated there is none.
run 0 "$quantize" "$tiny" "$out"
gain=$(sed -n 's/^calibrated   on 8192 tokens: KL \([0-9.e-]*\) (\([0-9.e-]*\) without)$/\1 \2/p' "$tmp/out")
below "${gain% *}" "${gain#* }"
run 0 "$quantize" --no-calibrate "$tiny" "$out"
grep '^calibrated' "$tmp/out" && fail "$last: it wasn't"
run 0 "$quantize" "$data/tiny-gguf-q4_0" "$out"
grep '^calibrated' "$tmp/out" && fail "$last: there was nothing to calibrate"

# Of texts that are too long together a note says what is left out.
run 0 "$quantize" --calibrate "$srcdir/HACKING.md" --calibrate "$srcdir/NEWS" "$tiny" "$out"
err_has "llama3-quantize: note: $srcdir/HACKING.md: the first 16384 of "
err_has "llama3-quantize: note: $srcdir/NEWS: the first 0 of "
run 0 "$quantize" -q --calibrate "$srcdir/HACKING.md" "$tiny" "$out"
err_empty

# What a checkpoint says that is done otherwise is told.
run 0 "$quantize" --no-calibrate "$data/tiny-fp8-tensor" "$out"
err_has "llama3-quantize: note: $data/tiny-fp8-tensor: 9 scales of activations, keys or values are not used"
run 0 "$quantize" --no-calibrate "$data/tiny-gptq-4-lies-v1" "$out"
err_has "llama3-quantize: note: $data/tiny-gptq-4-lies-v1: zeros are those of gptq_v2"
run 0 "$quantize" -q --no-calibrate "$data/tiny-fp8-tensor" "$out"
err_empty

# ---- what it refuses -------------------------------------------------------------------------

refused()
{
    status=$1 message=$2
    shift 2
    run "$status" "$quantize" "$@"
    drop_lack
    err_has "$message"
    out_empty
    only before
    [ "$(cat "$tmp/made/before")" = before ] || fail "$last: the file that was there has changed"
}

mkdir "$tmp/made"
echo before >"$tmp/made/before"
made=$tmp/made/before
refused 2 "expected a checkpoint and the file to make: IN OUT"
refused 2 "Try 'llama3-quantize --help'."
err_lines 2
refused 2 "unexpected argument \"c\": it takes IN and OUT only" a b c
refused 2 "expected a checkpoint and the file to make: IN OUT" "$tiny"
refused 2 "expected a checkpoint and the file to make: IN OUT" "$tiny" ""
refused 2 "unexpected argument \"c\"" "$tiny" "$made" c
refused 2 "--type: expected int4 or int8, found \"f16\", which is for --format gguf" --type f16 "$tiny" "$made"
refused 2 "--head: expected one of int4, int8, bf16, f16, f32, q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, iq4_nl, found \"q4\"" --head q4 a b
refused 1 "the head is the embedding: expected one type for both, found head int8 and embeddings int4" \
    --head int8 --embeddings int4 "$data/tiny-tied" "$made"
err_lines 1
refused 1 "$tmp/missing: No such file" "$tmp/missing" "$made"

# A name that other formats have.
for ending in .gguf .GGUF .bin .pth; do
    run 2 "$quantize" "$tiny" "$tmp/made/x$ending"
    err_has "llama3-quantize: $tmp/made/x$ending: what is made is a safetensors file: expected a name that ends in .safetensors, found $ending"
    err_lines 1
    only before
done

run 2 "$quantize" --format gguf "$tiny" "$tmp/made/x.safetensors"
err_has "--format gguf: expected a name that ends in .gguf, found \"$tmp/made/x.safetensors\""
only before
refused 2 "--type: expected int4 or int8, found \"q4_0\", which is for --format gguf" --type q4_0 "$tiny" "$made"
refused 2 "--head: expected int4, int8, bf16, f16 or f32, found \"q6_k\"" --head q6_k "$tiny" "$made"
refused 2 "--type: expected a type of GGUF's, found \"int4\"" --format gguf --type int4 "$tiny" "$tmp/made/x.gguf"

# Standard output is closed: said before the work, unless nothing is printed.
last="stdout closed"
for option in '' '-q --verify'; do
    "$quantize" $option "$tiny" "$tmp/made/x" >&- 2>"$tmp/err"
    [ $? = 1 ] || fail "$last: expected status 1"
    err_has "llama3-quantize: stdout: Bad file descriptor"
    err_lines 1
    only before
done
"$quantize" -q "$tiny" "$tmp/made/x" >&- 2>"$tmp/err" || fail "$last, -q: status $?"
err_empty
only before x
rm "$tmp/made/x"

# Texts are looked at before anything is made.
: >"$tmp/empty"
printf '\351' >"$tmp/latin1"
for option in --verify --calibrate; do
    refused 1 "$tmp/missing: No such file" "$option=$tmp/missing" "$tiny" "$made"
    refused 1 "$tmp/latin1: expected UTF-8" "$option=$tmp/latin1" "$tiny" "$made"
    err_lines 1
done
refused 1 "$tmp/empty: expected a text of 1 token or more to verify with, found 0" \
    "$tiny" "$made" --verify="$tmp/empty"
err_lines 1
for text in empty text; do
    refused 1 "$tmp/$text: expected a text of 128 tokens or more to calibrate with, found " \
        --calibrate "$tmp/$text" "$tiny" "$made"
    err_lines 1
done
refused 1 "stdin: expected a text of 1 token or more" "$tiny" "$made" --verify - </dev/null
for spelling in "--calibrate - --verify -" "--verify=- --calibrate=-"; do
    refused 2 "--calibrate and --verify both name standard input" $spelling "$tiny" "$made" \
        <"$tmp/text"
    err_lines 1
done
refused 2 "--calibrate names standard input twice, which can be read once" \
    --calibrate - --calibrate - "$tiny" "$made" <"$tmp/text"
err_lines 1
refused 2 "--calibrate and --no-calibrate exclude each other" \
    --no-calibrate --calibrate "$srcdir/README.md" "$tiny" "$made"
err_lines 1
refused 2 "expected a checkpoint and the file to make: IN OUT" "$tiny" --verify - <"$tmp/text"

refused 1 "$tmp/made: expected a regular file or nothing, found a directory" "$tiny" "$tmp/made"
refused 1 "$tmp/none/x: No such file or directory" "$tiny" "$tmp/none/x"
refused 1 "expected weights of more than 4 bits, found int4" "$tmp/again.safetensors" "$made"

# The source itself, by any name.
cp -R "$tiny" "$tmp/source"
chmod -R u+w "$tmp/source"
ln -s source/model.safetensors "$tmp/link"
for name in source/model.safetensors source/config.json source/../source/tokenizer.json link; do
    run 1 "$quantize" "$tmp/source" "$tmp/$name"
    err_has "$name: expected a file that is not the checkpoint's, found one of $tmp/source's own"
done
run 0 "$quantize" -q "$tmp/source" "$tmp/source/int4.safetensors" # beside it is fine, and again
run 0 "$quantize" -q "$tmp/source" "$tmp/source/int4.safetensors"
run 1 "$quantize" --type int8 "$tmp/source/int4.safetensors" "$tmp/source/int4.safetensors"
diff -r -x int4.safetensors "$tiny" "$tmp/source" || fail "the source has changed"

refused 1 "have codes of int4 already, which are carried over: expected no text to calibrate by, found 1" \
    --calibrate "$srcdir/README.md" "$data/tiny-gguf-q4_0" "$made"
err_lines 1
run 0 "$quantize" "$data/tiny-gguf-q4_0" "$out" # the built-in text is silently done without
err_empty

# A scale that is no number, among blocks that are carried over.
cp "$data/tiny-gguf-q4_0/model.gguf" "$tmp/nan.gguf"
chmod u+w "$tmp/nan.gguf"
head -c 40 /dev/zero | tr '\000' '\377' |
    dd of="$tmp/nan.gguf" bs=1 seek=$(($(wc -c <"$tmp/nan.gguf") / 4 * 3)) conv=notrunc 2>"$tmp/dd"
refused 1 "expected weights of a finite scale, found" "$tmp/nan.gguf" "$made"
err_has "$tmp/nan.gguf: tensor model."
err_lines 1

# A weight that is no number: the last of the file.
size=$(wc -c <"$tmp/source/model.safetensors")
printf '\000\000\300\177' | dd of="$tmp/source/model.safetensors" bs=1 seek=$((size - 4)) \
    conv=notrunc 2>"$tmp/dd"
refused 1 "expected a finite weight, found" "$tmp/source" "$made"
err_has "$tmp/source: tensor "
err_has ", column 31: "
err_lines 1

# A full disk, for which a limit stands in.
last="ulimit -f 16"
(
    ulimit -f 16
    exec "$quantize" "$tiny" "$made"
) >"$tmp/out" 2>"$tmp/err"
[ $? = 1 ] || fail "$last: expected status 1"
drop_lack
err_has "$made: File too large: "
err_has " bytes needed"
err_lines 1
only before
last="ulimit -f 16, GGUF"
cp "$made" "$tmp/made/x.gguf"
(
    ulimit -f 16
    exec "$quantize" -q --format gguf --type q4_0 "$tiny" "$tmp/made/x.gguf"
) >"$tmp/out" 2>"$tmp/err"
[ $? = 1 ] || fail "$last: expected status 1"
drop_lack
err_has "$tmp/made/x.gguf: File too large: "
err_has " bytes needed"
err_lines 1
only before x.gguf
same "$tmp/made/x.gguf" "$made" "$last: the file that was there has changed"
rm "$tmp/made/x.gguf"

# ---- ended in the middle ---------------------------------------------------------------------

if [ -f "$PWD/tests/.libs/preload.so" ] && command -v timeout >/dev/null; then
    need_preload
    for signal in INT:130 TERM:143 KILL:137; do
        last="ended by $signal"
        SLOW_RESERVE=3000 LD_PRELOAD=$preload timeout --preserve-status -s "${signal%:*}" 1 \
            "$quantize" "$tiny" "$made" >"$tmp/out" 2>"$tmp/err"
        got=$?
        [ $got = "${signal#*:}" ] || fail "$last: found status $got"
        out_empty
        case $signal in
        KILL*) ;; # may leave a hidden file where there are no unnamed ones
        *)
            only before
            drop_lack
            err_empty
            ;;
        esac
        [ "$(cat "$made")" = before ] || fail "$last: the file that was there has changed"
    done
fi

# ---- llama3 --int4 ---------------------------------------------------------------------------

XDG_CACHE_HOME=$tmp/cache
export XDG_CACHE_HOME
ask="$program -m $tiny --temperature 0 -n 8 -p Hello"

# answers OPTION...: asks, and leaves the note about -n out.
answers()
{
    run 0 $ask "$@"
    drop_cut
}

run 0 "$quantize" -q --no-calibrate "$tiny" "$out"
run 0 "$program" -m "$out" --temperature 0 -n 8 -p Hello
cp "$tmp/out" "$tmp/want"
answers --int4 --no-cache
same "$tmp/out" "$tmp/want" "--int4 --no-cache answers otherwise than the file"
[ ! -e "$tmp/cache" ] || fail "--no-cache keeps something"
made="llama3: note: $tiny: int4 weights are made without calibration: calibrated ones take some minutes, once, and stay much closer to the checkpoint"
answers --int4
err_has "$made"
err_lines 1
same "$tmp/out" "$tmp/want" "--int4 answers otherwise than the file"
kept=$(echo "$tmp"/cache/llama3/int4-*.safetensors)
same "$kept" "$out" "--int4 keeps another file than llama3-quantize makes"
touch -d '2001-01-01' "$kept"
answers --int4
same "$tmp/out" "$tmp/want" "what was kept answers otherwise"
[ -z "$(find "$kept" -newermt '2001-01-02')" ] || fail "what was kept was made again"
run 0 "$program" -m "$tiny" --int4 --info
out_has "$kept"

# A broken one is made again, with a note.
head -c 30000 "$out" >"$kept"
answers --int4
err_has "llama3: note: $kept: "
err_has ": making it again"
err_has "$made"
err_lines 2
same "$tmp/out" "$tmp/want" "what was made again answers otherwise"
same "$kept" "$out" "what was made again is another file"
answers --int4
err_empty

# Another checkpoint, and the same one changed, have files of their own.
cp -R "$tiny" "$tmp/copy"
chmod -R u+w "$tmp/copy"
run 0 "$program" -m "$tmp/copy" --int4 -n 1 -p x
touch -d '2001-01-01' "$tmp/copy/config.json"
run 0 "$program" -m "$tmp/copy" --int4 -n 1 -p x
[ "$(ls "$tmp/cache/llama3" | wc -l)" = 3 ] || fail "expected 3 files in the cache"

# So has one that was changed in place, even if its times say otherwise.
touch -r "$tmp/copy/config.json" "$tmp/times"
sed 's/"rope_theta": 5/"rope_theta": 4/' "$tmp/copy/config.json" >"$tmp/changed"
! cmp -s "$tmp/changed" "$tmp/copy/config.json" || fail "the test changes nothing"
cat "$tmp/changed" >"$tmp/copy/config.json"
touch -r "$tmp/times" "$tmp/copy/config.json"
run 0 "$program" -m "$tmp/copy" --int4 -n 1 -p x
[ "$(ls "$tmp/cache/llama3" | wc -l)" = 4 ] || fail "expected 4 files in the cache"

# What others can write to isn't trusted: of another model, which somebody put there, nothing is run.
"$quantize" -q "$data/tiny-tied" "$tmp/planted" || fail "no other model"
plant()
{
    rm -f "$kept"
    cp "$tmp/planted" "$kept"
}
distrusted() # what the note says
{
    run 0 $ask --int4
    err_has "llama3: note: $1"
    err_has "$made"
    err_lines 3 # the third says that -n cut the answer
    same "$tmp/out" "$tmp/want" "$last: somebody else's model answered"
}
user=$(id -u)
[ "$(stat -c %a "$kept")" = 600 ] || fail "expected mode 600, found $(stat -c %a "$kept")"
for mode in 620 602 666; do
    plant
    chmod $mode "$kept"
    distrusted "$kept: expected a file that is yours and that you alone can write to, found one of user $user with mode 0$mode: making it again"
    same "$kept" "$out" "what was made again is another file"
    [ "$(stat -c %a "$kept")" = 600 ] || fail "expected mode 600, found $(stat -c %a "$kept")"
done
rm "$kept"
ln -s "$tmp/planted" "$kept"
distrusted "$kept: expected a file, found a symbolic link: making it again"
[ ! -L "$kept" ] || fail "the symbolic link is still there"
plant
for mode in 0777 1777 0770; do
    chmod $mode "$tmp/cache/llama3"
    distrusted "$tmp/cache/llama3: expected a directory that is yours and that you alone can write to, found one of user $user with mode $mode: the int4 weights are not kept"
    same "$kept" "$tmp/planted" "something was written where others can write"
done
chmod 700 "$tmp/cache/llama3"
if [ "$user" = 0 ]; then # others' files can be made by root alone
    chown 12345 "$kept"
    distrusted "$kept: expected a file that is yours and that you alone can write to, found one of user 12345"
    plant
    chown 12345 "$tmp/cache/llama3"
    distrusted "$tmp/cache/llama3: expected a directory that is yours and that you alone can write to, found one of user 12345"
    chown 0 "$tmp/cache/llama3"
fi

# Several at once.
rm -r "$tmp/cache"
for i in 1 2 3; do
    $ask -q --int4 >"$tmp/answer$i" 2>&1 &
done
wait
for i in 1 2 3; do
    same "$tmp/answer$i" "$tmp/want" "one of three at once answers otherwise: $(cat "$tmp/answer$i")"
done
[ "$(ls -A "$tmp/cache/llama3" | wc -l)" = 1 ] || fail "three at once leave more than one file"

# What has 4 bits stays as it is, which is said; where nothing can be kept, that is said and no failure.
for model in "$data/tiny-gguf-q4_0/model.gguf" "$out"; do
    run 0 "$program" -m "$model" --int4 --info
    out_has "$model"
    err_has "llama3: note: $model: the weights have 4 bits already ("
    err_has "): they are used as they are"
    err_lines 1
    run 0 "$program" -m "$model" --int4 --info -q
    err_empty
done
XDG_CACHE_HOME=$out answers --int4
err_has "the int4 weights are not kept"
same "$tmp/out" "$tmp/want" "what can't be kept answers otherwise"

# No room where it is kept: the same; nor where temporary files go: an error that names that place.
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    need_preload
    real=$(cd "$tmp" && pwd -P)
    rm -r "$tmp/cache"
    mkdir "$real/temporary"
    run 0 env FULL="$real/cache" LD_PRELOAD="$preload" $ask --int4
    drop_cut
    err_has "llama3: note: $tmp/cache/llama3/int4-"
    err_has ": No space left on device: "
    err_has " bytes needed: the int4 weights are not kept"
    err_lines 2
    same "$tmp/out" "$tmp/want" "what there is no room to keep answers otherwise"
    [ -z "$(ls -A "$tmp/cache/llama3")" ] || fail "something is left where there is no room"
    run 1 env FULL="$real/temporary" TMPDIR="$real/temporary" LD_PRELOAD="$preload" \
        $ask --int4 --no-cache
    err_has "llama3: $real/temporary: No space left on device: "
    err_lines 2
fi
TMPDIR=$tmp/none run 1 $ask --int4 --no-cache
err_has "llama3: TMPDIR: $tmp/none: no temporary file: No such file or directory"
err_lines 2
TMPDIR='' answers --int4 --no-cache
same "$tmp/out" "$tmp/want" "an empty TMPDIR answers otherwise"
run 1 "$program" -m "$tmp/missing" --int4 -p x
err_has "$tmp/missing: No such file or directory"

# Calibrated: what llama3-quantize makes, kept apart from what isn't, and good enough for whoever
# asks for less.
cache=$tmp/cache/llama3
rm -rf "$cache"
run 0 "$quantize" -q "$tiny" "$out"
run 0 "$program" -m "$out" --temperature 0 -n 8 -p Hello
cp "$tmp/want" "$tmp/plain"
cp "$tmp/out" "$tmp/want"
! cmp -s "$tmp/plain" "$tmp/want" || fail "the test can't tell whether weights are calibrated"
answers --int4=uncalibrated
same "$tmp/out" "$tmp/plain" "--int4=uncalibrated is another than --int4"
answers --int4=calibrated --no-cache
calibrated="llama3: note: $tiny: int4 weights are made and calibrated, which takes some minutes"
err_has "$calibrated"
err_lines 1
same "$tmp/out" "$tmp/want" "--int4=calibrated --no-cache answers otherwise than llama3-quantize's"
answers --int4=calibrated
err_has "$calibrated"
err_lines 1
same "$tmp/out" "$tmp/want" "--int4=calibrated answers otherwise than llama3-quantize's file"
[ "$(ls -A "$cache" | wc -l)" = 2 ] || fail "expected 2 files in the cache, found $(ls -A "$cache")"
for file in "$cache"/*; do
    [ "$(stat -c %a "$file")" = 600 ] || fail "expected mode 600, found $(stat -c %a "$file")"
    ! cmp -s "$file" "$out" || kept=$file
done
same "$kept" "$out" "--int4=calibrated keeps another file than llama3-quantize makes"
for how in --int4=calibrated --int4; do
    answers $how
    err_empty
    same "$tmp/out" "$tmp/want" "$how doesn't use the calibrated weights that are kept"
done
head -c 30000 "$out" >"$kept"
answers --int4
err_has "llama3: note: $kept: "
err_has ": it is not used"
err_lines 1
same "$tmp/out" "$tmp/plain" "$last: the uncalibrated ones don't answer"
answers --int4=calibrated
err_has ": making it again"
err_lines 2
same "$kept" "$out" "what was made again is another file"
rm -r "$cache"
for _ in 1 2; do
    $ask -q --int4=calibrated >"$tmp/answer1" 2>&1 &
    $ask -q --int4=calibrated >"$tmp/answer2" 2>&1
    wait
    for i in 1 2; do
        same "$tmp/answer$i" "$tmp/want" "one of two at once answers otherwise: $(cat "$tmp/answer$i")"
    done
done
[ "$(ls -A "$cache" | wc -l)" = 1 ] || fail "two at once leave more than one file"

# Ended in the middle, it goes on the next time.
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    rm -r "$cache"
    run 130 env SIGNAL_SYNC=2:2 LD_PRELOAD="$preload" $ask --int4=calibrated
    err_has "llama3: note: $kept.partial: 1 of 2 layers are made, another run goes on with it"
    [ "$(ls -A "$cache")" = "$(basename "$kept.partial")" ] || fail "$last: found $(ls -A "$cache")"
    answers --int4=calibrated
    err_has "llama3: note: going on with $kept.partial: 1 of 2 layers are made"
    err_lines 2
    same "$tmp/out" "$tmp/want" "what was gone on with answers otherwise"
    same "$kept" "$out" "what was gone on with is another file"
    [ "$(ls -A "$cache" | wc -l)" = 1 ] || fail "$last: found $(ls -A "$cache")"
fi
run 2 "$program" --int4=best -p x
err_has "--int4: expected one of uncalibrated, calibrated, found \"best\""
run 2 "$program" --int4 calibrated -p x
err_has "expected one prompt, found --prompt and \"calibrated\""
finish

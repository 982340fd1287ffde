#!/bin/sh
# llama3-pull --int4: a checkpoint that is quantized while it arrives is the file that llama3-quantize
# makes of it, also where it was interrupted and its originals are dropped on the way.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/hub-lib.sh"
quantize=${LLAMA3_QUANTIZE:-./llama3-quantize}
serve_tiny org/tiny
serve org/tied tiny-tied
for name in gptq-4-act gptq-4-lies-v1 bnb-nf4-double modelopt-nvfp4; do
    serve "org/$name" "tiny-$name"
done
hub_start
folder=$(folder_of org/tiny)

# made FILE WANTED: stdout names FILE, which is as WANTED.
made()
{
    [ "$(cat "$tmp/out")" = "$1" ] || fail "$last: expected $1 on stdout, found $(cat "$tmp/out")"
    same "$1" "$2" "$last: not the file that llama3-quantize makes"
}
weights()
{
    find "$cache" -path '*/snapshots/*' -name '*.safetensors' | wc -l
}

run 0 "$quantize" -q "$tmp/root/org/tiny" "$tmp/calibrated"
run 0 "$quantize" -q --no-calibrate "$tmp/root/org/tiny" "$tmp/uncalibrated"
run 0 "$quantize" -q "$tmp/root/org/tied" "$tmp/tied"

fresh
run 0 "$pull" -q --int4 org/tiny
drop_lack
commit=$(cat "$folder/refs/main")
made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
# shellcheck disable=SC2086 # a list of names
whole "$(snapshot org/tiny)" org/tiny $needed
no_leftovers
run 0 "$program" -m org/tiny:int4 --temperature 0 -n 8 -p "a b c"
cp "$tmp/out" "$tmp/answer"
run 0 "$program" -m "$tmp/calibrated" --temperature 0 -n 8 -p "a b c"
same "$tmp/out" "$tmp/answer" "another answer than of llama3-quantize's file"
# Again: it is there.
: >"$tmp/log"
run 0 "$pull" -q --int4 org/tiny
made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
asked 0 /resolve/
# Originals that are there are used.
rm -r "$folder/llama3"
run 0 "$pull" -q --int4 org/tiny
made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
asked 0 /resolve/

for options in "--int4=calibrated" "--int4=calibrated --drop-source" "--int4=uncalibrated --drop-source"; do
    wanted=$tmp/$(echo "$options" | sed 's/--int4=\([a-z]*\).*/\1/')
    fresh
    # shellcheck disable=SC2086 # options are several words
    run 0 "$pull" -q $options org/tiny
    drop_lack
    made "$folder/llama3/$commit-int4.safetensors" "$wanted"
    no_leftovers
    case $options in
    *drop*)
        [ "$(weights)" = 0 ] || fail "$last: originals are left"
        # what is left is enough to run
        run 0 "$program" -m org/tiny --temperature 0 -n 8 -p "a b c"
        ;;
    esac
done
fresh
run 0 "$pull" -q --int4 --drop-source org/tied
drop_lack
made "$(folder_of org/tied)/llama3/$(cat "$(folder_of org/tied)/refs/main")-int4.safetensors" "$tmp/tied"
fresh
run 0 "$pull" -q --int4 --local-dir "$tmp/dir" org/tiny
made "$tmp/dir/int4.safetensors" "$tmp/calibrated"

# Opening a quantized checkpoint reads tensors, which are waited for. As it is it opens too.
for name in gptq-4-act gptq-4-lies-v1 bnb-nf4-double modelopt-nvfp4; do
    run 0 "$quantize" -q --no-calibrate "$tmp/root/org/$name" "$tmp/$name"
    for options in "" --drop-source; do
        fresh '"on": "storage", "file": "model.safetensors", "do": "rate", "rate": 100000'
        # shellcheck disable=SC2086
        run 0 "$pull" -q --int4=uncalibrated $options "org/$name"
        drop_lack
        made "$(folder_of "org/$name")/llama3/$(cat "$(folder_of "org/$name")/refs/main")-int4.safetensors" "$tmp/$name"
    done
    fresh
    run 0 "$pull" -q "org/$name"
    run 0 "$program" -m "org/$name" -q --temperature 0 -n 8 -p "a b c"
    cp "$tmp/out" "$tmp/answer"
    run 0 "$program" -m "$srcdir/tests/data/tiny-$name" -q --temperature 0 -n 8 -p "a b c"
    same "$tmp/out" "$tmp/answer" "another answer than that of the same checkpoint in a folder"
done

# What doesn't have the hash that the hub names is not made into anything.
fresh '"on": "storage", "file": "model-00002-of-00003.safetensors", "do": "flip"'
for options in --int4 "--int4 --drop-source"; do
    # shellcheck disable=SC2086
    run 1 "$pull" -q $options org/tiny
    drop_lack
    err_has "model-00002-of-00003.safetensors"
    out_empty
    [ ! -e "$folder/llama3/$commit-int4.safetensors" ] || fail "$last: it is made of wrong bytes"
done
fresh '"on": "storage", "file": "model-00002-of-00003.safetensors", "do": "flip", "times": 1'
run 0 "$pull" -q --int4 --drop-source org/tiny
drop_lack
made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"

# Wrong bytes have become a part of the file by the time that the hash turns out to be wrong: that part
# is not gone on with.
for options in --int4 "--int4 --drop-source"; do
    settings='"rate": 20000'
    fresh '"on": "storage", "file": "model-00001-of-00003.safetensors", "do": "flip", "offset": 6000, "times": 1'
    # shellcheck disable=SC2086
    run 0 "$pull" -q $options org/tiny
    drop_lack
    made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
    no_leftovers
done
settings=

# What was dropped by a run that ended is fetched again for one that wants to keep it.
for options in "" --int4; do
    # The first layers are done with long before the last part is there.
    fresh '"on": "storage", "file": "model-00003-of-00003.safetensors", "do": "rate", "rate": 3000'
    "$pull" -q --int4 --drop-source org/tiny >/dev/null 2>&1 &
    child=$!
    sleep 2.5
    kill -KILL $child || fail "too fast to be ended"
    wait $child 2>/dev/null
    faults
    # shellcheck disable=SC2086
    run 0 "$pull" -q $options org/tiny
    drop_lack
    # shellcheck disable=SC2086
    whole "$(snapshot org/tiny)" org/tiny $needed
    [ -z "$options" ] || made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
done

# Two at once: one makes the file, and the other waits for it. Beside a run that keeps the originals,
# they are not dropped.
settings='"rate": 60000'
fresh
"$pull" -q --int4 org/tiny >"$tmp/first" 2>&1 &
child=$!
run 0 "$pull" -q --int4 org/tiny
drop_lack
made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
wait $child || fail "the other of two runs: status $?, $(cat "$tmp/first")"
fresh
"$pull" -q --int4 --drop-source org/tiny >"$tmp/first" 2>&1 &
child=$!
run 0 "$pull" -q org/tiny
wait $child || fail "the run that drops, beside another: status $?, $(cat "$tmp/first")"
# shellcheck disable=SC2086
whole "$(snapshot org/tiny)" org/tiny $needed
settings=

# A file of this name counts if it was made of these files, in this way, and can be opened.
fresh
run 0 "$pull" -q --int4=uncalibrated org/tiny
made "$folder/llama3/$commit-int4.safetensors" "$tmp/uncalibrated"
run 0 "$pull" -q --int4 org/tiny
drop_lack
made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
run 0 "$pull" -q --int4=uncalibrated org/tiny
made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
for damage in "truncate -s 5000" "ln -sf /etc/passwd" "rm -f"; do
    $damage "$folder/llama3/$commit-int4.safetensors"
    run 0 "$pull" -q --int4 org/tiny
    drop_lack
    made "$folder/llama3/$commit-int4.safetensors" "$tmp/calibrated"
done
run 0 "$pull" -q --yes --remove org/tiny:int4
[ -z "$(ls "$folder/llama3")" ] || fail "$last: left: $(ls "$folder/llama3")"
run 0 "$pull" -q --int4 --local-dir "$tmp/dir" org/tied
made "$tmp/dir/int4.safetensors" "$tmp/tied"
rm -r "$tmp/dir" && mkdir "$tmp/dir" && echo mine >"$tmp/dir/int4.safetensors"
refuses 1 "int4.safetensors" "$pull" -q --int4 --local-dir "$tmp/dir" org/tied
[ "$(cat "$tmp/dir/int4.safetensors")" = mine ] || fail "$last: a file of the user's is replaced"

# One that is quantized already, whose tensors are read when it is opened, killed before each mark while
# its originals are dropped. Another run goes on to the same bytes; so does one that finds nothing of the
# file, and fetches again what was dropped.
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    options_before=${ASAN_OPTIONS-}
    need_preload
    settings=
    dropped=0
    for name in gptq-4-act modelopt-nvfp4; do
        dir=$(folder_of "org/$name")
        for mark in 1 2 3; do
            for kept in yes no; do
                fresh
                run 137 env SIGNAL_SYNC=$mark:9 SYNC_OF=.partial SLOW_SIGNAL=500 \
                    LD_PRELOAD="$preload" "$pull" -q --int4=uncalibrated --drop-source "org/$name"
                blob=$(ls "$dir"/blobs/*.incomplete)
                [ "$(du -k "$blob" | cut -f 1)" -ge "$(du -k --apparent-size "$blob" | cut -f 1)" ] ||
                    dropped=$((dropped + 1))
                partial=$(ls "$dir"/llama3/*.partial)
                [ -n "$partial" ] || fail "$last, mark $mark: it ended before the file was begun"
                [ ! -e "${partial%.partial}" ] || fail "$last, mark $mark: the file has its name already"
                [ $kept = yes ] || rm -f "$partial"
                run 0 "$pull" -q --int4=uncalibrated --drop-source "org/$name"
                drop_lack
                made "${partial%.partial}" "$tmp/$name"
                no_leftovers
                [ "$(weights)" = 0 ] || fail "$last: originals are left"
            done
        done
    done
    echo "quantized already: 12 runs were killed, $dropped of them with bytes of originals dropped"
    export ASAN_OPTIONS="$options_before"
fi

# Ended, and gone on with.
seed=${SEED-$$} ends=${ENDS:-40} # runs
echo "SEED=$seed"
awk -v seed="$seed" -v n="$ends" 'BEGIN {
    srand(seed)
    for (i = 0; i < n; i++)
        printf "%.3f %s\n", rand() * 0.4, substr("KILLKILLTERMINT ", 1 + 4 * int(rand() * 4), 4)
}' >"$tmp/moments"
settings='"rate": 200000'
fresh
ended=0
while read -r moment signal; do
    last="SIG$signal after $moment s"
    "$pull" -q --int4 --drop-source org/tiny >"$tmp/out" 2>"$tmp/err" &
    child=$!
    sleep "$moment"
    kill -"$signal" $child 2>/dev/null
    wait $child
    status=$?
    [ $status != 1 ] || fail "$last: $(cat "$tmp/err")"
    ended=$((ended + 1))
    # What was dropped is fetched again where the file that it became a part of is gone.
    [ $((ended % 5)) != 0 ] || rm -f "$folder"/llama3/*.partial
    file=$folder/llama3/$commit-int4.safetensors
    [ ! -e "$file" ] || same "$file" "$tmp/calibrated" "$last: another file than llama3-quantize's"
    [ $status != 0 ] && [ $((ended % 8)) != 0 ] && continue
    run 0 "$pull" -q --int4 --drop-source org/tiny
    drop_lack
    made "$file" "$tmp/calibrated"
    no_leftovers
    fresh
done <"$tmp/moments" 2>"$tmp/killed"
finish

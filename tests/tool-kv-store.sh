#!/bin/sh
# What llama3 reads of prompts is kept for its next runs: the same text as without, whatever becomes
# of the files; runs killed at KILLS random moments (SEED=); several at once; limits; a full disk.
. "${srcdir:-.}/tests/lib.sh"
unset LLAMA3_CACHE_MAX
export XDG_CACHE_HOME="$tmp/cache"
store=$tmp/cache/llama3/kv
seed=${SEED:-$$}
kills=${KILLS:-200}
echo "SEED=$seed"

# Two prompts that begin alike, of some 300 tokens.
awk 'BEGIN { for (i = 0; i < 60; i++) printf "w%d ", i * 37 % 101 }' >"$tmp/begin"
{ cat "$tmp/begin"; echo "What is the first word?"; } >"$tmp/one"
{ cat "$tmp/begin"; echo "Why is the last one so long?"; } >"$tmp/two"
ask="$program -m $tiny --raw -n 40 --temperature 0 --threads 1"

files()
{
    find "$store" -name '*.kv' 2>/dev/null | wc -l
}

# What must come out, without a store.
for name in one two; do
    run 0 $ask --no-cache --stats -f "$tmp/$name"
    err_has "(0 cached)"
    cp "$tmp/out" "$tmp/want-$name"
done
[ ! -e "$tmp/cache" ] || fail "--no-cache keeps something"

# answers NAME
answers()
{
    run 0 $ask --stats -f "$tmp/$1"
    same "$tmp/out" "$tmp/want-$1" "$last: another answer than without a store"
}

# ---- a later run, and another question --------------------------------------------------------
answers one
err_has "(0 cached)"
[ "$(files)" -ge 3 ] || fail "expected some files in $store, found $(files)"
[ "$(find "$store" "$tmp/cache" -type d ! -perm 700)" = "" ] || fail "a folder is open to others"
[ "$(find "$store" -type f ! -perm 600)" = "" ] || fail "a file is open to others"
answers one
err_has " of them from disk)"
answers two
err_has " of them from disk)"
grep -q '^new  *from token [0-9]* on: "Why' "$tmp/err" || grep -q '^new  *from token [0-9]* on: ".*h' "$tmp/err" ||
    fail "expected where the prompt differs, found: $(cat "$tmp/err")"
for option in "--threads 2" "--kv int8" "--kv int8" "--kv int4" "--kv int4" "--kv f32" "--kv f32 --threads 3"; do
    run 0 $ask $option --no-cache -f "$tmp/one"
    mv "$tmp/out" "$tmp/want"
    run 0 $ask $option -f "$tmp/one"
    same "$tmp/out" "$tmp/want" "$last: another answer than without a store"
done
run 0 $ask --no-cache --stats -f "$tmp/one"
err_has "(0 cached)"
LLAMA3_CACHE_MAX=0 run 0 $ask --stats -f "$tmp/one"
err_has "(0 cached)"
run 0 "$program" -m "$tiny" --info
LLAMA3_CACHE_MAX=much run 2 $ask -f "$tmp/one"
err_has "LLAMA3_CACHE_MAX: expected a number of bytes, such as 1500M or 1.5G, or 0, found \"much\""

# ---- damage, and what is none -----------------------------------------------------------------
for file in "$store"/*.kv; do
    printf 'damage' | dd of="$file" bs=1 seek=3000 conv=notrunc 2>/dev/null
done
answers one
err_has "is damaged; removed"
err_has "(0 cached)"
answers one # may look at the last pages of the other one
answers two
answers one
err_has " of them from disk)"
drop_cut
! grep note: "$tmp/err" || fail "$last: a note where nothing is wrong"
for file in "$store"/*.kv; do
    : >"$file"
done
answers one
err_has "cut short"

# ---- the limit --------------------------------------------------------------------------------
LLAMA3_CACHE_MAX=100K run 0 $ask -f "$tmp/two"
same "$tmp/out" "$tmp/want-two" "a small limit changes the answer"
bytes=$(du -sk --apparent-size "$store" | cut -f 1)
[ "$bytes" -le 108 ] || fail "expected 100K of files at most, found $bytes"
LLAMA3_CACHE_MAX=1 run 0 $ask -f "$tmp/two"
same "$tmp/out" "$tmp/want-two" "a limit of nothing changes the answer"

# ---- a full disk, and a folder that can't be had ----------------------------------------------
rm -rf "$store"
# shellcheck disable=SC3045 # 4 blocks of 512 or 1024 bytes
(ulimit -f 4 && exec $ask -f "$tmp/one") >"$store.out" 2>"$tmp/err" || fail "a full disk ends a run"
mv "$store.out" "$tmp/out"
same "$tmp/out" "$tmp/want-one" "a full disk changes the answer"
last="ulimit -f"
err_has "no more prompts are kept: File too large"
[ "$(files)" = 0 ] || fail "a full disk leaves $(files) files"
if mkdir "$tmp/little" && mount -t tmpfs -o size=24k,mode=700 none "$tmp/little" 2>/dev/null; then
    XDG_CACHE_HOME=$tmp/little run 0 $ask -f "$tmp/one"
    umount "$tmp/little"
    same "$tmp/out" "$tmp/want-one" "a full disk changes the answer"
    err_has "no more prompts are kept: No space left on device"
fi
: >"$tmp/cache/file"
XDG_CACHE_HOME=$tmp/cache/file run 0 $ask -f "$tmp/one"
err_has "what is read of prompts is not kept"
same "$tmp/out" "$tmp/want-one" "a cache that can't be had changes the answer"

# ---- two programs on one store ----------------------------------------------------------------
rm -rf "$store"
for round in 1 2 3; do
    for i in 1 2 3 4; do
        for name in one two; do
            LLAMA3_CACHE_MAX=200K $ask -f "$tmp/$name" >"$tmp/$name.$i" 2>"$tmp/$name.$i.err" &
        done
    done
    wait
    for i in 1 2 3 4; do
        for name in one two; do
            same "$tmp/$name.$i" "$tmp/want-$name" "round $round: another answer beside others"
            cp "$tmp/$name.$i.err" "$tmp/err"
            drop_cut
            [ ! -s "$tmp/err" ] || fail "beside others: $(cat "$tmp/err")"
        done
    done
done
rm -f "$store"/*.kv

# ---- runs that are killed ---------------------------------------------------------------------
awk -v seed="$seed" -v n="$kills" \
    'BEGIN { srand(seed); for (i = 0; i < n; i++) printf "%d %.4f\n", i, rand() * 0.12 }' >"$tmp/moments"
stored=0 rest=$store/nothing
while read -r i moment; do
    [ $((i % 3)) = 0 ] || rm -f "$store"/*.kv # so that most are killed while they write
    $ask -f "$tmp/one" >"$tmp/killed" 2>/dev/null &
    pid=$!
    sleep "$moment"
    kill -KILL $pid 2>/dev/null
    wait $pid 2>/dev/null
    n=$(files)
    [ "$n" = 0 ] || stored=$((stored + 1))
    for rest in "$store"/.[0-9a-f]*; do
        [ ! -e "$rest" ] || fail "a run killed after $moment s leaves $rest"
    done
    run 0 $ask -f "$tmp/one"
    drop_cut
    [ ! -s "$tmp/err" ] || fail "after a kill at $moment s: $(cat "$tmp/err")"
    same "$tmp/out" "$tmp/want-one" "another answer after a kill at $moment s"
    [ $failures -lt 5 ] || finish
done <"$tmp/moments"
echo "$stored of $kills runs were killed with files there"
finish

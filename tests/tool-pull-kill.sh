#!/bin/sh
# llama3-pull(1) that is ended at any moment, over connections that are cut at any byte: what has its
# name is right at all times, and in the end all is there. KILLS runs (200) are ended, by SEED.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/hub-lib.sh"
seed=${SEED-$$}
SEED=$seed
kills=${KILLS-200}
echo "SEED=$seed"

# A checkpoint large enough to be interrupted: its weights are noise, which nobody opens.
model=org/large
serve $model tiny-sharded
shards="model-00001-of-00003.safetensors model-00002-of-00003.safetensors model-00003-of-00003.safetensors"
size=0
for name in $shards; do
    head -c 1500000 /dev/urandom >"$tmp/root/$model/$name"
    size=$((size + 1500000))
done
# right: whatever has its final name is what was served; nothing else is beside it.
for name in $needed; do
    case $name in
    *.safetensors) etag=$(sha256sum <"$tmp/root/$model/$name" | cut -d ' ' -f 1) ;;
    *) etag=$({
        printf 'blob %d\0' "$(wc -c <"$tmp/root/$model/$name")"
        cat "$tmp/root/$model/$name"
    } | sha1sum | cut -d ' ' -f 1) ;;
    esac
    echo "$etag $name"
done >"$tmp/etags"
etags=$tmp/etags
right()
{
    folder=$(folder_of $model)
    while read -r etag name; do
        [ ! -e "$folder/blobs/$etag" ] || same "$folder/blobs/$etag" "$tmp/root/$model/$name" \
            "$last: $name has its name, but not its contents"
        for link in "$folder"/snapshots/*/"$name"; do
            [ ! -L "$link" ] || [ -e "$link" ] || fail "$last: $link leads nowhere"
        done
    done <"$etags"
}
arrived()
{
    # shellcheck disable=SC2086 # a list of names
    whole "$(snapshot $model)" $model $needed
    no_leftovers
}

# begin: a run in the background, $child, where the shell ignores INT.
begin()
{
    env --default-signal=INT "$pull" -q $model >"$tmp/out" 2>"$tmp/err" &
    child=$!
}

# ---- what is there is not asked for again ----------------------------------------------------
# 4.5 MB at 500 kB/s for each connection, ended in the middle, twice, by each signal; then from another
# address, since the hub is started anew.

resumes() # SIGNAL
{
    signal=$1 folder=$(folder_of $model) settings='"rate": 500000'
    fresh
    for round in 1 2; do
        last="SIG$signal, round $round"
        begin
        i=0
        while [ "$(du -sk "$folder/blobs" 2>/dev/null | cut -f 1)" -lt $((round * 500)) ] 2>/dev/null ||
            [ ! -d "$folder/blobs" ]; do
            i=$((i + 1))
            [ $i -lt 200 ] || break
            sleep 0.05
        done
        kill -"$signal" $child 2>/dev/null
        wait $child 2>/dev/null
        status=$?
        case $signal in KILL) want=137 ;; TERM) want=143 ;; INT) want=130 ;; esac
        [ $status = $want ] || [ $status = 0 ] || fail "$last: expected exit status $want, found $status: $(cat "$tmp/err")"
        right
    done
    first=$(sent)
    [ "$first" -gt 500000 ] || fail "SIG$signal: only $first bytes were sent before the end"
    hub_stop
    hub_start
    faults
    run 0 "$pull" -q $model
    arrived
    again=$(sent)
    echo "SIG$signal: $first bytes in two runs that were ended, $again after them, $size in all"
    # what was under way in each of the connections, and its socket
    [ $((first + again)) -le $((size + size / 5)) ] ||
        fail "SIG$signal: $((first + again - size)) bytes were fetched again"
}
for signal in KILL TERM INT; do
    beside resumes $signal
done

# The same after an address has expired while it was under way.
expires()
{
    settings='"rate": 500000'
    fresh '"on": "storage", "do": "cut", "at": 200000, "times": 3' '"on": "storage", "do": "expire", "skip": 3, "times": 1'
    run 0 "$pull" -q $model
    arrived
    applied 1 expire
    echo "cut and expired: $(sent) bytes of $size"
    [ "$(sent)" -le $((size + size / 10)) ] || fail "cut and expired: $(sent) bytes of $size were sent"
}
beside expires

# ---- ended at any moment ---------------------------------------------------------------------
# They wait most of the time: LANES of them at once, each with a cache of its own.

lanes=8
killed() # LANE
{
    SEED=$((seed + $1))
    awk -v seed="$SEED" -v lane="$1" -v lanes=$lanes -v kills="$kills" 'BEGIN {
        srand(seed)
        for (i = lane; i < kills; i += lanes)
            printf "%.3f %s\n", rand() * 0.4, substr("KILLKILLTERMINT ", 1 + 4 * int(rand() * 4), 4)
    }' >"$tmp/moments"
    settings='"rate": 4000000'
    cuts='"on": "any", "do": "cut", "at": [0, 600000], "chance": 0.3'
    fresh "$cuts"
    ended=0 whole_ones=0 lives=0
    while read -r moment signal; do
        last="SIG$signal after $moment s"
        begin
        sleep "$moment"
        kill -"$signal" $child 2>/dev/null
        wait $child
        status=$?
        ended=$((ended + 1))
        right
        [ $status != 1 ] || fail "$last: $(cat "$tmp/err")"
        if [ $status = 0 ]; then
            whole_ones=$((whole_ones + 1))
            arrived
        fi
        # now and then one is let through, and all begins anew
        if [ $status = 0 ] || [ $((ended % 12)) = 0 ]; then
            run 0 "$pull" -q $model
            arrived
            run 0 "$pull" -q --verify $model
            lives=$((lives + 1))
            fresh "$cuts"
        fi
    done <"$tmp/moments" 2>"$tmp/killed" # where the shell tells of each
    run 0 "$pull" -q $model
    arrived
    echo "lane $1: $ended runs were ended ($whole_ones were faster), $((lives + 1)) checkpoints are complete"
}
for lane in $(seq 0 $((lanes - 1))); do
    beside killed "$lane"
done
together
ended=$(cat "$tmp"/beside-*.out | sed -n 's/^lane .*: \([0-9]*\) runs were ended.*/\1/p' | paste -sd + | xargs -I{} sh -c 'echo $(({}))')
[ "$ended" = "$kills" ] || fail "expected $kills runs that were ended, found $ended"
finish

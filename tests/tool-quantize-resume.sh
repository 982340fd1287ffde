#!/bin/sh
# llama3-quantize(1) that is ended: OUT is the old file or the new one, and another run goes on to
# the very same bytes.
. "${srcdir:-.}/tests/lib.sh"
quantize=${LLAMA3_QUANTIZE:-./llama3-quantize}
data=$srcdir/tests/data
mkdir "$tmp/made"

# use ENDING: of the file to make, the one that it replaces, and that of a run that nothing ends
use()
{
    out=$tmp/made/out.$1
    partial=$out.partial
    old=$tmp/old.$1
    new=$tmp/new.$1
    rm -f "$tmp/made"/*
}
use safetensors

# ends STATUS COMMAND...: as run, in any build.
ends()
{
    run "$@"
    drop_lack
}

# Nothing but these files is in $tmp/made.
only()
{
    found=$(ls -A "$tmp/made" | tr '\n' ' ')
    [ "$found" = "$*${1+ }" ] || fail "$last: expected '$*' in the folder, found '$found'"
}

# begin WANTED...: the options, and the file and the report of a run that nothing ends. The file that
# it replaces is another one.
begin()
{
    run 0 "$quantize" "$@" "$new"
    sed "s|$new|$out|" "$tmp/out" >"$tmp/report"
    cp "$old" "$out"
}

# lines N: on stderr, but for what a note says about GGUF's types.
lines()
{
    sed -i '/whose blocks take rows of a multiple of/d' "$tmp/err"
    err_lines "$1"
}

# The first run of the options made it all, as if nothing had happened.
all_made()
{
    same "$out" "$new" "$last: other bytes than those of one run"
    same "$tmp/out" "$tmp/report" "$last: another report than that of one run: $(cat "$tmp/out")"
    only "${out##*/}"
}

still_old()
{
    same "$out" "$old" "$last: the file that was there has changed"
}

run 0 "$quantize" -q --type int8 --no-calibrate "$tiny" "$old"
run 0 "$quantize" -q --format gguf --type q8_0 --no-calibrate "$tiny" "$tmp/old.gguf"

# ---- ended at each mark ----------------------------------------------------------------------
# Marks: the embedding, two layers and, where it is no embedding, the head. A signal that comes at
# one ends the run right behind it, SIGKILL before it.

signals='2 15 1 9'
marks='1 2 3'
case ${BUILD_FLAGS-} in
*-fsanitize*) signals='15 9' marks='1 3' ;; # ten times as slow; which signal it was changes no memory
esac
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    need_preload
    for options in "$tiny" "--no-calibrate $tiny" "--type int8 $data/tiny-tied" \
        "--calibrate $srcdir/README.md $data/tiny-gguf-mixed" "$data/tiny-gguf-q4_0" \
        "--format gguf --type q4_0 $tiny" "--format gguf --no-calibrate $data/tiny-tied"; do
        case $options in
        *"--format gguf"*) use gguf ;;
        esac
        # shellcheck disable=SC2086 # options are several words
        begin $options
        for signal in $signals; do
            for mark in $marks; do
                made=$((mark - 1))
                status=$((128 + signal))
                [ $signal != 9 ] || made=$((made - 1))
                # shellcheck disable=SC2086
                ends $status env "SIGNAL_SYNC=$mark:$signal" LD_PRELOAD="$preload" \
                    "$quantize" $options "$out"
                still_old
                only "${out##*/}" "${partial##*/}"
                if [ $signal != 9 ]; then
                    err_has "llama3-quantize: note: $partial: $made of 2 layers are made, another run goes on with it"
                    lines 1
                fi
                # shellcheck disable=SC2086
                ends 0 "$quantize" $options "$out"
                if [ $made -ge 0 ]; then
                    err_has "llama3-quantize: note: going on with $partial: $made of 2 layers are made"
                    lines 1
                else
                    lines 0
                fi
                all_made
                cp "$old" "$out"
            done
        done
        # Again and again, and silently.
        for mark in 1 1 1; do
            # shellcheck disable=SC2086
            ends 143 env "SIGNAL_SYNC=$mark:15" LD_PRELOAD="$preload" "$quantize" -q $options "$out"
            still_old
        done
        # shellcheck disable=SC2086
        ends 0 "$quantize" -q $options "$out"
        err_empty
        same "$out" "$new" "$last: other bytes than those of one run"
    done
    use safetensors

    # ended_run OPTION...: leaves a partial file of one layer.
    ended_run()
    {
        cp "$old" "$out"
        ends 143 env "SIGNAL_SYNC=2:15" LD_PRELOAD="$preload" "$quantize" "$@" "$out"
        err_has "1 of 2 layers are made"
        still_old
    }

    # Another text, other options, another program's kernels, a checkpoint that was touched: anew.
    begin "$tiny"
    anew()
    {
        ends 0 "$@" "$out"
        grep -q "going on" "$tmp/err" && fail "$last: goes on"
        only "${out##*/}"
    }
    for options in --no-calibrate "--head int8" "--type int8" "--calibrate $srcdir/README.md"; do
        ended_run "$tiny"
        # shellcheck disable=SC2086
        anew "$quantize" $options "$tiny"
    done
    ended_run "$tiny"
    anew env LLAMA3_CPU=scalar "$quantize" "$tiny"
    cp -R "$tiny" "$tmp/source"
    chmod -R u+w "$tmp/source"
    ended_run "$tmp/source"
    touch "$tmp/source/config.json"
    anew "$quantize" "$tmp/source"
    same "$out" "$new" "a checkpoint that was touched makes another file"
    ended_run "$tiny" # threads make no difference
    ends 0 "$quantize" --threads 3 "$tiny" "$out"
    err_has "going on with $partial: 1 of 2 layers are made"
    all_made

    # Damage: where the records are, anywhere; and what is no file of ours.
    size=$(wc -c <"$new")
    for slot in 0 4096; do
        ended_run "$tiny"
        printf 'x' | dd of="$partial" bs=1 seek=$((size + slot + 30)) conv=notrunc 2>"$tmp/dd"
        ends 0 "$quantize" "$tiny" "$out" # the other one, of the embedding or of the first layer
        err_has "going on with $partial: "
        all_made
    done
    ended_run "$tiny"
    head -c 8192 /dev/zero | dd of="$partial" bs=1 seek="$size" conv=notrunc 2>"$tmp/dd"
    anew "$quantize" "$tiny"
    all_made
    for damage in "truncate -s -1" "truncate -s 0" "truncate -s 8192" "chmod 666"; do
        ended_run "$tiny"
        $damage "$partial"
        anew "$quantize" "$tiny"
        all_made
    done
    ended_run "$tiny"
    mv "$partial" "$tmp/elsewhere"
    cp "$tmp/elsewhere" "$tmp/before"
    for kind in "ln -s" ln; do
        $kind "$tmp/elsewhere" "$partial"
        anew "$quantize" "$tiny"
        all_made
        same "$tmp/elsewhere" "$tmp/before" "$kind: the file behind the link has changed"
    done
    mkfifo "$partial"
    anew "$quantize" "$tiny"
    all_made
    cp "$old" "$out"
    mkdir "$partial"
    ends 1 "$quantize" "$tiny" "$out"
    err_has "llama3-quantize: $partial: expected a regular file or nothing, found a directory"
    err_lines 1
    still_old
    rmdir "$partial"

    # Two at once: the second is refused. The first one waits for room.
    SLOW_RESERVE=2000 LD_PRELOAD=$preload "$quantize" -q "$tiny" "$out" &
    first=$!
    tries=0
    while [ ! -e "$partial" ] && [ $tries -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    sleep 0.1
    ends 1 "$quantize" "$tiny" "$out"
    err_has "llama3-quantize: $out: another run is making this file, and has locked $partial"
    err_lines 1
    still_old
    wait $first || fail "the first of two: status $?"
    same "$out" "$new" "the first of two makes another file"
    only "${out##*/}"

    # A disk that gets full: what is there stays if it is of use.
    for options in "--format gguf --type q4_0 $tiny" "$tiny"; do
        case $options in
        *gguf*) use gguf ;;
        *) use safetensors ;;
        esac
        # shellcheck disable=SC2086 # options are several words
        begin $options
        # shellcheck disable=SC2086
        ends 1 env FULL_SYNC=3 LD_PRELOAD="$preload" "$quantize" $options "$out"
        err_has "llama3-quantize: $partial: No space left on device"
        err_has "llama3-quantize: note: $partial: 1 of 2 layers are made, another run goes on with it"
        lines 2
        still_old
        # shellcheck disable=SC2086
        ends 0 "$quantize" $options "$out"
        all_made
        cp "$old" "$out"
        for full in FULL_SYNC=1 "FULL=$(cd "$tmp" && pwd -P)/made"; do
            # shellcheck disable=SC2086
            ends 1 env "$full" LD_PRELOAD="$preload" "$quantize" $options "$out"
            err_has "No space left on device"
            lines 1
            still_old
            only "${out##*/}"
        done
    done

    # A weight that is no number, behind layers that are made: nothing is left.
    cp -R "$data/tiny-f32" "$tmp/nan"
    chmod -R u+w "$tmp/nan"
    # the last layer's last row: of its tensor, in the order of the file
    python3 - "$tmp/nan/model.safetensors" <<'PYTHON' || skip_nan=yes
import json, struct, sys
with open(sys.argv[1], "r+b") as file:
    n, = struct.unpack("<Q", file.read(8))
    end = json.loads(file.read(n))["model.layers.1.mlp.down_proj.weight"]["data_offsets"][1]
    file.seek(8 + n + end - 4)
    file.write(struct.pack("<f", float("nan")))
PYTHON
    if [ -z "${skip_nan-}" ]; then
        ends 1 "$quantize" --no-calibrate "$tmp/nan" "$out"
        err_has "tensor model.layers.1.mlp.down_proj.weight: "
        err_lines 1
        still_old
        only "${out##*/}"
    fi
else
    echo "preload.so is missing: nothing is ended at a mark"
fi

# ---- where nothing can be written ------------------------------------------------------------

last="a folder to read only"
if [ "$(id -u)" != 0 ]; then # root may write anywhere
    mkdir "$tmp/closed"
    chmod 500 "$tmp/closed"
    ends 1 "$quantize" "$tiny" "$tmp/closed/x"
    err_has "llama3-quantize: $tmp/closed/x: Permission denied"
    err_lines 1
    chmod 700 "$tmp/closed"
fi
ends 1 "$quantize" "$tiny" /proc/x
err_has "llama3-quantize: /proc/x: No such file or directory"
err_lines 1

# The name that the file has until it is whole is the checkpoint's.
cp "$data/tiny-gguf-f32/model.gguf" "$tmp/x.partial"
cp "$tmp/x.partial" "$tmp/before"
ends 1 "$quantize" "$tmp/x.partial" "$tmp/x"
err_has "$tmp/x: expected a file that is not the checkpoint's, found one of $tmp/x.partial's own"
same "$tmp/x.partial" "$tmp/before" "the checkpoint has changed"

# ---- killed at any moment --------------------------------------------------------------------
# KILLS times (200); what is left goes on, and OUT is always the one file or the other.

seed=${SEED-$$} kills=${KILLS:-200}
echo "SEED=$seed"
start=$(date +%s%N)
begin "$data/tiny-long"
took=$(($(date +%s%N) - start)) # to kill within that, and 0.4 s at most
awk -v seed="$seed" -v took="$took" -v n="$kills" 'BEGIN {
    srand(seed)
    for (i = 0; i < n; i++)
        printf "%.3f\n", rand() * (took < 4e8 ? took : 4e8) / 1e9
}' >"$tmp/moments"
finished=0 went_on=0
while read -r moment; do
    last="killed after $moment s"
    "$quantize" -q "$data/tiny-long" "$out" 2>"$tmp/err" &
    child=$!
    sleep "$moment"
    kill -KILL $child 2>/dev/null
    wait $child
    if cmp -s "$out" "$new"; then
        finished=$((finished + 1))
        cp "$old" "$out"
    else
        still_old
    fi
    [ ! -e "$partial" ] || went_on=$((went_on + 1))
done <"$tmp/moments" 2>"$tmp/killed" # where the shell tells of each
echo "of $kills runs $finished were faster, $went_on left something"
ends 0 "$quantize" "$data/tiny-long" "$out"
all_made
finish

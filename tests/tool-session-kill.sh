#!/bin/sh
# llama3 that is killed (kill -9) at random moments while it keeps a conversation: the file is the one
# before the turn or the one after it, byte by byte. SEED= and KILLS= choose the moments.
. "${srcdir:-.}/tests/lib.sh"
export LLAMA3_MODEL="$tiny"
seed=${SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
kills=${KILLS:-200}
mkdir "$tmp/folder"
session=$tmp/folder/session.json
ask="$program -q -n 2 --temperature 0 --session $session -p words"

# The title is long, so that much of a run is the writing of the file.
printf '{"format": "llama3-session", "version": 1, "title": "%04000000d", "messages": []}\n' 0 \
    >"$session"
run 0 $ask
cp "$session" "$tmp/before"
begin=$(date +%s%N)
run 0 $ask
took=$((($(date +%s%N) - begin) / 1000)) # microseconds
cp "$session" "$tmp/after"
[ "$(grep -c '"role": "user"' "$tmp/before")" -eq 1 ] && [ "$(grep -c '"role": "user"' "$tmp/after")" -eq 2 ] ||
    fail "$ask: expected a turn and another one"

# Moments around the one at which the file is replaced: it is followed, as it comes sooner or later
# with what else this machine does.
awk -v seed="$seed" -v n="$kills" \
    'BEGIN { srand(seed); for (i = 0; i < n; i++) printf "%d\n", 800 + rand() * 400 }' >"$tmp/factors"
old=0 new=0 middle=$took
while read -r factor; do
    moment=$((middle * factor / 1000))
    cp "$tmp/before" "$session"
    timeout -s KILL "$(printf '%d.%06d' $((moment / 1000000)) $((moment % 1000000)))" \
        $ask >/dev/null 2>&1 </dev/null
    if cmp -s "$session" "$tmp/before"; then
        old=$((old + 1)) middle=$((middle + middle / 20))
    elif cmp -s "$session" "$tmp/after"; then
        new=$((new + 1)) middle=$((middle - middle / 20))
    else
        fail "SEED=$seed: killed after $moment us: the session is neither the old nor the new one"
    fi
done <"$tmp/factors"
echo "SEED=$seed: $kills runs killed, at last after $middle us: $old old, $new new"
[ $old -gt 0 ] && [ $new -gt 0 ] || fail "SEED=$seed: expected old and new files, found $old and $new"

# The conversation goes on; what was begun beside it is not in its way, nor is it much.
run 0 $ask
left=$(find "$tmp/folder" -type f ! -name session.json | wc -l)
[ "$left" -le $((kills / 10)) ] || fail "SEED=$seed: $left files are left beside the session"
finish

#!/bin/sh
# llama3-server --kv-disk: what prompts left survives a restart, of each key for itself.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/server-lib.sh"
export XDG_CACHE_HOME="$tmp/cache"
store=$tmp/cache/llama3/kv-server

run 2 "$server" -m "$tiny" --kv-disk 1M --no-cache
err_has "--kv-disk and --no-cache contradict each other"
run 2 "$server" -m "$tiny" --kv-disk 5
err_has "--kv-disk: expected 1048576 to"

printf 'alice\nbob\n' >"$tmp/keys"
prompt=$(awk 'BEGIN { for (i = 0; i < 60; i++) printf "w%d ", i * 37 % 101 }')
request='{"prompt":"'$prompt'","max_tokens":20,"temperature":0}'

# ask KEY CACHED: how many of the prompt's tokens have to be held already; "some".
ask()
{
    post 200 /v1/completions "$request" -H "Authorization: Bearer $1"
    text=$(content)
    [ "$text" = "${first=$text}" ] || fail "$1: another answer, '$text' instead of '$first'"
    found=$(field cached_tokens)
    case $2 in
    some) [ "$found" -ge 128 ] || fail "$1: expected most tokens to be there, found $found" ;;
    *) [ "$found" = "$2" ] || fail "$1: expected $2 tokens to be there, found $found" ;;
    esac
}

# serve OPTION...
serve()
{
    start -m "$tiny" --api-key-file "$tmp/keys" "$@"
    ready
}

serve # without the option nothing is kept
ask alice 0
stop 0
[ ! -e "$store" ] || fail "something is kept without --kv-disk"
serve --kv-disk 16M
ask alice 0
ask alice some
ask bob 0
stop 0
n=$(find "$store" -name '*.kv' | wc -l)
[ "$n" -ge 4 ] || fail "expected files of two keys, found $n"
[ "$(find "$store" -type f ! -perm 600)" = "" ] || fail "a file is open to others"
! grep -rqa -e alice -e bob "$store" || fail "a key stands in a file"

# A new key changes the others' numbers.
printf 'aaron\nalice\nbob\ncarol\n' >"$tmp/keys"
serve --kv-disk 16M
ask carol 0
ask alice some
ask aaron 0
ask bob some
stop 0

# One household shares, and it isn't one of the keys.
serve --kv-disk 16M --share-prefixes
ask alice 0
stop 0
serve --kv-disk 16M --share-prefixes
ask bob some
stop 0

# A server that is killed loses at most what it was about to write.
serve --kv-disk 16M
kill -KILL $pid
wait $pid 2>/dev/null
serve --kv-disk 16M
ask alice some
stop 0

# Damage is noted in the log, and read again.
for file in "$store"/*.kv; do
    printf 'damage' | dd of="$file" bs=1 seek=3000 conv=notrunc 2>/dev/null
done
serve --kv-disk 16M
ask alice 0
grep -q "is damaged; removed" "$tmp/log" || fail "no note of damage: $(cat "$tmp/log")"
stop 0
finish

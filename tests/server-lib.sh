# What the tests of llama3-server share; sourced after lib.sh.
server=${LLAMA3_SERVER:-./llama3-server}
command -v curl >/dev/null || skip "curl is missing"
[ -x "$server" ] || skip "llama3-server is not built"
pid=
trap 'kill -KILL $pid 2>/dev/null; rm -rf "$tmp"' EXIT

# start OPTION...: a server on a free port, $url; waits until it listens.
start()
{
    : >"$tmp/log" # not the last server's
    "$server" --port 0 "$@" 2>"$tmp/log" &
    pid=$!
    i=0
    until url=$(sed -n 's,^llama3-server: listening at \(http.*\)/$,\1,p' "$tmp/log") && [ -n "$url" ]; do
        i=$((i + 1))
        if [ $i -gt 300 ] || ! kill -0 $pid 2>/dev/null; then
            fail "llama3-server $*: it does not listen"
            cat "$tmp/log"
            finish
        fi
        sleep 0.1
    done
}

ready()
{
    i=0
    until grep -q '^llama3-server: ready' "$tmp/log"; do
        i=$((i + 1))
        if [ $i -gt 600 ] || ! kill -0 $pid 2>/dev/null; then
            fail "the model is not loaded"
            cat "$tmp/log"
            finish
        fi
        sleep 0.1
    done
}

# stop STATUS
stop()
{
    kill -TERM $pid
    wait $pid
    got=$?
    [ $got = "$1" ] || fail "SIGTERM: expected exit status $1, found $got: $(cat "$tmp/log")"
    pid=
}

# get STATUS PATH CURL-OPTION...: what is answered is then in $tmp/out, its head in $tmp/head.
get()
{
    want=$1 last="$2 $4"
    path=$2
    shift 2
    code=$(curl -s -m 60 -o "$tmp/out" -D "$tmp/head" -w '%{http_code}' "$@" "$url$path")
    [ "$code" = "$want" ] || {
        fail "$path $*: expected status $want, found $code"
        sed 's/^/    /' "$tmp/out"
    }
}

# post STATUS PATH JSON CURL-OPTION...
post()
{
    want_status=$1 post_path=$2 json=$3
    shift 3
    get "$want_status" "$post_path" -H 'Content-Type: application/json' --data-binary "$json" "$@"
    last="$post_path $json"
}

# refused STATUS PATH JSON TEXT: an error that says so.
refused()
{
    post "$1" "$2" "$3"
    out_has '{"error":{"message":"'
    out_has "$4"
}

head_has()
{
    grep -qi -e "$1" "$tmp/head" || {
        fail "$last: expected '$1' in the head, found:"
        sed 's/^/    /' "$tmp/head"
    }
}

# metric NAME: its value.
metric()
{
    curl -s -m 20 "$@" "$url/metrics" | sed -n "s/^llama3_$1 //p"
}

# field NAME: the number or string that follows "NAME": in $tmp/out, the first one.
field()
{
    sed 's/.*"'"$1"'":"\{0,1\}//; s/[],"}].*//' "$tmp/out" | head -n 1
}

# text: what an answer in $tmp/out says, its escapes as they are.
content()
{
    sed 's/.*"\(content\|text\)":"\(\([^"\\]\|\\.\)*\)".*/\2/' "$tmp/out"
}

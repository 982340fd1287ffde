#!/bin/sh
# llama3-pull(1) where something is wrong: on the hub, on the way, or with what arrives. Each error is
# one line that says what to do, and no file gets its name that is not what the hub has.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/hub-lib.sh"
export HF_HUB_DOWNLOAD_TIMEOUT=2
serve_tiny org/tiny
hub_start
storage_only='"on": "storage"'
shard=model-00002-of-00003.safetensors

# all_there: org/tiny is complete and what was served.
all_there()
{
    # shellcheck disable=SC2086 # a list of names
    whole "$(snapshot org/tiny)" org/tiny $needed
    no_leftovers
    kept_secret
}

# unnamed: the shard that is broken is not in a snapshot.
unnamed()
{
    found=$(find "$cache" -path "*/snapshots/*/$shard")
    [ -z "$found" ] || fail "$last: $shard has its name"
}

# api RULE TEXT: what goes wrong with the list of files
api()
{
    fresh "\"on\": \"api\", $1"
    refuses 1 "$2" "$pull" -q org/tiny
    nothing_arrived
    asked 0 /resolve/
}

# mended RULE...: it goes wrong, and all arrives nevertheless.
mended()
{
    fresh "$@"
    run 0 "$pull" -q org/tiny
    err_empty
    all_there
}

# broken RULE TEXT: it stays wrong.
broken()
{
    fresh "$1"
    refuses 1 "$2" "$pull" -q org/tiny
    unnamed
    found=$(find "$cache" -size +1000k)
    [ -z "$found" ] || fail "$last: larger than what was asked for: $found"
}

# ---- what is tried again and again ------------------------------------------------------------
# Each takes 15 s, so they wait beside the rest.

beside api '"do": "garbage"' "127.0.0.1"
beside api '"do": "hang_up"' "127.0.0.1"
beside api '"do": "cut", "at": 20' "127.0.0.1"
beside api '"do": "long_head"' "127.0.0.1"
beside api '"do": "status", "status": 500, "headers": {"X-Error-Message": "the database sleeps"}' "the database sleeps"
beside broken "$storage_only, \"do\": \"range\", \"shift\": 1, \"ranged\": true" "127.0.0.1"
beside broken "$storage_only, \"do\": \"range\", \"total\": 1, \"ranged\": true" "127.0.0.1"
beside broken "$storage_only, \"do\": \"size\", \"by\": 5" "127.0.0.1"
beside broken "$storage_only, \"do\": \"size\", \"by\": -5" "bytes, found"
beside broken "$storage_only, \"do\": \"endless\"" "found more"
beside broken "$storage_only, \"do\": \"gzip\"" "127.0.0.1"
beside broken "$storage_only, \"do\": \"status\", \"status\": 404" "404"
beside broken "$storage_only, \"do\": \"status\", \"status\": 403" "403"
beside broken "$storage_only, \"do\": \"status\", \"status\": 500" "500"
beside broken "$storage_only, \"do\": \"hang_up\"" "127.0.0.1"
beside broken "$storage_only, \"do\": \"cut\", \"at\": 0" "127.0.0.1"
beside broken "$storage_only, \"do\": \"long_head\"" "127.0.0.1"
beside broken "$storage_only, \"do\": \"status\", \"status\": 403}, {$storage_only, \"do\": \"endless\"" "403"
beside broken "$storage_only, \"do\": \"stall\", \"at\": 0" "127.0.0.1"

# A file that leads to another one.
elsewhere()
{
    broken "$storage_only, \"do\": \"redirect\", \"to\": \"$hub/org/tiny/resolve/main/README.md\"" "127.0.0.1"
}
beside elsewhere

# ---- what passes -----------------------------------------------------------------------------

cut_short()
{
    mended "$storage_only, \"do\": \"cut\", \"at\": [0, 29000], \"times\": 6"
    applied 6 cut
}
beside cut_short
beside mended '"on": "hub", "do": "cut", "at": [0, 600], "times": 4'
beside mended "$storage_only, \"do\": \"hang_up\", \"times\": 3"
beside mended "$storage_only, \"do\": \"stall\", \"at\": 9000, \"times\": 1"
beside mended "$storage_only, \"do\": \"expire\", \"times\": 1"
beside mended "$storage_only, \"do\": \"slow_head\", \"seconds\": 0.3"
beside mended '"on": "api", "do": "drip", "seconds": 0.001'
beside mended '"on": "hub", "do": "status", "status": 503, "times": 2' "$storage_only, \"do\": \"status\", \"status\": 500, \"times\": 2"
beside mended '"on": "hub", "do": "status", "status": 408, "times": 1' '"on": "hub", "do": "status", "status": 504, "times": 1'
settings='"direct": true'
beside mended
settings='"large": 600'
beside mended
settings=
# Ranges that the storage doesn't keep to: after a break all is sent again, from the beginning.
beside mended "$storage_only, \"do\": \"cut\", \"at\": 9000, \"times\": 3" "$storage_only, \"do\": \"ignore_range\""

# What breaks all connections at once is one failure, however many pieces of a file were on their way.
mkdir "$tmp/root/org/large"
truncate -s 300M "$tmp/root/org/large/model.safetensors"
all_at_once()
{
    fresh "$storage_only, \"ranged\": true, \"do\": \"hang_up\", \"skip\": 1, \"times\": 16"
    run 0 "$pull" -q -j 8 --include '*' org/large
    err_empty
}
beside all_at_once

# ---- who may have it -------------------------------------------------------------------------

settings="\"tokens\": [\"$token\", \"hf_good\"], \"gated\": {\"org/tiny\": [\"hf_good\"]}, \"private\": {\"org/hidden\": [\"hf_good\"]}"
serve org/hidden tiny-f32
fresh
refuses 1 "$hub/org/tiny" "$pull" -q org/tiny
err_has "token"
refuses 1 "$hub/org/tiny" env HF_TOKEN=$token "$pull" -q org/tiny
refuses 1 "org/none" "$pull" -q org/none
refuses 1 "org/none" env HF_TOKEN=$token "$pull" -q org/none
refuses 1 "org/hidden" env HF_TOKEN=$token "$pull" -q org/hidden
run 0 env HF_TOKEN=hf_good "$pull" -q org/hidden
refuses 1 "nothing-like-it" "$pull" -q --revision nothing-like-it org/tiny
# A token that the hub doesn't know: by where it comes from, not by what it is.
settings='"tokens": []'
fresh
refuses 1 "HF_TOKEN" env HF_TOKEN=$token "$pull" -q org/tiny
echo $token >"$tmp/token"
refuses 1 "$tmp/token" env HF_TOKEN_PATH="$tmp/token" "$pull" -q org/tiny
settings=
# One that can't be in a header.
last="a token of two lines"
refuses 1 "HF_TOKEN" env HF_TOKEN="$token
X-Injected: 1" "$pull" -q org/tiny
asked 0 X-Injected
nothing_arrived

# ---- what the hub says -----------------------------------------------------------------------

api '"do": "body", "body": "{\"sha\": "' "127.0.0.1"
api '"do": "body", "body": ""' "127.0.0.1"
api '"do": "body", "body": "<html>Sign in to the network</html>"' "127.0.0.1"
api '"do": "body", "body": "[1, 2]"' "127.0.0.1"
api '"do": "json", "remove": ["sha"]' '"sha"'
api '"do": "json", "set": {"sha": "../../../../../../tmp/x"}' '"sha"'
api '"do": "json", "set": {"sha": 5}' '"sha"'
api '"do": "json", "set": {"siblings": 5}' '"siblings"'
api '"do": "json", "set": {"siblings": []}' "org/tiny"
api '"do": "json", "set": {"siblings": [{"rfilename": 5}]}' '"rfilename"'
api '"do": "json", "set": {"siblings": [{"rfilename": "model.safetensors"}]}' '"size"'
api '"do": "json", "set": {"siblings": [{"rfilename": "model.safetensors", "size": -1, "blobId": "0"}]}' '"size"'
api '"do": "json", "set": {"siblings": [{"rfilename": "model.safetensors", "size": 1, "blobId": "../../x"}]}' 'model.safetensors'
api '"do": "json", "set": {"siblings": [{"rfilename": "model.safetensors", "size": 1, "lfs": {"size": 1, "sha256": "../x"}}]}' 'model.safetensors'
api '"do": "listing"' "127.0.0.1"
api '"do": "endless"' "127.0.0.1"
# The page that comes with an error is no answer, and may not end.
api '"do": "status", "status": 404}, {"do": "endless"' "no such model"
api '"do": "status", "status": 418}, {"do": "endless"' "418"
api '"do": "status", "status": 418' "418"
api '"do": "redirect"' "redirect"
api '"do": "redirect", "to": "file:///etc/passwd"' "redirect"
api '"do": "redirect", "to": "ftp://127.0.0.1/x"' "redirect"
api '"do": "redirect", "to": "http://"' "redirect"
api '"do": "headers", "set": {"Content-Encoding": "gzip"}' "encoded"
api '"do": "gzip"' "encoded"

# Names that lead elsewhere, or that can't be written. All is refused, not only those.
long=$(printf '%0300d' 0)
deep=$(printf '%02500d' 0 | sed 's,00,0/,g')
for name in ../x ../../x.json a/../../x /etc/x.json '//x' 'a//x' ./x a/./x . .. 'a/' '' 'a\\u0000b' 'a\\nb' 'a\\u001b[31mb' \
    'a\\u007fb' '..\\\\x' 'a\\\\..\\\\x' 'C:x' "$long" "${deep}x" 'model.safetensors.index.json/x.json' '.git/../../x' \
    'CONFIG.JSON' 'config.json' '\\ud800'; do
    fresh
    cat >"$tmp/name.json" <<END
{"extra": [{"rfilename": "$(printf '%s' "$name" | sed 's,\\\\,\\,g')", "size": 2, "blobId": "$(printf '%040d' 1)"}]}
END
    mv "$tmp/name.json" "$tmp/control"
    run 1 "$pull" -q --include '*' org/tiny
    err_lines 1
    ! LC_ALL=C grep -q "$(printf '[\001-\011\013-\037\177]')" "$tmp/err" || fail "'$name': the error has control characters"
    [ "$(wc -c <"$tmp/err")" -lt 1000 ] || fail "'$name': an error of $(wc -c <"$tmp/err") bytes"
    nothing_arrived
    asked 0 /resolve/
done
[ ! -e "$tmp/x" ] && [ ! -e "$tmp/x.json" ] || fail "a file outside of the cache"

# A snapshot or a folder in it that is a link to elsewhere is not written through.
fresh
mkdir -p "$tmp/elsewhere" "$tmp/linked"
ln -s "$tmp/elsewhere" "$tmp/linked/original"
run 1 "$pull" -q --include 'original/*' --local-dir "$tmp/linked" org/tiny
[ -z "$(ls "$tmp/elsewhere")" ] || fail "a file is written through a link: $(ls "$tmp/elsewhere")"

# More than there is room for is refused before the first byte.
api '"do": "json", "set": {"siblings": [{"rfilename": "config.json", "size": 1, "blobId": "0000000000000000000000000000000000000000"}, {"rfilename": "model.safetensors", "size": 8796093022208, "lfs": {"size": 8796093022208, "sha256": "0000000000000000000000000000000000000000000000000000000000000000"}}]}' "free"

# What is no Llama is refused before the weights.
cp -R "$tmp/root/org/tiny" "$tmp/root/org/other"
sed 's/"llama"/"gemma"/; s/LlamaForCausalLM/GemmaForCausalLM/' "$tmp/root/org/tiny/config.json" >"$tmp/root/org/other/config.json"
fresh
refuses 1 "gemma" "$pull" -q org/other
asked 0 '"host": "storage"'
# A repository of something else.
mkdir "$tmp/root/org/pictures"
echo x >"$tmp/root/org/pictures/README.md"
fresh
refuses 1 "org/pictures" "$pull" -q org/pictures

# ---- what the storage sends ------------------------------------------------------------------

# One wrong byte: the file is fetched once more.
fresh "$storage_only, \"file\": \"$shard\", \"do\": \"flip\", \"times\": 1"
run 0 "$pull" org/tiny
all_there
applied 1 flip
fresh "\"on\": \"resolve\", \"file\": \"tokenizer.json\", \"do\": \"flip\", \"times\": 1"
run 0 "$pull" org/tiny
all_there
applied 1 flip
# Always: it is kept apart, and the rest is there for the next run.
fresh "$storage_only, \"file\": \"$shard\", \"do\": \"flip\""
refuses 1 "$shard" "$pull" -q org/tiny
applied 2 flip
unnamed
faults
: >"$tmp/log"
run 0 "$pull" -q org/tiny
all_there
broken "$storage_only, \"do\": \"redirect\"" "redirect"
broken "$storage_only, \"do\": \"redirect\", \"to\": \"file:///etc/passwd\"" "redirect"
broken "\"on\": \"resolve\", \"file\": \"$shard\", \"do\": \"no_file\"" "$shard"

# ---- rate limits -----------------------------------------------------------------------------

for limit in '"Retry-After": "1"' '"RateLimit": "\"api\";r=0;t=1", "RateLimit-Policy": "\"fixed window\";\"api\";q=500;w=300"'; do
    for on in api resolve storage; do
        fresh "\"on\": \"$on\", \"do\": \"status\", \"status\": 429, \"headers\": {$limit}, \"times\": 1"
        began=$(date +%s%N)
        run 0 "$pull" org/tiny
        took=$((($(date +%s%N) - began) / 1000000))
        [ $took -ge 950 ] || fail "$on, 429: waits $took ms, not a second"
        applied 1 status
        all_there
    done
done

# ---- TLS -------------------------------------------------------------------------------------

hub_stop
if command -v openssl >/dev/null; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=a CA of the test" \
        -keyout "$tmp/ca.key" -out "$tmp/ca.pem" 2>"$tmp/openssl" || fail "openssl: $(cat "$tmp/openssl")"
    openssl req -newkey rsa:2048 -nodes -subj "/CN=hub.test" -keyout "$tmp/hub.key" -out "$tmp/hub.csr" 2>"$tmp/openssl"
    printf 'subjectAltName=DNS:hub.test,IP:127.0.0.1\n' >"$tmp/hub.ext"
    openssl x509 -req -days 2 -in "$tmp/hub.csr" -CA "$tmp/ca.pem" -CAkey "$tmp/ca.key" -CAcreateserial \
        -extfile "$tmp/hub.ext" -out "$tmp/hub.pem" 2>"$tmp/openssl" || fail "openssl: $(cat "$tmp/openssl")"
    settings="\"tokens\": [\"$token\"]"
    hub_start --tls "$tmp/hub.pem" "$tmp/hub.key"
    export HF_TOKEN=$token
    fresh
    refuses 1 "certificate" "$pull" -q org/tiny
    asked 0 .
    for name in CURL_CA_BUNDLE SSL_CERT_FILE; do
        fresh
        run 0 env $name="$tmp/ca.pem" "$pull" -q org/tiny
        all_there
    done
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=another CA" \
        -keyout "$tmp/other.key" -out "$tmp/other.pem" 2>"$tmp/openssl"
    refuses 1 "certificate" env CURL_CA_BUNDLE="$tmp/other.pem" SSL_CERT_FILE="$tmp/ca.pem" "$pull" -q org/tiny
    # What is https doesn't become http: the token would be shown to anybody.
    export CURL_CA_BUNDLE="$tmp/ca.pem"
    for on in api resolve storage; do
        fresh "\"on\": \"$on\", \"do\": \"redirect\", \"to\": \"http://127.0.0.1:1/x\""
        refuses 1 "http" "$pull" -q org/tiny
    done
    # Through a proxy: a tunnel, by names that only the proxy knows, and without the token.
    named=https://hub.test:${hub##*:}
    settings="\"tokens\": [\"$token\"], \"storage\": \"hub.test\""
    fresh
    run 0 env HF_ENDPOINT="$named" https_proxy="$proxy" "$pull" -q org/tiny
    all_there
    [ "$(requests '"method": "CONNECT", "path": "hub.test:')" -ge 2 ] || fail "$last: not through the proxy"
    fresh
    run 0 env HTTPS_PROXY=http://127.0.0.1:1 NO_PROXY=127.0.0.1,hub.test "$pull" -q --include config.json org/tiny
    for status in 407 403; do
        fresh "\"on\": \"proxy\", \"do\": \"status\", \"status\": $status"
        refuses 1 "$status" env HF_ENDPOINT="$named" https_proxy="$proxy" "$pull" -q org/tiny
        err_has "proxy"
        asked 1 '"host": "proxy"'
    done
    fresh '"on": "proxy", "do": "status", "status": 502, "times": 1'
    run 0 env HF_ENDPOINT="$named" https_proxy="$proxy" "$pull" -q org/tiny
    fresh
    refuses 1 "proxy" env HF_ENDPOINT="$named" https_proxy=http://127.0.0.1:1 "$pull" -q org/tiny
    hub_stop
    unset CURL_CA_BUNDLE HF_TOKEN
    settings=
else
    echo "openssl is missing: without TLS"
fi

# ---- nobody there ----------------------------------------------------------------------------

rm -rf "$cache"
refuses 1 "127.0.0.1:1" env HF_ENDPOINT=http://127.0.0.1:1 "$pull" -q org/tiny
refuses 1 "nowhere.invalid" env HF_ENDPOINT=http://nowhere.invalid "$pull" -q org/tiny
for endpoint in ftp://127.0.0.1 nothing 'http://a b' http://user:password@127.0.0.1:1 file:///etc; do
    run 1 env HF_ENDPOINT="$endpoint" "$pull" -q org/tiny
    err_lines 1
    ! grep -q password "$tmp/err" || fail "$endpoint: the password is shown"
done
refuses 1 'found "ftp://a"' env HF_ENDPOINT=ftp://a "$pull" -q org/tiny
refuses 1 'found "b"' env HF_ENDPOINT=ftp://user:password@b "$pull" -q org/tiny
together
finish

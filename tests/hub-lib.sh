# What the tests of llama3-pull share; sourced after lib.sh. They talk to tests/hub/stand_in.py, which
# says on top what can go wrong with its answers, and how it is told.
pull=${LLAMA3_PULL:-./llama3-pull}
[ -x "$pull" ] || skip "llama3-pull is not built"
command -v python3 >/dev/null || skip "python3 is missing"

# Neither the caller's caches and tokens nor their proxies.
for name in $(env | sed -n 's/^\(HF_[A-Z_]*\|HUGGING[A-Z_]*\|[A-Za-z]*_[Pp][Rr][Oo][Xx][Yy]\|CURL_[A-Z_]*\|SSL_CERT_[A-Z]*\)=.*/\1/p'); do
    unset "$name"
done
export HOME="$tmp/home" XDG_CACHE_HOME="$tmp/home/.cache"
cache=$tmp/hub
export HF_HUB_CACHE="$cache"
mkdir -p "$HOME" "$tmp/root/org"
token=hf_SecretOfTheTest
settings=
hub_pid=
trap '[ -z "$hub_pid" ] || kill "$hub_pid" 2>/dev/null; rm -rf "$tmp"' EXIT

# A checkpoint as it is published: what llama3 needs, and what it doesn't.
serve() # REPOSITORY FIXTURE
{
    mkdir -p "$tmp/root/$1"
    cp "$srcdir/tests/data/$2"/* "$tmp/root/$1"
    chmod -R u+w "$tmp/root/$1"
    rm "$tmp/root/$1"/golden.*
}
needed="config.json generation_config.json model-00001-of-00003.safetensors
    model-00002-of-00003.safetensors model-00003-of-00003.safetensors model.safetensors.index.json
    tokenizer.json tokenizer_config.json"
serve_tiny() # REPOSITORY
{
    serve "$1" tiny-sharded
    mkdir "$tmp/root/$1/original"
    for name in README.md LICENSE.txt .gitattributes pytorch_model.bin training_args.bin \
        original/params.json original/consolidated.00.pth; do
        echo "$name" >"$tmp/root/$1/$name"
    done
}

# hub_start OPTION...: a hub on free ports, $hub, $storage, $proxy.
hub_start()
{
    rm -f "$tmp/info"
    : >"$tmp/log"
    python3 "$srcdir/tests/hub/stand_in.py" --root "$tmp/root" --info "$tmp/info" --log "$tmp/log" \
        --control "$tmp/control" --seed "${SEED-1}" "$@" &
    hub_pid=$!
    i=0
    until [ -e "$tmp/info" ]; do
        i=$((i + 1))
        if [ $i -gt 300 ] || ! kill -0 $hub_pid 2>/dev/null; then
            fail "the stand-in for the hub does not start"
            finish
        fi
        sleep 0.1
    done
    hub=$(sed -n 's/^hub=//p' "$tmp/info")
    storage=$(sed -n 's/^storage=//p' "$tmp/info")
    proxy=$(sed -n 's/^proxy=//p' "$tmp/info")
    export HF_ENDPOINT="$hub"
}

hub_stop()
{
    kill "$hub_pid"
    wait "$hub_pid" 2>/dev/null
    hub_pid=
}

# beside COMMAND...: runs it beside what follows, with a hub, a cache and a folder of its own, since it
# waits most of its time. together: waits for all of them.
besides=
number=0
beside()
{
    number=$((number + 1))
    (
        failures=0 root=$tmp/root tmp=$tmp/beside-$number
        mkdir "$tmp"
        ln -s "$root" "$tmp/root"
        cache=$tmp/hub
        export HF_HUB_CACHE="$cache"
        hub_start
        "$@"
        hub_stop
        rm -rf "$tmp"
        [ $failures = 0 ]
    ) >"$tmp/beside-$number.out" 2>&1 &
    besides="$besides $!"
}
together()
{
    for child in $besides; do
        wait "$child" || failures=$((failures + 1))
    done
    besides=
    cat "$tmp"/beside-*.out
}

# faults RULE...: what goes wrong from now on, beside the settings in $settings.
faults()
{
    rules=
    for rule in "$@"; do
        rules="$rules${rules:+, }{$rule}"
    done
    printf '{%s"rules": [%s]}\n' "${settings:+$settings, }" "$rules" >"$tmp/control.new"
    mv "$tmp/control.new" "$tmp/control"
}

# fresh RULE...: the same, with an empty cache and an empty log.
fresh()
{
    rm -rf "$cache"
    : >"$tmp/log"
    faults "$@"
}

# requests PATTERN: how many requests of the log match.
requests()
{
    grep '"method"' "$tmp/log" | grep -c -e "$1"
}

# asked WANTED PATTERN
asked()
{
    found=$(requests "$2")
    [ "$found" = "$1" ] || fail "$last: expected $1 requests like '$2', found $found"
}

# applied WANTED RULE: so often a rule was applied; WANTED may be "some".
applied()
{
    found=$(grep '"rules"' "$tmp/log" | grep -c -e "\"$2\"")
    if [ "$1" = some ]; then
        [ "$found" -gt 0 ] || fail "$last: the hub never did '$2'"
    else
        [ "$found" = "$1" ] || fail "$last: expected that the hub does '$2' $1 times, found $found"
    fi
}

# sent: bytes of the bodies that the storage sent.
sent()
{
    python3 -c 'import json, sys
storage, total = set(), 0
for line in map(json.loads, open(sys.argv[1])):
    if line.get("host") == "storage":
        storage.add(line["id"])
    elif "sent" in line and line["id"] in storage:
        total += line["sent"]
print(total)' "$tmp/log"
}

# folder_of REPOSITORY: its folder in the cache; snapshot REPOSITORY: that of what refs/main says.
folder_of()
{
    echo "$cache/models--$(echo "$1" | sed 's,/,--,')"
}
snapshot()
{
    echo "$(folder_of "$1")/snapshots/$(cat "$(folder_of "$1")/refs/main")"
}

# whole DIR REPOSITORY NAME...: exactly these files are in DIR, and are those that were served.
whole()
{
    found_in=$1 source_of=$tmp/root/$2
    shift 2
    (cd "$found_in" 2>/dev/null && find . -name .cache -prune -o \( -type f -o -type l \) -print) |
        sed 's,^\./,,' | sort >"$tmp/there"
    printf '%s\n' "$@" | sort >"$tmp/expected"
    same "$tmp/there" "$tmp/expected" "$last: other files than expected in $found_in: $(diff "$tmp/there" "$tmp/expected" | grep '^[<>]' | tr '\n' ' ')"
    for name in "$@"; do
        same "$found_in/$name" "$source_of/$name" "$last: $name is not what was served"
    done
}

# nothing_arrived: no file of any model has its final name, in the cache or outside of it.
nothing_arrived()
{
    found=$(find "$cache" -path '*/snapshots/*' ! -type d 2>/dev/null)
    [ -z "$found" ] || fail "$last: expected no file in a snapshot, found $found"
}

# no_leftovers: nothing but finished files in the cache.
no_leftovers()
{
    found=$(find "$cache" -name '*incomplete*' -o -name '*.ranges' 2>/dev/null)
    [ -z "$found" ] || fail "$last: left behind: $found"
}

# refuses STATUS TEXT COMMAND...: one line on stderr that has the text, nothing on stdout.
refuses()
{
    want_status=$1 text=$2
    shift 2
    run "$want_status" "$@"
    err_has "$text"
    err_lines 1
    out_empty
    kept_secret
}

# The token that this test has given is nowhere but in requests to the hub: in no output, in no file,
# and neither the storage nor the proxy has seen it.
kept_secret()
{
    if grep -q "$token" "$tmp/out" "$tmp/err"; then
        fail "$last: the token is in the output"
    fi
    if [ -d "$cache" ] && grep -rqF "$token" "$cache"; then
        fail "$last: the token is in the cache: $(grep -rlF "$token" "$cache")"
    fi
    if grep -e '"host": "storage"' -e '"host": "proxy"' "$tmp/log" | grep -q -e "$token" -e '"Authorization"'; then
        fail "$last: another host was shown the token"
    fi
}

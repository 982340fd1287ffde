#!/bin/sh
# llama3-pull(1) in a real terminal: its progress, and what it asks. tmux is the terminal.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/hub-lib.sh"
# shellcheck source=tests/terminal-lib.sh
. "$srcdir/tests/terminal-lib.sh"
serve_tiny org/tiny
hub_start
folder=$(folder_of org/tiny)

# start COLUMNS ROWS ARGUMENTS: llama3-pull on a screen of its own, followed by "[its status]". What it
# writes is in $tmp/raw.
start()
{
    columns=$1 rows=$2
    last="llama3-pull $3, ${columns}x$rows"
    cat >"$tmp/start" <<END
trap : INT # ^C is for the program
export HF_ENDPOINT=$HF_ENDPOINT HF_HUB_CACHE=$cache HOME=$HOME LC_ALL=C.UTF-8
sleep 0.2
env --default-signal=INT $pull $3
printf '\\n[%d]\\n' \$?
sleep 60
END
    terminal kill-session -t test 2>/dev/null
    : >"$tmp/raw"
    terminal new-session -d -s test -x "$columns" -y "$rows" "sh '$tmp/start'" \; \
        pipe-pane -t test "cat >>'$tmp/raw'"
}

# shown MINIMUM: the last run's lines fit, its total never goes back, and was shown so often.
shown()
{
    python3 - "$tmp/raw" "$columns" "$1" <<'END' || fail "$last: the progress"
import re, sys, unicodedata
raw = open(sys.argv[1], "rb").read().decode("utf-8", "strict")
columns, least = int(sys.argv[2]), int(sys.argv[3])
units = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", raw)]
totals, before = 0, (0, 0, 0)
for line in lines:
    width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)
    if line.startswith("llama3-pull: ") or line.startswith("/"):
        continue
    if width >= columns:
        sys.exit(f"a line of {width} columns: {line}")
    if "B/s" in line and not re.search(r"[kM]B/s, [\d.]+ (s|min|h) left$", line):
        sys.exit(f"the figures are cut: {line}")
    if any(ord(c) < 32 or ord(c) == 127 for c in line):
        sys.exit(f"a control character: {line!r}")
    match = re.match(r"(\d+) of (\d+) files: ([\d.]+) (\w+) of ([\d.]+) (\w+)", line)
    if match:
        totals += 1
        files, all_files, done, unit, whole, of = match.groups()
        done, whole = float(done) * units[unit], float(whole) * units[of]
        now = int(files) / int(all_files), done, done / whole
        if any(a < b for a, b in zip(now, before)):
            sys.exit(f"it goes back from {before} to {now}: {line}")
        before = now
if totals < least:
    sys.exit(f"{totals} lines of the total:\n" + "\n".join(lines))
print(f"    {totals} lines of the total, at most {max(map(len, lines))} columns")
END
}

# ends STATUS: and nothing of the progress is left.
ends()
{
    sees "^\\[$1\\]\$" || return
    never_saw ' files: '
    never_saw '\[[#.]*\]'
}

whole_tiny()
{
    # shellcheck disable=SC2086 # a list of names
    whole "$(snapshot org/tiny)" org/tiny $needed
}

for size in "80 24" "60 24" "60 4" "200 50"; do
    settings='"rate": 30000'
    fresh
    # shellcheck disable=SC2086 # two numbers
    start $size org/tiny
    ends 0
    shown 3
    whole_tiny
done
# A hash that is wrong, connections that break, and an end.
settings='"rate": 30000'
fresh '"on": "storage", "file": "model-00002-*", "do": "flip", "times": 1' \
    '"on": "any", "do": "cut", "at": [0, 9000], "times": 4'
start 80 24 org/tiny
sees "fetching it again"
ends 0
shown 3
whole_tiny
applied 1 flip
applied 4 cut
fresh
start 80 24 "-j 1 org/tiny"
sees '^6 of 8 files'
keys C-c
ends 130
sees "what came is kept"
shown 3
start 60 24 "-j 1 org/tiny"
sees '^[67] of 8 files: [1-9]'
ends 0
shown 2
whole_tiny
# Names that are wide, long, or none that a terminal should see.
for name in 模型模型模型模型模型模型模型模型模型模型.json "$(printf '%0200d' 0).json" "$(printf 'a\302\233\342\200\256b%080d' 1).json"; do
    head -c 20000 /dev/zero >"$tmp/root/org/tiny/$name"
done
for columns in 60 80; do
    fresh
    start $columns 24 "--include '*.json' --exclude tokenizer.json org/tiny"
    ends 0
    shown 3
done
rm "$tmp/root/org/tiny"/*[模0]*.json
# -q says nothing, and elsewhere there are plain lines.
settings=
fresh
start 80 24 "-q org/tiny"
ends 0
never_saw llama3-pull
settings='"rate": 30000'
fresh
run 0 "$pull" org/tiny
! grep -q "$(printf '[\001-\011\013-\037]')" "$tmp/err" || fail "$last: control characters where there is no terminal"
err_has "llama3-pull: model-00001-of-00003.safetensors: 28.4 KiB"
settings=

# A rate limit: how long it takes.
for on in api storage; do
    fresh "\"on\": \"$on\", \"do\": \"status\", \"status\": 429, \"headers\": {\"Retry-After\": \"3\"}, \"times\": 1"
    start 60 24 org/tiny
    sees '^the hub asks to wait: 3 s'
    sees '^the hub asks to wait: 1 s'
    ends 0
    never_saw 'asks to wait: '
    whole_tiny
done

# ---- what it asks ----------------------------------------------------------------------------

fresh
run 0 "$pull" -q org/tiny
for answer in n '' x; do
    start 80 24 "--remove org/tiny"
    sees 'remove org/tiny (.*B)? \[y/N\]'
    keys "$answer" Enter
    ends 1
    [ -d "$folder" ] || fail "$last: removed after '$answer'"
done
start 80 24 "--remove org/tiny"
sees '\[y/N\]'
keys C-c
sees '^\[130\]$'
[ -d "$folder" ] || fail "$last: removed after ^C"
start 80 24 "--remove org/tiny"
sees '\[y/N\]'
keys y Enter
ends 0
[ ! -e "$folder" ] || fail "$last: not removed after y"

mkdir "$tmp/root/org/tiny-GGUF"
for type in Q4_0:tiny-gguf-q4_0 Q4_K_M:tiny-gguf-k F16:tiny-gguf-f16; do
    cp "$srcdir/tests/data/${type#*:}/model.gguf" "$tmp/root/org/tiny-GGUF/Tiny-${type%%:*}.gguf"
done
start 60 24 org/tiny-GGUF
sees '^Q4_0 .* KiB  fits in memory'
sees '^Q4_K_M .* KiB  fits in memory'
sees 'fetch Q4_K_M? \[Y/n\]'
keys n Enter
ends 2
sees '^org/tiny-GGUF:Q4_K_M' # after "for example: llama3-pull", which is the line before
start 60 24 org/tiny-GGUF
sees '\[Y/n\]'
keys C-c
ends 130
start 60 24 org/tiny-GGUF
sees '\[Y/n\]'
keys Enter
ends 0
sees 'llama3 -m org/tiny-GGUF:Q4_K_M'
[ -e "$(snapshot org/tiny-GGUF)/Tiny-Q4_K_M.gguf" ] || fail "$last: it is not there"
finish

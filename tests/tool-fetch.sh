#!/bin/sh
# A model that is not on this machine: every program says the command that fetches it, and llama3
# offers to run it, on a terminal. What is run here stands for llama3-pull.
. "${srcdir:-.}/tests/lib.sh"
HF_HUB_CACHE=$tmp/hub
export HF_HUB_CACHE
unset HF_HUB_OFFLINE
source=$(cd "$tiny" && pwd)

# Everywhere a line, and no question where nobody is asked.
for command in "$program -p x -m" "./llama3-eval --tokenize - -m" "./llama3-bench -m" \
    "./llama3-quantize"; do
    out=
    case $command in *quantize) out=$tmp/out.safetensors ;; esac
    # shellcheck disable=SC2086 # a command, and perhaps an operand
    run 1 $command me/tiny $out </dev/null
    err_has ": me/tiny: not on this machine; get it: llama3-pull me/tiny (no such path, and not in $tmp/hub/models--me--tiny)"
    err_lines 1
done
run 1 "$program" -m me/tiny:int4 -p x
err_has "get it: llama3-pull --int4 me/tiny ("
run 1 "$program" -m me/tiny:Q4_K_M -p x
err_has "get it: llama3-pull me/tiny:Q4_K_M ("
if [ -x ./llama3-server ]; then
    run 1 ./llama3-server -m me/tiny --port 0
    err_has "get it: llama3-pull me/tiny ("
fi

# What is there, complete and not.
commit=0123456789012345678901234567890123456789
snapshot=$tmp/hub/models--me--tiny/snapshots/$commit
put()
{
    mkdir -p "$tmp/hub/models--me--tiny/refs" "$snapshot"
    printf %s "$commit" >"$tmp/hub/models--me--tiny/refs/main"
    for file in "$source"/*; do
        ln -sf "$file" "$snapshot"
    done
}
put
run 0 "$program" -m me/tiny -p x -n 2 -q
rm "$snapshot/model.safetensors"
run 1 "$program" -m me/tiny -p x
err_has "llama3: me/tiny: incomplete, without model.safetensors; get the rest: llama3-pull me/tiny (in $snapshot)"
err_lines 1
rm -r "$tmp/hub"

# ---- on a terminal ---------------------------------------------------------------------------

# shellcheck source=tests/terminal-lib.sh
. "$srcdir/tests/terminal-lib.sh"
here=$PWD
mkdir "$tmp/bin" "$tmp/beside" "$tmp/path"
exe=.libs/llama3
[ -x "$exe" ] || exe=$program
cp "$exe" "$tmp/beside/llama3"
cp "$exe" "$tmp/bin/llama3"

# make_pull FOLDER: a llama3-pull that makes the model, slowly if the file "slow" is there, and fails
# if "fails" is.
make_pull()
{
    cat >"$1/llama3-pull" <<END
#!/bin/sh
echo "fetching: \$*, from $1" >&2
[ ! -f '$tmp/slow' ] || sleep 60
[ ! -f '$tmp/fails' ] || { echo "llama3-pull: no network" >&2 && exit 1; }
mkdir -p '$tmp/hub/models--me--tiny/refs' '$snapshot'
printf %s $commit >'$tmp/hub/models--me--tiny/refs/main'
ln -sf '$source'/* '$snapshot'
echo '$snapshot'
END
    chmod +x "$1/llama3-pull"
}
make_pull "$tmp/beside"
make_pull "$tmp/path"

# start FOLDER VARIABLES ARGUMENTS: the llama3 of a folder on a screen of its own, its output in the
# file "said", followed by "[its status]".
start()
{
    last="$1/llama3 $2 $3"
    terminal kill-session -t test 2>/dev/null
    cat >"$tmp/start" <<END
export HF_HUB_CACHE='$HF_HUB_CACHE' LC_ALL=C.UTF-8 PATH='$tmp/path':\$PATH
export LD_LIBRARY_PATH='$here/.libs':\$LD_LIBRARY_PATH
trap : INT # ^C is for the programs
env $2 '$tmp/$1/llama3' $3 >'$tmp/said'
printf '\\n[%d]\\n' \$?
sleep 60
END
    terminal new-session -d -s test -x 200 -y 60 "sh '$tmp/start'"
}
question='^llama3: fetch it now with llama3-pull? \[Y/n\]'

# No is no, and so is the end of input.
for answer in n no C-d; do
    start beside "" "-m me/tiny -n 2 --temp 0 -p x"
    sees "$question"
    keys "$answer"
    [ "$answer" = C-d ] || keys Enter
    sees '^\[1\]$'
    never_saw fetching
done

# Yes: it goes on as if it had been there. The answer alone is on stdout.
run 0 env LLAMA3_MODEL="$source" "$program" -n 2 --temp 0 -q -p x
cp "$tmp/out" "$tmp/expected"
for answer in '' y YES; do
    start beside "" "-m me/tiny -n 2 --temp 0 -q -p x" # -q: as it was
    sees '^\[1\]$'
    never_saw 'fetch it now'
    start beside "" "-m me/tiny -n 2 --temp 0 -p x"
    sees "$question"
    keys "$answer" Enter
    sees "^fetching: me/tiny, from $tmp/beside$"
    sees '^\[0\]$'
    same "$tmp/said" "$tmp/expected" "$last: found $(cat "$tmp/said")"
    rm -r "$tmp/hub"
done

# Tags, and what is in PATH where nothing is beside.
start bin "" "-m me/tiny:int4 -n 2 -p x"
sees "$question"
keys Enter
sees "^fetching: --int4 me/tiny, from $tmp/path$"
sees '^llama3: me/tiny:int4: not on this machine' # for this one didn't make it
sees '^\[1\]$'
rm -r "$tmp/hub"

# It fails, or is interrupted; and what is said of that is its own.
: >"$tmp/fails"
start beside "" "-m me/tiny -n 2 --temp 0 -p x"
sees "$question"
keys Enter
sees '^llama3-pull: no network$' && sees '^\[1\]$'
rm "$tmp/fails"
: >"$tmp/slow"
start beside "" "-m me/tiny -n 2 --temp 0 -p x"
sees "$question"
keys Enter
sees '^fetching' && keys C-c
sees '^\[130\]$'
rm "$tmp/slow"
start beside "" "-m me/tiny -n 2 --temp 0 -p x"
sees "$question"
keys C-c
sees '^\[130\]$'

# Offline there is nothing to offer, nor where there is no llama3-pull.
start beside HF_HUB_OFFLINE=1 "-m me/tiny -n 2 --temp 0 -p x"
sees '^\[1\]$'
never_saw 'fetch it now'
rm "$tmp/path/llama3-pull"
PATH=$(printf %s "$PATH" | tr : '\n' | while read -r folder; do
    [ -x "$folder/llama3-pull" ] || printf '%s:' "$folder"
done)
start bin "PATH='$PATH'" "-m me/tiny -n 2 --temp 0 -p x"
sees '^\[1\]$'
never_saw 'fetch it now'
finish

#!/bin/sh
# The shells' completions: they agree with --help, and each shell completes options, their values and
# names of models with them. The shells are the real ones; one that is missing is skipped.
. "${srcdir:-.}/tests/lib.sh"
share=$(cd "$srcdir/share/completions" && pwd)

# What is kept is what would be made now.
if ! command -v python3 >/dev/null || [ ! -x ./llama3-pull ] || [ ! -x ./llama3-server ]; then
    echo "python3 or a program is missing: not compared with --help"
else
    mkdir "$tmp/made"
    run 0 python3 "$srcdir/scripts/make-completions" . "$tmp/made"
    for file in llama3.bash _llama3 llama3.fish; do
        diff "$share/$file" "$tmp/made/$file" ||
            fail "$file is not what --help says; run: scripts/make-completions BUILD"
    done
fi

# A cache: originals and int4; GGUF files, one of them split and one in a folder; what is none.
HF_HUB_CACHE=$tmp/hub
export HF_HUB_CACHE
mkdir -p "$tmp/hub/models--me--tiny/snapshots/c1" "$tmp/hub/models--me--tiny/refs" \
    "$tmp/hub/models--me--tiny/llama3" "$tmp/hub/models--me--tiny-GGUF/snapshots/c2/Q8_0" \
    "$tmp/hub/models--me--tiny-GGUF/refs" "$tmp/hub/datasets--me--data/snapshots" \
    "$tmp/hub/models--me--none" "$tmp/hub/models--gpt2/snapshots" "$tmp/hub/.locks" \
    "$tmp/hub/models--me--\$(touch obeyed)/snapshots"
printf c1 >"$tmp/hub/models--me--tiny/refs/main"
printf c2 >"$tmp/hub/models--me--tiny-GGUF/refs/main"
: >"$tmp/hub/models--me--tiny/llama3/c1-int4.safetensors"
for file in tiny-Q4_K_M.gguf tiny-f16-00001-of-00002.gguf tiny-f16-00002-of-00002.gguf mmproj-f32.gguf \
    Q8_0/tiny.gguf; do
    : >"$tmp/hub/models--me--tiny-GGUF/snapshots/c2/$file"
done
all='me/tiny me/tiny-GGUF me/tiny-GGUF:Q4_K_M me/tiny-GGUF:Q8_0 me/tiny-GGUF:f16 me/tiny:int4'
mkdir -p "$tmp/here/sub" "$tmp/bin"
: >"$tmp/here/text file"
: >"$tmp/here/model.gguf"

found()
{
    LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//'
}

# The variables of huggingface_hub, in its order.
list()
{
    env -u HF_HUB_CACHE "$@" sh "$share/models.sh" | found
}
# shellcheck disable=SC2088 # that is what is tested
for variable in "HF_HUB_CACHE=$tmp/hub" "HUGGINGFACE_HUB_CACHE=$tmp/hub" "HF_HOME=$tmp" \
    'HF_HUB_CACHE=~/hub'; do
    got=$(list HOME="$tmp" "$variable")
    [ "$got" = "$all" ] || fail "$variable: expected $all, found $got"
done
mkdir -p "$tmp/.cache"
ln -s "$tmp" "$tmp/.cache/huggingface"
got=$(list HOME="$tmp" XDG_CACHE_HOME=)
[ "$got" = "$all" ] || fail "no variable: expected $all, found $got"
got=$(list HOME=/nowhere XDG_CACHE_HOME="$tmp/.cache")
[ "$got" = "$all" ] || fail "XDG_CACHE_HOME: expected $all, found $got"

# check SHELL LINE EXPECTED: what the line is completed to; a function of each shell's prints it.
check()
{
    got=$("$1_completes" "$2" | found)
    [ "$got" = "$3" ] || fail "$1: '$2' expected '$3', found '$got'"
}

# What all shells complete in the same way; but bash replaces only what follows a ':'.
check_shell()
{
    tag=me/tiny-GGUF:Q8_0
    [ "$1" != bash ] || tag=Q8_0
    check "$1" 'llama3 --te' "--temperature --template --template-arg"
    check "$1" 'llama3 --kv ' 'auto f16 f32 int4 int8'
    check "$1" 'llama3 --kv f3' 'f32'
    check "$1" 'llama3-quantize --head i' 'int4 int8 iq4_nl'
    check "$1" 'llama3 -m me/' "$all"
    check "$1" 'llama3-server --verbose --model me/tiny-G' \
        'me/tiny-GGUF me/tiny-GGUF:Q4_K_M me/tiny-GGUF:Q8_0 me/tiny-GGUF:f16'
    check "$1" 'llama3-quantize me/tiny-G' \
        'me/tiny-GGUF me/tiny-GGUF:Q4_K_M me/tiny-GGUF:Q8_0 me/tiny-GGUF:f16'
    check "$1" 'llama3-pull --remove me/' "$all"
    check "$1" 'llama3-pull --verify me/tiny-GGUF:Q8' "$tag"
    check "$1" 'llama3-eval me/tiny-GGUF --kl me/tiny-G' \
        'me/tiny-GGUF me/tiny-GGUF:Q4_K_M me/tiny-GGUF:Q8_0 me/tiny-GGUF:f16'
}

# ---- bash ------------------------------------------------------------------------------------

bash_completes()
{
    bash --norc -c '
        . "$1" && cd "$2" && COMP_LINE=$3 COMP_POINT=${#3} && _llama3 "${3%% *}"
        [ ${#COMPREPLY[@]} -eq 0 ] || printf "%s\n" "${COMPREPLY[@]}"' - "$share/llama3.bash" "$tmp/here" "$1"
}

if ! command -v bash >/dev/null; then
    echo "bash is missing"
else
    for name in llama3 llama3-bench llama3-eval llama3-pull llama3-quantize llama3-server; do
        bash --norc -c '. "$1" && complete -p "$2"' - "$share/llama3.bash" "$name" >"$tmp/out" ||
            fail "bash: $name is not completed"
    done
    check_shell bash
    # after ':' and '=', which are words of their own to bash
    check bash 'llama3 --kv=f1' 'f16'
    check bash 'llama3 --int4=' 'calibrated uncalibrated'
    check bash 'llama3 --int4 ' ''
    check bash 'llama3 -m me/tiny-GGUF:Q' 'Q4_K_M Q8_0'
    check bash 'llama3 --model=me/tiny:' 'int4'
    check bash 'llama3 --model=me/tiny-GG' 'me/tiny-GGUF me/tiny-GGUF:Q4_K_M me/tiny-GGUF:Q8_0 me/tiny-GGUF:f16'
    # values of no fixed form, files, which are for bash itself, and folders
    check bash 'llama3 -p x' ''
    check bash 'llama3 -m mod' ''
    check bash 'llama3 -f te' ''
    check bash 'llama3-quantize me/tiny m' ''
    check bash 'llama3-quantize --head int8 me/tiny-GGUF:f' 'f16'
    check bash 'llama3-pull --local-dir s' 'sub'
    check bash 'llama3 -p "a b" --kv ' 'auto f16 f32 int4 int8'
fi

# ---- fish ------------------------------------------------------------------------------------

fish_completes()
{
    env HOME="$tmp/bin" fish --no-config -c '
        cd $argv[2]; source $argv[1]; complete -C $argv[3]' "$share/llama3.fish" "$tmp/here" "$1" | cut -f 1
}

if ! command -v fish >/dev/null; then
    echo "fish is missing"
else
    check_shell fish
    check fish 'llama3 --kv=f1' '--kv=f16'
    check fish 'llama3 --int4=' '--int4=calibrated --int4=uncalibrated'
    check fish 'llama3 -m mod' 'model.gguf'
    check fish 'llama3 -f te' 'text file'
    check fish 'llama3-pull --local-dir s' 'sub/'
    check fish 'llama3 ' ''
fi

# ---- zsh -------------------------------------------------------------------------------------

# Asked as a user does it, in a pseudo-terminal: compadd, in whose place a function is, tells what
# there is to choose from.
zsh_completes()
{
    timeout 60 zsh -f "$tmp/ask.zsh" "$share" "$tmp/here" "$1" 2>&1
}

cat >"$tmp/ask.zsh" <<'END'
zmodload zsh/zpty || exit 77
zpty shell zsh -f -i
send() { zpty -w shell "$1" }
send "PROMPT= ; unsetopt zle_bracketed_paste 2>/dev/null; fpath=($1 \$fpath); cd $2"
send "autoload -U compinit && compinit -u -D; zstyle ':completion:*' list-grouped no"
# What matches is printed instead of inserted.
send 'compadd() { local -a __hits; builtin compadd -O __hits "$@"; builtin compadd "$@"; local r=$?; print -l -- "HIT "${^__hits} >>'"$2"'.hits; return r }'
send 'ask() { zle complete-word; print -n ASK""ED }; zle -N ask; bindkey "^I" ask'
send 'print REA""DY'
zpty -r shell line '*READY*'
: >$2.hits
zpty -w -n shell "$3"$'\t'
zpty -r shell line '*ASKED*'
zpty -d shell
sed -n 's/^HIT //p' $2.hits | sort -u
END

if ! command -v zsh >/dev/null; then
    echo "zsh is missing"
else
    check_shell zsh
    check zsh 'llama3 --kv=f1' 'f16'
    check zsh 'llama3 --int4=' 'calibrated uncalibrated'
    check zsh 'llama3 -m mod' 'model.gguf'
    check zsh 'llama3 -f te' 'text file'
    check zsh 'llama3-pull --local-dir s' 'sub'
fi
[ ! -e "$tmp/here/obeyed" ] || fail "the name of a folder was obeyed"
finish

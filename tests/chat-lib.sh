# What tests of the chat in a terminal share; sourced after lib.sh, with preload set.
# shellcheck shell=sh disable=SC1003,SC2154
# shellcheck source=tests/terminal-lib.sh
. "$srcdir/tests/terminal-lib.sh"
grep -q '^LIBEDIT_LIBS = .' Makefile || skip "this build has no libedit"

# start VARIABLES ARGUMENTS [WIDTH]: llama3 on a screen of its own, followed by "[its status]".
start()
{
    last="$1 llama3 $2"
    terminal kill-session -t test 2>/dev/null
    cat >"$tmp/start" <<END
export LLAMA3_MODEL='$(cd "$tiny" && pwd)'
trap : INT # ^C is for the program
before=\$(stty -a | sed 1d) # without the size
env LD_PRELOAD='$preload' $1 $program $2
printf '\\n[%d]\\n' \$?
stty -a | tr ' ' '\\n' | grep -E '^-?(echo|icanon)$' | sed 's/^/tty:/'
[ "\$before" != "\$(stty -a | sed 1d)" ] || echo tty:same
sleep 60
END
    terminal new-session -d -s test -x "${3:-${width:-78}}" -y 40 "sh '$tmp/start'"
    sees '^User:$'
}

# leaves: the chat is left, and the terminal is as it was.
leaves()
{
    sees '^User:.*$'
    tries=0
    while [ $tries -lt 50 ] && ! screen | sed '/^$/d' | tail -n 1 | grep -q '^User:'; do
        tries=$((tries + 1))
        sleep 0.1
    done
    keys C-c
    keys C-d
    sees '^\[0\]$'
    sees '^tty:echo$' && sees '^tty:icanon$' && sees '^tty:same$'
}

# What the model is told is on the screen, by --show-prompt.
chat="-n 4 --temperature 0 --show-prompt"
history=$XDG_STATE_HOME/llama3/history

# What tests in a real terminal share, which is tmux; sourced after lib.sh.
# shellcheck shell=sh disable=SC2154
command -v tmux >/dev/null || skip "tmux is missing"

terminal()
{
    tmux -S "$tmp/tmux" -f /dev/null "$@"
}
trap 'terminal kill-server 2>/dev/null; rm -rf "$tmp"' EXIT

# A session that stays, so that the server outlives the others.
terminal new-session -d -s stays 'sleep 600'

screen()
{
    terminal capture-pane -p -t test 2>/dev/null
}

# Waits until the screen has a line that matches the pattern.
sees()
{
    tries=0
    until screen | grep -q -e "$1"; do
        tries=$((tries + 1))
        if [ $tries -gt 100 ]; then
            fail "$last: expected '$1' on the screen, found:"
            screen | sed '/^$/d; s/^/    |/'
            return 1
        fi
        sleep 0.1
    done
}

never_saw()
{
    ! screen | grep -q -e "$1" || {
        fail "$last: '$1' should not be on the screen:"
        screen | sed '/^$/d; s/^/    |/'
    }
}

keys()
{
    terminal send-keys -t test "$@"
}

# What the tests of programs share; sourced, in the build directory, with $srcdir set.
# A test goes on after a failure, so that one run shows all of them.

# Signals that the caller ignores, HUP under nohup or INT in the background, would be ignored by the
# programs as well.
if [ "${SIGNALS_ARE_DEFAULT-}" != yes ]; then
    SIGNALS_ARE_DEFAULT=yes exec env --default-signal sh "$0" "$@"
fi

program=${LLAMA3:-./llama3}
srcdir=${srcdir:-.}
tiny=$srcdir/tests/data/tiny-f32
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
export XDG_STATE_HOME="$tmp/state" # what is typed in a chat is kept there
failures=0
unset LLAMA3_MODEL
export LC_ALL=C
export LLAMA3_CACHE_MAX=0 # nothing of other runs is found, and the user's cache is left alone

fail()
{
    echo "FAIL: $*"
    failures=$((failures + 1))
}

# run STATUS COMMAND...: its output is then in $tmp/out and $tmp/err.
run()
{
    want=$1
    shift
    last="$*"
    "$@" >"$tmp/out" 2>"$tmp/err"
    got=$?
    [ $got = "$want" ] || {
        fail "$last: expected exit status $want, found $got"
        sed 's/^/    /' "$tmp/err"
    }
}

err_has()
{
    grep -qF -e "$1" "$tmp/err" || {
        fail "$last: expected '$1' on stderr, found:"
        sed 's/^/    /' "$tmp/err"
    }
}

err_lines()
{
    [ "$(wc -l <"$tmp/err")" -eq "$1" ] || {
        fail "$last: expected $1 lines on stderr, found:"
        sed 's/^/    /' "$tmp/err"
    }
}

# Takes the note that -n cut an answer out of what was on stderr, where it is not what is tested.
drop_cut()
{
    sed '/: note: the answer was cut after/d' "$tmp/err" >"$tmp/uncut"
    mv "$tmp/uncut" "$tmp/err"
}

# The same of what a build without OpenBLAS says of itself.
drop_lack()
{
    sed -i '/note: calibrating without OpenBLAS (this build has none)/d' "$tmp/err"
}

out_has()
{
    grep -qF -e "$1" "$tmp/out" || {
        fail "$last: expected '$1' on stdout, found:"
        sed 's/^/    /' "$tmp/out"
    }
}

out_empty()
{
    [ ! -s "$tmp/out" ] || fail "$last: expected nothing on stdout"
}

err_empty()
{
    [ ! -s "$tmp/err" ] || {
        fail "$last: expected nothing on stderr, found:"
        sed 's/^/    /' "$tmp/err"
    }
}

# Sets $preload to what LD_PRELOAD needs for tests/preload.c; skips the test where that is impossible.
need_preload()
{
    preload=$PWD/tests/.libs/preload.so
    [ -f "$preload" ] || skip "tests/preload.so is not built"
    case ${LLAMA3_CFLAGS-} in
    *-fsanitize*) # whose runtime must be loaded before any other; the shell's leaks are not ours
        asan=$(${CC:-cc} -print-file-name=libasan.so)
        [ -f "$asan" ] || skip "the sanitizers' runtime is linked in, nothing can come before it"
        preload="$asan $preload"
        export ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS-}"
        ;;
    esac
}

# same FILE FILE WHAT
same()
{
    cmp -s "$1" "$2" || fail "$3"
}

skip()
{
    echo "SKIP: $*"
    exit 77
}

finish()
{
    [ $failures = 0 ] || echo "$failures failures"
    [ $failures = 0 ]
    exit
}

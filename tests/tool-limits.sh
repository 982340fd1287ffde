#!/bin/sh
# A process that may map little memory (`ulimit -v`) answers or says in one line what it lacks: it
# never waits for memory that can't come, as OpenBLAS does.
. "${srcdir:-.}/tests/lib.sh"
case ${BUILD_FLAGS-} in
*-fsanitize=*) skip "sanitizers map more than any limit here" ;;
esac
# shellcheck disable=SC3045 # those that lack it skip
(ulimit -v 1000000) 2>/dev/null || skip "the shell has no ulimit -v"
command -v timeout >/dev/null || skip "timeout is missing"

# Every matrix of this model is BLAS's work, for a prompt of so many tokens.
long=$(printf 'one two three four five six seven %.0s' 1 2 3 4 5 6 7 8)

patience=30
# limited KIB ARGUMENTS...: the status is then in $got.
limited()
{
    last="ulimit -v $*"
    (
        # shellcheck disable=SC3045
        ulimit -v "$1"
        shift
        exec timeout -k 1 "$patience" "$program" "$@" </dev/null >"$tmp/out" 2>"$tmp/err"
    )
    got=$?
    [ $got != 124 ] || {
        fail "$last: expected an end within $patience s"
        finish # all would wait
    }
}

# The dynamic linker itself needs some; what it says is its own.
for kib in 30000 50000 75000 100000 150000 200000 300000 500000 1000000 2000000; do
    for option in --version --help; do
        limited $kib $option
        case $got in
        0) err_empty ;;
        127) err_has "error while loading shared libraries" ;;
        *) fail "$last: expected an answer, found exit status $got: $(cat "$tmp/err")" ;;
        esac
    done
    limited $kib -m "$tiny" --gpu-layers 0 --threads 2 --temperature 0 -n 2 -p "$long"
    drop_cut
    case $got in
    0) err_empty ;;
    1) err_has "llama3: " && err_lines 1 ;;
    127) err_has "error while loading shared libraries" ;;
    *) fail "$last: expected an answer or a line, found exit status $got: $(cat "$tmp/err")" ;;
    esac
done

# What is done without is said.
limited 300000 -m "$tiny" --gpu-layers 0 --info
[ $got = 0 ] || fail "$last: expected exit status 0, found $got"
out_has "; no OpenBLAS for prompts: "
program=./llama3-quantize
limited 300000 --calibrate "$srcdir/README.md" --threads 2 "$tiny" "$tmp/out.safetensors"
[ $got = 0 ] || fail "$last: expected exit status 0, found $got"
err_has "llama3-quantize: note: calibrating without OpenBLAS ("

finish

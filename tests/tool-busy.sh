#!/bin/sh
# A program that computes beside it must not ruin an answer: on two cores with one such program,
# two threads have two thirds of the machine, and this fails below a quarter of the idle rate. It
# is no measurement: bench/peer --busy is.
. "${srcdir:-.}/tests/lib.sh"
bench=${LLAMA3_BENCH:-./llama3-bench}

command -v taskset >/dev/null && command -v python3 >/dev/null || exit 77
cpus=$(python3 -c 'import os; print(",".join(map(str, sorted(os.sched_getaffinity(0))[:2])))')
case $cpus in
*,*) ;;
*) exit 77 ;; # one core: nothing to share
esac

# Tokens a second of two threads, one token after another.
rate()
{
    taskset -c "$cpus" "$bench" --json --quiet --synthetic 135m --threads 2 --prompt 0 --decode 64 \
        --batch 0 --context 0 --rounds 1 >"$tmp/rate" || fail "llama3-bench: status $?"
    python3 -c 'import json, sys; print(int(json.load(sys.stdin)["results"][0]["tok_s"]))' \
        <"$tmp/rate"
}

idle=0 busy=0
for _ in 1 2 3; do
    now=$(rate)
    [ "$now" -le "$idle" ] || idle=$now
    taskset -c "$cpus" sh -c 'while :; do :; done' &
    spinner=$!
    now=$(rate)
    kill $spinner
    wait $spinner 2>/dev/null
    [ "$now" -le "$busy" ] || busy=$now
done
echo "idle $idle tokens/s, beside a program that computes $busy"
[ $((busy * 4)) -ge "$idle" ] || fail "expected a quarter of $idle tokens/s, found $busy"
finish

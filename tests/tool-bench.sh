#!/bin/sh
# llama3-bench(1): what is measured, how it is printed, refusals. No speed is expected.
. "${srcdir:-.}/tests/lib.sh"
bench=${LLAMA3_BENCH:-./llama3-bench}
small="--prompt 20 --decode 4 --batch 1,3 --context 0,40 --rounds 1"

# shape WANTED: the results in $tmp/out are of these tests, and every number is one.
shape()
{
    command -v python3 >/dev/null || return 0
    python3 - "$tmp/out" "$1" >"$tmp/shape" 2>&1 <<'END_PYTHON' || fail "$last: $(cat "$tmp/shape")"
import json, sys
o = json.load(open(sys.argv[1]))
rates = ["read_gbs", "int8_gmacs", "bf16_gmacs", "f32_gmacs"]
assert sorted(o["limits"]) == sorted(rates), o["limits"]
assert all(o["limits"][r] > 0 for r in rates), o["limits"]
found = " ".join("%(test)s/%(n)d/%(context)d" % r for r in o["results"])
assert found == sys.argv[2], found
for r in o["results"]:
    assert r["limit"] in rates and r["tok_s"] > 0 and r["limit_tok_s"] > 0, r
    assert abs(r["fraction"] / (r["tok_s"] / r["limit_tok_s"]) - 1) < 1e-3, r
END_PYTHON
}

# A model, and random weights of every type.
run 0 "$bench" --json $small -m "$tiny"
shape "prompt/20/0 decode/4/0 decode/4/40 batch/1/0 batch/3/0"
out_has '"type": "f32"'
err_empty
for type in int4 int8 bf16 f32; do
    run 0 "$bench" --json --synthetic 135m:1 --type $type --prompt 20 --decode 0 --batch 2 \
        --context 3 --rounds 1 --threads 3
    shape "prompt/20/3 batch/2/3"
    out_has "\"type\": \"$type\""
    out_has '"model": "135m:1"'
    out_has '"threads": 3'
done
run 0 "$bench" --json --synthetic 135m:1 --type bf16 --prompt 9,0,20 --decode 2 --batch 0 --rounds 2 \
    --context 70,5 --kv f32
shape "prompt/9/70 prompt/20/70 decode/2/70 decode/2/5"

# bits WANTED: what $tmp/out says that decoding reads, in bits a weight, if reading is its limit.
bits()
{
    command -v python3 >/dev/null || return 0
    python3 - "$tmp/out" "$1" >"$tmp/bits" 2>&1 <<'END_PYTHON' || fail "$last: $(cat "$tmp/bits")"
import json, sys
o = json.load(open(sys.argv[1]))
weights = 49152 * 576 + 2 * 576 * (576 + 192) + 3 * 576 * 1536
found = 8e9 * o["limits"]["read_gbs"] / o["results"][0]["limit_tok_s"] / weights
if o["results"][0]["limit"] == "read_gbs":
    assert abs(found - float(sys.argv[2])) < 0.02, found
END_PYTHON
}

# A type of each family, and of each kind of GGUF's. A row of 576 columns has half a group of 128.
for type in int4:4.33 gptq:4.22 awq:4.39 nf4:4.33 w8a8:8.16 fp8:8.55 mxfp4:4.55 nvfp4:5.05 \
    q4_0:4.55 q4_k:4.94 q6_k:8.72 iq2_xxs:4.50 tq2_0:4.33; do
    run 0 "$bench" --json --synthetic 135m:1 --type "${type%:*}" --prompt 0 --decode 2 --batch 0 \
        --context 0 --rounds 1
    out_has "\"type\": \"${type%:*}\""
    bits "${type#*:}"
done

# Each test without and with an adapter.
run 0 "$bench" --json --synthetic 135m:1 --prompt 20 --decode 2 --batch 2 --context 0,5 --rounds 1 \
    --lora-rank 5
shape "prompt/20/0 prompt/20/0 decode/2/0 decode/2/0 decode/2/5 decode/2/5 batch/2/0 batch/2/0"
[ "$(grep -o '"lora_rank": [0-9]*' "$tmp/out" | tr -dc '05\n' | tr '\n' ' ')" = \
    "0 5 0 5 0 5 0 5 " ] || fail "$last: expected every other test with a rank: $(cat "$tmp/out")"
run 0 "$bench" --prompt 8 --decode 2 --batch 0 --context 0 --rounds 1 --lora-rank 3 -m "$tiny"
[ "$(sed -n 's/ .*//; /^prompt/p; /^decode/p' "$tmp/out" | tr '\n' ' ')" = \
    "prompt prompt+lora decode decode+lora " ] || fail "$last: $(cat "$tmp/out")"

# Contexts that nobody asked for are no error where the model is too small for them.
run 0 "$bench" --prompt 8 --decode 2 --batch 0 --rounds 1 -m "$tiny"
[ "$(grep -c '^decode ' "$tmp/out")" = 1 ] || fail "$last: expected one decode: $(cat "$tmp/out")"
out_has "limits: read "

# Refusals
refuse()
{
    status=$1 word=$2
    shift 2
    run "$status" "$bench" "$@"
    err_has "$word"
    out_empty
}
refuse 2 "expected 1b, 3b, 8b, 70b or 135m" --synthetic 9b
for shape in 8b: 8b:0 8b:x 8b:1x 8b:513 8bb ""; do
    refuse 2 "after it; found \"$shape\"" --synthetic "$shape"
done
refuse 1 "expected at most" --context 100000 -m "$tiny"
refuse 1 "No such file or directory" -m "$tmp/none"
refuse 2 "--type is of --synthetic" --type int4 -m "$tiny"
refuse 2 "--type: expected one of int4, int8, bf16, f32, gptq, awq, nf4" --synthetic 1b --type q7
refuse 2 "contradict each other" --synthetic 1b -m "$tiny"
for list in x 1,x '1,' ',1' -1 1025 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17; do
    refuse 2 "--batch: expected up to 16 integers in [0, 1024]" --batch "$list" -m "$tiny"
done
refuse 2 "--context: expected up to 16 integers" --context "" -m "$tiny"
refuse 2 "unexpected argument \"x\": a model is given with --model" x
for rank in 0 4097 x; do
    refuse 2 "--lora-rank: expected an integer in [1, 4096]" --lora-rank $rank -m "$tiny"
done
refuse 2 "nothing to measure" --prompt 0 --decode 0 --batch 0 -m "$tiny"
run 0 "$bench" --version
out_has "llama3-bench "
finish

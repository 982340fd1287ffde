#!/bin/sh
# The programs on a device with memory of its own (tests/deferred.c): what --info says of the split,
# that answers stay the same, refusals, and a device that fails.
. "${srcdir:-.}/tests/lib.sh"
device=./tests/device/llama3
export LLAMA3_MODEL="$tiny"
export LLAMA3_CPU=scalar # no OpenBLAS, which rounds differently
export DEVICE_FREE=10000000 DEVICE_TOTAL=10000000
ask="-q -n 24 --temperature 0 --ctx 256 --kv f16"

# The same answer, wherever it is computed.
run 0 "$device" $ask --gpu-layers 0 -p "What is the capital of France?"
cp "$tmp/out" "$tmp/cpu"
for where in auto all 1 2 "all --kv-gpu no" "1 --kv-gpu=no" "all --gpu-bf16-prompt"; do
    run 0 "$device" $ask --gpu-layers $where -p "What is the capital of France?"
    same "$tmp/out" "$tmp/cpu" "--gpu-layers $where: another answer than the CPU's"
    err_empty
done

# The split.
run 0 "$device" --info --ctx 256
out_has "on the GPU   9.54 MiB of Deferred 1 free: embedding, 2 layers, head; "
out_has "backend      deferred (Deferred 1), "
out_has " per token (f16)"
grep -q "on the CPU" "$tmp/out" && fail "$last: the CPU has no part in it"
run 0 "$device" --info --ctx 256 --gpu-layers 1
out_has "on the CPU   embedding, 1 layer; "
out_has "on the GPU   9.54 MiB of Deferred 1 free: 1 layer, head; "
out_has " and deferred (Deferred 1), "
out_has " per token (f16)"
run 0 "$device" --info --ctx 256 --gpu-layers 1 --kv-gpu no
out_has "on the CPU   embedding, 1 layer, KV of 2; "
out_has "1 layer, head, KV of 0; "
out_has " per token (int8)"
run 0 "$device" --info --ctx 256 --gpu-layers 0
out_has " per token (int8)"
grep -q "on the\|no GPU" "$tmp/out" && fail "$last: expected nothing about a GPU"

# No device, or not enough of it: the CPU, with a line that says why; an error where one was named.
export DEVICE_ABSENT="deferred: no driver answers"
run 0 "$device" --info
out_has "no GPU       deferred: no driver answers"
run 0 "$device" $ask -p "What is the capital of France?"
same "$tmp/out" "$tmp/cpu" "without a device: another answer than the CPU's"
err_empty
run 0 "$device" -n 2 --stats -p x
err_has "no GPU       deferred: no driver answers"
run 1 "$device" --info --gpu-layers all
err_has "llama3: deferred: no driver answers"
err_lines 1
unset DEVICE_ABSENT
run 1 "$device" --info --device 3
err_has "llama3: deferred: expected device 0, found 3"
run 1 "$device" --info --gpu-layers all --device 3
err_has "llama3: deferred: expected device 0, found 3"
DEVICE_FREE=200000 run 1 "$device" -p x --gpu-layers all
err_has "llama3: --gpu-layers: 2 of 2 layers need "
err_has "; try auto, "
err_lines 1
DEVICE_FREE=2000 run 0 "$device" --info
out_has "no GPU       a layer and the head need "
run 1 "$device" --info --gpu-layers 3
err_has "llama3: --gpu-layers: expected auto, all, none or 1 to the model's 2 layers, found 3"

# A device that fails in the middle of an answer.
DEVICE_FAIL_AFTER=60 run 1 "$device" -p x --temperature 0 --seed 1
err_has ": the device fell off the bus"
err_lines 1

# The other programs. The limits of a device are measured in memory of its own.
run 0 ./tests/device/llama3-bench --prompt 20 --decode 0 --batch 0 --context 0 --rounds 1
out_has "no GPU: a layer and the head need "
export DEVICE_FREE=9000000000 DEVICE_TOTAL=9000000000
small="--prompt 20 --decode 4 --batch 1,3 --context 0,40 --rounds 1"
run 0 ./tests/device/llama3-bench $small
out_has ", deferred (Deferred 1), "
out_has "limits: read "
run 0 ./tests/device/llama3-bench $small --gpu-layers 1
out_has "cpu: 1 of 2 layers"
out_has "deferred: 1 of 2 layers and the head"
out_has "limits of cpu: read "
out_has "limits of deferred: read "
run 0 ./tests/device/llama3-bench $small --gpu-layers 1 --kv-gpu no --json
out_has '"gpu_layers": 1'
out_has '"chunk": 1024'
out_has '"host_limits": {'
out_has '"limit_backend": "' # whose depends on what else the machine does
run 0 ./tests/device/llama3-bench $small --gpu-layers 0 --json
out_has '"chunk": 256'
run 0 ./tests/device/llama3-bench $small --chunk 20 --json
out_has '"chunk": 20'
DEVICE_FREE=300000000 run 1 ./tests/device/llama3-bench $small --gpu-layers all
err_has "llama3-bench: --gpu-layers: 2 of 2 layers need "
for _ in 1 2 3 4; do
    echo "A text that is long enough to say something about."
done >"$tmp/text"
run 0 ./tests/device/llama3-eval --kv f16 -q -f "$tmp/text" --gpu-layers 0
cp "$tmp/out" "$tmp/cpu"
run 0 ./tests/device/llama3-eval --kv f16 -q -f "$tmp/text" --gpu-layers 1 --kl "$tiny"
out_has "predictions"
grep -qF "$(sed -n 2p "$tmp/cpu")" "$tmp/out" || fail "$last: another perplexity than the CPU's"
run 0 ./tests/device/llama3-eval --kv f16 --logits "$tmp/cpu" -f "$tmp/text" --gpu-layers 0
for where in auto all 1 "1 --kv-gpu no"; do
    # shellcheck disable=SC2086 # several words
    run 0 ./tests/device/llama3-eval --kv f16 --logits - -f "$tmp/text" --gpu-layers $where
    same "$tmp/out" "$tmp/cpu" "--gpu-layers $where: other logits than the CPU's"
    err_empty
done
DEVICE_FREE=2000 run 0 ./tests/device/llama3-eval --kv f16 --logits "$tmp/out" -f "$tmp/text"
err_has "note: no GPU is used: a layer and the head need "
same "$tmp/out" "$tmp/cpu" "other logits than the CPU's"

# A build without any.
run 1 "$program" -p x --gpu-layers 1
err_has "llama3: --gpu-layers: expected a build with a GPU backend, found one without"
run 1 "$program" -p x --device 1
err_has "llama3: --device: expected a build with a GPU backend, found one without"
finish

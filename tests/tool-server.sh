#!/bin/sh
# llama3-server by curl: what it answers, what it refuses, and how it comes and goes. The model has
# random weights.
. "${srcdir:-.}/tests/lib.sh"
. "$srcdir/tests/server-lib.sh"
chat='"messages":[{"role":"user","content":"What is the capital of France?"}]'
model=$tiny

# ---- the command line
run 2 "$server" --port 65536
err_has "llama3-server: --port: expected an integer in [0, 65535], found \"65536\""
run 2 "$server" --kv-memory 3X
err_has "--kv-memory: expected 1048576 to 1000000000000000 bytes, such as 1500M or 1.5G, found \"3X\""
for memory in 1K 0x4G 1e9 .G 4Gb 99999999T; do
    run 2 "$server" --kv-memory $memory
    err_has "found \"$memory\""
done
run 2 "$server" --parallel 0
err_has "--parallel: expected an integer in [1, 64]"
run 1 sh -c 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"' sh "$server" -m "$model" 3</dev/null
err_has "LISTEN_FDS: expected sockets that listen, found that descriptor 3 is none"
run 2 "$server" -m "$model" --port 0 --host 0.0.0.0
err_has "can be reached by others: give keys with --api-key-file or LLAMA3_API_KEY, or --insecure"
for origin in x https://b.example/ https:// 'https://a b'; do
    run 2 "$server" -m "$model" --port 0 --cors-origin "$origin"
    err_has "--cors-origin: expected a scheme and a host and nothing after, such as https://a.example, found \"$origin\""
done
for host in http://x x:80 'a b'; do
    run 2 "$server" -m "$model" --port 0 --allow-host "$host"
    err_has "--allow-host: expected a name without scheme and port, found \"$host\""
done
run 2 "$server" -m "$model" --port 0 --alias 'a b'
err_has "--alias: expected a name without white space, found \"a b\""
run 1 "$server" -m "$model" --port 0 --host nowhere.invalid
err_has "llama3-server: --host: expected an address, found \"nowhere.invalid\""
run 2 "$server" -m "$model" --api-key secret
err_has "llama3-server: --api-key: everybody on this machine can read command lines"
run 1 "$server" -m "$model" --port 0 --api-key-file "$tmp/none"
err_has "$tmp/none: No such file"
printf '# nothing\n\n' >"$tmp/none"
run 1 "$server" -m "$model" --port 0 --api-key-file "$tmp/none"
err_has "$tmp/none: expected API keys, found none"
printf 'white space\n' >"$tmp/none"
run 1 "$server" -m "$model" --port 0 --api-key-file "$tmp/none"
err_has "expected an API key of visible ASCII characters"
run 1 "$server" -m "$tmp/missing.gguf" --port 0
err_has "missing.gguf"
run 0 "$server" --version
out_has "llama3-server "

# ---- the unit for systemd
sed "s|@bindir@/llama3-server|/bin/true|" "$srcdir/share/llama3-server.service.in" >"$tmp/llama3-server.service"
cp "$srcdir/share/llama3-server.socket" "$tmp"
for line in '^LimitCORE=0$' '^#MemoryMax=' '^DevicePolicy=closed$' '^DeviceAllow=char-nvidia\* rw$'; do
    grep -q "$line" "$tmp/llama3-server.service" || fail "the unit has no line $line"
done
! grep -q '^PrivateDevices=yes' "$tmp/llama3-server.service" || fail "the unit hides GPUs"
if command -v systemd-analyze >/dev/null; then
    run 0 systemd-analyze verify --man=no "$tmp/llama3-server.service" "$tmp/llama3-server.socket"
    err_empty
fi

# ---- while it loads
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    need_preload
    SLOW_OPEN=2500 LD_PRELOAD=$preload start -m "$model"
    get 503 /health
    out_has '"code":"unavailable"'
    head_has "Retry-After: "
    post 503 /v1/chat/completions "{$chat}"
    out_has "the model is still loading"
    head_has "Retry-After: "
    get 503 /v1/models
    get 200 /metrics
    get 200 /
    ready
    get 200 /health
    stop 0
    SLOW_LOAD=300 LD_PRELOAD=$preload start -m "$model"
    sleep 0.5
    stop 0 # loading is given up
    ! grep -q ready "$tmp/log" || fail "a server that was stopped is ready"

    # ---- SIGTERM: what was asked is answered, nothing more is accepted
    slow='"max_tokens":16,"temperature":0'
    SLOW_TEXT=150 LD_PRELOAD=$preload start -m "$model"
    ready
    post 200 /v1/chat/completions "{$chat,$slow}"
    content >"$tmp/calm"
    ask_slowly()
    {
        curl -s -m 60 -H 'Content-Type: application/json' -d "{$chat,$slow}" \
            -o "$tmp/slow" "$url/v1/chat/completions" &
        asked=$!
        sleep 1
    }
    ask_slowly
    kill -TERM $pid
    sleep 0.3
    grep -qx 'llama3-server: ending: waits for 1 request being answered, at most 30 seconds; a second signal ends it at once' \
        "$tmp/log" || fail "SIGTERM: nothing says what is awaited: $(cat "$tmp/log")"
    ! curl -s -m 5 "$url/health" >"$tmp/out" || fail "a server that ends accepts a connection"
    wait $asked || fail "SIGTERM cuts an answer"
    wait $pid || fail "SIGTERM with an answer on its way: expected exit status 0, found $?"
    cp "$tmp/slow" "$tmp/out"
    [ "$(content)" = "$(cat "$tmp/calm")" ] || fail "SIGTERM changes an answer: $(cat "$tmp/slow")"
    SLOW_TEXT=500 LD_PRELOAD=$preload start -m "$model"
    ready
    ask_slowly
    kill -TERM $pid
    sleep 0.5
    began=$(date +%s)
    stop 1 # a second signal waits for nothing
    [ $(($(date +%s) - began)) -lt 3 ] || fail "a second signal doesn't end it at once"
    wait $asked

    # ---- a name with several addresses: all that this machine has, each once
    RESOLVE="2001:db8::1 127.0.0.1 127.0.0.2 127.0.0.1" LD_PRELOAD=$preload start -m "$model" --host several.example
    ready
    port=${url##*:}
    grep -qx "llama3-server: ready at http://127.0.0.1:$port/ and http://127.0.0.2:$port/" "$tmp/log" ||
        fail "several addresses: $(cat "$tmp/log")"
    for url in "http://127.0.0.1:$port" "http://127.0.0.2:$port"; do
        get 200 /health -H 'Host: localhost'
    done
    RESOLVE="127.0.0.3 127.0.0.2" LD_PRELOAD=$preload run 1 "$server" -m "$model" --host several.example --port "$port"
    err_has "llama3-server: 127.0.0.2 port $port: Address already in use"
    stop 0
    RESOLVE="127.0.0.1 192.0.2.1" LD_PRELOAD=$preload start -m "$model" --host several.example
    stop 0
    RESOLVE="2001:db8::1 192.0.2.1" LD_PRELOAD=$preload run 1 "$server" -m "$model" --host several.example --port 0
    err_has "llama3-server: several.example port 0: Cannot assign requested address"
    own=$(hostname -I 2>/dev/null | cut -d' ' -f1)
    if [ -n "$own" ]; then
        RESOLVE="127.0.0.1 $own" LD_PRELOAD=$preload run 2 "$server" -m "$model" --host several.example --port 0
        err_has "can be reached by others"
    fi

    # ---- a client that hangs up
    SLOW_TEXT=100 LD_PRELOAD=$preload start -m "$model"
    ready
    for stream in true false; do
        curl -s -m 1 -H 'Content-Type: application/json' -o "$tmp/slow" \
            -d "{$chat,\"max_tokens\":200,\"stream\":$stream,\"logit_bias\":{\"5\":100}}" \
            "$url/v1/chat/completions"
        sleep 1
        [ "$(metric sequences)" = 0 ] || fail "stream $stream: a client left a second ago, and its answer goes on"
    done
    [ "$(metric hangups_total)" = 2 ] || fail "2 clients hung up, $(metric hangups_total) were counted"
    stop 0
    [ "$(grep -c 'hung up$' "$tmp/log")" = 2 ] || fail "the log doesn't tell of those that hung up"
fi

# ---- what is there
start -m "$model" --ctx 400 --parallel 4
ready
grep -q '^Max core file size  *0 ' /proc/$pid/limits || fail "a crash would leave a core"
get 200 /health
printf '{"status":"ok"}' | cmp -s - "$tmp/out" || fail "/health says $(cat "$tmp/out")"
head_has "X-Content-Type-Options: nosniff"
get 200 /v1/models
out_has '"id":"tiny-f32","object":"model"'
out_has '"context":400'
get 200 /v1/models/tiny-f32
out_has '{"id":"tiny-f32","object":"model"'
get 404 /v1/models/other
out_has '"code":"model_not_found"'
get 200 /
head_has "Content-Type: text/html"
head_has "Content-Security-Policy: default-src 'none'; script-src 'sha256-"
cmp -s "$tmp/out" "$srcdir/share/chat.html" || fail "/ is not share/chat.html"
get 200 / -I
get 404 /nothing
out_has '"type":"not_found_error"'
get 405 /v1/chat/completions
head_has "Allow: POST"
get 405 /health -X DELETE
out_has '/health: expected the method GET, found DELETE'
post 200 /tokenize '{"content":"Hello <|eot_id|>"}'
out_has '{"tokens":['
plain=$(cat "$tmp/out")
post 200 /tokenize '{"content":"Hello <|eot_id|>","add_special":true}'
[ "$(cat "$tmp/out")" != "$plain" ] || fail "add_special adds nothing"
post 200 /apply-template '{"messages":[{"role":"developer","content":"Be kind."},{"role":"user","content":"<|eot_id|>"}]}'
out_has '<|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>'
out_has '"tokens":['

# ---- an answer is what the command line's is
run 0 "$program" -m "$model" --temperature 0 -n 24 -p "What is the capital of France?"
want=$(cat "$tmp/out")
post 200 /v1/chat/completions "{$chat,\"temperature\":0,\"max_tokens\":24,\"model\":\"any\",\"user\":\"u\",\"store\":true,\"metadata\":{}}"
for text in '"object":"chat.completion"' '"model":"tiny-f32"' '"role":"assistant"' '"index":0' \
    '"logprobs":null' '"usage":{"prompt_tokens":' '"timings":{"cached_n":' '"id":"chatcmpl-'; do
    out_has "$text"
done
cp "$tmp/out" "$tmp/first"
printf '%b' "$(content)" >"$tmp/got"
printf '%s\n' "$want" >"$tmp/want"
# the terminal's answer ends with a newline; JSON spells other characters out
if ! grep -q '\\' "$tmp/got"; then
    printf '\n' >>"$tmp/got"
    same "$tmp/got" "$tmp/want" "the answer is not the command line's: $(cat "$tmp/got")"
fi
[ "$(field cached_tokens)" = 0 ] || fail "a first prompt is said to be cached"

# ---- what was read is not read again: the same prompt, and the next turn
prompt_tokens=$(field prompt_tokens)
post 200 /v1/chat/completions "{$chat,\"temperature\":0,\"max_tokens\":24}"
[ "$(field cached_tokens)" = $(((prompt_tokens - 1) / 64 * 64)) ] ||
    fail "the same prompt again: $(field cached_tokens) of $prompt_tokens tokens were cached"
content >"$tmp/again"
cp "$tmp/first" "$tmp/out"
[ "$(content)" = "$(cat "$tmp/again")" ] || fail "the same prompt again has another answer"
post 200 /v1/chat/completions '{"messages":[{"role":"user","content":"What is the capital of France?"},{"role":"assistant","content":"x"},{"role":"user","content":"y"}],"max_tokens":2}'
[ "$(field cached_tokens)" = $(((prompt_tokens - 1) / 64 * 64)) ] || fail "the next turn reads the first again"
# ids LAST: a prompt of 100 tokens
ids()
{
    awk -v last="$1" 'BEGIN { for (i = 1; i < 100; i++) printf "%d,", i; print last }'
}
post 200 /v1/completions "{\"prompt\":[$(ids 100)],\"max_tokens\":1}"
[ "$(field cached_tokens)" = 0 ] || fail "a prompt that nobody gave is said to be cached"
post 200 /v1/completions "{\"prompt\":[$(ids 101)],\"max_tokens\":1}"
[ "$(field cached_tokens) $(field cached_n) $(field prompt_n)" = "64 64 36" ] ||
    fail "of 99 tokens that are held one page is to be told: $(cat "$tmp/out")"

# ---- streams
post 200 /v1/chat/completions "{$chat,\"temperature\":0,\"max_tokens\":24,\"stream\":true,\"stream_options\":{\"include_usage\":true}}" -N
head_has "Content-Type: text/event-stream"
sed -n 's/^data: //p' "$tmp/out" >"$tmp/events"
head -n 1 "$tmp/events" | grep -q '"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null' ||
    fail "a stream does not begin with the role: $(head -n 1 "$tmp/events")"
[ "$(tail -n 1 "$tmp/events")" = "[DONE]" ] || fail "a stream does not end with [DONE]"
tail -n 2 "$tmp/events" | head -n 1 | grep -q '"choices":\[\],"usage":{"prompt_tokens"' ||
    fail "a stream's last chunk has no usage: $(tail -n 2 "$tmp/events" | head -n 1)"
tail -n 3 "$tmp/events" | head -n 1 | grep -q '"delta":{},"logprobs":null,"finish_reason":"\(stop\|length\)"' ||
    fail "a stream has no finish_reason: $(tail -n 3 "$tmp/events" | head -n 1)"
sed -n 's/.*"delta":{"content":"\(\([^"\\]\|\\.\)*\)"}.*/\1/p' "$tmp/events" | tr -d '\n' >"$tmp/streamed"
cp "$tmp/first" "$tmp/out"
[ "$(content)" = "$(cat "$tmp/streamed")" ] || fail "a stream says something else than the whole answer"
post 200 /v1/completions '{"prompt":"The capital of","max_tokens":5,"stream":true}'
grep -q '"object":"text_completion"' "$tmp/out" || fail "/v1/completions does not stream"

# ---- sampling
ask() # FIELDS: $tmp/out
{
    post 200 /v1/completions "{\"prompt\":\"The capital of\",\"max_tokens\":12,$1}"
}
ask '"temperature":2,"top_p":1,"seed":7'
seven=$(content)
ask '"temperature":2,"top_p":1,"seed":7'
[ "$(content)" = "$seven" ] || fail "a seed gives two answers"
ask '"temperature":2,"top_p":1,"seed":8'
[ "$(content)" != "$seven" ] || fail "another seed gives the same answer"
eight=$(content)
ask '"temperature":2,"top_p":1,"seed":7,"n":2'
out_has '"index":0'
out_has '"index":1'
grep -qF "\"text\":\"$seven\"" "$tmp/out" || fail "n: the first choice has not the seed"
grep -qF "\"text\":\"$eight\"" "$tmp/out" || fail "n: the second choice has not the next seed"
ask '"temperature":0,"n":8'
[ "$(grep -o '"index":' "$tmp/out" | wc -l)" -eq 8 ] || fail "n=8 has not 8 choices"
post 200 /tokenize '{"content":"z"}'
z=$(sed 's/[^0-9]//g' "$tmp/out")
ask "\"temperature\":0,\"logit_bias\":{\"$z\":100}"
[ "$(content)" = zzzzzzzzzzzz ] || fail "logit_bias: expected 12 z, found $(content)"
ask "\"temperature\":0,\"logit_bias\":{\"$z\":100},\"stop\":\"zz\""
[ "$(content)" = "" ] || fail "stop: expected nothing, found $(content)"
[ "$(field finish_reason)" = stop ] || fail "stop: finish_reason is not stop"
ask "\"temperature\":0,\"logit_bias\":{\"$z\":100},\"frequency_penalty\":2,\"presence_penalty\":2,\"min_p\":0.1,\"top_k\":5"
# What a session may hold can be asked.
ask '"temperature":100,"frequency_penalty":100,"presence_penalty":-100,"repeat_penalty":0.001'
ask '"logprobs":3,"temperature":0'
out_has '"token_logprobs":[-'
out_has '"text_offset":[0,'
post 200 /v1/chat/completions "{$chat,\"temperature\":0,\"max_tokens\":3,\"logprobs\":true,\"top_logprobs\":2}"
out_has '"logprobs":{"content":[{"token":'
out_has '"top_logprobs":[{"token":'
post 200 /v1/completions '{"prompt":[5,6,7],"max_tokens":3,"temperature":0}'
[ "$(field prompt_tokens)" = 3 ] || fail "a prompt of 3 tokens has $(field prompt_tokens)"
[ "$(field finish_reason)" = length ] || fail "finish_reason is not length"

# ---- what is refused, and how
refused 400 /v1/chat/completions '' 'expected JSON'
refused 400 /v1/chat/completions '[]' 'expected a JSON object'
refused 400 /v1/chat/completions '{' 'expected JSON'
refused 400 /v1/chat/completions '{"model":"x","model":"y"}' 'duplicate'
refused 400 /v1/chat/completions '{"model":"x"}' '"param":"messages","code":"missing_required_parameter"'
refused 400 /v1/completions '{"model":"x"}' '"param":"prompt"'
while IFS='|' read -r fields param; do
    refused 400 /v1/chat/completions "{$chat,$fields}" "\"param\":\"$param\""
done <<'END'
"temperature":-1|temperature
"temperature":"1"|temperature
"top_p":0|top_p
"top_p":1.1|top_p
"min_p":1.1|min_p
"top_k":-1|top_k
"top_k":1.5|top_k
"n":0|n
"n":9|n
"n":true|n
"max_tokens":0|max_tokens
"max_tokens":-1|max_tokens
"max_completion_tokens":"x"|max_completion_tokens
"stop":""|stop
"stop":[1]|stop
"stop":["1","2","3","4","5","6","7","8","9","a","b","c","d","e","f","g","h"]|stop
"seed":"x"|seed
"seed":99999999999999999999999|seed
"stream":1|stream
"stream_options":{"include_usage":true}|stream_options
"logprobs":5|logprobs
"top_logprobs":2|top_logprobs
"logprobs":true,"top_logprobs":21|top_logprobs
"logit_bias":[]|logit_bias
"logit_bias":{"x":1}|logit_bias
"logit_bias":{"-1":1}|logit_bias
"logit_bias":{"99999999":1}|logit_bias
"logit_bias":{"1":101}|logit_bias
"frequency_penalty":100.1|frequency_penalty
"presence_penalty":-101|presence_penalty
"repeat_penalty":0|repeat_penalty
"repeat_penalty":1e-300|repeat_penalty
"repeat_penalty":101|repeat_penalty
"response_format":"text"|response_format
"response_format":{}|response_format.type
"response_format":{"type":"xml"}|response_format
"response_format":{"type":"text","schema":{}}|response_format
"response_format":{"type":"json_schema"}|response_format.json_schema
"response_format":{"type":"json_schema","json_schema":{"name":"x"}}|response_format.json_schema.schema
"response_format":{"type":"json_schema","json_schema":{"name":1,"schema":{}}}|response_format.json_schema.name
"response_format":{"type":"json_schema","json_schema":{"strict":1,"schema":{}}}|response_format.json_schema.strict
"response_format":{"type":"json_schema","json_schema":{"schema":{},"from":"the future"}}|response_format.json_schema
"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"nothing"}}}|response_format
"response_format":{"type":"json_object","schema":3}|response_format.schema
"response_format":{"type":"json_object"},"guided_regex":"a"|guided_regex
"guided_json":[1]|guided_json
"guided_json":"{"|guided_json
"guided_regex":"("|guided_regex
"guided_regex":1|guided_regex
"guided_choice":[]|guided_choice
"guided_choice":["a",1]|guided_choice
"guided_choice":["a"],"guided_json":{}|guided_choice
"guided_grammar":"start: a"|guided_grammar
"grammar":"root ::= other"|grammar
"json_schema":"nothing"|json_schema
"structured_outputs":{}|structured_outputs
"structured_outputs":{"regex":"a","choice":["a"]}|structured_outputs
"structured_outputs":{"structural_tag":"x"}|structured_outputs
"tools":[{"type":"function"}]|tools
"tool_choice":"required"|tool_choice
"functions":[{}]|functions
"reasoning_effort":"low"|reasoning_effort
"prompt":"x"|prompt
"nonsense":1|nonsense
END
while IFS='|' read -r messages param; do
    refused 400 /v1/chat/completions "{\"messages\":$messages}" "\"param\":\"$param\""
done <<'END'
"x"|messages
[]|messages
[1]|messages
[{"content":"x"}]|messages[0].role
[{"role":"wizard","content":"x"}]|messages[0].role
[{"role":"user"}]|messages[0].content
[{"role":"user","content":1}]|messages[0].content
[{"role":"user","content":"x"},{"role":"user","content":[{"type":"image_url"}]}]|messages[1].content
[{"role":"user","content":"x","name":"y"}]|messages[0].name
[{"role":"assistant","content":"x","tool_calls":[{}]}]|messages[0].tool_calls
END
post 200 /v1/chat/completions '{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y","refusal":null,"annotations":[]},{"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],"max_tokens":1,"response_format":{"type":"text"},"tools":[],"tool_choice":"none","temperature":null,"guided_json":null}'
refused 400 /v1/chat/completions '{"messages":[{"role":"user","content":"a\u0000b"}]}' 'u0000'
refused 400 /v1/chat/completions "$(printf '{"messages":[{"role":"user","content":"\377"}]}')" 'unable to decode byte'
refused 400 /v1/chat/completions '{"messages":[{"role":"wizard","content":"x"}]}' 'found \"wizard\"'
refused 400 /v1/chat/completions '{"messages":[{"role":5,"content":"x"}]}' 'expected a string, found an integer'
refused 400 /v1/completions '{"prompt":["a","b"]}' '"param":"prompt"'
refused 400 /v1/completions '{"prompt":[[1],[2]]}' '"param":"prompt"'
refused 400 /v1/completions '{"prompt":[["a"]]}' 'expected a string or a list of tokens'
refused 400 /v1/completions '{"prompt":[[-1]]}' 'ids of tokens from 0 to 383'
post 200 /v1/completions '{"prompt":[[1,2]],"max_tokens":1}'
out_has '"prompt_tokens":2'
refused 400 /v1/completions '{"prompt":[-1]}' '"param":"prompt"'
refused 400 /v1/completions '{"prompt":"x","echo":true}' '"param":"echo"'
refused 400 /v1/completions '{"prompt":"x","best_of":2}' '"param":"best_of"'
refused 400 /v1/completions '{"prompt":"x","suffix":"y"}' '"param":"suffix"'
refused 400 /tokenize '{"content":[1]}' '"param":"content"'
refused 400 /tokenize '{}' '"param":"content"'
refused 400 /apply-template '{"messages":[{"role":"user","content":"x"}],"x":1}' '"param":"x"'
long=$(printf '%2000s' x | sed 's/ /a b /g')
refused 400 /v1/completions "{\"prompt\":\"$long\"}" '"code":"context_length_exceeded"'
out_has "but the context holds 400"
deep=$(printf '%65s' '' | sed 's/ /[/g')
refused 400 /v1/completions "{\"prompt\":$deep" "nested at most 64 deep"
awk 'BEGIN { printf "{\"prompt\":["; for (i = 0; i < 70000; i++) printf "[],"; print "1]}" }' >"$tmp/many"
post 400 /v1/completions "@$tmp/many"
out_has "JSON containers"

# ---- what HTTP may be
get 415 /v1/completions -d '{"prompt":"x"}'
out_has 'expected application/json'
get 415 /v1/completions -H 'Content-Type: text/plain' -d '{"prompt":"x"}'
post 400 /v1/completions '{}' -H 'Content-Type: application/json; charset=utf-8'
head -c 9000000 /dev/zero | tr '\0' ' ' >"$tmp/large"
post 413 /v1/completions "@$tmp/large"
out_has "larger than 8 MiB"
post 413 /v1/completions "@$tmp/large" -H 'Transfer-Encoding: chunked'
post 413 /v1/completions "@$tmp/large" -H 'Expect:'
get 431 /health -H "X-Long: $(head -c 33000 /dev/zero | tr '\0' a)"
get 403 /health -H 'Host: evil.example'
out_has '"code":"host_not_allowed"'
get 403 /health -H 'Host: localhost.evil.example'
get 400 /health -H 'Host:'
get 200 /health -H 'Host: localhost:1'
get 200 /health -H 'Host: LOCALHOST'
get 200 /health -H 'Host: [::1]:8080'
get 200 /health -H 'Host: [::1]'
for host in '[::1]evil' '[::1].evil.example' '[::1]:8080evil' '[::1' '[::1]]' 'localhost:evil' 'localhost:1@evil'; do
    get 403 /health -H "Host: $host"
done
get 200 /health -H 'Origin: https://a.example'
! grep -qi 'Access-Control' "$tmp/head" || fail "CORS is allowed without --cors-origin"
get 405 /v1/chat/completions -X OPTIONS -H 'Origin: https://a.example'
post 400 /v1/completions '{"prompt":"x"}' -H 'Transfer-Encoding: chunked' -H 'Content-Length: 14'
out_has "expected one Content-Length or one Transfer-Encoding, found more"
get 501 /health -H 'Transfer-Encoding: gzip'
head_has 'Connection: close'

# ---- a model that can't be opened: nothing is said of listening
run 1 "$server" -m "$tmp/missing.gguf" --port 0
err_has "llama3-server: $tmp/missing.gguf: No such file"
err_lines 1

# ---- a port that is taken: whatever is wrong with the model is said as well
run 1 "$server" -m "$tmp/missing.gguf" --port "${url##*:}"
err_has "llama3-server: 127.0.0.1 port ${url##*:}: Address already in use"
err_has "llama3-server: $tmp/missing.gguf: No such file"
err_lines 2
run 1 "$server" -m "$model" --port "${url##*:}"
err_lines 1

# ---- the manual's examples
sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/p' "$srcdir/man/llama3-server.1" |
    sed -n '/^\$ curl/,/^\.Ed/p' | sed -n "/^\.Ed/d; s,http://127.0.0.1:8080,$url,; s/\\\\e/\\\\/g; p" >"$tmp/page"
awk -v dir="$tmp" '/^\$ / { n++; sub(/^\$ /, "") } { print >(dir "/example-" n) } END { print n }' \
    "$tmp/page" >"$tmp/n"
[ "$(cat "$tmp/n")" -ge 16 ] || fail "expected 16 examples of curl or more, found $(cat "$tmp/n")"
for example in "$tmp"/example-*; do
    run 0 sh "$example"
    err_empty
    [ -s "$tmp/out" ] && ! grep -q '"error"' "$tmp/out" || fail "$(cat "$example"): $(cat "$tmp/out")"
done

# ---- counted, and never told
get 200 /metrics
head_has "Content-Type: text/plain; version=0.0.4"
out_has '# TYPE llama3_requests_total counter'
out_has 'llama3_requests_total{route="/v1/chat/completions",status="2xx"}'
[ "$(metric sequences)" = 0 ] || fail "sequences are running with nobody asking"
[ "$(metric kv_bytes)" -gt 0 ] || fail "nothing is kept"
stop 0
grep -q '127.0.0.1 POST /v1/chat/completions 200 .* s, prompt .* answer 24 .*, \(length\|stop\)$' "$tmp/log" ||
    fail "the log has no line of an answer"
for text in France capital sky eot_id evil wizard nothing "Be kind"; do
    ! grep -q "$text" "$tmp/log" || fail "the log tells '$text'"
done

# ---- a model that thinks: its thoughts stand beside the answer, and come back in messages
mkdir "$tmp/thinker"
cp "$model"/* "$tmp/thinker"
printf '%s' "{{ bos_token }}{% for m in messages %}[{{ m.role }}|{{ m.reasoning_content }}|{{ m.content }}]" \
    "{% endfor %}{{ mode }}{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}" >"$tmp/thinker/chat_template.jinja"
mkdir "$tmp/thinker/additional_chat_templates"
printf 'for tools' >"$tmp/thinker/additional_chat_templates/tool_use.jinja"
start -m "$tmp/thinker" --ctx 400
ready
turns='"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","reasoning":"t\"<|eot_id|>"},{"role":"assistant","content":"b","reasoning_content":"u"},{"role":"user","content":"r"}]'
post 200 /apply-template "{$turns,\"chat_template_kwargs\":{\"mode\":\"deep\"}}"
out_has '"prompt":"<|begin_of_text|>[user||q][assistant|t\"<|eot_id|>|a][assistant|u|b][user||r]deep<think>\n"'
# an answer that was cut goes on: its turn stays open
open='"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"an ans"}]'
post 200 /apply-template "{$open,\"continue_final_message\":true}"
out_has '"prompt":"<|begin_of_text|>[user||q][assistant||an ans"'
post 200 /apply-template "{$open,\"continue_final_message\":false}"
out_has '[assistant||an ans]<think>\n"'
post 200 /v1/chat/completions "{$open,\"continue_final_message\":true,\"max_tokens\":1}"
refused 400 /v1/chat/completions "{$chat,\"continue_final_message\":true}" 'expected one of the assistant to continue'
refused 400 /v1/chat/completions "{$open,\"continue_final_message\":1}" '"param":"continue_final_message"'
refused 400 /v1/chat/completions "{$chat,\"chat_template_kwargs\":1}" '"param":"chat_template_kwargs"'
refused 400 /v1/completions '{"prompt":"x","chat_template_kwargs":{}}' '"param":"chat_template_kwargs"'
refused 400 /v1/chat/completions "{$chat,\"chat_template_kwargs\":{\"messages\":[]}}" '"param":"chat_template_kwargs"'
refused 400 /v1/chat/completions '{"messages":[{"role":"user","content":"x","reasoning":"y"}]}' '"param":"messages[0].reasoning"'
run 0 "$program" -m "$tmp/thinker" --temperature 0 -n 24 -p "What is the capital of France?"
sed 1d "$tmp/out" >"$tmp/want" # after <think>; random weights don't end a thought
post 200 /v1/chat/completions "{$chat,\"temperature\":0,\"max_tokens\":24}"
out_has '"message":{"role":"assistant","content":"","reasoning_content":"'
for name in reasoning_content reasoning; do
    sed 's/.*"'$name'":"\(\([^"\\]\|\\.\)*\)".*/\1/' "$tmp/out" >"$tmp/$name"
    printf '%b\n' "$(cat "$tmp/$name")" >"$tmp/got"
    grep -q '\\' "$tmp/$name" || same "$tmp/got" "$tmp/want" "$name is not the command line's: $(cat "$tmp/got")"
done
same "$tmp/reasoning" "$tmp/reasoning_content" "the two names' thoughts differ"
post 200 /v1/chat/completions "{$chat,\"temperature\":0,\"max_tokens\":24,\"stream\":true,\"logprobs\":true}"
sed -n 's/.*"delta":{"reasoning_content":"\(\([^"\\]\|\\.\)*\)","reasoning":"\1"}.*/\1/p' "$tmp/out" |
    tr -d '\n' >"$tmp/streamed"
[ "$(cat "$tmp/streamed")" = "$(cat "$tmp/reasoning")" ] || fail "streamed thoughts differ: $(cat "$tmp/streamed")"
[ "$(grep -o '"logprob":[^}]*"top_logprobs"' "$tmp/out" | wc -l)" = 24 ] || fail "thoughts have no logprobs"
post 200 /v1/completions '{"prompt":"x <think>","max_tokens":5}' # a text that goes on has none
! grep -q reasoning "$tmp/out" || fail "/v1/completions tells thoughts"
post 200 /v1/chat/completions "{$chat,\"max_tokens\":1}"
without=$(field prompt_tokens)
post 200 /v1/chat/completions "{$chat,\"max_tokens\":1,\"tools\":[]}" # none, to clients
[ "$(field prompt_tokens)" = "$without" ] || fail "tools: [] takes the template for tools"
stop 0
if [ -f "$PWD/tests/.libs/preload.so" ]; then
    need_preload
    THINK="a thought" SAY="an answer" LD_PRELOAD=$preload start -m "$tmp/thinker"
    ready
    post 200 /v1/chat/completions "{$chat,\"temperature\":0}"
    out_has '"message":{"role":"assistant","content":"an answer","reasoning_content":"a thought","reasoning":"a thought","refusal":null}'
    stop 0
fi

# ---- the chat template and its variables by the command line; a request's come first
printf '%s' "{{ date_string }}|{{ a }}|{{ b.c }}|{{ messages[0].content }}" >"$tmp/given.jinja"
start -m "$tmp/thinker" --template "$tmp/given.jinja" --template-arg a=one --template-arg 'b={"c":[2]}' \
    --date "26 Jul 2024" --template-arg unused=1
ready
grep -q "note: --template-arg unused has no effect: the chat template custom doesn't use it" "$tmp/log" ||
    fail "a variable without effect is not noted: $(cat "$tmp/log")"
hello='"messages":[{"role":"user","content":"q"}]'
post 200 /apply-template "{$hello}"
out_has '"prompt":"26 Jul 2024|one|[2]|q"'
post 200 /apply-template "{$hello,\"chat_template_kwargs\":{\"a\":\"<|eot_id|>\",\"date_string\":\"never\"}}"
out_has '"prompt":"never|<|eot_id|>|[2]|q"'
post 200 /v1/chat/completions "{$hello,\"max_tokens\":1}"
tokens=$(field prompt_tokens)
post 200 /v1/chat/completions "{$hello,\"max_tokens\":1,\"chat_template_kwargs\":{\"a\":\"two words\"}}"
[ "$(field prompt_tokens)" -gt "$tokens" ] || fail "chat_template_kwargs do not reach a chat's template"
stop 0
start -m "$tmp/thinker" --template tool_use
ready
post 200 /apply-template "{$hello}"
out_has '"prompt":"for tools"'
grep -q "note: what a user says has no effect" "$tmp/log" || fail "a deaf template is not noted: $(cat "$tmp/log")"
stop 0
printf '%s' "{{ raise_exception('no') if messages | length == 1 else 'fine' }}" >"$tmp/some.jinja"
start -m "$tmp/thinker" --template "$tmp/some.jinja" # others may work
ready
grep -q 'note: a chat that says "Hello" is refused: .*no' "$tmp/log" || fail "not noted: $(cat "$tmp/log")"
post 200 /apply-template '{"messages":[{"role":"system","content":"x"},{"role":"user","content":"q"}]}'
stop 0

# ---- with one that can answer no chat it ends before it listens, with one line
refuses()
{
    run 1 timeout 60 "$server" --port 0 "$@" # which may listen
    err_has "$line"
    err_lines 1
}
printf 'a\n{%% if %%}' >"$tmp/broken.jinja"
line="llama3-server: $tmp/broken.jinja: line 2: expected an expression, found %}"
refuses -m "$tmp/thinker" --template "$tmp/broken.jinja"
cp -r "$tmp/thinker" "$tmp/unparsed"
cp "$tmp/broken.jinja" "$tmp/unparsed/chat_template.jinja"
run 1 "$program" -m "$tmp/unparsed" -p x
line=$(sed 's/^llama3:/llama3-server:/' "$tmp/err")
refuses -m "$tmp/unparsed"
line='llama3-server: --date: expected one like "26 Jul 2024", found "today"'
refuses -m "$tmp/thinker" --template "$tmp/given.jinja" --date today
run 2 "$server" --port 0 -m "$tmp/thinker" --template-arg x
err_has "llama3-server: --template-arg: expected NAME=VALUE, found \"x\""

# ---- what is wrong with the model is told by its name, not by where it is, and logged in full
mkdir "$tmp/private"
cp "$model/config.json" "$model/generation_config.json" "$model/tokenizer.json" "$tmp/private"
sed 's/"chat_template"/"no_template"/' "$model/tokenizer_config.json" >"$tmp/private/tokenizer_config.json"
{
    head -c -128 "$model/model.safetensors" # the norm before the head: NaN from here on
    printf '%128s' '' | tr ' ' '\377'
} >"$tmp/private/model.safetensors"
start -m "$tmp/private"
ready
refused 400 /v1/chat/completions "{$chat}" '"private: the checkpoint has no chat template'
refused 500 /v1/completions '{"prompt":"x"}' '"private: expected finite logits, found nan'
post 200 /v1/completions '{"prompt":"x","stream":true}'
out_has '{"message":"private: expected finite logits, found nan'
stop 0
grep -q "^$tmp/private: expected finite logits, found nan" "$tmp/log" || fail "the log lacks the model's failure"

# ---- keys, names and sites that were allowed
# ask_as KEY: how many tokens of a prompt of 100 that key had left; 64 is a page
ask_as()
{
    post 200 /v1/completions "{\"prompt\":[$(ids 100)],\"max_tokens\":1}" -H "Authorization: Bearer $1"
    field cached_tokens
}
# metrics_of KEY: in $tmp/out, without what the asking itself counts
metrics_of()
{
    get 200 /metrics -H "Authorization: Bearer $1"
    grep -v 'route="/metrics"' "$tmp/out" >"$tmp/metrics"
    cp "$tmp/metrics" "$tmp/out"
}
printf '# keys\nfirst-key\r\nsecond-key\n' >"$tmp/keys"
chmod 644 "$tmp/keys"
start -m "$model" --api-key-file "$tmp/keys"
grep -q "note: $tmp/keys: everybody on this machine can read the API keys" "$tmp/log" ||
    fail "a file of keys that everybody reads is not noted"
ready
stop 0
chmod 600 "$tmp/keys"
LLAMA3_API_KEY=third-key start -m "$model" --api-key-file "$tmp/keys" --allow-host llama.example \
    --cors-origin https://a.example --alias 'meta/llama' --kv-memory 1.5m
ready
! grep -q 'note:.*keys' "$tmp/log" || fail "a file of keys that only its owner reads is noted"
# what one key left tells another nothing
metrics_of second-key
cp "$tmp/out" "$tmp/before"
[ "$(ask_as first-key)" = 0 ] || fail "the first key's first prompt is said to be cached"
[ "$(ask_as first-key)" = 64 ] || fail "the first key's prompt is read again"
[ "$(ask_as third-key)" = 0 ] || fail "a key is told of another's prompt"
metrics_of second-key
same "$tmp/before" "$tmp/out" "a key's metrics change with what others ask: $(diff "$tmp/before" "$tmp/out")"
! grep -q kv_bytes "$tmp/out" || fail "a key is told what memory all hold"
[ "$(ask_as second-key)" = 0 ] || fail "a key is told of another's prompt"
metrics_of first-key
out_has 'llama3_prompt_tokens_total 200'
out_has 'llama3_cached_tokens_total 64'
out_has 'llama3_requests_total{route="/v1/completions",status="2xx"} 2'
get 401 /metrics -H 'Authorization: Bearer the-meter'
get 200 /health
get 200 /
get 401 /v1/models
out_has '"code":"invalid_api_key"'
head_has 'WWW-Authenticate: Bearer'
get 401 /metrics
post 401 /v1/chat/completions "{$chat}"
for key in first-key second-key third-key; do
    get 200 /v1/models -H "Authorization: Bearer $key"
done
get 200 /v1/models/meta/llama -H "Authorization: bearer first-key"
for key in "" first first-key2 first-keyfirst-key '# keys'; do
    get 401 /v1/models -H "Authorization: Bearer $key"
done
get 401 /v1/models -H "Authorization: Basic first-key"
get 200 /health -H 'Host: llama.example:8080'
get 403 /health -H 'Host: other.example'
get 200 /health -H 'Origin: https://a.example'
head_has 'Access-Control-Allow-Origin: https://a.example'
get 200 /health -H 'Origin: https://b.example'
! grep -qi 'Access-Control-Allow-Origin' "$tmp/head" || fail "another site is allowed"
get 204 /v1/chat/completions -X OPTIONS -H 'Origin: https://a.example' \
    -H 'Access-Control-Request-Method: POST' -H 'Access-Control-Request-Headers: authorization'
head_has 'Access-Control-Allow-Headers: Authorization, Content-Type'
# what is kept stays below --kv-memory
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    post 200 /v1/completions "{\"prompt\":\"$i is a number that comes before the next one, $i\",\"max_tokens\":100}" \
        -H 'Authorization: Bearer first-key'
done
[ "$(ask_as second-key)" = 64 ] || fail "what one key keeps is pushed out by another's many prompts"
stop 0
# one household; and somebody who watches
printf 'the-meter\n' >"$tmp/meter"
chmod 644 "$tmp/meter"
LLAMA3_API_KEY=third-key start -m "$model" --api-key-file "$tmp/keys" --metrics-key-file "$tmp/meter" \
    --share-prefixes --kv-memory 1m
ready
grep -q "note: $tmp/meter: everybody on this machine can read the API keys" "$tmp/log" ||
    fail "a file of keys for metrics that everybody reads is not noted"
[ "$(ask_as first-key)" = 0 ] || fail "the first prompt is said to be cached"
[ "$(ask_as second-key)" = 64 ] || fail "--share-prefixes: a key reads again what another's prompt was"
metrics_of third-key
out_has 'llama3_cached_tokens_total 64'
out_has llama3_kv_bytes
stop 0
LLAMA3_API_KEY=third-key start -m "$model" --api-key-file "$tmp/keys" --metrics-key-file "$tmp/meter" \
    --kv-memory 1m
ready
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
    post 200 /v1/completions "{\"prompt\":\"$i is a number that comes before the next one, $i\",\"max_tokens\":100}" \
        -H 'Authorization: Bearer first-key'
done
post 401 /v1/completions '{"prompt":"x"}' -H 'Authorization: Bearer the-meter'
get 401 /metrics -H 'Authorization: Bearer the-meter2'
metrics_of second-key
out_has 'llama3_prompt_tokens_total 0'
metrics_of the-meter
out_has 'llama3_requests_total{route="/v1/completions",status="2xx"} 16'
bytes=$(sed -n 's/^llama3_kv_bytes //p' "$tmp/out")
[ "$bytes" -le 1048576 ] && [ "$bytes" -gt 0 ] || fail "--kv-memory 1M: $bytes bytes are held"
stop 0
start -m "$model" --metrics-key-file "$tmp/meter"
ready
get 401 /metrics
get 200 /metrics -H 'Authorization: Bearer the-meter'
get 200 /v1/models
stop 0
run 1 "$server" -m "$model" --port 0 --metrics-key-file "$tmp/missing"
err_has "$tmp/missing: No such file"
! grep -q -e -key "$tmp/log" || fail "the log tells a key"

# ---- a model in the Hugging Face cache: clients know it by its name there
commit=0123456789012345678901234567890123456789
mkdir -p "$tmp/hub/models--me--tiny/snapshots" "$tmp/hub/models--me--tiny/refs"
printf %s $commit >"$tmp/hub/models--me--tiny/refs/main"
ln -s "$(cd "$model" && pwd)" "$tmp/hub/models--me--tiny/snapshots/$commit"
export HF_HUB_CACHE="$tmp/hub"
start -m me/tiny
ready
get 200 /v1/models
out_has '"id":"me/tiny"'
get 200 /v1/models/me/tiny
stop 0
start -m me/tiny --alias other
ready
get 200 /v1/models/other
stop 0

# ---- a model whose file another program cuts short: an error, and the server goes on
cp -R "$model" "$tmp/cut"
chmod -R u+w "$tmp/cut"
start -m "$tmp/cut"
ready
post 200 /v1/chat/completions "{$chat}"
: >"$tmp/cut/model.safetensors"
for i in 1 2; do
    post 500 /v1/chat/completions "{$chat}"
    out_has '"type":"server_error"'
done
get 200 /health
stop 0

# ---- as systemd starts it: with a socket, and somebody to tell
if command -v python3 >/dev/null; then
    python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(60)
for _ in range(2):
    print(s.recv(100).decode(), flush=True)' "$tmp/notify" >"$tmp/told" &
    listener=$!
    until [ -S "$tmp/notify" ]; do sleep 0.1; done
    cat >"$tmp/activate" <<'END'
import os, socket, sys
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])
END
    : >"$tmp/log"
    python3 "$tmp/activate" "$tmp/notify" "$server" -m "$model" --host 192.0.2.1 2>"$tmp/log" &
    pid=$!
    ready
    url=$(sed -n 's,^llama3-server: ready at \(http.*\)/$,\1,p' "$tmp/log")
    get 200 /health
    get 403 /health -H 'Host: evil.example'
    stop 0
    wait $listener
    [ "$(tr '\n' ' ' <"$tmp/told")" = "READY=1 STOPPING=1 " ] || fail "systemd was told $(cat "$tmp/told")"
fi
finish

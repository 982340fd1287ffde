#!/bin/sh
# Tools over HTTP: a real model goes on with a text that shows a call twice, so that it calls, and what
# comes of it is compared: whole, in a stream, one alone, of a tool that is none, and back to the model.
. "${srcdir:-.}/tests/lib.sh"
. "${srcdir:-.}/tests/server-lib.sh"
model=${LLAMA3_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/llama3/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -f "$model" ] || skip "$model is missing; scripts/quickstart fetches it, LLAMA3_TEST_MODEL names it"

echo '{% for m in messages %}{{ m.content }}{% endfor %}' >"$tmp/echo.jinja"
start -m "$model" --ctx 2048 --template "$tmp/echo.jinja"
ready

add='{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": \"x\"}}'
call="<tool_call>\n$add\n</tool_call>"
shown="Q: Add.\nA: Sure. $call\n\nQ: Add.\nA: Sure. $call\n\nQ: Add.\nA:"
twice="Q: Add.\nA: $call\n$call\n\nQ: Add.\nA: $call\n$call\n\nQ: Add.\nA:"
tool='{"type":"function","function":{"name":"add","parameters":{"type":"object"}}}'
other='{"type":"function","function":{"name":"other"}}'

lacks()
{
    ! grep -qF -e "$1" "$tmp/out" || fail "$last: found '$1': $(cat "$tmp/out")"
}

# ask CONTENT MORE: a request's JSON.
ask()
{
    printf '{"messages":[{"role":"user","content":"%s"}],"temperature":0,"max_tokens":100,"stop":"Q:"%s}' "$1" "$2"
}

post 200 /v1/chat/completions "$(ask "$shown" ",\"tools\":[$tool]")"
out_has '"content":" Sure."'
out_has '"tool_calls":[{"id":"call_'
out_has '"type":"function","function":{"name":"add","arguments":"{\"a\": 1, \"b\": \"x\"}"}}]'
out_has '"finish_reason":"tool_calls"'
lacks 'tool_call>'

post 200 /v1/chat/completions "$(ask "$twice" ",\"tools\":[$tool]")"
out_has '"content":null'
out_has '_0_0","type":"function"'
out_has '_0_1","type":"function"'
post 200 /v1/chat/completions "$(ask "$twice" ",\"tools\":[$tool],\"parallel_tool_calls\":false")"
out_has '_0_0","type":"function"'
lacks '_0_1","type"'
out_has '"finish_reason":"tool_calls"'

# As deltas: the pieces of the arguments are JSON together.
post 200 /v1/chat/completions "$(ask "$shown" ",\"tools\":[$tool],\"stream\":true")"
out_has '"delta":{"tool_calls":[{"index":0,"id":"call_'
out_has '"type":"function","function":{"name":"add","arguments":""}}]}'
out_has '"finish_reason":"tool_calls"'
lacks 'tool_call>'
sed -n 's/.*"index":0,"function":{"arguments":"\(\([^"\]\|\\.\)*\)"}.*/\1/p' "$tmp/out" | tr -d '\n' >"$tmp/arguments"
[ "$(cat "$tmp/arguments")" = '{\"a\": 1, \"b\": \"x\"}' ] || fail "$last: arguments $(cat "$tmp/arguments")"

# Without tools, with none of them, and with another allowed, all is text.
for more in "" ",\"tools\":[]" ",\"tools\":[$tool],\"tool_choice\":\"none\"" ",\"tools\":[$other]" \
    ",\"tools\":[$tool,$other],\"tool_choice\":{\"type\":\"allowed_tools\",\"allowed_tools\":{\"mode\":\"auto\",\"tools\":[$other]}}"; do
    post 200 /v1/chat/completions "$(ask "$shown" "$more")"
    out_has '"content":" Sure. <tool_call>'
    lacks '"tool_calls":'
    out_has '"finish_reason":"stop"'
done

# Calls and results go back to the model, as it writes them.
messages="{\"role\":\"user\",\"content\":\"q \"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"add\",\"arguments\":\"{\\\"a\\\":1}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"1\",\"name\":\"add\",\"content\":\"2\"}"
post 200 /apply-template "{\"messages\":[$messages]}"
out_has 'q <tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\":1}}\n</tool_call><tool_response>\n2\n</tool_response>'

refused 400 /v1/chat/completions "$(ask q ',"tools":{}')" 'tools\": expected a list, found an object'
refused 400 /v1/chat/completions "$(ask q ',"tools":[{"type":"web_search"}]')" 'expected tools of type'
refused 400 /v1/chat/completions "$(ask q ',"tools":[{"type":"function","function":{"name":"a b"}}]')" 'functions with a name of 1 to 64'
refused 400 /v1/chat/completions "$(ask q ",\"tools\":[$tool],\"tool_choice\":\"required\"")" 'tool_choice'
refused 400 /v1/chat/completions "$(ask q ",\"tools\":[$tool],\"tool_choice\":\"always\"")" 'tool_choice'
refused 400 /v1/chat/completions "$(ask q ",\"tools\":[$tool],\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"auto\",\"tools\":[$other]}")" 'expected names of'
refused 400 /v1/chat/completions '{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}]}' 'messages[0].tool_calls'
refused 400 /v1/chat/completions '{"messages":[{"role":"user","content":"q","tool_calls":[{"id":"1"}]}]}' 'not supported'
stop 0
finish

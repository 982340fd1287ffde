#!/bin/sh
# Answers of a form (--json, --regex, --choice, --grammar) by a real model, SmolLM2-135M-Instruct: that
# they are what was asked for, where they end, what is refused. By llama3 and llama3-server.
. "${srcdir:-.}/tests/lib.sh"
model=${LLAMA3_TEST_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/llama3/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -f "$model" ] || skip "$model is missing; scripts/quickstart fetches it, LLAMA3_TEST_MODEL names it"
command -v python3 >/dev/null || skip "python3 is missing"
export LLAMA3_MODEL="$model"
ask="$program --ctx 2048 --temperature 0"

# is EXPRESSION: Python's, of the answer's text t, and of v, that text as JSON if it is any.
is()
{
    python3 -c '
import json, re, sys
t = open(sys.argv[1]).read()[:-1]
try:
    v = json.loads(t)
except ValueError:
    v = ValueError
sys.exit(not ('"$1"'))' "$tmp/out" || fail "$last: expected $1, found $(cat "$tmp/out")"
}

# ---- JSON
run 0 $ask --json -n 1000 --repeat-penalty 1.3 -p "Describe Paris in JSON."
err_empty
is 'isinstance(v, dict)'
cat >"$tmp/city.json" <<'END_OF_SCHEMA'
{
  "type": "object",
  "properties": {
    "name": {"type": "string", "minLength": 2, "maxLength": 30},
    "country": {"enum": ["France", "Italy", "Spain"]},
    "inhabitants": {"type": "integer", "minimum": 1000, "maximum": 99999999},
    "rivers": {"type": "array", "items": {"type": "string", "pattern": "^[A-Z][a-z]{1,12}$"},
               "minItems": 1, "maxItems": 3},
    "founded": {"type": "string", "format": "date"},
    "mayor": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 20}]}
  },
  "required": ["name", "country", "inhabitants", "rivers", "founded", "mayor"],
  "additionalProperties": false
}
END_OF_SCHEMA
valid='set(v) == {"name", "country", "inhabitants", "rivers", "founded", "mayor"}
    and 2 <= len(v["name"]) <= 30 and v["country"] in ("France", "Italy", "Spain")
    and type(v["inhabitants"]) is int and 1000 <= v["inhabitants"] <= 99999999
    and 1 <= len(v["rivers"]) <= 3
    and all(re.fullmatch("[A-Z][a-z]{1,12}", r) for r in v["rivers"])
    and re.fullmatch("[0-9]{4}-[01][0-9]-[0-3][0-9]", v["founded"])
    and (v["mayor"] is None or len(v["mayor"]) <= 20)'
run 0 $ask --json="$tmp/city.json" -p "Describe Paris."
err_empty
is "$valid"
cp "$tmp/out" "$tmp/paris"
# The same with one thread, by its seed, on standard input, in a chat's place, and without a form of
# the prompt's.
run 0 $ask --threads 1 --json="$tmp/city.json" -p "Describe Paris."
same "$tmp/out" "$tmp/paris" "one thread gives another answer: $(cat "$tmp/out")"
run 0 $ask --json=- -p "Describe Paris." <"$tmp/city.json"
same "$tmp/out" "$tmp/paris" "a schema on stdin gives another answer: $(cat "$tmp/out")"
for seed in 1 2 3; do # far from what the model would say
    run 0 $ask --temperature 2 --top-p 1 --seed $seed --json="$tmp/city.json" -p "Describe Paris."
    is "$valid"
    cp "$tmp/out" "$tmp/seed"
    run 0 $ask --temperature 2 --top-p 1 --seed $seed --json="$tmp/city.json" -p "Describe Paris."
    same "$tmp/out" "$tmp/seed" "seed $seed gives two answers"
done
run 0 $ask --raw --json="$tmp/city.json" -p "Paris: "
is "$valid"
echo "Describe Paris." | run 0 $ask --json="$tmp/city.json"
same "$tmp/out" "$tmp/paris" "a question on stdin gives another answer: $(cat "$tmp/out")"

# ---- regular expressions, choices, grammars
run 0 $ask --regex '[0-9]{4}-[0-9]{2}' -p "When was the Bastille stormed?"
err_empty
is 're.fullmatch("[0-9]{4}-[0-9]{2}", t)'
run 0 $ask --choice yes --choice no -p "Is Paris the capital of France?"
is 't in ("yes", "no")'
run 0 $ask --choice 'The "only" one: naïve – 日本語.' -p "Hello"
is 't == "The \"only\" one: naïve – 日本語."'
cat >"$tmp/list.gbnf" <<'END_OF_GRAMMAR'
# a list
root ::= item{3}
item ::= "- " [a-z]{2,12} "\n"
END_OF_GRAMMAR
run 0 $ask --grammar "$tmp/list.gbnf" -p "Name three fruits."
is 're.fullmatch("(- [a-z]{2,12}\n){3}", t + "\n")'
cat >"$tmp/sum.lark" <<'END_OF_GRAMMAR'
start: NUMBER ("+" NUMBER)~1..3
NUMBER: /[1-9][0-9]{0,2}/
END_OF_GRAMMAR
run 0 $ask --grammar "$tmp/sum.lark" -p "Add some numbers."
is 're.fullmatch("[1-9][0-9]{0,2}([+][1-9][0-9]{0,2}){1,3}", t)'

# ---- what must come takes one pass: fewer than tokens, as --stats counts no more than that
run 0 $ask --stats --regex 'The quick brown fox jumps over the lazy dog, and runs away from it[.]' -p x
is 't == "The quick brown fox jumps over the lazy dog, and runs away from it."'
err_has ", complete"

# ---- cut
run 1 $ask --json -n 5 -p "Describe Paris in JSON."
err_has "llama3: the answer is not what --json asks for, as it was cut after 5 tokens (--max-tokens)"
err_lines 1
run 1 $ask -q --ctx 64 --regex '([a-z]+ )*[.]' -p "Tell me a story."
err_has "llama3: the answer is not what --regex asks for, as it was cut: the context of 64 tokens is full (--ctx)"
err_lines 1
run 1 $ask --choice "$(printf 'round and round and round %.0s' $(seq 60))" -p x
err_has "--repeat-stop"
err_has "llama3: the answer is not what --choice asks for, as it was ended before (--repeat-stop)"
run 0 $ask --regex '[a-z]+, [a-z]+' --stop , -p "Two fruits?"
is 're.fullmatch("[a-z]+", t)'

# ---- refused
run 2 $ask --json --regex a -p x
err_has "llama3: --json and --regex exclude each other"
run 2 $ask --choice a --grammar "$tmp/list.gbnf" -p x
err_has "llama3: --choice and --grammar exclude each other"
run 2 $ask --json=- -f - <"$tmp/city.json"
err_has "llama3: stdin can be read once, by --json - or by another option"
run 1 $ask --json="$tmp/none.json" -p x
err_has "llama3: $tmp/none.json: "
err_lines 1
echo '{"properties": {"a": {"type": "string", "minLength": "many"}}}' >"$tmp/bad.json"
run 1 $ask --json="$tmp/bad.json" -p x
err_has "llama3: $tmp/bad.json: "
err_has "/properties/a"
err_lines 1
echo '{"a":' >"$tmp/bad.json"
run 1 $ask --json="$tmp/bad.json" -p x
err_has "llama3: $tmp/bad.json: "
err_lines 1
run 1 $ask --regex '[a' -p x
err_has "llama3: --regex: "
err_lines 1
printf 'root ::= "a"\n  | other\n' >"$tmp/bad.gbnf"
run 1 $ask --grammar "$tmp/bad.gbnf" -p x
err_has "llama3: $tmp/bad.gbnf, line 2: "
err_has "other"
err_lines 1
printf 'start: other\n' >"$tmp/bad.lark"
run 1 $ask --grammar "$tmp/bad.lark" -p x
err_has "llama3: $tmp/bad.lark, line 1: "
err_has "other"
err_lines 1
out_empty

# A word after --json is the prompt's.
run 0 $ask -n 1000 --repeat-penalty 1.3 --json Describe Paris in JSON.
is 'isinstance(v, dict)'

# ---- thoughts: free, and then the answer is held
cat >"$tmp/thinker.jinja" <<'END_OF_TEMPLATE'
{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
<think>
The answer is short.
</think>{# closed at once: SmolLM2 doesn't #}

END_OF_TEMPLATE
run 0 $ask --template "$tmp/thinker.jinja" --choice yes --choice no -p "Is Paris in France?"
is 't in ("yes", "no")'
sed -i 's/^The answer is short.$//; s/^<.think>.*$//' "$tmp/thinker.jinja"
run 1 $ask --template "$tmp/thinker.jinja" -n 20 --choice yes --choice no -p "Is Paris in France?"
out_has "<think>"
err_has "the answer is not what --choice asks for"

# ---- a session, and the same of the server
run 0 $ask -q --session "$tmp/talk.json" --json="$tmp/city.json" -p "Describe Paris."
same "$tmp/out" "$tmp/paris" "a session gives another answer"
run 0 $ask -q --session "$tmp/talk.json" -n 5 -p "And Rome?" # the form is not kept
is 'v is ValueError'

. "$srcdir/tests/server-lib.sh"
start --ctx 2048
ready
content()
{
    python3 -c 'import json, sys
c = json.load(open(sys.argv[1]))["choices"][0]
print(c["message"]["content"])
sys.exit(c["finish_reason"] != sys.argv[2])' "$tmp/out" "$1" >"$tmp/content" ||
        fail "$last: finish_reason is not $1"
    mv "$tmp/content" "$tmp/out"
}
paris='"messages":[{"role":"user","content":"Describe Paris."}],"temperature":0'
for field in "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"city\",\"strict\":true,\"schema\":$(cat "$tmp/city.json")}}" \
    "\"guided_json\":$(cat "$tmp/city.json")" "\"json_schema\":$(cat "$tmp/city.json")" \
    "\"structured_outputs\":{\"json\":$(cat "$tmp/city.json")}"; do
    post 200 /v1/chat/completions "{$paris,$field}"
    content stop
    same "$tmp/out" "$tmp/paris" "$last: another answer than llama3's: $(cat "$tmp/out")"
done
post 200 /v1/chat/completions "{$paris,\"logprobs\":true,\"guided_json\":$(cat "$tmp/city.json")}"
content stop
same "$tmp/out" "$tmp/paris" "with logprobs, which need each token by itself: another answer"
post 200 /v1/chat/completions "{$paris,\"response_format\":{\"type\":\"json_object\"},\"max_tokens\":3}"
content length
# In company: eight different forms at once, each as alone.
for i in 1 2 3 4 5 6 7 8; do
    printf '{%s,"temperature":1.5,"seed":%d,"guided_json":{"type":"array","items":{"enum":["a%d","b",1.5]},"minItems":2,"maxItems":9}}' \
        '"messages":[{"role":"user","content":"A list?"}]' $i $i >"$tmp/ask-$i"
done
for i in 1 2 3 4 5 6 7 8; do
    curl -s -H 'Content-Type: application/json' --data-binary @"$tmp/ask-$i" "$url/v1/chat/completions" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])' >"$tmp/alone-$i"
done
curls=
for i in 1 2 3 4 5 6 7 8; do
    curl -s -H 'Content-Type: application/json' --data-binary @"$tmp/ask-$i" "$url/v1/chat/completions" >"$tmp/both-$i" &
    curls="$curls $!"
done
# shellcheck disable=SC2086 # a list
wait $curls
for i in 1 2 3 4 5 6 7 8; do
    python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])' \
        <"$tmp/both-$i" >"$tmp/out"
    same "$tmp/out" "$tmp/alone-$i" "form $i: another answer in company"
    last="form $i"
    is "2 <= len(v) <= 9 and all(x in ('a$i', 'b', 1.5) for x in v)"
done
refused 400 /v1/chat/completions \
    "{$paris,\"guided_json\":{\"properties\":{\"a\":{\"minLength\":\"many\"}}}}" '"param":"guided_json"'
out_has "/properties/a"
stop 0
finish

#!/bin/sh
# llama3 in a real terminal: the chat, ^C and ^D, the progress line. tmux is the terminal.
. "${srcdir:-.}/tests/lib.sh"
need_preload # before the terminal's server starts, which keeps its environment
# shellcheck source=tests/terminal-lib.sh
. "$srcdir/tests/terminal-lib.sh"

# start VARIABLES ARGUMENTS: llama3 on a screen of its own, followed by "[its status]".
start()
{
    last="$1 llama3 $2"
    terminal kill-session -t test 2>/dev/null
    cat >"$tmp/start" <<END
export LLAMA3_MODEL='$(cd "$tiny" && pwd)' LC_ALL=C.UTF-8
trap : INT # ^C is for the program
env LD_PRELOAD='$preload' $1 $program $2
printf '\\n[%d]\\n' \$?
sleep 60
END
    terminal new-session -d -s test -x 78 -y 60 "sh '$tmp/start'"
}

# A conversation: answers, remembers, and is left in three ways.
for leave in exit QUIT; do
    start "" "-n 4 --temperature 0"
    sees '^llama3: "exit" or ^D leaves' && sees '^User:$' || break
    keys "What is the capital of France?" Enter
    sees '^Assistant: .' && sees '^User:$'
    keys Enter
    keys "  $leave " Enter
    sees '^\[0\]$'
done
start "" "-n 4 -q"
sees '^User:$'
never_saw 'leaves'
keys C-d
sees '^\[0\]$'
start "" "-n 4"
sees '^User:$'
keys C-c
sees '^User: ^C$'
keys C-d
sees '^\[0\]$'

# The second turn's prompt holds the first turn, answer included; its tokens are not read again.
start "" "-n 4 --temperature 0 --show-prompt --stats --system 'Be kind.'"
sees '^User:$'
keys "first words" Enter
sees '^answer .*4 tokens' && sees '^seed '
terminal clear-history -t test
keys "second words" Enter
sees 'first words<|eot_id|>'
sees 'second words<|eot_id|>'
sees 'tokens ([1-9][0-9]* cached)'
[ "$(screen | grep -c '<|start_header_id|>assistant<|end_header_id|>')" -eq 3 ] ||
    fail "$last: the first answer is not the assistant's in the second prompt"

# A control token's name is shown, not obeyed. (Without a template, which would miss its token.)
cp -R "$tiny" "$tmp/odd"
chmod -R u+w "$tmp/odd"
rm "$tmp/odd/tokenizer_config.json"
sed 's/<|begin_of_text|>/<|begin\\u001b[2J\\u001b[Hend|>/' "$tiny/tokenizer.json" \
    >"$tmp/odd/tokenizer.json"
start "" "-m '$tmp/odd' --raw -q -n 1 --show-prompt -p words"
sees '^<|begin.*\[2J.*\[Hend|>words'
sees '^\[0\]$'

# Another program cuts the model's file short: the chat ends, with a line that names it.
cp -R "$tiny" "$tmp/cut"
chmod -R u+w "$tmp/cut"
start "" "-m '$tmp/cut' -n 4"
sees '^User:$'
: >"$tmp/cut/model.safetensors"
keys "first words" Enter
sees '/cut/model.safetensors: expected [0-9]* bytes, '
sees '^\[1\]$'

# A session goes on where it was left, even before the answer.
cat >"$tmp/session" <<'END'
{"format": "llama3-session", "version": 1, "messages": [{"role": "user", "content": "first words"}]}
END
start "" "-n 4 --temperature 0 --session '$tmp/session'"
sees 'ends with a question; its answer:$' && sees '^Assistant: .' && sees '^User:$'
keys "second words" Enter
tries=0
until [ "$(grep -c '"assistant"' "$tmp/session")" -eq 2 ] || [ $tries -gt 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
terminal kill-session -t test # even so, nothing is lost
start "" "-n 4 --show-prompt --session '$tmp/session'"
sees '^llama3: note: session .*/session: 2 turns so far$'
sees '^User: first words$' && sees '^User: second words$' # which is how it is remembered
[ "$(screen | grep -c '^Assistant: .')" -eq 2 ] || fail "$last: expected the last two answers"
sees '^User:$'
keys "third words" Enter
sees 'first words<|eot_id|>'
sees 'second words<|eot_id|>'
sees '^User:$'
keys "exit" Enter
sees '^\[0\]$'
[ "$(grep -c '"role": "assistant"' "$tmp/session")" -eq 3 ] || fail "$last: expected three answers kept"

# Without libedit a line that the terminal cut is not taken for the whole.
start "TERM=dumb" "-n 4"
sees '^User:$'
line=$(printf '%01000d' 0)
for _ in 1 2 3 4 5; do
    keys "$line"
done
keys Enter
sees 'the terminal cut this line'
keys "exit" Enter
sees '^\[0\]$'

# A text that is typed: what ends it is said.
start "" "-n 4 --show-prompt -f -"
sees '^llama3: note: reading the text from this terminal, up to Ctrl-D$'
keys "typed words" Enter
keys C-d
sees 'typed words<|eot_id|>'
sees '^\[0\]$'
start "" "-n 4 -q -f -"
keys "typed words" Enter
keys C-d
sees '^\[0\]$'
never_saw 'Ctrl-D'

# ^C ends an answer and keeps the conversation; said is said.
start "SLOW_TEXT=300" "-n 30 --temperature 0"
sees '^User:$'
keys "first words" Enter
sees '^Assistant: .'
keys C-c
sees '^User:$'
keys "exit" Enter
sees '^\[0\]$'

# A single answer: what was said so far, and 130.
start "SLOW_TEXT=300" "-n 30 --temperature 0 -p x"
sees '^[^ ]'
sleep 1
keys C-c
sees '^\[130\]$'
never_saw 'reading'

# Progress: only after half a second, and gone afterwards.
start "SLOW_OPEN=1500" "-n 4 -p x"
sees '^loading .*, 1 s$'
sees '^\[0\]$'
never_saw 'loading'
folder=$tmp/a/folder/whose/path/is/longer/than/the/terminal/is/wide/and/then/some
mkdir -p "$folder"
ln -s "$(cd "$tiny" && pwd)" "$folder/model"
start "SLOW_LOAD=150" "-n 4 -p x -m $folder/model"
sees '^loading \.\.\..*some/model \[[.#]*\] [0-9]* %'
start "SLOW_LOAD=150" "-n 4 -p x"
sees '^loading .* \[[.#]*\] [0-9]* %'
sees '^\[0\]$'
never_saw 'loading'
start "SLOW_LOAD=150" "-n 4 -p x"
sees '^loading .* %'
keys C-c
sees '^\[130\]$'
# A note stands above it, and it goes on.
cp -R "$tiny" "$tmp/noted"
chmod -R u+w "$tmp/noted"
echo '{"num_beams": 4}' >"$tmp/noted/generation_config.json"
start "SLOW_OPEN=1000 SLOW_LOAD=150" "-n 4 -p x -m '$tmp/noted'"
sees '^loading .*, [01] s$'
sees '^llama3: note: .*/noted.* not supported'
sees '^loading .* %'
sees '^\[0\]$'
sees '^llama3: note: .*/noted.* not supported'
never_saw 'loading'
start "SLOW_PROMPT=1500" "-n 4 -p x"
sees '^reading the prompt: [0-9]* of [0-9]* tokens'
sees '^\[0\]$'
never_saw 'reading'
start "SLOW_OPEN=1500" "-n 4 -q -p x"
sleep 1
never_saw 'loading'
start "SLOW_OPEN=5000" "-n 4 -p x"
sees '^loading '
keys C-c
sees '^\[130\]$'
start "SLOW_PROMPT=1500" "-n 4"
sees '^User:$'
keys "first words" Enter
sees '^reading the prompt'
keys C-c
sees '^User:$'
never_saw 'reading'
never_saw 'Assistant'
keys "exit" Enter
sees '^\[0\]$'

# Quantizing shows how far it is, alone and while a model is opened.
start "SLOW_RESERVE=1500" "-n 4 -p x --int4 --no-cache"
sees '^quantizing \[[.#]*\] [0-9]* %'
sees '^\[0\]$'
never_saw 'quantizing'
start "SLOW_RESERVE=5000" "-n 4 -p x --int4 --no-cache"
sees '^quantizing '
keys C-c
sees '^\[130\]$'
llama3=$program program=./llama3-quantize
start "SLOW_RESERVE=1500" "'$tiny' '$tmp/made'"
sees '^quantizing \[[.#]*\] [0-9]* %'
sees '^made '
sees '^\[0\]$'
never_saw 'quantizing'
program=$llama3

# What a model is talked into does not get at the terminal.
printf 'one\033[31m\302\233x' >"$tmp/say"
start "SAY=\"\$(cat '$tmp/say')\"" "--temperature 0 -p x"
sees '^one.*\[31m.*x$'
sees '^\[0\]$'

# Thoughts are dimmed, and nothing else is; not where nobody wants colors, and hidden ones are waited
# for. tmux tells how each character looks. (The answers are not drawn: at random, a token ends one in
# a hundred before it begins.)
printf '%s' '{{ messages[0].content }}<think>' >"$tmp/thinks.jinja"
think="--temperature 0 -n 30 --template '$tmp/thinks.jinja' -p x"
esc=$(printf '\033')
looks()
{
    # without what only says that there are no colors
    terminal capture-pane -e -p -t test | sed "s/$esc\[39m//g; s/$esc\[49m//g" >"$tmp/looks"
    grep -q -e "$1" "$tmp/looks" || {
        fail "$last: expected '$1' on the screen, found:"
        sed '/^$/d; s/^/    |/' "$tmp/looks" | cat -v
    }
}
start "THINK='a thought' SAY='an answer'" "$think"
sees '^\[0\]$'
looks "^$esc\[2ma$esc\[0m $esc\[2mthought"
looks "^$esc\[0m.*an answer\$" # the reset stands before the next character
never_saw 'think>'
start "NO_COLOR=1 THINK='a thought' SAY='an answer'" "$think"
sees '^\[0\]$'
looks '^<think>$'
looks '^a thought$'
looks '^</think>$'
looks '^an answer$'
start "THINK='a thought' SAY='an answer'" "$think --think hide"
sees '^an answer$' && sees '^\[0\]$'
never_saw 'thought'
start "SLOW_TEXT=100" "$think --think hide -n 600" # a busy machine looks late
sees '^thinking, [0-9]* s$'
keys C-c
sees '^\[130\]$'
never_saw 'thinking'
start "SLOW_TEXT=300" "$think -n 600"
sees '.' # thoughts have begun
keys C-c
sees '^\[130\]$'

# -v in a chat: how full the context is, dimmed, after each answer.
start "" "-n 4 --temperature 0 -v"
sees '^User:$'
keys "first words" Enter
sees '^context: [1-9][0-9]* of [0-9]* tokens ([0-9]* %); answer: 4 tokens in .* tokens/s$'
looks "^$esc\[2mcontext: "
never_saw '^peak memory'

# Markdown is styled, and words wrap at the width, in narrower and wider windows too; every character
# is there. --plain, a dumb terminal and --raw have the text as it is.
markdown='# Big words

Some **bold** and `code` words that need more than one line of a screen with 78 columns.

```c
a *b; /* code that is longer than a line of the screen is left to the terminal, as it is */
```'
start "SAY='$markdown'" "--temperature 0 -p x"
sees '^\[0\]$'
looks "$esc\[2m#$esc\[0m $esc\[1mBig$esc\[0m $esc\[1mwords"
looks "$esc\[2m\*\*$esc\[0;1mbold$esc\[0;2m\*\*"
looks "$esc\[36mcode$esc\[2m"
looks "^$esc\[2m\`\`\`c"
sees '^Some \*\*bold\*\* and `code` words that need more than one line of a screen with$'
sees '^78 columns\.$'
sees '^a \*b; /\* code that is longer than a line of the screen is left to the terminal$'
terminal capture-pane -J -p -t test | grep -q 'left to the terminal, as it is \*/$' ||
    fail "$last: a newline in a line of code"
for plain in "NO_COLOR=1 SAY" "TERM=dumb SAY" "NO_COLOR= SAY"; do
    option=
    [ "$plain" = "NO_COLOR= SAY" ] && option=--color=never
    start "$plain='$markdown'" "--temperature 0 $option -p x"
    sees '^\[0\]$' && sees '^Some \*\*bold\*\* and'
    ! terminal capture-pane -e -p -t test | grep -q "$esc" || fail "$last: expected no styles"
done
for plain in --plain --raw; do
    start "SAY='$markdown'" "--temperature 0 $plain -p x"
    sees '^\[0\]$' && sees '^Some \*\*bold\*\* and .* of a screen with 7$'
    ! terminal capture-pane -e -p -t test | grep -q "$esc" || fail "$last: expected no styles"
done
words='one two three four five six seven eight nine ten eleven twelve thirteen fourteen'
start "SLOW_TEXT=300 SAY='$words'" "--temperature 0 -p x"
sees '^one two'
terminal resize-window -t test -x 20
sees '^\[0\]$'
for word in ten eleven twelve thirteen fourteen; do
    screen | grep -qw $word || {
        fail "$last: '$word' is cut:"
        screen | sed '/^$/d; s/^/    |/'
    }
done

# Nor does what a vocabulary holds; and no floats either.
printf 'one\033[31m\302\233x\n' >"$tmp/say"
program=./llama3-eval
$program -m "$tiny" --tokenize "$tmp/say" >"$tmp/ids" || fail "--tokenize: status $?"
# half a character
printf '\303\277' | $program -m "$tiny" --tokenize - | cut -d ' ' -f 1 >>"$tmp/ids"
start "" "--detokenize '$tmp/ids'"
sees '^one.*\[31m.*x$'
sees "^$(printf '\357\277\275')\$"
sees '^\[0\]$'
start "" "--logits - --tokens 1"
sees '^llama3-eval: --logits -: expected a file or a pipe, found a terminal$'
sees '^\[2\]$'
program=$llama3

# Without a terminal, no progress, and every byte passes; a newline at the end is not doubled.
LD_PRELOAD=$preload SLOW_OPEN=700 SLOW_PROMPT=700 LLAMA3_MODEL=$tiny run 0 "$program" -n 4 -p x
drop_cut
err_empty
for say in 'two
lines' 'two
lines
'; do
    LD_PRELOAD=$preload SAY=$say LLAMA3_MODEL=$tiny run 0 "$program" --temperature 0 -p x
    printf 'two\nlines\n' >"$tmp/want"
    same "$tmp/out" "$tmp/want" "the answer does not end with one newline"
done
say=$(printf 'a\033[31mb')
LD_PRELOAD=$preload SAY=$say LLAMA3_MODEL=$tiny run 0 "$program" --temperature 0 -p x
[ "$(cat "$tmp/out")" = "$say" ] || fail "a control byte was changed on its way into a file"
finish

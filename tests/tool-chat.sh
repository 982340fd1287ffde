#!/bin/sh
# The chat as it is typed, in a real terminal: lines and their history, pastes, ^C, resizes.
# shellcheck disable=SC1003 # a backslash at the end
. "${srcdir:-.}/tests/lib.sh"
need_preload # before the terminal's server starts, which keeps its environment
# shellcheck source=tests/chat-lib.sh
. "$srcdir/tests/chat-lib.sh"

# Editing: the cursor's keys, a word, the whole line.
start "" "$chat"
keys "ello world" Home H End "!" Left Left Left Left Left Left BSpace "-" C-a "Oh: " Enter
sees '^Oh: Hello-world!<|eot_id|>'
sees '^User:$'
keys "one two" C-w "three" C-u "four five" M-b C-k "six" Enter
sees '^four six<|eot_id|>'
# A character of two columns, or beyond 16 bits, is one key; the screen shows it where it is.
keys "日本語 😀 grün" Left Left Left Left BSpace BSpace Left BSpace "—" Enter
sees '^日本— grün<|eot_id|>'
sees '^User:$'
# The history: the last two, changed, sent anew; a search.
keys Up Up C-e " seven" Enter
sees '^four six seven<|eot_id|>'
sees '^User:$'
keys C-r "world" Enter Enter
sees '^User: Oh: Hello-world!$'
leaves

# It is there in the next run, for its owner alone, and nothing is added with --no-history.
[ "$(stat -c %a "$history")" = 600 ] || fail "the history's mode is $(stat -c %a "$history")"
[ "$(stat -c %a "${history%/*}")" = 700 ] || fail "its folder's mode is $(stat -c %a "${history%/*}")"
start "" "$chat"
keys Up Up Enter
sees '^four six seven<|eot_id|>'
leaves
cp "$history" "$tmp/history"
start "" "$chat --no-history"
keys "a secret" Enter
sees '^a secret<|eot_id|>' && sees '^User:$'
keys Up
sees '^User: a secret$' # of this run
keys C-c
leaves
same "$history" "$tmp/history" "--no-history: the history was written"
! grep -rqs "a secret" "$XDG_STATE_HOME" || fail "--no-history: what was typed was kept"

# Two chats at once keep both their messages; the file is bounded, and the oldest messages go.
awk 'BEGIN { for (i = 0; i < 5000; i++) { printf "message %d ", i; for (j = 0; j < 110; j++) printf "1234567890"; print "" } }' \
    >"$history"
printf 'bad \377 bytes\nlast\\nmessage\n' >>"$history"
size=$(wc -c <"$history")
[ "$size" -gt 4194304 ] || fail "the history has $size bytes, too few for this test"
start "" "$chat"
keys Up
sees '^User: last$' && sees '^message$'
keys C-u Up Up
sees '^User: \[text [0-9]*: 1 line, [0-9.]* KiB\]$'
keys C-c
terminal new-session -d -s other -x 78 -y 40 "env LLAMA3_MODEL='$(cd "$tiny" && pwd)' $program -n 4; sleep 60"
keys "from one" Enter
sees '^from one<|eot_id|>'
tries=0
until terminal capture-pane -p -t other | grep -q '^User:$' || [ $tries -gt 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
terminal send-keys -t other "from another" Enter
tries=0
until [ "$(tail -n 1 "$history")" = "from another" ] || [ $tries -gt 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
terminal kill-session -t other
[ "$(tail -n 2 "$history")" = "from one
from another" ] || fail "two chats: the history ends with $(tail -n 2 "$history" | cut -c 1-60)"
[ "$(wc -c <"$history")" -lt 4194304 ] || fail "the history has $(wc -c <"$history") bytes"
[ "$(stat -c %a "$history")" = 600 ] || fail "the history's mode is $(stat -c %a "$history")"
grep -q '^message 4999 ' "$history" || fail "the newest messages are gone"
leaves
# Where it can't be kept, that is said once, and all else goes on.
rm -rf "$XDG_STATE_HOME"
: >"$XDG_STATE_HOME"
start "" "$chat"
sees '^not kept for the next time$'
keys "words" Enter
sees '^words<|eot_id|>'
leaves
rm -f "$XDG_STATE_HOME"

# Messages of several lines: a backslash, quotes, Alt-Enter; up and down move in them first.
start "" "$chat"
keys 'one\' Enter 'two' Up Home "zero, " Enter
sees '^zero, one$' && sees '^two<|eot_id|>'
sees '^User:$'
keys '"""three' Enter 'four\' Enter 'five"""' Enter
sees '^three$' && sees '^four\\$' && sees '^five<|eot_id|>'
sees '^User:$'
keys 'six' M-Enter 'seven' Enter
sees '^six$' && sees '^seven<|eot_id|>'
keys 'eight\\' Enter
sees '^eight\\\\<|eot_id|>'
sees '^User:$'
keys Up Up Up Up Enter
sees '^seven<|eot_id|>'
leaves

# A page that is pasted is one message, whatever ends its lines: 64 KiB, to the last byte.
awk 'BEGIN { for (i = 0; i < 1300; i++) printf "line %d: the quick brown fox, grün und 日本語\n", i }' \
    >"$tmp/page"
[ "$(wc -c <"$tmp/page")" -ge 65536 ] || fail "the page has $(wc -c <"$tmp/page") bytes"
terminal load-buffer -b page "$tmp/page"
sed 's/$/\r/' "$tmp/page" | terminal load-buffer -b crlf -
for how in page "crlf -r" "page -r"; do
    rm -f "$history"
    start "" "-n 4"
    keys "Read: "
    # shellcheck disable=SC2086 # a name and perhaps an option
    terminal paste-buffer -p -t test -b $how
    keys "[end]" Enter
    sees '^User: Read: \[text 1: 1301 lines, [0-9.]* KiB\]\[end\]$'
    sees '^llama3: the context: expected at most 512 tokens, found [0-9]\{5\}'
    sees '^User:$'
    leaves
    [ "$(wc -l <"$history")" -eq 1 ] || fail "$how: expected one message, found $(wc -l <"$history")"
    { printf 'Read: ' && cat "$tmp/page" && printf '[end]'; } >"$tmp/want"
    printf '%b' "$(cat "$history")" >"$tmp/found"
    same "$tmp/found" "$tmp/want" "$how: the message is not what was pasted"
done
# A short one stands in the line, to be edited; nothing is sent before Enter.
printf 'first\nsecond\n' | terminal load-buffer -b short -
start "" "$chat"
terminal paste-buffer -p -t test -b short
keys "third" Up Up Home "the " Enter
sees '^the first$' && sees '^second$' && sees '^third<|eot_id|>'
leaves
# A line of any length: the terminal cuts none.
rm -f "$history"
start "" "-n 4"
line=$(printf '%01000d' 7)
for _ in 1 2 3 4 5 6; do
    keys "$line"
done
keys Enter
sees '^llama3: the context: expected at most 512 tokens, found'
sees '^User:$'
leaves
[ "$(wc -c <"$history")" -eq 6001 ] || fail "a line of 6000 bytes came as $(wc -c <"$history")"

# ^C clears what was typed, also in several lines, and ends an answer, which is kept.
start "SLOW_TEXT=300" "-n 30 --temperature 0 --show-prompt"
keys 'nonsense\' Enter 'more of it' C-c
sees 'more of it^C$' && sees '^User:$'
keys "words" Enter
sees '^Assistant: .'
keys C-c
sees '^User:$'
keys "again" Enter
sees '^words<|eot_id|>'
[ "$(screen | grep -c 'nonsense<|eot_id|>')" -eq 0 ] || fail "$last: what ^C cleared was sent"
[ "$(screen | grep -c '<|start_header_id|>assistant<|end_header_id|>')" -ge 2 ] ||
    fail "$last: the answer that ^C ended is not in the next prompt"
keys C-c
sees '^User:$'
leaves

# A NUL does nothing.
start "" "$chat"
keys C-Space "wor" C-Space "ds" C-Space Enter
sees '^words<|eot_id|>'
never_saw '\^[@M]'
leaves

# What is typed or pasted while the model speaks stands in the next line, and not in the answer: a
# paste is one message, which waits for Enter, and none of it is lost.
answer="one two three four five six seven eight nine ten"
speaks="SLOW_TEXT=250 SAY='$answer'"
printf '%010000d' 7 | terminal load-buffer -b long -
rm -f "$history"
start "$speaks" "$chat"
keys "words" Enter
sees '^Assistant: one two'
terminal paste-buffer -p -t test -b short
keys "third"
sleep 0.5
never_saw 'first'
never_saw 'third'
sees "^Assistant: $answer\$"
sees '^User: first$' && sees '^second$' && sees '^third$'
sleep 0.5
never_saw 'third<|eot_id|>'
keys Enter
sees '^third<|eot_id|>'
keys Up
terminal paste-buffer -p -t test -b long
sleep 0.5
never_saw '7'
never_saw '\^\['
sees '^second$' && sees '^third\[text 1: 1 line, [0-9.]* KiB\]$'
[ "$(screen | grep -c "^Assistant: $answer\$")" -eq 2 ] || {
    fail "$last: what was typed ahead stands in an answer:"
    screen | sed '/^$/d; s/^/    |/'
}
keys Enter
sees '^llama3: the context: expected at most 512 tokens, found'
leaves
printf 'words\nfirst\\nsecond\\nthird\nfirst\\nsecond\\nthird%010000d\n' 7 >"$tmp/want"
same "$history" "$tmp/want" "what was typed ahead is not what came"
# Lines that were sent ahead are messages, and ^D leaves then.
start "$speaks" "$chat"
keys "words" Enter
sees '^Assistant: one two'
keys "next" Enter C-d
sees '^next<|eot_id|>'
sees '^\[0\]$'
sees '^tty:same$'

# ^C ends an answer, however much was typed ahead, and drops that; what comes later stays.
for ahead in short long; do
    start "SLOW_TEXT=300" "-n 30 --temperature 0"
    keys "words" Enter
    sees '^Assistant: .'
    terminal paste-buffer -p -t test -b $ahead
    sleep 0.5
    keys C-c "kept"
    sees '^User: kept$'
    never_saw 'second'
    leaves
done

# An editor has the terminal in its usual mode, and after it what is typed is not shown.
cat >"$tmp/editor-mode" <<'END'
#!/bin/sh
stty -a | tr ' ' '\n' | grep -E '^-?(echo|icanon|icrnl)$' | tr '\n' ' ' >"$0-found"
echo more >>"$1"
END
chmod +x "$tmp/editor-mode"
start "$speaks EDITOR='$tmp/editor-mode'" "$chat"
keys "words" Enter
sees "^Assistant: $answer\$"
sees '^User:$'
keys "/edit" Enter
sees '^more<|eot_id|>'
keys "ahead"
sees '^User: ahead$'
[ "$(screen | grep -c "^Assistant: $answer\$")" -eq 2 ] || fail "$last: /edit: keys stand in the answer"
[ "$(cat "$tmp/editor-mode-found")" = "icrnl icanon echo " ] ||
    fail "$last: an editor's terminal: $(cat "$tmp/editor-mode-found")"
leaves

# $EDITOR on the line, by ^X^E; one that fails leaves the line as it was.
cat >"$tmp/editor" <<'END'
#!/bin/sh
[ "$(stat -c %a "$1")" = 600 ] || exit 1
sed -i 's/good/better/; $a and a second line' "$1"
END
chmod +x "$tmp/editor"
start "EDITOR='$tmp/editor'" "$chat"
keys "something good" C-x C-e
sees '^and a second line$'
keys "!" Enter
sees '^something better$' && sees '^and a second line!<|eot_id|>'
leaves
start "VISUAL=false EDITOR='$tmp/editor'" "$chat"
keys "something good" C-x C-e
sees 'false ended with an error'
keys " still" Enter
sees '^something good still<|eot_id|>'
leaves

# A resize draws the line anew, whether it was typed or drawn, in fewer rows and in more. (tmux tells
# the program a moment later.)
resize()
{
    terminal resize-window -t test -x "$1" -y 40
    sleep 0.6
}
start "" "$chat"
keys "these are words enough to need another row on a narrow terminal"
sees '^User: these are words enough'
resize 40
sees '^User: these are words enough to need ano$'
resize 100
sees '^User: these are words enough to need another row on a narrow terminal$'
[ "$(screen | grep -c 'words')" -eq 1 ] || fail "$last: a resize left rows of the line behind"
keys "!" Home "See: " Enter
sees '^See: these are .* terminal!<|eot_id|>'
leaves
start "" "$chat" 40
keys "these are words enough to need two rows there"
sees '^ rows there$'
resize 100
sees '^User: these are words enough to need two rows there$'
[ "$(screen | grep -c 'enough')" -eq 1 ] || fail "$last: a resize left rows of the line behind"
[ "$(terminal display -p -t test '#{cursor_x}')" -eq 51 ] || fail "$last: the cursor is elsewhere"
leaves

# ^Z stops it, and the line goes on.
terminal kill-session -t test
terminal new-session -d -s test -x 78 -y 40 "env PS1='shell> ' LLAMA3_MODEL='$(cd "$tiny" && pwd)' sh -i"
sees '^shell>'
keys "$PWD/llama3 $chat" Enter
sees '^User:$'
keys "half of" C-z
sees '^shell>$'
keys "fg" Enter
sees '^User: half of$'
keys " it" Enter
sees '^half of it<|eot_id|>'
sees '^User:$'
# A signal that ends it leaves a terminal in its usual mode.
modes="stty -a | tr ' ' '\\n' | grep -E '^-?(echo|icanon|icrnl)\$' | tr '\\n' ' '; echo"
program_is()
{
    pgrep -f "llama3 $chat" -s "$(terminal display -p -t test '#{pane_pid}')"
}
keys "half"
sees '^User: half$'
kill -TERM "$(program_is)"
sees '^shell>$'
keys "$modes" Enter
sees '^icrnl icanon echo$'

# ^Z while the model speaks, too: the shell has its usual mode, and then the answer goes on.
keys "clear; LD_PRELOAD='$preload' $speaks $PWD/llama3 $chat" Enter
sees '^User:$'
keys "words" Enter
sees '^Assistant: one two'
keys "ahead"
sleep 0.3
keys C-z
sees '^shell>$'
keys "$modes" Enter
sees '^icrnl icanon echo$'
keys "clear; fg" Enter
sees 'llama3 '
sleep 0.3
keys " of"
sees ' ten$'
sees '^User: ahead of$'
[ "$(screen | grep -c 'ahead\| of')" -eq 1 ] || fail "$last: after fg keys are shown in the answer"
keys Enter
sees '^ahead of<|eot_id|>'
sees '^User:$'
keys C-d
sees '^shell>$'
# So does a signal that ends it while it speaks.
for signal in TERM HUP QUIT; do
    keys "clear; LD_PRELOAD='$preload' $speaks $PWD/llama3 $chat" Enter
    sees '^User:$'
    keys "words" Enter
    sees '^Assistant: one two'
    kill -$signal "$(program_is)"
    sees '^shell>$'
    keys "clear; $modes" Enter
    sees '^icrnl icanon echo$'
done

# A terminal that can't move its cursor has lines as well.
start "TERM=dumb" "$chat"
keys 'one\' Enter
sees '^\.\.\.$'
keys 'two' Enter
sees '^one$' && sees '^two<|eot_id|>'
keys '"""a' Enter 'b"""' Enter
sees '^a$' && sees '^b<|eot_id|>'
sees '^User:$'
keys "words" C-c
sees '^User: .*^C$' && sees '^User:$'
keys "other" Enter
sees '^other<|eot_id|>'
leaves

# Without a terminal there is no chat, and nothing of it is kept.
rm -rf "$XDG_STATE_HOME"
echo "piped words" | LLAMA3_MODEL=$tiny run 0 "$program" -n 4 --show-prompt
err_has "piped words<|eot_id|>"
[ ! -e "$XDG_STATE_HOME" ] || fail "$last: something was kept"
# The answers of a chat may go into a file.
terminal kill-session -t test
terminal new-session -d -s test -x 78 -y 40 "env LLAMA3_MODEL='$(cd "$tiny" && pwd)' LD_PRELOAD='$preload' \
SAY='said this' $program --temperature 0 >'$tmp/answers'; sleep 60"
sees '^User:$'
keys "words" Enter
sees '^Assistant: User:$' || sees '^User:$'
keys C-d
tries=0
until grep -q '^said this$' "$tmp/answers" || [ $tries -gt 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
printf 'said this\n' >"$tmp/want"
same "$tmp/answers" "$tmp/want" "a chat's answers in a file are more than the answers"
finish

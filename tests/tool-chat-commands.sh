#!/bin/sh
# The chat's commands, and what Tab makes of them, in a real terminal.
. "${srcdir:-.}/tests/lib.sh"
need_preload # before the terminal's server starts, which keeps its environment
# shellcheck source=tests/chat-lib.sh
. "$srcdir/tests/chat-lib.sh"
session=$tmp/session.json width=150

# says MESSAGE PATTERN: types a message; the screen has the pattern alone, and then the next prompt.
says()
{
    terminal send-keys -t test -R C-l
    terminal clear-history -t test
    keys "$1" Enter
    sees "$2" && settled
}

# Waits for the prompt at the end of the screen.
settled()
{
    tries=0
    until screen | sed '/^$/d' | tail -n 1 | grep -q '^User:$'; do
        tries=$((tries + 1))
        [ $tries -le 100 ] || {
            fail "$last: no prompt came"
            screen | sed '/^$/d; s/^/    |/'
            return
        }
        sleep 0.1
    done
}

# kept WHAT PATTERN: the session's file has it; kept_not: it does not.
kept()
{
    grep -q -e "$2" "$session" || fail "$last: $1 is not in the session: $(cat "$session")"
}
kept_not()
{
    ! grep -q -e "$2" "$session" || fail "$last: $1 is still in the session: $(cat "$session")"
}

start "SAY='said this'" "$chat --session '$session'"
# What is no command is explained and not sent.
says "/nosuch thing" '^llama3: /nosuch is no command: /help lists them, and // begins a message'
says "/undo" '^llama3: there is no question yet$'
says "/retry" '^llama3: there is no question yet$'
says "/copy" '^llama3: there is no answer yet$'
says "/show" '^llama3: nothing was said yet$'
says "/undo it" '^llama3: /undo: expected nothing behind it, found "it"$'
says "/read" '^llama3: /read: expected FILE, found nothing$'
[ ! -e "$session" ] || fail "$last: what is no message went into the session"
says "//etc is a folder" '^/etc is a folder<|eot_id|>'
kept "a message with a slash" '"/etc is a folder"'
says "/help" '^  //TEXT  *a message that begins with a slash$'
for name in help undo retry edit clear "system TEXT" "set NAME VALUE" "read FILE" "save FILE" \
    "load FILE" show stats copy "model NAME" exit; do
    sees "^  /$name  *[a-z]"
done

# /undo takes a question and its answer, here and in the file; /show has what is left.
says "second question" '^second question<|eot_id|>'
kept "the second question" 'second question'
says "/undo" '^llama3: taken away: "second question"$'
kept_not "the second question" 'second question'
says "/show" '^User: /etc is a folder$'
sees '^Assistant: said this$'
never_saw 'second'
# /retry asks the last one again; /edit another one in its place.
says "/retry" '^/etc is a folder<|eot_id|>'
[ "$(grep -c '"role"' "$session")" -eq 2 ] || fail "$last: /retry: expected one question and its answer"
leaves
cat >"$tmp/editor" <<'END'
#!/bin/sh
sed -i 's/folder/place/' "$1"
END
chmod +x "$tmp/editor"
start "EDITOR='$tmp/editor'" "$chat --session '$session'"
settled
says "/edit" '^/etc is a place<|eot_id|>'
kept "the edited question" '"/etc is a place"'
kept_not "the old question" 'folder'
# /system and /clear.
says "/system Be brief." '^llama3: instructions set$'
kept "the system prompt" '"system": "Be brief\."'
says "/clear" '^llama3: the conversation begins anew$'
kept_not "a message" '"role"'
kept "the system prompt" '"system": "Be brief\."'
says "anew" '^Be brief\.<|eot_id|>'
says "/system" '^llama3: no instructions any more$'
kept_not "the system prompt" '"system"'
says "/undo" 'taken away: "anew"'

says "same" '^same<|eot_id|>'
printf '#!/bin/sh\nexit 0\n' >"$tmp/editor"
says "/edit" '^llama3: the question is as it was; /retry asks it again$'
says "/undo" 'taken away: "same"'

# /set: the names and ranges of the options, kept with the session.
says "/set top-p 2" '^llama3: /set top_p: expected a number in (0, 1\], found "2"$'
says "/set nosuch 2" '^llama3: /set: "nosuch" is no setting'
says "/set max_tokens 0" '^llama3: /set max-tokens: expected an integer in \[1, 16777216\], found "0"$'
keys "/set max-tokens 2" Enter "/set top_p 0.5" Enter "/set stop a b" Enter
says "/set" '^  max_tokens  *2$'
sees '^  top_p  *0\.5$' && sees '^  stop  *"a b"$' && sees '^  temperature  *0$'
sees '^  seed  *[0-9]* (random)$' && sees '^  min_p  *[0-9.]* (default)$'
kept "a setting, before another answer" '"top_p": 0\.5'
says "words" '^llama3: note: the answer was cut after 2 tokens'
kept "a setting" '"top_p": 0\.5'
kept "stop" '"a b"'
keys "/set top_p" Enter "/set stop" Enter
says "/set" '^  top_p  *[0-9.]* (default)$'
sees '^  stop  *none$'
says "more words" '^more words<|eot_id|>'
kept_not "what was reset" 'top_p'
kept_not "stop" '"a b"'

# /read puts files before the question; it is sent with it.
printf 'the text\nof a file\n' >"$tmp/some text.txt"
says "/read $tmp/nosuch" "^llama3: $tmp/nosuch: No such file"
says "/read $tmp/some text.txt" "^llama3: $tmp/some text.txt: 19 bytes go before the next question\$"
says "What is it?" '^What is it?<|eot_id|>'
sees '^the text$' && sees '^of a file$'
kept "the file as --file reads it" '"the text\\nof a file\\n\\nWhat is it?"'
says "/undo" 'taken away: "the text\.\.\."'

# A file that another program has written is left alone; the chat goes on and can be kept elsewhere.
cp "$session" "$tmp/kept"
touch -d '1 minute ago' "$session"
says "unsaved words" '^llama3: the chat goes on; /save FILE keeps it elsewhere$'
sees ': another program has written it meanwhile; it is left as that did$'
same "$session" "$tmp/kept" "another program's file was overwritten"
says "/save $tmp/elsewhere.json" "^llama3: saved as $tmp/elsewhere.json\$"
grep -q 'unsaved words' "$tmp/elsewhere.json" || fail "/save: an answer that was not saved is lost"
says "/undo" '^llama3: the chat goes on; /save FILE keeps it elsewhere$'
keys C-d
sees '^\[1\]$'
start "SAY='said this'" "$chat --session '$session'"
settled

# /save makes a new file, and writes its own again; /load goes on with a copy.
says "/save $tmp/saved.json" "^llama3: saved as $tmp/saved.json\$"
says "/save $tmp/saved.json" "^llama3: saved as $tmp/saved.json\$"
says "/save $session" '^llama3: /save: expected the name of a new file, found that .* exists$'
[ "$(stat -c %a "$tmp/saved.json")" = 600 ] || fail "/save: mode $(stat -c %a "$tmp/saved.json")"
says "/clear" 'begins anew'
says "/load $tmp/nosuch" '^llama3: .*nosuch'
says "/load $tmp/editor" '^llama3: .*editor'
says "/load $tmp/saved.json" "^llama3: $tmp/saved.json: 4 messages\$"
says "/show" '^User: more words$'
cp "$tmp/saved.json" "$tmp/before"
says "another" '^another<|eot_id|>'
kept "what was loaded" '"more words"'
same "$tmp/saved.json" "$tmp/before" "/load: the file that was loaded has changed"
leaves

# /stats, /copy.
terminal set -g set-clipboard on
start "SAY='grün and 日本'" "$chat"
says "words" '^words<|eot_id|>'
says "/stats" '^  context  [0-9]* of 512 tokens ([0-9]* %)$'
sees '^  prompt   [0-9]* tokens.*, [0-9.]* tokens/s$' && sees '^  answer   [0-9]* tokens'
says "/copy" "^llama3: 16 bytes sent to the terminal's clipboard\$"
[ "$(terminal show-buffer)" = "grün and 日本" ] || fail "/copy: the clipboard has $(terminal show-buffer)"
# /model: what was said goes on with another model; what is none leaves the old one.
says "/model $tmp/nosuch" '^llama3: the model is as it was: .*tiny-f32$'
says "/model $srcdir/tests/data/tiny-bf16" 'tiny-bf16 answers from here on, with a context of [0-9]* tokens$'
says "/stats" '^  model    .*tiny-bf16$'
says "go on" '^go on<|eot_id|>'
sees '^words<|eot_id|>'
keys "/exit" Enter
sees '^\[0\]$'
# ^C gives up opening one; a ^C that ended an answer before has nothing to do with it.
start "SLOW_TEXT=300 SLOW_LOAD=100" "-n 30 --temperature 0"
keys "words" Enter
sees '^Assistant: .'
keys C-c
settled
says "/model $srcdir/tests/data/tiny-bf16" 'tiny-bf16 answers from here on'
keys "/model $srcdir/tests/data/tiny-f16" Enter
sees '^loading .*tiny-f16'
keys C-c
sees '^llama3: the model is as it was: .*tiny-bf16$'
settled
leaves

# A conversation that no longer fits says so with both counts and drops nothing; the question waits.
start "" "$chat --ctx 100"
says "one two three four five six seven eight nine ten" '^one two .* ten<|eot_id|>'
says "$(seq -s ' ' 60) $(seq -s ' ' 60)" 'the question alone does not fit: a larger context is --ctx$'
says "eleven twelve thirteen fourteen fifteen sixteen seventeen" \
    '^llama3: the context: expected at most 100 tokens, found [0-9]*$'
sees 'the conversation no longer fits: /undo or /clear makes room, and /retry then'
sees '; a larger context is --ctx$'
says "/show" '^User: one two'
never_saw 'eleven'
says "/clear" 'begins anew'
says "/retry" '^eleven twelve .* seventeen<|eot_id|>'
keys Up Up Up Up
sees '^User: eleven twelve'
leaves

# Tab: commands, settings, files. What is ambiguous is completed as far as it goes, then listed.
mkdir "$tmp/files" "$tmp/files/folder"
printf 'first file\n' >"$tmp/files/name-one"
printf 'second file\n' >"$tmp/files/name-two"
start "" "$chat"
keys "/he" Tab
sees '^User: /help$'
keys C-u "/s" Tab
sees '^system  set  save  show  stats\|^s.*stats'
keys "et tem" Tab "1" Enter
settled
says "/set" '^  temperature  *1$'
keys "/read $tmp/files/n" Tab Tab
sees '^name-one  name-two\|^name-two  name-one'
keys "t" Tab Enter
sees 'name-two: .* go before'
keys "/read $tmp/fil" Tab
sees "/files/\$"
keys "fo" Tab
sees "/files/folder/\$"
keys C-u "no	command" Enter
sees '^no *command<|eot_id|>'
leaves
finish

#!/bin/sh
# llama3 --session: conversations by name, the list of them, and what is said of each.
. "${srcdir:-.}/tests/lib.sh"
export LLAMA3_MODEL="$tiny"
unset XDG_DATA_HOME
HOME=$tmp/home TZ=UTC
export HOME TZ
mkdir "$HOME"
ask="$program -n 2 --temperature 0"
folder=$HOME/.local/share/llama3/sessions

# None yet: the list is empty, and nothing is made by looking.
run 0 "$program" --sessions
out_empty
err_has "llama3: note: no session has a name yet; --session NAME begins one"
[ ! -e "$HOME/.local" ] || fail "$last: expected nothing in the home folder"

# A name is a file in the data folder, for its owner alone; one that begins is said to, since it may
# be mistyped.
run 0 $ask --session french -p "Bonjour"
err_has "llama3: note: session french begins; --sessions lists those that exist"
[ "$(stat -c %a "$folder")" = 700 ] || fail "$last: expected a folder for its owner alone"
[ "$(stat -c %a "$folder/french.json")" = 600 ] || fail "$last: expected a file for its owner alone"
run 0 $ask --session french --show-prompt -p "Merci"
err_has "Bonjour<|eot_id|>"
run 0 $ask --session french -p "Au revoir"
drop_cut
err_empty
run 0 $ask --session french -p "Adieu"
run 0 $ask --session quiet -q -p x
err_empty
rm "$folder/quiet.json"
[ "$(grep -c '"role": "user"' "$folder/french.json")" -eq 4 ] || fail "$last: expected four turns"

# A slash or .json is a file, also where a name would be the same.
(
    cd "$tmp" || exit
    case $program in /*) ;; *) program=$OLDPWD/$program ;; esac
    case $tiny in /*) ;; *) LLAMA3_MODEL=$OLDPWD/$tiny ;; esac
    for file in ./plain here.json "$tmp/far"; do
        "$program" -n 2 --session "$file" -p x >/dev/null 2>err || cat err
        grep -qF "note: session $file begins" err || echo "--session $file: $(cat err)"
        [ -f "$file" ] || echo "--session $file: no such file"
    done
) >"$tmp/files"
[ ! -s "$tmp/files" ] || fail "$(cat "$tmp/files")"
[ "$(find "$folder" -type f | wc -l)" -eq 1 ] || fail "expected one named session"

# XDG_DATA_HOME is where it is; a relative one counts as unset.
run 0 env XDG_DATA_HOME="$tmp/data" $ask --session other -p x
[ -f "$tmp/data/llama3/sessions/other.json" ] || fail "$last: expected it in XDG_DATA_HOME"
run 0 env XDG_DATA_HOME=data $ask --session "zwei Wörter" -p "Ein Satz
mit zwei Zeilen und einem$(printf '\t')Tabulator"
[ -f "$folder/zwei Wörter.json" ] || fail "$last: expected it below HOME"
run 1 env -u HOME $ask --session french -p x
err_has "llama3: --session: expected a folder for named sessions, found neither XDG_DATA_HOME nor HOME"
err_lines 1

# What is no name is refused before anything is made.
for name in .hidden -x "$(printf 'a\nb')" "$(printf 'a\377')" "$(printf '%0201d' 0)"; do
    run 1 $ask --session="$name" -p x
    err_has "llama3: --session: expected a name of at most 200 bytes of text"
    err_lines 1
    out_empty
done

# The library's example in Python reads and writes the same: from the chat, and back to it.
if command -v python3 >/dev/null; then
    run 0 env PYTHONPATH="$srcdir/examples/python" PYTHONDONTWRITEBYTECODE=1 python3 - "$tmp/far" "$srcdir/tests/data/session.json" "$tmp/made.json" <<'END'
import json, os, stat, sys
from llama3 import load_session, save_session
far, page, made = sys.argv[1:]
history = load_session(far)
assert [m["role"] for m in history] == ["user", "assistant"], history
save_session(far, [{"role": "system", "content": "Be kind."}] + history
             + [{"role": "user", "content": "Wörter"}, {"role": "assistant", "content": "Ja."}])
assert stat.S_IMODE(os.stat(far).st_mode) == 0o600
assert json.load(open(far))["model"] == "tiny-f32"
before = json.load(open(page))  # of the chat page
save_session(made, load_session(page))
after = json.load(open(made))
assert after["messages"] == before["messages"] and after.get("system") == before.get("system")
for bad in ({}, [], {"format": "llama3-session", "version": 2, "messages": []},
            {"format": "llama3-session", "version": 1, "messages": [{"role": "assistant", "content": ""}]}):
    json.dump(bad, open(made + ".bad", "w"))
    try:
        load_session(made + ".bad")
    except ValueError:
        continue
    raise AssertionError(bad)
END
    run 0 $ask --session "$tmp/far" --show-prompt -p "Nun?"
    err_has "Be kind.<|eot_id|>"
    err_has "Wörter<|eot_id|>"
    run 0 $ask --session "$tmp/made.json" -p "Nun?"
fi

# The list: the last used first, with turns, time, model and title.
sed -i 's/"version": 1,/"version": 1, "title": "A\\u001b[31m title",/' "$folder/french.json"
TZ=UTC touch -d '2024-05-06 07:08:09' "$folder/french.json"
run 0 "$program" --sessions
err_empty
cat >"$tmp/want" <<END
NAME         TURNS  WHEN              MODEL     TITLE
zwei Wörter      1  TIME  tiny-f32  Ein Satz mit zwei Zeilen und einem Tabulator
french           4  2024-05-06 07:08  tiny-f32  A\x1b[31m title
END
sed '2s/[0-9]*-[0-9]*-[0-9]* [0-9:]*/TIME/' "$tmp/out" >"$tmp/list"
same "$tmp/list" "$tmp/want" "--sessions: found $(cat "$tmp/list")"
# What is no session is named, and the others are listed; other files are let alone.
echo nothing >"$folder/bad.json"
echo nothing >"$folder/.french.json.0123"
echo nothing >"$folder/notes"
run 1 "$program" --sessions
err_has "llama3: $folder/bad.json: expected JSON"
err_lines 1
sed '2s/[0-9]*-[0-9]*-[0-9]* [0-9:]*/TIME/' "$tmp/out" >"$tmp/list"
same "$tmp/list" "$tmp/want" "--sessions beside a damaged file: found $(cat "$tmp/list")"
rm "$folder/bad.json"
last="--sessions >/dev/full"
"$program" --sessions >/dev/full 2>"$tmp/err" && fail "$last: expected an error"
err_has "stdout: No space left on device"
finish

#!/bin/sh
# The examples as a user builds them, by README's lines and their own as they stand, after an
# installation below ~/.local as scripts/quickstart makes it.
. "${srcdir:-.}/tests/lib.sh"
command -v pkg-config >/dev/null || skip "pkg-config is missing"
unset MAKEFLAGS MFLAGS MAKELEVEL PKG_CONFIG_PATH LD_LIBRARY_PATH

# libtool installs below the configured prefix alone: the whole of it is moved.
run 0 ${MAKE:-make} DESTDIR="$tmp/root" install-libLTLIBRARIES install-includeHEADERS \
    install-pkgconfigDATA install-dist_exampleDATA install-dist_pythonexampleSCRIPTS
[ $failures = 0 ] || finish
HOME=$tmp/home
export HOME
pc=$(find "$tmp/root" -name llama3.pc)
prefix=$(sed -n 's/^prefix=//p' "$pc")
mkdir -p "$HOME"
mv "$tmp/root$prefix" "$HOME/.local"
pc=$HOME/.local/lib/pkgconfig/llama3.pc
[ -f "$pc" ] || skip "the library is not installed in lib below its prefix"
sed "s|$prefix|$HOME/.local|" "$pc" >"$tmp/pc" && mv "$tmp/pc" "$pc"

# The model that README names, and a compiler that links a sanitizer where the library has one.
model=$(cd "$srcdir/tests/data/tiny-gguf-f32" && pwd)/model.gguf
mkdir -p "$HOME/.cache/llama3" "$tmp/bin" "$tmp/work"
ln -s "$model" "$HOME/.cache/llama3/SmolLM2-135M-Instruct.Q4_1.gguf"
case ${LLAMA3_CFLAGS-} in
*-fsanitize*) sanitize=-fsanitize=address,undefined ;;
*) sanitize= ;;
esac
printf '#!/bin/sh\nexec %s %s -Wall -Wextra -Werror "$@"\n' "${CC:-cc}" "$sanitize" >"$tmp/bin/cc"
chmod +x "$tmp/bin/cc"
PATH=$tmp/bin:$PATH

example=$(find "$HOME/.local" -name simple.c)
case $example in
*/doc/llama3/examples/simple.c) ;;
*) fail "expected doc/llama3/examples/simple.c below the prefix, found '$example'" ;;
esac
folder=${example%/simple.c}
for name in simple.c chat.c batch.c python/llama3.py; do
    same "$folder/$name" "$srcdir/examples/$name" "another example is installed"
done
mkdir "$tmp/work/examples"
cp -r "$folder"/* "$tmp/work/examples"
sed -n '/^## In your own program/,/^## /s/^    //p' "$srcdir/README.md" >"$tmp/lines"
[ "$(wc -l <"$tmp/lines")" -ge 4 ] || fail "README.md: expected 4 lines or more, found $(cat "$tmp/lines")"
cd "$tmp/work" || exit 99
run 0 sh -e "$tmp/lines"
err_empty
[ "$(wc -c <"$tmp/out")" -gt 1 ] || fail "the example has no answer"
run 1 ./simple "$tmp/missing" "What?"
err_has "simple: $tmp/missing"
run 2 ./simple

# Those whose lines are in their own comments.
PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig LD_LIBRARY_PATH=$HOME/.local/lib
export PKG_CONFIG_PATH LD_LIBRARY_PATH
model=$HOME/.cache/llama3/SmolLM2-135M-Instruct.Q4_1.gguf
cd examples || exit 99
for name in chat batch; do
    sed -n 's/^ \*     \(cc .*\)/\1/p' $name.c >"$tmp/lines"
    run 0 sh -e "$tmp/lines"
    err_empty
    run 2 ./$name
    run 1 ./$name "$tmp/missing" </dev/null
    err_has "$name: $tmp/missing"
done
printf 'Hello\n\nexit\nnever\n' >"$tmp/talk"
run 0 ./chat "$model" "Be brief." <"$tmp/talk"
[ "$(grep -ao 'User: ' "$tmp/out" | wc -l)" = 3 ] || fail "chat: expected to be asked three times"
[ "$(grep -ao 'Assistant: ' "$tmp/out" | wc -l)" = 1 ] || fail "chat: expected one answer"
cp "$tmp/out" "$tmp/first"
run 0 ./chat "$model" "Be brief." <"$tmp/talk"
same "$tmp/first" "$tmp/out" "chat: another answer the second time"
for i in 1 2 3 4 5 6 7 8 9 10; do echo "Question $i?"; done >"$tmp/questions"
run 0 ./batch "$model" <"$tmp/questions"
cp "$tmp/out" "$tmp/all"
[ "$(grep -ac '^Q: Question' "$tmp/out")" = 10 ] || fail "batch: expected ten answers"
: >"$tmp/each"
while read -r question; do
    echo "$question" >"$tmp/one"
    run 0 ./batch "$model" <"$tmp/one"
    cat "$tmp/out" >>"$tmp/each"
done <"$tmp/questions"
same "$tmp/all" "$tmp/each" "batch: answers depend on their company"

if command -v python3 >/dev/null && [ -z "$sanitize" ]; then
    run 0 python3 python/llama3.py "$model" "Be brief." <"$tmp/talk"
    out_has "Exiting the chatbot. Goodbye!"
    run 1 python3 python/llama3.py "$tmp/missing"
    err_has "llama3.py: $tmp/missing"
    cat >"$tmp/use.py" <<'END'
import sys
sys.path.insert(0, "python")
from llama3 import Llama3, Llama3Error
bot = Llama3(sys.argv[1], context=300)
first, history = bot.get_response("Hello?", max_tokens=9, seed=5)
again, _ = bot.get_response("Hello?", [], max_tokens=9, seed=5)
assert first == again, (first, again)
assert [m["role"] for m in history] == ["user", "assistant"] and history[1]["content"] == first
pieces = []
text, _ = bot.get_response("Hello?", max_tokens=9, seed=5, on_text=pieces.append)
assert "".join(pieces) == text == first
text, _ = bot.get_response("Hello?", max_tokens=9, seed=5, on_text=lambda piece: True)
assert text == pieces[0]
def refused(kind, words, *arguments, **named):
    try:
        bot.get_response(*arguments, **named)
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError("expected " + words)
refused(Llama3Error, "top_p: expected", "x", top_p=7)
refused(Llama3Error, "the context holds 300", "x" * 2000)
refused(ValueError, "zero byte", "a\0b")
refused(ZeroDivisionError, "", "x", on_text=lambda piece: 1 / 0)
bot.close()
END
    run 0 python3 "$tmp/use.py" "$model"
fi
finish

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
mkdir -p "$HOME/.cache/llama3" "$tmp/bin" "$tmp/own"
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
mkdir "$tmp/own/examples"
cp -r "$folder"/* "$tmp/own/examples"
sed -n '/^## In your own program/,/^## /s/^    //p' "$srcdir/README.md" >"$tmp/lines"
[ "$(wc -l <"$tmp/lines")" -ge 4 ] || fail "README.md: expected 4 lines or more, found $(cat "$tmp/lines")"
cd "$tmp/own" || exit 99
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

# A line of any length is one question, also where there is no thread for it; what isn't text is
# refused, and the others are answered.
{ printf 'Hello\n\377\n'; head -c 9000 /dev/zero | tr '\0' x; printf '\nHello\n'; } >"$tmp/odd"
cat >"$tmp/few.h" <<'END'
#include <errno.h>
#include <pthread.h>
static int few_threads(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                       void *arg)
{
    static int n;
    return n++ % 3 == 0 ? EAGAIN : pthread_create(thread, attributes, run, arg);
}
#define pthread_create few_threads
END
# shellcheck disable=SC2046 # words
run 0 cc -include "$tmp/few.h" batch.c -o few $(pkg-config --cflags --libs llama3) -lpthread
for name in batch few; do
    run 1 ./$name "$model" <"$tmp/odd"
    grep -a '^Q: ' "$tmp/out" | sed 's/^Q: //' >"$tmp/asked"
    same "$tmp/asked" "$tmp/odd" "$name: expected every line to be a question"
    [ "$(grep -ac '^A: message 1: expected UTF-8\|^A: the context' "$tmp/out")" = 2 ] ||
        fail "$name: expected two questions to be refused, found $(grep -a '^A: ' "$tmp/out")"
done
run 0 ./few "$model" <"$tmp/questions"
same "$tmp/all" "$tmp/out" "batch: other answers with few threads"
run 0 ./chat "$model" <"$tmp/odd"
[ "$(grep -ao 'User: ' "$tmp/out" | wc -l)" = 5 ] || fail "chat: expected to be asked five times"
err_lines 2
if [ -c /dev/full ]; then
    for name in chat batch; do
        ./$name "$model" <"$tmp/questions" >/dev/full 2>"$tmp/err"
        [ $? = 1 ] || fail "$name: expected exit status 1 where stdout is full"
        last=$name
        err_has "$name: the answer"
        err_lines 1
    done
fi

if command -v python3 >/dev/null && [ -z "$sanitize" ]; then
    run 0 python3 python/llama3.py "$model" "Be brief." <"$tmp/talk"
    out_has "Exiting the chatbot. Goodbye!"
    run 1 python3 python/llama3.py "$tmp/missing"
    err_has "llama3.py: $tmp/missing"
    cat >"$tmp/use.py" <<'END'
import os, signal, sys, threading
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
refused(Llama3Error, "the context: expected at most 300 tokens", "x" * 2000)
refused(ValueError, "zero byte", "a\0b")
refused(ValueError, "zero byte", "x", [{"role": "user\0", "content": "a"}])
refused(ValueError, "zero byte", "x", temperature="1\0")
refused(ValueError, "query: expected valid UTF-8, found text that is not", "x\udcff")
refused(ValueError, "content: expected valid UTF-8", "x", [{"role": "user", "content": "\ud800"}])
refused(TypeError, "query: expected text, found None", None)
refused(TypeError, "content: expected text, found 5", "x", [{"role": "user", "content": 5}])
refused(TypeError, "max_tokens: expected an integer, found 1.5", "x", max_tokens=1.5)
refused(OverflowError, "max_tokens: expected 0 to 18446744073709551615, found -1", "x", max_tokens=-1)
refused(ZeroDivisionError, "", "x", on_text=lambda piece: 1 / 0)
for n in -1, 2**64, 2**64 + 1:
    refused(OverflowError, f"found {n}", "x", max_tokens=n)
    for name in "context", "threads":
        try:
            Llama3(sys.argv[1], **{name: n})
        except (OverflowError, Llama3Error) as error:
            assert f"found {n}" in str(error), error
        else:
            raise AssertionError(f"expected {name} not to be {n}")
try:
    Llama3(sys.argv[1] + "\0")
except ValueError as error:
    assert "zero byte" in str(error), error
else:
    raise AssertionError("expected a path without a zero byte")
# A handler that on_text sets stays; the others are back as they were.
def handle(*_):
    pass
terminated = signal.signal(signal.SIGTERM, lambda *_: None)
before = {n: signal.getsignal(n) for n in signal.valid_signals()}
bot.get_response("x", max_tokens=9, on_text=lambda piece: signal.signal(signal.SIGINT, handle) and None)
assert signal.getsignal(signal.SIGINT) is handle, signal.getsignal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
assert before == {n: signal.getsignal(n) for n in signal.valid_signals()}
signal.signal(signal.SIGTERM, terminated)

# Of two threads only one has the object, and what the other one is refused changes nothing.
began, go_on = threading.Event(), threading.Event()
def answer():
    def wait(piece):
        began.set()
        assert go_on.wait(60)
    answers.append(bot.get_response("Hello?", [], max_tokens=9, seed=5, on_text=wait)[0])
def slowly():
    thread.start()
    assert began.wait(60)
    yield {"role": "user", "content": "a"}
    yield {"role": "assistant", "content": "b"}
answers = []
thread = threading.Thread(target=answer)
refused(Llama3Error, "being generated", "x", slowly(), max_tokens=1)
refused(Llama3Error, "being generated", "x")
try:
    bot.close()
except Llama3Error as error:
    assert "being generated" in str(error), error
else:
    raise AssertionError("expected a session that answers to stay open")
go_on.set()
thread.join()
assert answers == [first], answers

# The child of a fork can let go of it, and nothing else.
child = os.fork()
if child == 0:
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        refused(Llama3Error, "found a fork of it", "x")
        bot.close()
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0, "the child of a fork"

refused(Llama3Error, "being generated", "x", on_text=lambda piece: bot.close())
refused(Llama3Error, "being generated", "x", on_text=lambda piece: bot.get_response("y"))
assert bot.get_response("Hello?", [], max_tokens=9, seed=5)[0] == first
bot.close()
bot.close()
refused(Llama3Error, "closed", "x")
END
    run 0 python3 "$tmp/use.py" "$model"

    # Every interrupt arrives, in a prompt (almost all of the time) and in an answer.
    cat >"$tmp/interrupt.py" <<'END'
import os, random, signal, sys, time
sys.path.insert(0, "python")
from llama3 import Llama3
random.seed(1)
end = time.monotonic() + 60
begun, begin = os.pipe()
if os.fork() == 0:
    os.close(begin)
    while os.read(begun, 1):
        time.sleep(random.uniform(0.005, 0.03))
        os.kill(os.getppid(), signal.SIGINT)
    os._exit(0)
bot = Llama3(sys.argv[1])
for query, max_tokens in ("x" * 400, 1), ("Hello?", 400):
    for i in range(20):
        try:
            os.write(begin, b"x")
            while time.monotonic() < end:
                bot.get_response(query, [{"role": "user", "content": str(i)}], max_tokens)
            sys.exit("an interrupt was lost")
        except KeyboardInterrupt:
            pass
assert bot.get_response("Hello?", max_tokens=5)[0] == bot.get_response("Hello?", max_tokens=5)[0]
END
    run 0 python3 "$tmp/interrupt.py" "$model"
    err_empty
    # Failures of the program are one line.
    run 1 env LLAMA3_LIBRARY="$tmp/missing.so" python3 python/llama3.py "$model"
    err_has "llama3.py: expected libllama3, installed or as the path in LLAMA3_LIBRARY, found $tmp/missing.so"
    err_lines 1
    printf '\377\n' >"$tmp/latin"
    for locale in C C.UTF-8; do
        run 1 env LC_ALL=$locale python3 python/llama3.py "$model" <"$tmp/latin"
        err_has "llama3.py: query: expected valid UTF-8, found text that is not"
        err_lines 1
    done
    run 1 env LC_ALL=C.UTF-8 PYTHONIOENCODING=utf-8:strict python3 python/llama3.py "$model" <"$tmp/latin"
    err_has "llama3.py: stdin: expected valid UTF-8, found text that is not"
    err_lines 1
    mkfifo "$tmp/typed"
    env --default-signal=INT python3 python/llama3.py "$model" <"$tmp/typed" >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    exec 3>"$tmp/typed"
    timeout 60 sh -c 'until grep -q User: "$0"; do sleep 0.05; done' "$tmp/out"
    kill -INT $pid
    wait $pid
    [ $? = 130 ] || fail "llama3.py: expected the exit status 130 after an interrupt"
    err_empty
    exec 3>&-
fi
finish

#!/bin/sh
# examples/simple.c as a user builds it: by README's lines as they stand, after an installation below
# ~/.local as scripts/quickstart makes it.
. "${srcdir:-.}/tests/lib.sh"
command -v pkg-config >/dev/null || skip "pkg-config is missing"
unset MAKEFLAGS MFLAGS MAKELEVEL PKG_CONFIG_PATH LD_LIBRARY_PATH

# libtool installs below the configured prefix alone: the whole of it is moved.
run 0 ${MAKE:-make} DESTDIR="$tmp/root" install-libLTLIBRARIES install-includeHEADERS \
    install-pkgconfigDATA install-dist_exampleDATA
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
same "$example" "$srcdir/examples/simple.c" "another example is installed"
mkdir "$tmp/work/examples"
cp "$example" "$tmp/work/examples"
sed -n '/^## In your own program/,/^## /s/^    //p' "$srcdir/README.md" >"$tmp/lines"
[ "$(wc -l <"$tmp/lines")" -ge 4 ] || fail "README.md: expected 4 lines or more, found $(cat "$tmp/lines")"
cd "$tmp/work" || exit 99
run 0 sh -e "$tmp/lines"
err_empty
[ "$(wc -c <"$tmp/out")" -gt 1 ] || fail "the example has no answer"
run 1 ./simple "$tmp/missing" "What?"
err_has "simple: $tmp/missing"
run 2 ./simple
finish

#!/bin/sh
# The example in llama3.h's comment, as a user would build it: against the installed library, with
# nothing but what pkg-config says.
. "${srcdir:-.}/tests/lib.sh"
command -v pkg-config >/dev/null || skip "pkg-config is missing"
unset MAKEFLAGS MFLAGS MAKELEVEL
root=$tmp/root

sed -n '/^ \* Example: /,/^ \*\//{s/^ \*     //p; s/^ \*$//p;}' "$srcdir/include/llama3.h" |
    sed '/./,$!d' >"$tmp/example.c"
n=$(wc -l <"$tmp/example.c")
[ "$n" -ge 30 ] && [ "$n" -le 50 ] || fail "expected an example of about 40 lines, found $n"

run 0 ${MAKE:-make} DESTDIR="$root" install-libLTLIBRARIES install-includeHEADERS \
    install-pkgconfigDATA
[ $failures = 0 ] || finish
pc=$(find "$root" -name llama3.pc)
export PKG_CONFIG_PATH="${pc%/llama3.pc}" PKG_CONFIG_SYSROOT_DIR="$root"
flags=$(pkg-config --cflags --libs llama3) || fail "pkg-config knows no llama3"
case ${LLAMA3_CFLAGS-} in
*-fsanitize*) sanitize=-fsanitize=address,undefined ;; # as the library was built
*) sanitize= ;;
esac
run 0 ${CC:-cc} $sanitize -Wall -Wextra -Werror -o "$tmp/example" "$tmp/example.c" $flags
[ $failures = 0 ] || finish

lib=$(find "$root" -name 'libllama3.so')
export LD_LIBRARY_PATH="${lib%/libllama3.so}"
run 0 "$tmp/example" "$tiny" "What is the capital of France?"
err_empty
[ "$(wc -c <"$tmp/out")" -gt 1 ] || fail "the example has no answer"
run 1 "$tmp/example" "$tmp/missing" "What?"
err_has "$tmp/missing"
run 2 "$tmp/example"
finish

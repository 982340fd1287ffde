#!/bin/sh
# llama3.h, the library's exported symbols and its versions agree; and a program that was compiled
# with today's header runs with tomorrow's library, whose structs have more fields.
. "${srcdir:-.}/tests/lib.sh"
header=$srcdir/include/llama3.h

# The header stands alone, in C and in C++.
echo '#include <llama3.h>' >"$tmp/alone.c"
cp "$tmp/alone.c" "$tmp/alone.cc"
run 0 ${CC:-cc} -std=c11 -pedantic -Wall -Wextra -Werror -I"$srcdir/include" -fsyntax-only "$tmp/alone.c"
if command -v ${CXX:-c++} >/dev/null; then
    run 0 ${CXX:-c++} -std=c++11 -pedantic -Wall -Wextra -Werror -I"$srcdir/include" -fsyntax-only "$tmp/alone.cc"
fi

# What it declares is what the version script lists, and what the library exports.
tr '\n' ' ' <"$header" | grep -oE 'LLAMA3_API [^;(]*\(' | grep -oE 'llama3_[a-z_0-9]+ ?\(' | tr -d ' (' |
    sort >"$tmp/declared"
grep -oE '^ +llama3_[a-z_0-9]+' "$srcdir/src/libllama3.map" | tr -d ' ' | sort >"$tmp/listed"
same "$tmp/declared" "$tmp/listed" "llama3.h and src/libllama3.map differ"
library=.libs/libllama3.so
if [ -f "$library" ] && command -v nm >/dev/null; then
    nm -D --defined-only "$library" | sed -n 's/.* T \(llama3_[a-z_0-9]*\)@@LLAMA3_0$/\1/p' | sort >"$tmp/exported"
    same "$tmp/declared" "$tmp/exported" "llama3.h and the library's symbols differ"
    other=$(nm -D --defined-only "$library" | grep -vE ' T llama3_[a-z_0-9]+@@LLAMA3_0$| A LLAMA3_0')
    [ -z "$other" ] || fail "$library: expected the symbols of llama3.h alone, found $other"
fi

# The manual has their prototypes, and its example is a program.
page=$srcdir/man/llama3.3
${CC:-cc} -E -P -I"$srcdir/include" "$tmp/alone.c" | tr -s '\n ' ' ' |
    grep -oE '\(\(visibility\("default"\)\)\) [^;]*;' | sed 's/^[^ ]* //; s/_Bool/bool/g' | sort >"$tmp/declared"
awk '/^\.Sh/ { on = $2 == "SYNOPSIS" }
     { text = $0; sub(/^\.F[toac] */, "", text); gsub(/"/, "", text) }
     on && /^\.Ft/ { line = text (text ~ /\*$/ ? "" : " ") }
     on && /^\.Fo/ { line = line text "("; comma = "" }
     on && /^\.Fa/ { line = line comma text; comma = ", " }
     on && /^\.Fc/ { print line ");" }' "$page" | sort >"$tmp/named"
diff "$tmp/declared" "$tmp/named" >"$tmp/out" || fail "llama3.h and llama3(3) differ: $(cat "$tmp/out")"
[ "$(wc -l <"$tmp/named")" = "$(wc -l <"$tmp/listed")" ] || fail "$page: expected every function once"
if command -v mandoc >/dev/null; then
    mandoc -Tlint "$page" | grep -v "referenced manual not found" >"$tmp/out"
    [ ! -s "$tmp/out" ] || fail "mandoc complains: $(cat "$tmp/out")"
fi
sed -n '/^\.Sh EXAMPLES/,/^\.Ed/p' "$page" | grep -v '^\.' | sed '1d' >"$tmp/manual.c"
run 0 ${CC:-cc} -Wall -Wextra -Werror -I"$srcdir/include" -fsyntax-only "$tmp/manual.c"

# Tomorrow's library, in which every struct has grown.
case ${BUILD_FLAGS-} in
*-fsanitize*) finish ;; # once is enough
esac
[ -f "$library" ] && [ -n "${LIBRARY_FILES-}" ] || finish # without shared libraries
[ -x tests/.libs/test_interface ] || skip "Check is missing"
mkdir "$tmp/include" "$tmp/objects"
awk '/^struct llama3_[a-z_0-9]+ \{/ { inside = 1 }
     inside && /^\};/ { print "    uint64_t tomorrow[4];"; inside = 0 }
     { print }' "$header" >"$tmp/include/llama3.h"
[ "$(grep -c tomorrow "$tmp/include/llama3.h")" -ge 8 ] || fail "expected 8 structs or more"
# Without the kernels of instruction sets, which need flags of their own.
sed -E '/HAVE_(AVX|NEON|DOTPROD)/d' config.h >"$tmp/include/config.h"
for file in $LIBRARY_FILES; do
    case $file in
    *.c) [ -f "$srcdir/$file" ] && echo "$srcdir/$file" || echo "$file" ;;
    esac
done >"$tmp/files"
# shellcheck disable=SC2016 # the inner shell expands
xargs -P 2 -n 1 sh -c 'o=o$(echo "$3" | tr / _) && $0 $1 -c -o "$2/$o.o" "$3"' "${CC:-cc}" \
    "-O0 -w -fPIC -fvisibility=hidden -DHAVE_CONFIG_H -I$tmp/include -I. -I$srcdir/src ${LLAMA3_CFLAGS-}" \
    "$tmp/objects" <"$tmp/files" 2>"$tmp/err" || fail "tomorrow's library is not compiled: $(cat "$tmp/err")"
# shellcheck disable=SC2086 # lists of flags
run 0 ${CC:-cc} -shared -o "$tmp/libllama3.so.0" "$tmp"/objects/*.o -Wl,-soname,libllama3.so.0 \
    -Wl,--build-id -Wl,--version-script="$srcdir/src/libllama3.map" ${LIBRARY_LIBS-}
run 0 env LD_LIBRARY_PATH="$tmp" CK_DEFAULT_TIMEOUT=600 tests/.libs/test_interface
out_has "100%"
run 0 env LD_LIBRARY_PATH="$tmp" ldd tests/.libs/test_interface
out_has "$tmp/libllama3.so.0"
finish

#!/bin/sh
# scripts/quickstart's own steps, on sources that stand for ours: what is built where, what is put
# beside the model, and what is said. (That it builds the real ones is for a bare machine to show.)
. "${srcdir:-.}/tests/lib.sh"
unset MAKEFLAGS MFLAGS MAKELEVEL
XDG_CACHE_HOME=$tmp/cache
export XDG_CACHE_HOME
cache=$tmp/cache/llama3
tree="$tmp/a tree"

# Nothing is installed, whatever this machine lacks, and the model is there.
mkdir -p "$tmp/bin" "$cache" "$tree/scripts"
printf '#!/bin/sh\necho installed\n' >"$tmp/bin/dpkg-query"
chmod +x "$tmp/bin/dpkg-query"
PATH=$tmp/bin:$PATH
: >"$cache/SmolLM2-135M-Instruct.Q4_1.gguf"

cp "$srcdir/scripts/quickstart" "$srcdir/scripts/lib.sh" "$tree/scripts"
: >"$tree/Makefile.in"
cat >"$tree/configure" <<'END'
#!/bin/sh
source=$(dirname "$0")
if [ "$source" != . ] && [ -f "$source/config.status" ]; then
    echo "source directory already configured" # as automake's say
    exit 1
fi
echo "configured by $0" >>"$(dirname "$0")/configured" # so that it shows in the sources
: >config.status
cat >Makefile <<MAKE
prefix = ${1#--prefix=}
all:
install:
	mkdir -p \$(prefix)/bin
	printf '#!/bin/sh\nprintf "%%s|" "\$\$@"\n' >\$(prefix)/bin/llama3
	chmod +x \$(prefix)/bin/llama3
distdir:
	mkdir -p "\$(distdir)"
	cp configure Makefile.in "\$(distdir)"
MAKE
END
chmod +x "$tree/configure" "$tree/scripts/quickstart"

asks()
{
    run 0 "$tree/scripts/quickstart" --prefix "$tmp/installed" "Why?"
    [ "$(cat "$tmp/out")" = "--model|$cache/SmolLM2-135M-Instruct.Q4_1.gguf|--prompt=Why?|" ] ||
        fail "$last: found $(cat "$tmp/out")"
}

# From fresh sources, and again.
asks
err_has "quickstart: configuring (prefix $tmp/installed)"
err_has "quickstart: llama3 is installed as $tmp/installed/bin/llama3"
[ "$(cat "$cache/generation_config.json")" = '{"do_sample": false}' ] ||
    fail "beside the model: found '$(cat "$cache/generation_config.json")'"
echo '{"temperature": 1}' >"$cache/generation_config.json" # the user's own
asks
err_empty
[ "$(cat "$cache/generation_config.json")" = '{"temperature": 1}' ] ||
    fail "beside the model: the user's file is gone"
[ "$(cat "$tree/configured")" = "configured by ../configure" ] ||
    fail "expected one configuration in build, found: $(cat "$tree/configured")"

# From sources that are configured in place, which stay as they are, and again.
rm -r "$tree/build" "$tree/configured"
(cd "$tree" && ./configure --prefix=/somewhere) || fail "configure: status $?"
cp "$tree/Makefile" "$tmp/before"
asks
err_has "quickstart: configuring (prefix $tmp/installed)"
asks
err_empty
same "$tree/Makefile" "$tmp/before" "a tree that is configured in place was configured anew"
[ "$(cat "$tree/configured")" = "configured by ./configure" ] ||
    fail "configured in place: found: $(cat "$tree/configured")"

# In place no more.
rm "$tree/config.status" "$tree/Makefile"
asks
err_has "quickstart: configuring (prefix $tmp/installed)"
finish

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
	printf '#!/bin/sh\necho "llama3-pull: fetching \$\$1" >&2\n[ \$\$1 = me/tiny ] && echo "/the/snapshot"\n' >\$(prefix)/bin/llama3-pull
	chmod +x \$(prefix)/bin/llama3 \$(prefix)/bin/llama3-pull
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

# Another model is fetched by llama3-pull, and not the small one.
mv "$cache/SmolLM2-135M-Instruct.Q4_1.gguf" "$tmp/small"
rm "$tree/build/.installed"
run 0 "$tree/scripts/quickstart" --prefix "$tmp/installed" --model me/tiny "Why?"
[ "$(cat "$tmp/out")" = "--model|/the/snapshot|--prompt=Why?|" ] || fail "$last: found $(cat "$tmp/out")"
err_has "llama3-pull: fetching me/tiny"
err_has "    $tmp/installed/bin/llama3 -m me/tiny"
run 1 "$tree/scripts/quickstart" --prefix "$tmp/installed" --model=me/none "Why?"
[ "$(cat "$tmp/err")" = "llama3-pull: fetching me/none" ] || fail "$last: found $(cat "$tmp/err")"
out_empty
[ ! -e "$cache/SmolLM2-135M-Instruct.Q4_1.gguf" ] || fail "the small model was fetched"
mv "$tmp/small" "$cache/SmolLM2-135M-Instruct.Q4_1.gguf"
for option in --model --model=; do
    run 2 "$tree/scripts/quickstart" "$option"
    err_has "quickstart: --model: expected a model's name, found nothing"
    err_has "usage: scripts/quickstart"
done
run 2 "$tree/scripts/quickstart" --nope "Why?"
err_has "quickstart: unknown option '--nope'"
run 2 "$tree/scripts/quickstart"
err_has "quickstart: expected one PROMPT, found 0"
run 2 "$tree/scripts/quickstart" Why not?
err_has "quickstart: expected one PROMPT, found 2"
run 2 "$tree/scripts/quickstart" --prefix= "Why?"
err_has "quickstart: --prefix: expected a directory, found nothing"
run 2 "$tree/scripts/quickstart" --prefix
err_has "quickstart: --prefix: expected a directory, found nothing"

# On a terminal a larger one is mentioned.
if command -v tmux >/dev/null; then
    tmux -S "$tmp/tmux" -f /dev/null new-session -d -x 120 -y 30 \
        "'$tree/scripts/quickstart' --prefix '$tmp/installed' Why? 2>&1 | cat >'$tmp/piped'
        '$tree/scripts/quickstart' --prefix '$tmp/installed' Why?; sleep 60"
    tries=0
    until tmux -S "$tmp/tmux" capture-pane -p >"$tmp/screen" && grep -q "quickstart --model" "$tmp/screen"; do
        tries=$((tries + 1))
        [ $tries -le 100 ] || { fail "on a terminal: found $(cat "$tmp/screen")" && break; }
        sleep 0.1
    done
    tmux -S "$tmp/tmux" kill-server
    ! grep -q "quickstart --model" "$tmp/piped" || fail "piped: found $(cat "$tmp/piped")"
fi

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

# A build folder that somebody configured is built, and used as it is.
rm "$tree/config.status" "$tree/Makefile"
rm -r "$tree/build"
mkdir "$tree/build"
(cd "$tree/build" && ../configure --prefix=/somewhere) || fail "configure: status $?"
cp "$tmp/installed/bin/llama3" "$tree/build"
cp "$tree/build/Makefile" "$tmp/before"
run 0 "$tree/scripts/quickstart" "Why?"
[ "$(cat "$tmp/out")" = "--model|$cache/SmolLM2-135M-Instruct.Q4_1.gguf|--prompt=Why?|" ] ||
    fail "$last: found $(cat "$tmp/out")"
run 1 "$tree/scripts/quickstart" --prefix "$tmp/installed" "Why?"
err_has "$tree/build is configured already, and used as it is: expected no --prefix"
same "$tree/build/Makefile" "$tmp/before" "a build folder was configured anew"
rm -r "$tree/build"

# In place no more.
asks
err_has "quickstart: configuring (prefix $tmp/installed)"
finish

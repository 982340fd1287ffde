#!/bin/sh
# Manual pages: every option of --help and no other, no complaint of mandoc's, examples that run.
. "${srcdir:-.}/tests/lib.sh"

# check_page PROGRAM PAGE LEAST: at least so many options.
check_page()
{
    "$1" --help | sed -n 's/^  ...  *--\([a-z0-9-]*\).*/\1/p' | sort >"$tmp/help"
    sed -n 's/^\.It \(Fl . , \)\{0,1\}Fl -\([a-z0-9-]*\).*/\2/p' "$2" | sort >"$tmp/page"
    diff "$tmp/help" "$tmp/page" || fail "$1 --help (<) and $2 (>) have different options"
    [ "$(wc -l <"$tmp/help")" -ge "$3" ] || fail "$1: expected $3 options or more"
    "$1" --help | sed -n 's/^  -\(.\), *--\([a-z0-9-]*\).*/\1 \2/p' | sort >"$tmp/help"
    sed -n 's/^\.It Fl \(.\) , Fl -\([a-z0-9-]*\).*/\1 \2/p' "$2" | sort >"$tmp/page"
    diff "$tmp/help" "$tmp/page" || fail "$1 --help (<) and $2 (>) have different letters"
    "$1" --help | awk '/^ *also --/ { sub(/^ *also/, ""); gsub(/,/, ""); print name $0; next }
        /^  ...  *--/ { sub(/^ *(-., )? */, ""); sub(/[ [].*/, ""); name = $0 }' >"$tmp/help"
    awk '/^\.It (Fl . , )?Fl -/ { name = ($2 == "Fl" && $4 == ",") ? $6 : $3; also = 0 }
        also && /^\.Fl / { line = line " -" $2; if ($3 != ",") { print "-" name line; also = 0 } }
        /^Also$/ { also = 1; line = "" }' "$2" >"$tmp/page"
    diff "$tmp/help" "$tmp/page" || fail "$1 --help (<) and $2 (>) have different other names"
    if command -v mandoc >/dev/null; then
        # that the others are not installed is no complaint about a page
        mandoc -Tlint "$2" | grep -v "referenced manual not found" >"$tmp/out"
        [ ! -s "$tmp/out" ] || fail "mandoc complains: $(cat "$tmp/out")"
    else
        echo "mandoc is missing: $2 is not linted"
    fi
}

page=$srcdir/man/llama3.1
check_page "$program" "$page" 20
check_page ./llama3-eval "$srcdir/man/llama3-eval.1" 20
check_page ./llama3-bench "$srcdir/man/llama3-bench.1" 12
check_page ./llama3-quantize "$srcdir/man/llama3-quantize.1" 9
[ ! -x ./llama3-pull ] || check_page ./llama3-pull "$srcdir/man/llama3-pull.1" 15
[ ! -x ./llama3-server ] || check_page ./llama3-server "$srcdir/man/llama3-server.1" 18

# The examples, as they stand, in a directory with a text and with stand-ins for other commands.
mkdir "$tmp/bin"
case $program in /*) ;; *) program=$PWD/$program ;; esac
cat >"$tmp/bin/llama3" <<END
#!/bin/sh
exec '$program' -n 8 "\$@"
END
printf '#!/bin/sh\necho "A change."\n' >"$tmp/bin/git"
for inner in eval bench quantize; do
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$PWD/llama3-$inner" >"$tmp/bin/llama3-$inner"
done
chmod +x "$tmp/bin"/*
ln -s "$(cd "$srcdir/tests/data/tiny-gguf-f32" && pwd)/model.gguf" "$tmp/model-bf16"
ln -s "$(cd "$srcdir/tests/data/tiny-gguf-q4_0" && pwd)/model.gguf" "$tmp/model-int4"
for _ in 1 2 3 4 5 6 7 8; do
    echo "A text that is long enough to say something about."
done >"$tmp/README.md"
# What the examples of forms say of their files.
sed -n '/^{"type": "object"/,/^\.Ed/p' "$page" | grep -v '^\.' >"$tmp/city.json"
sed -n 's/\\e/\\/; /^root ::=/p' "$page" >"$tmp/list.gbnf"
ln -s "$(cd "$tiny" && pwd)" "$tmp/Llama-3.1-8B-Instruct"
export XDG_CACHE_HOME="$tmp/cache" XDG_DATA_HOME="$tmp/data"
LLAMA3_MODEL=$(cd "$tiny" && pwd)
export LLAMA3_MODEL
PATH=$tmp/bin:$PATH
for page in "$page" "$srcdir/man/llama3-eval.1" "$srcdir/man/llama3-bench.1" \
    "$srcdir/man/llama3-quantize.1"; do
    sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/s/^\$ //p' "$page"
done >"$tmp/examples"
[ "$(wc -l <"$tmp/examples")" -ge 20 ] || fail "expected 20 examples or more"
cd "$tmp" || exit 99
while read -r example; do
    case $example in
    'llama3 --system "You are a patient teacher."') example="$example -p Hello" ;; # a chat
    llama3-bench*8b*) continue ;; # too large for a test
    *--json=* | *--grammar*) example="$example -n 500" ;; # up to its end
    esac
    last="example: $example"
    sh -c "$example" >"$tmp/out" 2>"$tmp/err" </dev/null || {
        fail "$last: status $?"
        sed 's/^/    /' "$tmp/err"
    }
    [ -s "$tmp/out" ] || fail "$last: nothing on stdout"
    drop_cut
    drop_lack
    sed -i "/: note: session french begins/d" "$tmp/err"
    sed -i '/note: .*: int4 weights are made /d' "$tmp/err" # said the first time
    err_empty
done <"$tmp/examples"
finish

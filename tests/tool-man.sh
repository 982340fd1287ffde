#!/bin/sh
# llama3(1): every option of --help and no other, no complaint of mandoc's, examples that run.
. "${srcdir:-.}/tests/lib.sh"
page=$srcdir/man/llama3.1

"$program" --help | sed -n 's/^  ...  *--\([a-z-]*\).*/\1/p' | sort >"$tmp/help"
sed -n 's/^\.It \(Fl . , \)\{0,1\}Fl -\([a-z-]*\).*/\2/p' "$page" | sort >"$tmp/page"
diff "$tmp/help" "$tmp/page" || fail "--help (<) and the manual page (>) have different options"
"$program" --help | sed -n 's/^  -\(.\), *--\([a-z-]*\).*/\1 \2/p' | sort >"$tmp/help"
sed -n 's/^\.It Fl \(.\) , Fl -\([a-z-]*\).*/\1 \2/p' "$page" | sort >"$tmp/page"
diff "$tmp/help" "$tmp/page" || fail "--help (<) and the manual page (>) have different letters"
[ "$(wc -l <"$tmp/help")" -gt 5 ] || fail "no options were found"

if command -v mandoc >/dev/null; then
    run 0 mandoc -Tlint "$page"
    [ ! -s "$tmp/out" ] || fail "mandoc complains: $(cat "$tmp/out")"
else
    echo "mandoc is missing: the page is not linted"
fi

# The examples, as they stand, in a directory with a text and with stand-ins for other commands.
mkdir "$tmp/bin"
case $program in /*) ;; *) program=$PWD/$program ;; esac
cat >"$tmp/bin/llama3" <<END
#!/bin/sh
exec '$program' -n 8 "\$@"
END
printf '#!/bin/sh\necho "A change."\n' >"$tmp/bin/git"
chmod +x "$tmp/bin/llama3" "$tmp/bin/git"
echo "A text." >"$tmp/README.md"
LLAMA3_MODEL=$(cd "$tiny" && pwd)
export LLAMA3_MODEL
PATH=$tmp/bin:$PATH
sed -n '/^\.Sh EXAMPLES/,/^\.Sh SEE/s/^\$ //p' "$page" >"$tmp/examples"
[ "$(wc -l <"$tmp/examples")" -ge 8 ] || fail "expected 8 examples or more"
cd "$tmp" || exit 99
while read -r example; do
    case $example in
    'llama3 --system "You are a patient teacher."') example="$example -p Hello" ;; # a chat
    esac
    last="example: $example"
    sh -c "$example" >"$tmp/out" 2>"$tmp/err" </dev/null || {
        fail "$last: status $?"
        sed 's/^/    /' "$tmp/err"
    }
    [ -s "$tmp/out" ] || fail "$last: nothing on stdout"
    err_empty
done <"$tmp/examples"
finish

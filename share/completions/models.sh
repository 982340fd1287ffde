# Prints the models in the local Hugging Face cache, as -m takes them: OWNER/NAME, OWNER/NAME:int4 and
# OWNER/NAME:Q4_K_M. POSIX sh; scripts/make-completions puts it into the completions of each shell,
# in single quotes: neither these nor backslashes.
cache=${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-}}
[ "$cache" ] || cache=${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}/hub
case $cache in "~"/*) cache=$HOME${cache#"~"} ;; esac
for folder in "$cache"/models--*--*; do
    [ -d "$folder/snapshots" ] || continue
    name=${folder##*/models--}
    name=${name%%--*}/${name#*--}
    case $name in *[!A-Za-z0-9._/-]*) continue ;; esac
    echo "$name"
    commit=
    read -r commit 2>/dev/null <"$folder/refs/main"
    [ ! -f "$folder/llama3/$commit-int4.safetensors" ] || echo "$name:int4"
    for file in "$folder/snapshots/$commit"/*.gguf "$folder/snapshots/$commit"/*/*.gguf; do
        [ -f "$file" ] || continue
        file=${file#"$folder/snapshots/$commit/"}
        file=${file%.gguf}
        case $file in
        *-00001-of-[0-9][0-9][0-9][0-9][0-9]) file=${file%-*-of-*} ;;
        *-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9] | *mmproj* | *imatrix*) continue ;;
        esac
        tag=""
        IFS=-./
        for word in $file; do
            case $word in
            [Qq][0-9]* | [IiTt][Qq][0-9]* | [Ff][0-9]* | [BbFf][FfPp][0-9]* | [MmNn][XxVv][Ff][Pp][0-9]*) tag=$word ;;
            esac
        done
        unset IFS
        tag=${tag:-$word}
        case $tag in *[!A-Za-z0-9_]*) continue ;; esac
        echo "$name:$tag"
    done
done

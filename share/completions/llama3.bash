# Made by scripts/make-completions from the programs' --help: do not edit.
# bash: the completions of all programs of llama3.
# shellcheck shell=bash

_llama3_models()
{
    command sh -c 'cache=${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-}}
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
done'
}

# _llama3_options PROGRAM: what can begin with '-'.
_llama3_options()
{
    case $1 in
    llama3) echo '--prompt --file --session --sessions --system --no-history --raw --template --template-arg --date --model --ctx --kv --threads --numa --int4 --lora --load --no-cache --gpu-layers --kv-gpu --device --gpu-bf16-prompt --max-tokens --stop --temperature --top-p --top-k --min-p --repeat-penalty --frequency-penalty --presence-penalty --seed --json --regex --choice --grammar --repeat-stop --think --plain --color --show-prompt --info --stats --quiet --verbose --help --version' ;;
    llama3-bench) echo '--model --synthetic --type --prompt --decode --batch --context --kv --load --threads --numa --chunk --lora-rank --rounds --json --quiet --help --version --gpu-layers --kv-gpu --device --gpu-bf16-prompt' ;;
    llama3-eval) echo '--logits --tokenize --detokenize --perplexity --kl --tokens --file --ref-kv --special --json-lines --pretokens --json --model --ctx --kv --threads --numa --int4 --lora --load --no-cache --gpu-layers --kv-gpu --device --gpu-bf16-prompt --quiet --help --version' ;;
    llama3-pull) echo '--include --exclude --revision --local-dir --list --remove --verify --yes --int4 --drop-source --offline --jobs --threads --quiet --help --version' ;;
    llama3-quantize) echo '--format --type --embeddings --head --calibrate --no-calibrate --verify --threads --quiet --help --version' ;;
    llama3-server) echo '--model --ctx --kv --threads --numa --int4 --lora --load --no-cache --template --template-arg --date --gpu-layers --kv-gpu --device --gpu-bf16-prompt --host --port --api-key-file --metrics-key-file --share-prefixes --allow-host --cors-origin --insecure --parallel --kv-memory --kv-disk --request-memory --alias --verbose --help --version' ;;
    esac
}

# _llama3_kind PROGRAM OPTION: what its value is; nothing of a flag. OPTION ends with '=' if the
# value follows in the same word.
_llama3_kind()
{
    case "$1 $2" in
    'llama3 -p' | 'llama3 --prompt' | 'llama3 --prompt=') echo ':text' ;;
    'llama3 -f' | 'llama3 --file' | 'llama3 --file=') echo ':file' ;;
    'llama3 --session' | 'llama3 --session=') echo ':text' ;;
    'llama3 --system' | 'llama3 --system-prompt' | 'llama3 --system=' | 'llama3 --system-prompt=') echo ':text' ;;
    'llama3 --template' | 'llama3 --template=') echo ':file' ;;
    'llama3 --template-arg' | 'llama3 --template-arg=') echo ':text' ;;
    'llama3 --date' | 'llama3 --date=') echo ':text' ;;
    'llama3 -m' | 'llama3 --model' | 'llama3 --model=') echo ':model' ;;
    'llama3 -c' | 'llama3 --ctx' | 'llama3 --ctx-size' | 'llama3 --num-ctx' | 'llama3 --ctx=' | 'llama3 --ctx-size=' | 'llama3 --num-ctx=') echo ':text' ;;
    'llama3 --kv' | 'llama3 --kv=') echo 'auto f16 f32 int8 int4' ;;
    'llama3 -t' | 'llama3 --threads' | 'llama3 --num-thread' | 'llama3 --threads=' | 'llama3 --num-thread=') echo ':text' ;;
    'llama3 --numa' | 'llama3 --numa=') echo 'auto off' ;;
    'llama3 --int4=') echo 'uncalibrated calibrated' ;;
    'llama3 --lora' | 'llama3 --adapter' | 'llama3 --lora=' | 'llama3 --adapter=') echo ':text' ;;
    'llama3 --load' | 'llama3 --load=') echo 'auto map read' ;;
    'llama3 --gpu-layers' | 'llama3 --gpu-layers=') echo 'auto all 0' ;;
    'llama3 --kv-gpu' | 'llama3 --kv-gpu=') echo 'yes no' ;;
    'llama3 --device' | 'llama3 --device=') echo ':text' ;;
    'llama3 -n' | 'llama3 --max-tokens' | 'llama3 --n-predict' | 'llama3 --predict' | 'llama3 --num-predict' | 'llama3 --max-tokens=' | 'llama3 --n-predict=' | 'llama3 --predict=' | 'llama3 --num-predict=') echo ':text' ;;
    'llama3 --stop' | 'llama3 --stop=') echo ':text' ;;
    'llama3 --temperature' | 'llama3 --temp' | 'llama3 --temperature=' | 'llama3 --temp=') echo ':text' ;;
    'llama3 --top-p' | 'llama3 --top-p=') echo ':text' ;;
    'llama3 --top-k' | 'llama3 --top-k=') echo ':text' ;;
    'llama3 --min-p' | 'llama3 --min-p=') echo ':text' ;;
    'llama3 --repeat-penalty' | 'llama3 --repeat-penalty=') echo ':text' ;;
    'llama3 --frequency-penalty' | 'llama3 --frequency-penalty=') echo ':text' ;;
    'llama3 --presence-penalty' | 'llama3 --presence-penalty=') echo ':text' ;;
    'llama3 -s' | 'llama3 --seed' | 'llama3 --seed=') echo ':text' ;;
    'llama3 --json=') echo ':text' ;;
    'llama3 --regex' | 'llama3 --regex=') echo ':text' ;;
    'llama3 --choice' | 'llama3 --choice=') echo ':text' ;;
    'llama3 --grammar' | 'llama3 --grammar-file' | 'llama3 --grammar=' | 'llama3 --grammar-file=') echo ':file' ;;
    'llama3 --repeat-stop' | 'llama3 --repeat-stop=') echo 'on off' ;;
    'llama3 --think' | 'llama3 --think=') echo 'show hide' ;;
    'llama3 --color' | 'llama3 --colour' | 'llama3 --color=' | 'llama3 --colour=') echo 'auto always never' ;;
    'llama3-bench -m' | 'llama3-bench --model' | 'llama3-bench --model=') echo ':model' ;;
    'llama3-bench --synthetic' | 'llama3-bench --synthetic=') echo ':text' ;;
    'llama3-bench --type' | 'llama3-bench --type=') echo 'int4 int8 bf16 f32 gptq awq nf4 w8a8 fp8 mxfp4 nvfp4 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k q8_k iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq4_nl iq4_xs tq1_0 tq2_0' ;;
    'llama3-bench --prompt' | 'llama3-bench --prompt=') echo ':text' ;;
    'llama3-bench --decode' | 'llama3-bench --decode=') echo ':text' ;;
    'llama3-bench --batch' | 'llama3-bench --batch=') echo ':text' ;;
    'llama3-bench --context' | 'llama3-bench --context=') echo ':text' ;;
    'llama3-bench --kv' | 'llama3-bench --kv=') echo 'auto f16 f32 int8 int4' ;;
    'llama3-bench --load' | 'llama3-bench --load=') echo 'auto map read' ;;
    'llama3-bench --threads' | 'llama3-bench --threads=') echo ':text' ;;
    'llama3-bench --numa' | 'llama3-bench --numa=') echo 'auto off' ;;
    'llama3-bench --chunk' | 'llama3-bench --chunk=') echo ':text' ;;
    'llama3-bench --lora-rank' | 'llama3-bench --lora-rank=') echo ':text' ;;
    'llama3-bench --rounds' | 'llama3-bench --rounds=') echo ':text' ;;
    'llama3-bench --gpu-layers' | 'llama3-bench --gpu-layers=') echo 'auto all 0' ;;
    'llama3-bench --kv-gpu' | 'llama3-bench --kv-gpu=') echo 'yes no' ;;
    'llama3-bench --device' | 'llama3-bench --device=') echo ':text' ;;
    'llama3-eval --logits' | 'llama3-eval --logits=') echo ':file' ;;
    'llama3-eval --tokenize' | 'llama3-eval --tokenize=') echo ':file' ;;
    'llama3-eval --detokenize=') echo ':file' ;;
    'llama3-eval --perplexity' | 'llama3-eval --perplexity=') echo ':file' ;;
    'llama3-eval --kl' | 'llama3-eval --kl=') echo ':model' ;;
    'llama3-eval --tokens' | 'llama3-eval --tokens=') echo ':text' ;;
    'llama3-eval -f' | 'llama3-eval --file' | 'llama3-eval --file=') echo ':file' ;;
    'llama3-eval --ref-kv' | 'llama3-eval --ref-kv=') echo 'auto f16 f32 int8 int4' ;;
    'llama3-eval -m' | 'llama3-eval --model' | 'llama3-eval --model=') echo ':model' ;;
    'llama3-eval -c' | 'llama3-eval --ctx' | 'llama3-eval --ctx-size' | 'llama3-eval --num-ctx' | 'llama3-eval --ctx=' | 'llama3-eval --ctx-size=' | 'llama3-eval --num-ctx=') echo ':text' ;;
    'llama3-eval --kv' | 'llama3-eval --kv=') echo 'auto f16 f32 int8 int4' ;;
    'llama3-eval -t' | 'llama3-eval --threads' | 'llama3-eval --num-thread' | 'llama3-eval --threads=' | 'llama3-eval --num-thread=') echo ':text' ;;
    'llama3-eval --numa' | 'llama3-eval --numa=') echo 'auto off' ;;
    'llama3-eval --int4=') echo 'uncalibrated calibrated' ;;
    'llama3-eval --lora' | 'llama3-eval --adapter' | 'llama3-eval --lora=' | 'llama3-eval --adapter=') echo ':text' ;;
    'llama3-eval --load' | 'llama3-eval --load=') echo 'auto map read' ;;
    'llama3-eval --gpu-layers' | 'llama3-eval --gpu-layers=') echo 'auto all 0' ;;
    'llama3-eval --kv-gpu' | 'llama3-eval --kv-gpu=') echo 'yes no' ;;
    'llama3-eval --device' | 'llama3-eval --device=') echo ':text' ;;
    'llama3-pull --include' | 'llama3-pull --include=') echo ':text' ;;
    'llama3-pull --exclude' | 'llama3-pull --exclude=') echo ':text' ;;
    'llama3-pull --revision' | 'llama3-pull --revision=') echo ':text' ;;
    'llama3-pull --local-dir' | 'llama3-pull --local-dir=') echo ':folder' ;;
    'llama3-pull --int4=') echo 'calibrated uncalibrated' ;;
    'llama3-pull -j' | 'llama3-pull --jobs' | 'llama3-pull --jobs=') echo ':text' ;;
    'llama3-pull -t' | 'llama3-pull --threads' | 'llama3-pull --threads=') echo ':text' ;;
    'llama3-quantize --format' | 'llama3-quantize --format=') echo 'llama3 gguf' ;;
    'llama3-quantize --type' | 'llama3-quantize --type=') echo 'int4 int8 bf16 f16 f32 q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k iq4_nl' ;;
    'llama3-quantize --embeddings' | 'llama3-quantize --embeddings=') echo 'int4 int8 bf16 f16 f32 q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k iq4_nl' ;;
    'llama3-quantize --head' | 'llama3-quantize --head=') echo 'int4 int8 bf16 f16 f32 q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k iq4_nl' ;;
    'llama3-quantize --calibrate' | 'llama3-quantize --calibrate=') echo ':file' ;;
    'llama3-quantize --verify=') echo ':file' ;;
    'llama3-quantize -t' | 'llama3-quantize --threads' | 'llama3-quantize --threads=') echo ':text' ;;
    'llama3-server -m' | 'llama3-server --model' | 'llama3-server --model=') echo ':model' ;;
    'llama3-server -c' | 'llama3-server --ctx' | 'llama3-server --ctx-size' | 'llama3-server --num-ctx' | 'llama3-server --ctx=' | 'llama3-server --ctx-size=' | 'llama3-server --num-ctx=') echo ':text' ;;
    'llama3-server --kv' | 'llama3-server --kv=') echo 'auto f16 f32 int8 int4' ;;
    'llama3-server -t' | 'llama3-server --threads' | 'llama3-server --num-thread' | 'llama3-server --threads=' | 'llama3-server --num-thread=') echo ':text' ;;
    'llama3-server --numa' | 'llama3-server --numa=') echo 'auto off' ;;
    'llama3-server --int4=') echo 'uncalibrated calibrated' ;;
    'llama3-server --lora' | 'llama3-server --adapter' | 'llama3-server --lora=' | 'llama3-server --adapter=') echo ':text' ;;
    'llama3-server --load' | 'llama3-server --load=') echo 'auto map read' ;;
    'llama3-server --template' | 'llama3-server --template=') echo ':file' ;;
    'llama3-server --template-arg' | 'llama3-server --template-arg=') echo ':text' ;;
    'llama3-server --date' | 'llama3-server --date=') echo ':text' ;;
    'llama3-server --gpu-layers' | 'llama3-server --gpu-layers=') echo 'auto all 0' ;;
    'llama3-server --kv-gpu' | 'llama3-server --kv-gpu=') echo 'yes no' ;;
    'llama3-server --device' | 'llama3-server --device=') echo ':text' ;;
    'llama3-server --host' | 'llama3-server --host=') echo ':text' ;;
    'llama3-server --port' | 'llama3-server --port=') echo ':text' ;;
    'llama3-server --api-key-file' | 'llama3-server --api-key-file=') echo ':file' ;;
    'llama3-server --metrics-key-file' | 'llama3-server --metrics-key-file=') echo ':file' ;;
    'llama3-server --allow-host' | 'llama3-server --allow-host=') echo ':text' ;;
    'llama3-server --cors-origin' | 'llama3-server --cors-origin=') echo ':text' ;;
    'llama3-server --parallel' | 'llama3-server --parallel=') echo ':text' ;;
    'llama3-server --kv-memory' | 'llama3-server --kv-memory=') echo ':text' ;;
    'llama3-server --kv-disk' | 'llama3-server --kv-disk=') echo ':text' ;;
    'llama3-server --request-memory' | 'llama3-server --request-memory=') echo ':text' ;;
    'llama3-server --alias' | 'llama3-server --alias=') echo ':text' ;;
    esac
}

# _llama3_operand PROGRAM N: what the nth argument is that is no option.
_llama3_operand()
{
    case "$1 $2" in
    'llama3-eval '*) echo ':model' ;;
    'llama3-pull '*) echo ':name' ;;
    'llama3-quantize '0) echo ':model' ;;
    'llama3-quantize '*) echo ':file' ;;
    *) echo ':text' ;;
    esac
}

# The lines of its input that begin with a word. (compgen -W would obey what is in them.)
_llama3_matching()
{
    local line
    while read -r line; do
        [[ $line != "$1"* ]] || printf '%s\n' "$line"
    done
}

# Words are taken from the line itself: bash would cut them at ':' and '=', where it also begins what
# it replaces.
_llama3()
{
    local program=${1##*/} line=${COMP_LINE:0:COMP_POINT} current option='' kind='' value n=0 i found
    local words=() IFS=$' \t\n'
    # shellcheck disable=SC2162 # a backslash before a space joins two words
    read -a words <<<"$line"
    [[ $line != *[[:space:]] || $line == *\\[[:space:]] ]] || words+=('')
    COMPREPLY=()
    [[ ${#words[@]} -ge 2 ]] || return 0
    current=${words[-1]} value=$current
    if [[ $current == --*=* ]]; then
        option=${current%%=*}= value=${current#*=}
    elif [[ $current != -* || ${words[-2]} == -[!-] ]]; then
        option=${words[-2]}
    fi
    [[ -z $option ]] || kind=$(_llama3_kind "$program" "$option")
    if [[ -z $kind && $current == -* ]]; then
        value=$current kind=$(_llama3_options "$program")
    elif [[ -z $kind ]]; then
        for ((i = 1; i < ${#words[@]} - 1; i++)); do
            if [[ ${words[i]} != -* ]]; then
                n=$((n + 1))
            elif [[ -n $(_llama3_kind "$program" "${words[i]}") ]]; then
                i=$((i + 1))
            fi
        done
        kind=$(_llama3_operand "$program" "$n")
    fi
    # What is found is offered alone but beside models, which can be files; nothing found of these
    # means files to bash, which its "default" stands for.
    case $kind in
    :file) return 0 ;;
    :model | :name) found=$(_llama3_models) ;;
    :folder) found=$(compgen -d -- "$value") ;;
    :text) found='' ;;
    *) found=${kind// /$'\n'} ;;
    esac
    mapfile -t COMPREPLY < <([[ -z $found ]] || _llama3_matching "$value" <<<"$found")
    if [[ $kind == :folder ]]; then
        compopt -o filenames 2>/dev/null
    elif [[ $kind != :model ]]; then
        compopt +o default 2>/dev/null
    elif [[ ${#COMPREPLY[@]} -gt 0 ]]; then
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$value")
    fi
    [[ $value == "${value##*[:=]}" ]] ||
        COMPREPLY=("${COMPREPLY[@]#"${value%"${value##*[:=]}"}"}")
    return 0
}
complete -o default -F _llama3 llama3 llama3-bench llama3-eval llama3-pull llama3-quantize llama3-server

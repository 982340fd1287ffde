# Made by scripts/make-completions from the programs' --help: do not edit.
# fish: the completions of all programs of llama3.

# A link for each program leads here.
functions -q __llama3_models; and return

function __llama3_models
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
end

complete -c llama3 -f
complete -c llama3 -s p -l prompt -x -d 'what to answer'
complete -c llama3 -s f -l file -r -F -d 'read it from a file'
complete -c llama3 -l session -x -d 'go on with this conversation, and keep it there'
complete -c llama3 -l sessions -d 'list the named ones, instead of answering'
complete -c llama3 -l system -x -d 'instructions for the whole conversation'
complete -c llama3 -l no-history -d 'keep none of what is typed in a chat'
complete -c llama3 -l raw -d 'no chat template: continue the text'
complete -c llama3 -l template -r -F -d 'chat template'
complete -c llama3 -l template-arg -x -d 'a variable for the template, such as enable_thinking=false'
complete -c llama3 -l date -x -d 'the date for the template, such as "26 Jul 2024"'
complete -c llama3 -s m -l model -r -F -a '(__llama3_models)' -d 'a Hugging Face directory'
complete -c llama3 -s c -l ctx -x -d 'tokens of context'
complete -c llama3 -l kv -x -a 'auto f16 f32 int8 int4' -d 'type of keys and values'
complete -c llama3 -s t -l threads -x -d 'threads that compute'
complete -c llama3 -l numa -x -a 'auto off' -d 'each thread\'s part of weights'
complete -c llama3 -l int4 -f -a 'uncalibrated calibrated' -d 'quantize to 4 bits while loading: uncalibrated, or calibrated'
complete -c llama3 -l lora -x -d 'a LoRA adapter: a folder as PEFT writes it, or a .gguf file'
complete -c llama3 -l load -x -a 'auto map read' -d 'use weights where the file is mapped, or read them into memory'
complete -c llama3 -l no-cache -d 'neither keep anything for the next time nor look for it'
complete -c llama3 -l gpu-layers -x -a 'auto all 0' -d 'the last N layers and the head run there'
complete -c llama3 -l kv-gpu -x -a 'yes no' -d 'keys and values of these layers too'
complete -c llama3 -l device -x -d 'which GPU'
complete -c llama3 -l gpu-bf16-prompt -d 'long prompts in bf16 by cuBLAS: faster, but rounded differently'
complete -c llama3 -s n -l max-tokens -x -d 'end the answer after N tokens'
complete -c llama3 -l stop -x -d 'end the answer before this text'
complete -c llama3 -l temperature -x -d '0 always takes the likeliest token'
complete -c llama3 -l top-p -x -d 'likeliest tokens that together have this probability'
complete -c llama3 -l top-k -x -d 'the N likeliest tokens'
complete -c llama3 -l min-p -x -d 'tokens with at least this share of the likeliest one\'s probability'
complete -c llama3 -l repeat-penalty -x -d 'for tokens of prompt and answer'
complete -c llama3 -l frequency-penalty -x -d 'per occurrence in the answer'
complete -c llama3 -l presence-penalty -x -d 'once per token of the answer'
complete -c llama3 -s s -l seed -x -d 'the same seed gives the same answer'
complete -c llama3 -l json -x -d 'a JSON object, or what a JSON Schema describes'
complete -c llama3 -l regex -x -d 'what a regular expression matches'
complete -c llama3 -l choice -x -d 'one of these texts'
complete -c llama3 -l grammar -r -F -d 'a text of a grammar'
complete -c llama3 -l repeat-stop -x -a 'on off' -d 'end an answer that goes in circles'
complete -c llama3 -l think -x -a 'show hide' -d 'thoughts of a model that thinks before it answers'
complete -c llama3 -l plain -d 'answers as they are, not as Markdown in a terminal'
complete -c llama3 -l color -x -a 'auto always never' -d 'styles'
complete -c llama3 -l show-prompt -d 'the prompt as the model reads it, on stderr'
complete -c llama3 -l info -d 'what the model is and needs, instead of answering'
complete -c llama3 -l stats -d 'counts, speed, memory and seed, on stderr'
complete -c llama3 -s q -l quiet -d 'no progress and no notes on stderr'
complete -c llama3 -s v -l verbose -d 'the model in a line, and --stats, on stderr'
complete -c llama3 -s h -l help -d 'this text'
complete -c llama3 -s V -l version -d 'the version'

complete -c llama3-bench -f
complete -c llama3-bench -s m -l model -r -F -a '(__llama3_models)' -d 'the model, as llama3 takes it'
complete -c llama3-bench -l synthetic -x -d 'random weights instead of a model'
complete -c llama3-bench -l type -x -a 'int4 int8 bf16 f32 gptq awq nf4 w8a8 fp8 mxfp4 nvfp4 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k q8_k iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq4_nl iq4_xs tq1_0 tq2_0' -d 'of these weights: int4, int8, bf16, f32'
complete -c llama3-bench -l prompt -x -d 'read prompts of so many tokens'
complete -c llama3-bench -l decode -x -d 'write N tokens one by one'
complete -c llama3-bench -l batch -x -d 'write so many sequences at once'
complete -c llama3-bench -l context -x -d 'tokens there before: of decode each of them, of the others the first'
complete -c llama3-bench -l kv -x -a 'auto f16 f32 int8 int4' -d 'type of keys and values'
complete -c llama3-bench -l load -x -a 'auto map read' -d 'as llama3 takes it'
complete -c llama3-bench -l threads -x -d 'threads that compute'
complete -c llama3-bench -l numa -x -a 'auto off' -d 'each thread\'s part of weights'
complete -c llama3-bench -l chunk -x -d 'most rows of a pass'
complete -c llama3-bench -l lora-rank -x -d 'each test also with a random LoRA adapter of rank N on all matrices'
complete -c llama3-bench -l rounds -x -d 'take the median of N rounds'
complete -c llama3-bench -l json -d 'the results as one JSON object'
complete -c llama3-bench -s q -l quiet -d 'no progress on stderr'
complete -c llama3-bench -s h -l help -d 'this text'
complete -c llama3-bench -s V -l version -d 'the version'
complete -c llama3-bench -l gpu-layers -x -a 'auto all 0' -d 'the last N layers and the head run there'
complete -c llama3-bench -l kv-gpu -x -a 'yes no' -d 'keys and values of these layers too'
complete -c llama3-bench -l device -x -d 'which GPU'
complete -c llama3-bench -l gpu-bf16-prompt -d 'long prompts in bf16 by cuBLAS: faster, but rounded differently'

complete -c llama3-eval -a '(__llama3_models)'
complete -c llama3-eval -l logits -r -F -d 'write the logits after each token to OUT'
complete -c llama3-eval -l tokenize -r -F -d 'print the ids of a text'
complete -c llama3-eval -l detokenize -F -d 'print the text of ids'
complete -c llama3-eval -l perplexity -r -F -d 'how well the model predicts a text'
complete -c llama3-eval -l kl -r -F -a '(__llama3_models)' -d 'the same for --file TEXT'
complete -c llama3-eval -l tokens -x -d '--logits of these, as in "1,2,3" or "1 2 3"'
complete -c llama3-eval -s f -l file -r -F -d '--logits or --kl of this text'
complete -c llama3-eval -l ref-kv -x -a 'auto f16 f32 int8 int4' -d '--kv of REF with --kl'
complete -c llama3-eval -l special -d '--tokenize recognises the names of control tokens'
complete -c llama3-eval -l json-lines -d '--tokenize many texts'
complete -c llama3-eval -l pretokens -d '--tokenize prints how many bytes each pre-token has'
complete -c llama3-eval -l json -d '--perplexity and --kl print a JSON object'
complete -c llama3-eval -s m -l model -r -F -a '(__llama3_models)' -d 'a Hugging Face directory'
complete -c llama3-eval -s c -l ctx -x -d 'most tokens for --logits'
complete -c llama3-eval -l kv -x -a 'auto f16 f32 int8 int4' -d 'type of keys and values'
complete -c llama3-eval -s t -l threads -x -d 'threads that compute'
complete -c llama3-eval -l numa -x -a 'auto off' -d 'each thread\'s part of weights'
complete -c llama3-eval -l int4 -f -a 'uncalibrated calibrated' -d 'quantize to 4 bits while loading: uncalibrated, or calibrated'
complete -c llama3-eval -l lora -x -d 'a LoRA adapter: a folder as PEFT writes it, or a .gguf file'
complete -c llama3-eval -l load -x -a 'auto map read' -d 'use weights where the file is mapped, or read them into memory'
complete -c llama3-eval -l no-cache -d 'neither keep anything for the next time nor look for it'
complete -c llama3-eval -l gpu-layers -x -a 'auto all 0' -d 'the last N layers and the head run there'
complete -c llama3-eval -l kv-gpu -x -a 'yes no' -d 'keys and values of these layers too'
complete -c llama3-eval -l device -x -d 'which GPU'
complete -c llama3-eval -l gpu-bf16-prompt -d 'long prompts in bf16 by cuBLAS: faster, but rounded differently'
complete -c llama3-eval -s q -l quiet -d 'no progress and no notes on stderr'
complete -c llama3-eval -s h -l help -d 'this text'
complete -c llama3-eval -s V -l version -d 'the version'

complete -c llama3-pull -f
complete -c llama3-pull -a '(__llama3_models)'
complete -c llama3-pull -l include -x -d 'only files that match, instead of what llama3 needs'
complete -c llama3-pull -l exclude -x -d 'no files that match'
complete -c llama3-pull -l revision -x -d 'a branch, a tag or a commit'
complete -c llama3-pull -l local-dir -x -a '(__fish_complete_directories)' -d 'plain files there, instead of the cache'
complete -c llama3-pull -l list -d 'show what is in the cache'
complete -c llama3-pull -l remove -d 'remove the model from the cache, after asking'
complete -c llama3-pull -l verify -d 'hash the model\'s files in the cache again, or those of all models'
complete -c llama3-pull -s y -l yes -d 'do not ask'
complete -c llama3-pull -l int4 -f -a 'calibrated uncalibrated' -d 'quantize to 4 bits while the files arrive: calibrated, or uncalibrated'
complete -c llama3-pull -l drop-source -d 'with --int4: free the original weights as they have been used'
complete -c llama3-pull -l offline -d 'use no network: is the model in the cache?'
complete -c llama3-pull -s j -l jobs -x -d 'connections at a time'
complete -c llama3-pull -s t -l threads -x -d 'threads that quantize'
complete -c llama3-pull -s q -l quiet -d 'no progress and no notes'
complete -c llama3-pull -s h -l help -d 'this text'
complete -c llama3-pull -s V -l version -d 'the version'

complete -c llama3-quantize -a '(__llama3_models)'
complete -c llama3-quantize -l format -x -a 'llama3 gguf' -d 'of the file: our own'
complete -c llama3-quantize -l type -x -a 'int4 int8 bf16 f16 f32 q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k iq4_nl' -d 'of the layers\' matrices'
complete -c llama3-quantize -l embeddings -x -a 'int4 int8 bf16 f16 f32 q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k iq4_nl' -d 'of the embedding: the same'
complete -c llama3-quantize -l head -x -a 'int4 int8 bf16 f16 f32 q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k iq4_nl' -d 'of the output matrix'
complete -c llama3-quantize -l calibrate -r -F -d 'weigh errors by what the layers read in this text'
complete -c llama3-quantize -l no-calibrate -d 'by no text: much faster, and much less like the checkpoint'
complete -c llama3-quantize -l verify -F -d 'compare what both predict for a text'
complete -c llama3-quantize -s t -l threads -x -d 'threads that compute'
complete -c llama3-quantize -s q -l quiet -d 'no progress and no report'
complete -c llama3-quantize -s h -l help -d 'this text'
complete -c llama3-quantize -s V -l version -d 'the version'

complete -c llama3-server -f
complete -c llama3-server -s m -l model -r -F -a '(__llama3_models)' -d 'a Hugging Face directory'
complete -c llama3-server -s c -l ctx -x -d 'tokens of context'
complete -c llama3-server -l kv -x -a 'auto f16 f32 int8 int4' -d 'type of keys and values'
complete -c llama3-server -s t -l threads -x -d 'threads that compute'
complete -c llama3-server -l numa -x -a 'auto off' -d 'each thread\'s part of weights'
complete -c llama3-server -l int4 -f -a 'uncalibrated calibrated' -d 'quantize to 4 bits while loading: uncalibrated, or calibrated'
complete -c llama3-server -l lora -x -d 'a LoRA adapter: a folder as PEFT writes it, or a .gguf file'
complete -c llama3-server -l load -x -a 'auto map read' -d 'use weights where the file is mapped, or read them into memory'
complete -c llama3-server -l no-cache -d 'neither keep anything for the next time nor look for it'
complete -c llama3-server -l template -r -F -d 'chat template'
complete -c llama3-server -l template-arg -x -d 'a variable for the template, such as enable_thinking=false'
complete -c llama3-server -l date -x -d 'the date for the template, such as "26 Jul 2024"'
complete -c llama3-server -l gpu-layers -x -a 'auto all 0' -d 'the last N layers and the head run there'
complete -c llama3-server -l kv-gpu -x -a 'yes no' -d 'keys and values of these layers too'
complete -c llama3-server -l device -x -d 'which GPU'
complete -c llama3-server -l gpu-bf16-prompt -d 'long prompts in bf16 by cuBLAS: faster, but rounded differently'
complete -c llama3-server -l host -x -d 'where it listens, at each address of a name'
complete -c llama3-server -l port -x -d '0: one that is free'
complete -c llama3-server -l api-key-file -r -F -d 'keys, one a line'
complete -c llama3-server -l metrics-key-file -r -F -d 'keys that read /metrics, and those of all keys together'
complete -c llama3-server -l share-prefixes -d 'one key\'s prompts may begin with what another\'s left in memory'
complete -c llama3-server -l allow-host -x -d 'another name that clients may use for this server'
complete -c llama3-server -l cors-origin -x -d 'a site whose pages may use it, such as https://a.example'
complete -c llama3-server -l insecure -d 'let anybody who reaches --host use it without a key'
complete -c llama3-server -l parallel -x -d 'answers that are generated at once'
complete -c llama3-server -l kv-memory -x -d 'memory for keys and values, such as 4G'
complete -c llama3-server -l kv-disk -x -d 'disk for keys and values of prompts'
complete -c llama3-server -l request-memory -x -d 'memory for requests and answers besides'
complete -c llama3-server -l alias -x -d 'the model\'s name for clients'
complete -c llama3-server -s v -l verbose -d 'what was opened, on stderr'
complete -c llama3-server -s h -l help -d 'this text'
complete -c llama3-server -s V -l version -d 'the version'

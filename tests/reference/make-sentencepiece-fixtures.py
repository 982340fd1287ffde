#!/usr/bin/env python3
"""Makes tests/data/tiny-sentencepiece, tests/data/tiny-gguf-sentencepiece and
tests/data/text/sentencepiece.json.

    make-sentencepiece-fixtures.py [--out tests/data]

A small vocabulary that sentencepiece 0.2.1 or later trains, random weights, and

    tiny-sentencepiece        the checkpoint with a tokenizer.json, converted as transformers does it
    tiny-gguf-sentencepiece   the same with the scores, as llama.cpp's converter writes it
    sentencepiece.json        [what replaces members of tokenizer.json, texts]: each with its ids by
                              `tokenizers` without and with special tokens, what the latter decode
                              to, and parts that a template wrote and was given by turns, with
                              their ids (null where a part can't be encoded by itself); then
                              [null, texts], each with its ids by sentencepiece; then ["chat",
                              conversations], each with the ids of transformers
"""
import argparse
import io
import itertools
import json
import random
import struct
import sys
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

sys.path.insert(0, str(Path(__file__).parent))
import text_reference as ref

HERE = Path(__file__).parent
BLANK = "\u2581"
N_VOCAB, DIM, FFN, HEADS = 400, 32, 32, 2
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)


def train():
    """The vocabulary: [(piece, score, type)]."""
    words = (HERE / "smollm2.txt").read_text().split("\n")
    words += ["  indented   text", "Привет мир, как дела", "the then there 12 345", "été naïve"] * 4
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, vocab_size=N_VOCAB, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, character_coverage=0.999, minloglevel=2, num_threads=1)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    types = [2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i)
             else 1 for i in range(len(processor))]
    return processor, [(processor.id_to_piece(i), processor.get_score(i), types[i])
                       for i in range(len(processor))]


def tokenizer(pieces):
    vocab = {piece: i for i, (piece, _, _) in enumerate(pieces)}
    merges = generate_merges(vocab, {piece: score for piece, score, type in pieces if type == 1})
    made = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
    made.decoder = decoders.Sequence([decoders.Replace(BLANK, " "), decoders.ByteFallback(),
                                      decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.add_special_tokens([AddedToken(name, special=True, normalized=False)
                             for name in ("<unk>", "<s>", "</s>")])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", vocab["<s>"])])
    return made


# ---- checkpoints -----------------------------------------------------------------------------


def tensors():
    rng = np.random.default_rng(7)
    rows = lambda n, m: (rng.standard_normal((n, m)) / 8).astype(np.float32)  # noqa: E731
    layer = {f"self_attn.{x}_proj": rows(DIM, DIM) for x in "qkvo"}
    layer |= {"mlp.gate_proj": rows(FFN, DIM), "mlp.up_proj": rows(FFN, DIM), "mlp.down_proj": rows(DIM, FFN)}
    layer |= {f"{x}_layernorm": np.ones(DIM, np.float32) for x in ("input", "post_attention")}
    return {"model.embed_tokens.weight": rows(N_VOCAB, DIM), "model.norm.weight": np.ones(DIM, np.float32),
            **{f"model.layers.0.{name}.weight": values for name, values in layer.items()}}


def write_folder(folder, made):
    folder.mkdir(exist_ok=True)
    header, body = {}, b""
    for name, values in tensors().items():
        data = values.astype(np.float16).tobytes()
        header[name] = {"dtype": "F16", "shape": list(values.shape),
                        "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", hidden_size=DIM,
                  intermediate_size=FFN, num_hidden_layers=1, num_attention_heads=HEADS,
                  num_key_value_heads=HEADS, vocab_size=N_VOCAB, max_position_embeddings=256,
                  rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, bos_token_id=1,
                  eos_token_id=2)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE), indent=1) + "\n")
    made.save(str(folder / "tokenizer.json"), pretty=False)


def write_gguf(path, pieces):
    path.parent.mkdir(exist_ok=True)
    out = gguf.GGUFWriter(str(path), "llama")
    for add, value in ((out.add_context_length, 256), (out.add_embedding_length, DIM), (out.add_block_count, 1),
                       (out.add_feed_forward_length, FFN), (out.add_head_count, HEADS),
                       (out.add_head_count_kv, HEADS), (out.add_rope_dimension_count, DIM // HEADS),
                       (out.add_layer_norm_rms_eps, 1e-5), (out.add_rope_freq_base, 10000.0),
                       (out.add_vocab_size, N_VOCAB), (out.add_tokenizer_model, "llama"),
                       (out.add_tokenizer_pre, "default"), (out.add_token_list, [p[0].encode() for p in pieces]),
                       (out.add_token_scores, [p[1] for p in pieces]),
                       (out.add_token_types, [p[2] for p in pieces]), (out.add_bos_token_id, 1),
                       (out.add_eos_token_id, 2), (out.add_unk_token_id, 0), (out.add_chat_template, TEMPLATE)):
        add(value)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, values in tensors().items():
        name = name.removesuffix(".weight")
        layer, name = ("blk.0.", name[15:]) if name.startswith("model.layers.0.") else ("", name)
        if name in ("self_attn.q_proj", "self_attn.k_proj"):  # GGUF's order of rows
            values = values.reshape(HEADS, 2, -1, DIM).swapaxes(1, 2).reshape(DIM, DIM)
        out.add_tensor(f"{layer}{names[name]}.weight",
                       values if values.ndim == 1 else values.astype(np.float16))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


# ---- goldens ---------------------------------------------------------------------------------

ADDED = [AddedToken("<|user|>", special=True, normalized=False, rstrip=True),
         AddedToken("<pad>", special=False, normalized=True), AddedToken("in the", normalized=True),
         AddedToken("<think>", normalized=False), AddedToken("lstr", normalized=True, lstrip=True),
         AddedToken("word", normalized=True, single_word=True),
         AddedToken("<|n|>", special=True, normalized=True)]  # fmt: skip
NAMES = ["<s>", "</s>", "<unk>", BLANK, BLANK * 2, "<0x41>", "<0x0A>", *(token.content for token in ADDED)]
EDGES = ["", " ", "  ", "   ", "the", " the", "the ", "  the  ", BLANK, f"{BLANK}the", "\n", "\t", " \n ", "<s>",
         "<s> the", "the<s>", " <s> ", "<s><s>", "<s></s>the", "in the", " in the", "x in the end",
         "lstr lstr  lstr", "the lstr", "<pad>", " <pad>", "a<pad>b", "a <pad> b", "<|n|> a <|n|>",
         "<|user|>   a <|user|>", "\U0001f642", " \U0001f642 ", "\U0010ffff", "wordy word", "[INST] the [/INST]",
         "the  then   there", "the" * 30]  # fmt: skip


def texts():
    rng = random.Random(11)
    out = [[text] for text in EDGES]
    for _ in range(60):
        out.append([rng.choice(NAMES) if rng.random() < 0.2 else rng.choice(ref.PARTS)
                    for _ in range(rng.randint(2, 8))])
    return out


def variant(made, name, added=(), ignore_merges=False):
    """What changes in tokenizer.json, and the tokenizer."""
    made = Tokenizer.from_str(made.to_str())
    made.model.ignore_merges = ignore_merges
    replace = normalizers.Replace(" ", BLANK)
    if name == "replace":
        made.normalizer = replace
    elif name != "prepend":
        made.normalizer = None
        made.pre_tokenizer = pre_tokenizers.Metaspace(
            BLANK, prepend_scheme=name.split()[0], split="split" in name)
    if name in ("replace", "never"):
        made.decoder = decoders.Sequence(
            [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])
    for token in added:
        (made.add_special_tokens if token.special else made.add_tokens)([token])
    changes = json.loads(made.to_str())
    changes = {key: changes[key] for key in ("normalizer", "pre_tokenizer", "decoder", "added_tokens")}
    changes["ignore_merges"] = ignore_merges
    return changes, made


def encoded(made, name, added):
    """For each text what is in sentencepiece.json."""
    plain = Tokenizer.from_str(made.to_str())
    plain.encode_special_tokens = True
    bare = json.loads(made.to_str())
    bare["added_tokens"] = []
    bare["post_processor"] = None
    bare = Tokenizer.from_str(json.dumps(bare))
    ids = {token["content"]: (token["id"], token["special"], token["lstrip"], token["rstrip"],
                              token["single_word"], token["normalized"])
           for token in json.loads(made.to_str())["added_tokens"]}
    for parts in texts():
        text = "".join(parts)
        special = made.encode(text, add_special_tokens=False).ids
        given = list(itertools.chain.from_iterable([i % 2 == 1] * len(p) for i, p in enumerate(parts)))
        by_itself = "first" not in name and not added
        controls = {token for token, is_special, *_ in ids.values() if is_special}
        shown = made.decode([token for token in special if token not in controls])
        yield [text, plain.encode(text, add_special_tokens=False).ids, special, shown, parts,
               ref.cut_added(bare, ids, text, given) if by_itself else None]


def conversations(folder):
    fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", eos_token="</s>")
    rng = random.Random(3)
    for i in range(12):
        messages = [{"role": ("user", "assistant")[j % 2], "content": "".join(rng.choices([part for part in ref.PARTS if part != "\0"], k=5))}
                    for j in range(1 + i % 4)]
        yield [messages, fast.apply_chat_template(messages, chat_template=TEMPLATE, tokenize=True,
                                                  return_dict=False)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "data")
    args = parser.parse_args()
    processor, pieces = train()
    made = tokenizer(pieces)
    write_folder(args.out / "tiny-sentencepiece", made)
    write_gguf(args.out / "tiny-gguf-sentencepiece/model.gguf", pieces)
    golden = []
    for name, added, ignore in (("prepend", (), False), ("prepend", ADDED, False), ("replace", ADDED, False),
                                ("always", (), False), ("first", ADDED, False), ("never", (), False),
                                ("always split", (), False), ("prepend", (), True)):
        changes, changed = variant(made, name, added, ignore)
        golden.append([changes, list(encoded(changed, name, added))])
    golden.append([None, [["".join(parts), processor.encode("".join(parts))] for parts in texts()]])
    golden.append(["chat", list(conversations(args.out / "tiny-sentencepiece"))])
    ref.dump_lines(args.out / "text/sentencepiece.json", golden)


main()

#!/usr/bin/env python3
"""Makes tests/data/tiny-*: small random Llama 3 checkpoints and the logits transformers computes.

    make-fixtures.py [--out tests/data] [NAME...]

Each folder holds one checkpoint, either as Hugging Face publishes them or as GGUF, and
    golden.json   "ids", the "greedy" continuation at temperature 0, and in "rows" the positions
                  whose logits are in
    golden.f32    little-endian float32 [rows][vocab], from transformers in float32
The weights of quantized files are expanded by the gguf package before transformers sees them.
Seeds are tried in order until no two best logits are closer than MARGIN and no control token is
in the continuation, so that rounding alone can't change an answer.
"""
import argparse
import json
import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

MARGIN = 1e-3
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE_30 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CONTROL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
    "<|reserved_special_token_3|>", "<|reserved_special_token_4|>",
    "<|reserved_special_token_5|>", "<|reserved_special_token_6|>",
    "<|reserved_special_token_7|>",
]  # fmt: skip
N_MERGES = 112
N_TEXT = 256 + N_MERGES
VOCAB = N_TEXT + len(CONTROL)
BOS, END, EOT = (N_TEXT + CONTROL.index(name)
                 for name in ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"))
CORPUS = (
    "The model reads the text of the user, token after token, and then it writes an answer: the "
    "assistant is the one that answers. There is nothing in the weights of this model, for they "
    "are random numbers, and all that matters is that another program that reads the same weights "
    "comes to the same numbers. What is the capital of France? The capital of France is Paris. "
    "In the beginning there was the header, and the header was followed by the content, and the "
    "content by the end of the turn. You can ask for more; you will be given more of the same. "
)


# ---- vocabulary ----------------------------------------------------------------------------


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes, in GPT-2's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def train_merges():
    """Byte pair encoding on CORPUS; ties go to the pair that sorts first."""
    alphabet = byte_alphabet()
    words = [
        [alphabet[b] for b in piece.encode()]
        for piece, _ in pre_tokenizers.Split(Regex(PATTERN), "isolated").pre_tokenize_str(CORPUS)
    ]
    merges = []
    while len(merges) < N_MERGES:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def text_tokens():
    tokens = list(byte_alphabet().values()) + ["".join(pair) for pair in train_merges()]
    assert len(set(tokens)) == N_TEXT
    return tokens


def write_tokenizer(out):
    vocab = {token: i for i, token in enumerate(text_tokens())}
    tok = Tokenizer(models.BPE(vocab, train_merges(), fuse_unk=False, ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in CONTROL])
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A",
            pair="<|begin_of_text|> $A <|begin_of_text|> $B",
            special_tokens=[("<|begin_of_text|>", BOS)],
        ),
    ])  # fmt: skip
    # Compact, and not the library's own pretty printing: these files are committed many times.
    text = json.dumps(json.loads(tok.to_str()), ensure_ascii=False, separators=(",", ":"))
    (out / "tokenizer.json").write_text(text + "\n", encoding="utf-8")


# ---- the network ---------------------------------------------------------------------------

LLAMA3_ROPE = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)  # fmt: skip


OTHER_ROPES = {
    "linear": dict(rope_type="linear", factor=4.0),
    "dynamic": dict(rope_type="dynamic", factor=2.0),
    "yarn": dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=64),
    "yarn-mscale": dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=64, mscale=1.0,
                        mscale_all_dim=0.5, beta_fast=16.0, beta_slow=2.0, truncate=False),
}  # fmt: skip


def make_model(v, seed):
    rope = dict(rope_theta=v.get("theta", 500000.0), rope_type="default")
    if v.get("rope") == "llama3":
        rope.update(LLAMA3_ROPE)
    elif "rope" in v:
        rope.update(OTHER_ROPES[v["rope"]])
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=v["dim"],
        intermediate_size=v["ffn"],
        num_hidden_layers=v.get("layers", 2),
        num_attention_heads=v["heads"],
        num_key_value_heads=v["kv_heads"],
        head_dim=v.get("head_dim", v["dim"] // v["heads"]),
        rms_norm_eps=1e-5,
        max_position_embeddings=512,
        rope_parameters=rope,
        tie_word_embeddings=v.get("tied", True),
        bos_token_id=BOS,
        eos_token_id=[END, EOT],
        attn_implementation="eager",
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, w in model.named_parameters():
            if "norm" in name:  # away from 1, so that forgetting one shows
                w.copy_(1 + 0.3 * torch.randn_like(w))
            elif "embed" in name or "lm_head" in name:
                w.copy_(0.3 * torch.randn_like(w))
            else:  # large enough for every layer and every position to matter
                w.copy_(1.5 * w.shape[1] ** -0.5 * torch.randn_like(w))
    return model


def margin(logits):
    best = logits.topk(2, dim=-1).values
    return (best[..., 0] - best[..., 1]).min().item()


@torch.no_grad()
def golden(model, v, seed):
    """None if two logits are too close, else (ids, greedy, rows, logits)."""
    n = v.get("tokens", 20)
    g = torch.Generator().manual_seed(seed + 1)
    ids = torch.cat([torch.tensor([BOS]), torch.randint(0, N_TEXT, (n - 1,), generator=g)])
    rows = v.get("rows", list(range(n)))
    logits = model(ids[None], use_cache=False).logits[0]
    if margin(logits) < MARGIN:
        return None
    all_ids, greedy = ids, []
    for _ in range(16):
        last = model(all_ids[None], use_cache=False).logits[0, -1]
        if margin(last) < MARGIN or last.argmax() >= N_TEXT:
            return None
        greedy.append(int(last.argmax()))
        all_ids = torch.cat([all_ids, last.argmax()[None]])
    return ids.tolist(), greedy, rows, logits[rows].numpy().astype("<f4")


def write_golden(out, ids, greedy, rows, logits):
    text = json.dumps(dict(ids=ids, greedy=greedy, rows=rows))
    (out / "golden.json").write_text(text + "\n")
    (out / "golden.f32").write_bytes(logits.tobytes())


# ---- Hugging Face directories ---------------------------------------------------------------

TORCH_DTYPES = dict(f32=torch.float32, f16=torch.float16, bf16=torch.bfloat16)
HF_DTYPES = dict(f32="float32", f16="float16", bf16="bfloat16")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_hf(out, model, v):
    dtype = TORCH_DTYPES[v["dtype"]]
    total = sum(w.numel() for w in model.parameters()) * dtype.itemsize
    limit = f"{total // v['shards'] // 1000 + 2}KB" if "shards" in v else "1GB"
    model.to(dtype).save_pretrained(out, max_shard_size=limit)
    config = json.loads((out / "config.json").read_text())
    if not v.get("transformers5"):  # the spelling of the published Llama 3 checkpoints
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope if "rope" in v else None
        config["torch_dtype"] = HF_DTYPES[v["dtype"]]
        config.pop("dtype", None)
        if "head_dim" not in v:
            config.pop("head_dim", None)
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", dict(
        bos_token_id=BOS, eos_token_id=[END, EOT], do_sample=True, temperature=0.6, top_p=0.9,
        max_length=4096))  # fmt: skip
    write_json(out / "tokenizer_config.json", dict(
        bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", chat_template=TEMPLATE_30,
        model_max_length=8192, tokenizer_class="PreTrainedTokenizerFast"))  # fmt: skip
    write_tokenizer(out)
    return LlamaForCausalLM.from_pretrained(
        out, dtype=torch.float32, attn_implementation="eager").eval()


# ---- GGUF -----------------------------------------------------------------------------------

GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name):
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{GGUF_NAMES[part]}"
    return GGUF_NAMES[stem]


def interleave(w, n_heads):
    """Rows of q and k from split halves (i, i + d/2) to pairs (2i, 2i + 1), as llama.cpp wants."""
    return w.reshape(n_heads, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def deinterleave(w, n_heads):
    return w.reshape(n_heads, -1, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def rope_factors(v):
    """Llama 3.1's frequency scaling as one divisor per frequency, as llama.cpp's converter does."""
    dim, s = v.get("head_dim", v["dim"] // v["heads"]), LLAMA3_ROPE
    freqs = v.get("theta", 500000.0) ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)
    wavelen = 2 * np.pi / freqs
    old, low, high = (s["original_max_position_embeddings"], s["low_freq_factor"],
                      s["high_freq_factor"])
    smooth = np.clip((old / wavelen - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / s["factor"] + smooth)).astype(np.float32)


# The mean level of a type times its mean scale.
IQ_LEVELS = {Q.IQ3_S: 9 * 16, Q.IQ3_XXS: 36 * 16 / 4, Q.IQ2_S: 22 * 16 / 8, Q.IQ2_XS: 22 * 16 / 8,
             Q.IQ2_XXS: 22 * 16 / 8, Q.IQ1_S: 6}  # fmt: skip


def random_blocks(rng, qtype, shape):
    """Blocks of types for which the gguf package has no quantizer, scaled to the usual size."""
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    raw = rng.integers(0, 256, (shape[0], shape[1] // block, size), dtype=np.uint8)
    std = 1.5 * shape[1] ** -0.5

    def put(offset, value):
        raw[:, :, offset : offset + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)

    if qtype in (Q.Q4_K, Q.Q5_K):  # d * scale * code - dmin * min; scales and mins up to 63
        top = 15 if qtype == Q.Q4_K else 31
        put(0, std / (12 * top))
        put(2, std / 24)
    elif qtype == Q.Q6_K:  # d * int8 scale * (code - 32)
        put(size - 2, std / (74 * 18))
    elif qtype == Q.IQ4_NL:  # d * one of 16 levels up to 127
        put(0, std / 70)
    elif qtype == Q.Q2_K:  # d * scale * code - dmin * min of 2 bits; scales and mins up to 15
        put(80, std / 8)
        put(82, std / 12)
    elif qtype == Q.Q3_K:  # d * (scale - 32) * (code - 4)
        put(108, std / (18 * 2.3))
    elif qtype == Q.IQ4_XS:  # d * (scale - 32) * one of 16 levels
        put(0, std / (18 * 70))
    elif qtype in IQ_LEVELS:  # d * (2 * scale + 1) * a level
        put(0, std / IQ_LEVELS[qtype])
    elif qtype == Q.IQ1_M:  # the same; d in pieces
        bits = int(np.float16(std / 6).view(np.uint16))
        for i in range(4):
            raw[:, :, 49 + i * 2] = raw[:, :, 49 + i * 2] & 15 | (bits >> i * 4 & 15) << 4
    elif qtype in (Q.TQ1_0, Q.TQ2_0):
        put(size - 2, std)
        if qtype == Q.TQ2_0:  # no code of 2
            codes = raw[:, :, :64]
            codes &= ~(codes & (codes & 0x55) << 1)
    elif qtype == Q.MXFP4:  # powers of two
        raw[:, :, 0] = 127 + round(np.log2(std / 3)) + raw[:, :, 0] % 3
    elif qtype == Q.NVFP4:  # with a sign that ggml ignores
        raw[:, :, :4] = 8 * (7 + round(np.log2(std / 4))) + raw[:, :, :4] % 17
    else:
        raise ValueError(qtype)
    return raw.reshape(shape[0], -1)


def gguf_type(v, name, w):
    if w.ndim == 1:
        return Q.F32
    kinds = v["types"]
    part = name.split(".")[-1]
    return Q[kinds.get(part, kinds["*"]).upper()]


def encode_weights(model, v, seed):
    """[(gguf name, bytes as the writer wants them, type)], and the model set to what they say."""
    rng, tensors = np.random.default_rng(seed), []
    for name, param in model.named_parameters():
        w, short = param.detach().numpy(), gguf_name(name)
        heads = dict(attn_q=v["heads"], attn_k=v["kv_heads"]).get(short.split(".")[-1])
        if heads:
            w = interleave(w, heads)
        kind = gguf_type(v, short, w)
        if kind not in (Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0):
            data = random_blocks(rng, kind, w.shape)
        else:
            data = gguf.quants.quantize(np.ascontiguousarray(w), kind)
        back = gguf.quants.dequantize(data, kind).reshape(w.shape)
        if heads:
            back = deinterleave(back, heads)
        with torch.no_grad():
            param.copy_(torch.from_numpy(np.array(back, dtype=np.float32)))
        tensors.append((short + ".weight", data, kind))
    return tensors


def write_gguf(out, model, v, seed):
    tensors = encode_weights(model, v, seed)
    if v.get("rope") == "llama3":
        tensors.append(("rope_freqs.weight", rope_factors(v), Q.F32))
    path = out / "model.gguf"
    split = dict(split_max_tensors=-(-len(tensors) // v["parts"])) if "parts" in v else {}
    w = gguf.GGUFWriter(path, "llama", **split)
    w.add_name("tiny")
    w.add_context_length(512)
    w.add_embedding_length(v["dim"])
    w.add_block_count(v.get("layers", 2))
    w.add_feed_forward_length(v["ffn"])
    w.add_head_count(v["heads"])
    w.add_head_count_kv(v["kv_heads"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(v.get("theta", 500000.0))
    if v.get("rope") in OTHER_ROPES:
        rope = OTHER_ROPES[v["rope"]]
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
        if "original_max_position_embeddings" in rope:
            w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    head_dim = v.get("head_dim", v["dim"] // v["heads"])
    w.add_rope_dimension_count(head_dim)
    if "head_dim" in v:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    w.add_vocab_size(VOCAB)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    w.add_token_list(text_tokens() + CONTROL)
    w.add_token_types([gguf.TokenType.NORMAL] * N_TEXT + [gguf.TokenType.CONTROL] * len(CONTROL))
    w.add_token_merges([" ".join(pair) for pair in train_merges()])
    w.add_bos_token_id(BOS)
    w.add_eos_token_id(EOT)
    if v.get("add_bos", True):
        w.add_add_bos_token(True)
    w.add_chat_template(TEMPLATE_30)
    for name, data, kind in tensors:
        w.add_tensor(name, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    if v.get("version") == 2:  # the same bytes but for the version: v3 only added big endian
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, 4, 2)
        path.write_bytes(data)
    return model


# ---- the set --------------------------------------------------------------------------------

BASE = dict(dim=32, ffn=64, heads=4, kv_heads=2)
LONG_ROWS = [0, 1, 63, 64, 65, 126, 127, 128, 129, 130, 191, 192, 193, 254, 255, 256, 257, 258,
             298, 299]  # fmt: skip
ROPE = dict(dim=16, ffn=32, heads=2, kv_heads=1, dtype="bf16", layers=1, head_dim=16, tokens=48,
            theta=10000.0, rows=[0, 1, 5, 12, 20, 31, 40, 47])  # fmt: skip
VARIANTS = {
    "f32": dict(BASE, dtype="f32", tied=False),
    "tied": dict(BASE, dtype="f32"),
    "f16": dict(BASE, dtype="f16"),
    "bf16": dict(BASE, dtype="bf16", tied=False),
    "sharded": dict(BASE, dtype="bf16", tied=False, shards=3),
    "rope": dict(BASE, dtype="bf16", rope="llama3", head_dim=16, tokens=48, theta=10000.0,
                 rows=list(range(0, 48, 2)) + [47]),
    "head-dim": dict(BASE, dtype="bf16", head_dim=12),
    "gqa-6-2": dict(dim=36, ffn=56, heads=6, kv_heads=2, dtype="f16"),
    "gqa-3-1": dict(dim=24, ffn=40, heads=3, kv_heads=1, dtype="f32"),
    "transformers5": dict(BASE, dtype="bf16", rope="llama3", transformers5=True),
    "long": dict(BASE, dtype="bf16", tokens=300, rows=LONG_ROWS),
    "gguf-f32": dict(BASE, types={"*": "f32"}, tied=False),
    "gguf-f16": dict(BASE, types={"*": "f16"}, add_bos=False, head_dim=12),
    "gguf-q8_0": dict(BASE, types={"*": "q8_0"}),
    "gguf-q4_0": dict(BASE, types={"*": "q4_0"}),
    "gguf-mixed": dict(BASE, tied=False, types={
        "*": "q5_1", "token_embd": "bf16", "output": "q8_0", "attn_q": "q4_1", "attn_v": "q5_0",
        "attn_output": "iq4_nl", "ffn_gate": "q4_0", "ffn_up": "f16"}),
    "gguf-k": dict(dim=256, ffn=64, heads=4, kv_heads=2, head_dim=16, layers=1, types={
        "*": "q4_k", "token_embd": "q4_k", "attn_k": "q6_k", "attn_v": "q5_k", "ffn_up": "q6_k",
        "attn_output": "iq4_nl", "ffn_gate": "q5_k", "ffn_down": "iq4_nl"}),
    "gguf-low": dict(dim=256, ffn=64, heads=4, kv_heads=2, head_dim=16, layers=1, types={
        "*": "q3_k", "attn_q": "q2_k", "attn_k": "iq4_xs", "attn_v": "iq1_m",
        "attn_output": "nvfp4", "ffn_gate": "tq1_0", "ffn_up": "tq2_0", "ffn_down": "mxfp4"}),
    "gguf-iq": dict(dim=256, ffn=64, heads=4, kv_heads=2, head_dim=16, layers=1, tied=False, types={
        "*": "iq2_xxs", "output": "iq3_xxs", "attn_q": "iq3_s", "attn_k": "iq1_s",
        "attn_v": "iq2_s", "attn_output": "mxfp4", "ffn_gate": "iq3_xxs", "ffn_up": "iq2_xs",
        "ffn_down": "iq4_nl"}),
    "gguf-v2": dict(BASE, types={"*": "q8_0"}, version=2),
    "gguf-rope": dict(BASE, types={"*": "f16"}, rope="llama3", head_dim=16, tokens=48,
                      theta=10000.0, rows=list(range(0, 48, 2)) + [47]),
    "rope-linear": dict(ROPE, rope="linear"),
    "rope-dynamic": dict(ROPE, rope="dynamic"),
    "rope-yarn": dict(ROPE, rope="yarn"),
    "rope-yarn-mscale": dict(ROPE, rope="yarn-mscale"),
    "gguf-rope-linear": dict(ROPE, rope="linear", types={"*": "f16"}),
    "gguf-rope-yarn": dict(ROPE, rope="yarn", types={"*": "f16"}),
    "gguf-split": dict(BASE, types={"*": "f16"}, parts=2),
}  # fmt: skip


def make(name, root):
    v, out = VARIANTS[name], root / f"tiny-{name}"
    for seed in range(1000):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        model = make_model(v, seed)
        model = write_gguf(out, model, v, seed) if "types" in v else write_hf(out, model, v)
        found = golden(model, v, seed)
        if found:
            write_golden(out, *found)
            for file in out.iterdir():
                file.chmod(0o644)
            size = sum(f.stat().st_size for f in out.iterdir())
            print(f"{out.name:20} seed {seed:3} {size:8} bytes, logits up to "
                  f"{np.abs(found[3]).max():.2f}, greedy {found[1]}")
            return size
    raise SystemExit(f"{name}: no seed without a near-tie")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=Path(__file__).resolve().parent.parent / "data", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", default=None)
    args = parser.parse_args()
    logging.disable_progress_bar()
    total = sum(make(name, args.out) for name in args.names or VARIANTS)
    print(f"{total} bytes")


if __name__ == "__main__":
    main()

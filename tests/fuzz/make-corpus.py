#!/usr/bin/env python3
"""Makes tests/fuzz/corpus: the seeds of the fuzz targets, cut down from tests/data.

    make-corpus.py LLAMA3-QUANTIZE [--out tests/fuzz/corpus]

Models keep their first layer and the first few rows and columns of each matrix, and a vocabulary of
eleven tokens. llama3-quantize makes our own files of them, whose padding then goes: a fuzzer is
fast with files of a few KB.
"""
import argparse
import copy
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"
REFERENCE = Path(__file__).resolve().parent.parent / "reference"
CONTROLS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
            "<|eot_id|>"]  # fmt: skip
# The first two merges of the fixtures: Ġ t, h e.
TEXTS = ["\u0120", "t", "h", "e", "\u0120t", "he"]
N_VOCAB = len(TEXTS) + len(CONTROLS)
DIM, FFN, HEADS, KV_HEADS, HEAD_DIM = 4, 4, 2, 1, 2  # of what is not quantized


def read_json(path):
    return json.loads((DATA / path).read_text())


# ---- tokenizer.json --------------------------------------------------------------------------


def cut_tokenizer(tokenizer):
    """The same with TEXTS, then CONTROLS."""
    cut = copy.deepcopy(tokenizer)
    cut["added_tokens"] = [
        {**token, "id": len(TEXTS) + CONTROLS.index(token["content"])}
        for token in tokenizer["added_tokens"]
        if token["content"] in CONTROLS
    ]
    model = cut["model"]
    model["vocab"] = {text: i for i, text in enumerate(TEXTS)}
    model["merges"] = [merge for merge in model["merges"] if "".join(merge) in TEXTS][:2]
    for processor in cut["post_processor"]["processors"]:
        for token in processor.get("special_tokens", {}).values():
            token["ids"] = [len(TEXTS)]
    return cut


def tokenizers():
    """By name: one for each pre-tokenizer."""
    llama3 = cut_tokenizer(read_json("tiny-f32/tokenizer.json"))
    gpt2 = copy.deepcopy(llama3)
    gpt2["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    gpt2["model"]["ignore_merges"] = False
    gpt2["model"]["merges"] = [" ".join(merge) for merge in gpt2["model"]["merges"]]
    gpt2["post_processor"] = None
    smollm = copy.deepcopy(gpt2)
    digits = {"type": "Digits", "individual_digits": True}
    smollm["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, gpt2["pre_tokenizer"]]}
    added = copy.deepcopy(gpt2)
    for i, (name, flag) in enumerate((("he", "normalized"), (" the", "lstrip"), ("<t>", "rstrip"),
                                      ("t", "single_word"))):
        added["added_tokens"].append(
            {"id": TEXTS.index(name) if name in TEXTS else N_VOCAB + i, "content": name, "special": False,
             **{key: key == flag for key in ("lstrip", "rstrip", "single_word", "normalized")}})
    return {"llama3": llama3, "gpt2": gpt2, "smollm": smollm, "added": added}


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# ---- chat templates --------------------------------------------------------------------------


CHAT = """{{- bos_token }}
{%- macro call(c) %}{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments|tojson }}}{% endmacro -%}
{%- set ns = namespace(system='', n=0) -%}
{%- if messages[0]['role'] == 'system' %}{% set ns.system = messages[0].content|trim %}{% set messages = messages[1:] %}{% endif -%}
{% for message in messages if message.role != 'x' %}
    {%- if message.tool_calls is defined and message.tool_calls %}
        {%- for c in message['tool_calls'] %}{{ call(c) }}{{ ', ' if not loop.last else eos_token }}{% endfor %}
    {%- elif message.content is string %}
        {{- '<|' ~ message.role ~ '|>' + (message.content.split('</think>')|last).strip() + eos_token }}
        {%- generation %}{{ loop.index0 }}{% endgeneration %}
    {%- else %}{% continue %}{% endif %}
    {%- set ns.n = ns.n + 1 %}
{%- endfor %}
{%- for t in tools or [] %}{{ t|tojson(indent=2) }}{% filter upper %}{{ t.function.name }}{% endfilter %}{% endfor %}
{% set date %}{{ strftime_now('%d %b %Y') }}{% endset %}{{ date }}
{%- if add_generation_prompt %}{{ '%s: %d' % (ns.system, ns.n) }}{% raw %}{{ x }}{% endraw %}{# end #}{% endif %}
"""


def chat_templates():
    """One as models have them; then each filter, test and method, several in a file."""
    sys.path.insert(0, str(REFERENCE))
    import jinja_corpus

    lines = []
    for name, (types, arguments) in jinja_corpus.FILTERS.items():
        value = jinja_corpus.VALUES[types.split()[0]][-1]
        lines += [f"{{{{ {value}|{name}{arguments[0]} }}}}", f"{{{{ {value}|{name}{arguments[-1]} }}}}"]
    for types, methods in jinja_corpus.METHODS.items():
        value = jinja_corpus.VALUES[types.split()[0]][-1]
        lines += [f"{{{{ ({value}).{name}({arguments[-1]}) }}}}" for name, arguments in methods.items()]
    lines += [f"{{{{ n is {name}{arguments[0]} }}}}" for name, arguments in jinja_corpus.TESTS.items()]
    lines += [text for text in jinja_corpus.Maker.TRAPS if "{%" in text][::3]
    files = {"jinja/chat": CHAT.encode()}
    for i in range(0, len(lines), 8):
        files[f"jinja/{i // 8:02}"] = "\n".join(lines[i : i + 8]).encode()
    return files


# ---- Hugging Face directories ----------------------------------------------------------------


def read_safetensors(path):
    """Names to (dtype, shape, bytes), and the metadata."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    body = data[8 + length :]
    return {name: (t["dtype"], t["shape"], body[slice(*t["data_offsets"])])
            for name, t in header.items()}, metadata  # fmt: skip


def safetensors(tensors, metadata, align=1):
    """The bytes of a file; "pad.N" fills up to multiples of align, as our own files need it."""
    header, body, pads = {}, b"", 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, data) in tensors.items():
        pad = -len(body) % align
        if pad > 0:
            header[f"pad.{pads}"] = {"dtype": "U8", "shape": [pad],
                                     "data_offsets": [len(body), len(body) + pad]}  # fmt: skip
            body += bytes(pad)
            pads += 1
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(body), len(body) + len(data)]}  # fmt: skip
        body += data
    text = dump(header)
    text += b" " * (-(len(text) + 8) % align)
    return struct.pack("<Q", len(text)) + text + body


def cut_shape(name, shape):
    sizes = {"embed_tokens": (N_VOCAB, DIM), "lm_head": (N_VOCAB, DIM),
             "q_proj": (HEADS * HEAD_DIM, DIM), "k_proj": (KV_HEADS * HEAD_DIM, DIM),
             "v_proj": (KV_HEADS * HEAD_DIM, DIM), "o_proj": (DIM, HEADS * HEAD_DIM),
             "gate_proj": (FFN, DIM), "up_proj": (FFN, DIM), "down_proj": (DIM, FFN)}  # fmt: skip
    if len(shape) == 1:
        return [DIM]
    return list(next(size for part, size in sizes.items() if part in name))


def cut_tensors(tensors):
    cut = {}
    for name, (dtype, shape, data) in tensors.items():
        if ".layers." in name and ".layers.0." not in name:
            continue
        new, item = cut_shape(name, shape), {"F32": 4, "F16": 2, "BF16": 2}[dtype]
        rows, cols = (1, new[0]) if len(new) == 1 else new
        stride = shape[-1] * item
        rows = [data[r * stride : r * stride + cols * item] for r in range(rows)]
        cut[name] = (dtype, new, b"".join(rows))
    return cut


def quantized(tensors):
    """Each matrix of the layer in another format."""
    def f32(*numbers):
        return "F32", [len(numbers)], struct.pack(f"<{len(numbers)}f", *numbers)

    def nibbles(kind, rows, absmax, **nested):
        state = dict(quant_type=kind, blocksize=32, dtype="bfloat16", shape=[rows, DIM], **nested)
        text = dump(state)
        n = rows * DIM // 2
        return {".weight": ("U8", [n, 1], bytes(range(7, 7 + n))), ".weight.absmax": absmax,
                ".weight.quant_map": f32(*(i / 8 - 1 for i in range(16))),
                f".weight.quant_state.bitsandbytes__{kind}": ("U8", [len(text)], text)}

    def bytes_of(type, rows, cols):
        return {".weight": (type, [rows, cols], bytes(range(40, 40 + rows * cols)))}

    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    nested = {".weight.nested_absmax": f32(0.5),
              ".weight.nested_quant_map": f32(*(i / 256 for i in range(256)))}
    parts = {
        "q_proj": nibbles("nf4", q, f32(0.25)),
        "k_proj": nibbles("fp4", kv, f32(0.25)),
        "v_proj": {**nibbles("nf4", kv, ("U8", [1], b"\x80"), nested_blocksize=256,
                             nested_dtype="float32", nested_offset=0.125), **nested},
        "o_proj": {**bytes_of("I8", DIM, q), ".SCB": f32(*[0.5] * DIM),
                   ".weight_format": ("U8", [], b"\0")},
        "gate_proj": {**bytes_of("F8_E4M3", FFN, DIM), ".weight_scale": f32(0.01),
                      ".input_scale": f32(0.01)},
        "up_proj": {**bytes_of("F8_E4M3", FFN, DIM),
                    ".weight_scale": ("BF16", [FFN, 1], b"\x80\x3c" * FFN)},
        "down_proj": {**bytes_of("F8_E4M3", DIM, FFN),
                      ".weight_scale_inv": ("F32", [2, 2], f32(0.1, 0.2, 0.3, 0.4)[2])},
    }  # fmt: skip
    out = {}
    for name, tensor in tensors.items():
        stem = name.removesuffix(".weight")
        new = parts.get(stem.split(".")[-1])
        out.update({name: tensor} if new is None else {stem + k: t for k, t in new.items()})
    return safetensors(out, {"format": "pt"})


def cut_config(config):
    return {**config, "hidden_size": DIM, "intermediate_size": FFN, "num_hidden_layers": 1,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
            "vocab_size": N_VOCAB, "bos_token_id": len(TEXTS),
            "eos_token_id": [N_VOCAB - 1, len(TEXTS) + 1]}  # fmt: skip


def cut_hf(fixture, out, tokenizer):
    """A directory, whose model.safetensors is returned."""
    out.mkdir()
    tensors, metadata = read_safetensors(DATA / fixture / "model.safetensors")
    weights = safetensors(cut_tensors(tensors), metadata)
    (out / "model.safetensors").write_bytes(weights)
    (out / "config.json").write_bytes(dump(cut_config(read_json(f"{fixture}/config.json"))))
    (out / "generation_config.json").write_bytes(
        dump({"do_sample": True, "temperature": 0.5, "top_p": 0.75}))  # fmt: skip
    (out / "tokenizer.json").write_bytes(dump(tokenizer))
    shutil.copy(DATA / fixture / "tokenizer_config.json", out)
    return weights


def packed(quantize, source, keep=None):
    """One of our own files, with tensors at multiples of 64 bytes, which is all that it needs. Of
    its grouped matrices those that `keep` names stay, the others are again what they were."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "x.safetensors"
        subprocess.run([quantize, source, path], check=True, capture_output=True)
        tensors, metadata = read_safetensors(path)
    tensors = {name: t for name, t in tensors.items() if not name.startswith("pad.")}
    if keep is not None:
        original, _ = read_safetensors(source / "model.safetensors")
        matrices = json.loads(metadata["matrices"])
        for name in [name for name in matrices if not any(part in name for part in keep)]:
            del matrices[name]
            tensors[name] = original[name]
        metadata["matrices"] = dump(matrices).decode()
    return safetensors(tensors, metadata, 64)


# ---- GGUF ------------------------------------------------------------------------------------

FORMATS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
STRING, ARRAY, U32, F32, F16 = 8, 9, 4, 0, 1
# Columns and bytes of a block, by ggml's number of a type.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
          12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 30: (1, 2),
          10: (256, 84), 11: (256, 110), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50),
          21: (256, 110), 22: (256, 82), 23: (256, 136), 29: (256, 56), 34: (256, 54),
          35: (256, 66), 39: (32, 17), 40: (64, 36)}  # fmt: skip


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, format):
        (value,) = struct.unpack_from("<" + format, self.data, self.at)
        self.at += struct.calcsize("<" + format)
        return value

    def text(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n : self.at].decode()

    def value(self, type):
        if type == STRING:
            return self.text()
        if type != ARRAY:
            return self.take(FORMATS[type])
        item, n = self.take("I"), self.take("Q")
        return item, [self.value(item) for _ in range(n)]


def read_gguf(path):
    """The version; keys to (type, value); tensors to (type, rows, cols, bytes); rows 0: a vector"""
    r = Reader(path.read_bytes())
    r.at = 4
    version, n_tensors, n_kvs = r.take("I"), r.take("Q"), r.take("Q")
    kvs, tensors = {}, {}
    for _ in range(n_kvs):
        key, type = r.text(), r.take("I")
        kvs[key] = (type, r.value(type))
    entries = []
    for _ in range(n_tensors):
        name, n_dims = r.text(), r.take("I")
        dims = [r.take("Q") for _ in range(n_dims)]
        entries.append((name, dims, r.take("I"), r.take("Q")))
    start = -(-r.at // 32) * 32
    for name, dims, type, offset in entries:
        block, size = BLOCKS[type]
        rows, cols = dims[1] if len(dims) > 1 else 0, dims[0]
        n = (rows or 1) * cols // block * size
        tensors[name] = (type, rows, cols, r.data[start + offset : start + offset + n])
    return version, kvs, tensors


def gguf(version, kvs, tensors):
    def text(s):
        return struct.pack("<Q", len(s.encode())) + s.encode()

    def value(type, v):
        if type == STRING:
            return text(v)
        if type != ARRAY:
            return struct.pack("<" + FORMATS[type], v)
        return struct.pack("<IQ", v[0], len(v[1])) + b"".join(value(v[0], i) for i in v[1])

    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kvs))
    for key, (type, v) in kvs.items():
        out += text(key) + struct.pack("<I", type) + value(type, v)
    body = b""
    for name, (type, rows, cols, data) in tensors.items():
        body += bytes(-len(body) % 32)
        dims = [cols, rows] if rows > 0 else [cols]
        out += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, type, len(body))
        body += data
    return out + bytes(-len(out) % 32) + body


def cut_rows(tensor, rows, cols):
    type, old_rows, old_cols, data = tensor
    block, size = BLOCKS[type]
    if cols % block != 0:  # too few for this type: zeros
        return F16, rows, cols, bytes(rows * cols * 2)
    stride = old_cols // block * size
    return type, rows, cols, b"".join(data[r * stride : r * stride + cols // block * size]
                                      for r in range(rows or 1))  # fmt: skip


def cut_gguf(fixture, pre, head_dim=HEAD_DIM, ffn=FFN, heads=HEADS, kv_heads=KV_HEADS):
    version, kvs, tensors = read_gguf(DATA / fixture / "model.gguf")
    dim = min(tensors["output_norm.weight"][2], 256)
    if all(type in (F32, F16, 30) for type, _, _, _ in tensors.values()):
        dim = DIM
    rope = "rope_freqs.weight" in tensors
    q, kv = heads * head_dim, kv_heads * head_dim
    sizes = {"token_embd": (N_VOCAB, dim), "output": (N_VOCAB, dim), "output_norm": (0, dim),
             "attn_norm": (0, dim), "ffn_norm": (0, dim), "attn_q": (q, dim), "attn_k": (kv, dim),
             "attn_v": (kv, dim), "attn_output": (dim, q), "ffn_gate": (ffn, dim),
             "ffn_up": (ffn, dim), "ffn_down": (dim, ffn), "rope_freqs": (0, head_dim // 2)}
    cut = {name: cut_rows(tensor, *sizes[name.split(".")[-2]]) for name, tensor in tensors.items()
           if not name.startswith("blk.") or name.startswith("blk.0.")}  # fmt: skip

    def set(key, v):
        kvs[key] = (kvs[key][0] if key in kvs else U32, v)

    for key, v in {"embedding_length": dim, "block_count": 1, "feed_forward_length": ffn,
                   "attention.head_count": heads, "attention.head_count_kv": kv_heads,
                   "attention.key_length": head_dim, "attention.value_length": head_dim,
                   "rope.dimension_count": head_dim, "vocab_size": N_VOCAB}.items():  # fmt: skip
        set("llama." + key, v)
    set("tokenizer.ggml.pre", pre)
    set("tokenizer.ggml.tokens", (STRING, TEXTS + CONTROLS))
    set("tokenizer.ggml.token_type", (5, [1] * len(TEXTS) + [3] * len(CONTROLS)))
    set("tokenizer.ggml.merges", (STRING, ["\u0120 t", "h e"]))
    last = N_VOCAB - 1
    for key, v in {"bos": len(TEXTS), "eos": last, "eot": last, "eom": last - 1}.items():
        if f"tokenizer.ggml.{key}_token_id" in kvs:
            set(f"tokenizer.ggml.{key}_token_id", v)
    for key in list(kvs):
        if key.startswith("general.") and key not in ("general.architecture", "general.alignment"):
            del kvs[key]
    assert rope == ("rope_freqs.weight" in cut)
    return gguf(version, kvs, cut)


# ---- all of it -------------------------------------------------------------------------------


def cut_adapter(name, rank=2):
    version, kvs, tensors = read_gguf(DATA / name / "model.gguf")
    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    rows = {"attn_q": q, "attn_k": kv, "attn_v": kv, "ffn_gate": FFN, "ffn_up": FFN,
            "output": N_VOCAB}  # fmt: skip
    cols = {"attn_output": q, "ffn_down": FFN}
    cut = {}
    for tensor, value in tensors.items():
        kind = tensor.split(".")[-3]
        if tensor.endswith(".lora_a"):
            cut[tensor] = cut_rows(value, rank, cols.get(kind, DIM))
        else:
            cut[tensor] = cut_rows(value, rows.get(kind, DIM), rank)
    cut = {k: v for k, v in cut.items() if not k.startswith("blk.") or k.startswith("blk.0.")}
    return gguf(version, kvs, cut)


# enum constraint_kind, and the text
CONSTRAINTS = [
    (0, ""), (1, ""),
    (2, """{"type": "object", "properties": {"name": {"type": "string", "minLength": 1,
        "maxLength": 5}, "n": {"type": "integer", "minimum": -3, "maximum": 120}},
        "required": ["name"], "additionalProperties": false}"""),
    (2, """{"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"type": "null"}, {"type": "array",
        "prefixItems": [{"const": 1}], "items": {"$ref": "#/$defs/n"}, "maxItems": 3}]}}}"""),
    (2, """{"type": "object", "patternProperties": {"^a": {"type": "number", "multipleOf": 0.5}},
        "propertyNames": {"maxLength": 4}, "minProperties": 1, "maxProperties": 3,
        "dependentRequired": {"a": ["b"]}}"""),
    (2, """{"type": "array", "items": {"enum": [1, "a", null, 1.5]}, "uniqueItems": true,
        "contains": {"const": "a"}, "minItems": 2}"""),
    (2, """{"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2.25}],
        "not": {"const": 7}}"""),
    (2, """{"if": {"properties": {"k": {"const": 1}}}, "then": {"required": ["a"]},
        "else": {"required": ["b"]}, "type": "object"}"""),
    (2, """{"type": "string", "format": "date-time", "pattern": "Z$"}"""),
    (3, "(ab|c)+\\b ?[\\p{Lu}\\d]{2,3}"), (4, """["yes", "no", "not sure"]"""),
    (5, """root ::= "a" root "b" | root "+" n | n\nn ::= [0-9]{1,3}"""),
    (6, """start: WORD "=" value\nWORD: /[a-z]+/\nvalue: %json {"type": "boolean"}
        %ignore / +/"""),
]  # fmt: skip


def corpus(quantize):
    """Names of files to their bytes."""
    files = {}
    for name in ("f32", "f16", "rope", "rope-yarn"):
        files[f"gguf/{name}"] = cut_gguf(f"tiny-gguf-{name}", "llama-bpe")
    files["gguf/v2"] = cut_gguf("tiny-gguf-v2", "llama-bpe", 16, 32)
    files["gguf/q4_0"] = cut_gguf("tiny-gguf-q4_0", "gpt-2", 16, 32)
    files["gguf/mixed"] = cut_gguf("tiny-gguf-mixed", "smollm", 16, 32)
    for name in ("k", "low", "iq"):
        files[f"gguf/{name}"] = cut_gguf(f"tiny-gguf-{name}", "smollm")
    models = {name: files[f"gguf/{name}"] for name in ("f32", "f16", "q4_0", "mixed", "k")}
    models["heads"] = cut_gguf("tiny-gguf-f16", "smollm", 6, 3, 3, 3)
    models["wide"] = cut_gguf("tiny-gguf-f16", "llama-bpe", 20, 2, 2, 1)
    for last, (name, data) in enumerate(models.items()):
        # The last byte chooses the kernels and the type of keys and values.
        files[f"generation/{name}"] = data + bytes([last % 3])

    for name in ("plain", "all", "patterns"):
        files[f"lora/{name}"] = cut_adapter(f"lora-{name}")
        files[f"lora/{name}-config"] = dump(read_json(f"lora-{name}/adapter_config.json"))

    texts = tokenizers()
    keep = {"tiny-f16": [], "tiny-bf16": ["q_proj"], "tiny-tied": ["embed", "down_proj"]}
    fixtures = {"tiny-f16": "llama3", "tiny-bf16": "gpt2", "tiny-tied": "smollm"}
    with tempfile.TemporaryDirectory() as temporary:
        for fixture, pre in fixtures.items():
            folder = Path(temporary) / fixture
            files[f"safetensors/{fixture[5:]}"] = cut_hf(fixture, folder, texts[pre])
            files[f"packed/{fixture[5:]}"] = packed(quantize, folder, keep[fixture])
        path = Path(temporary) / "x.gguf"
        path.write_bytes(files["gguf/mixed"])
        files["packed/gguf"] = packed(quantize, path)

    files["safetensors/quantized"] = quantized(
        cut_tensors(read_safetensors(DATA / "tiny-bf16/model.safetensors")[0]))  # fmt: skip
    strings = [text for text, *_ in read_json("text/encode.json")[8::40]]
    for i, (name, tokenizer) in enumerate(texts.items()):
        text = "the the he" + "".join(strings[i::3])[:80]
        files[f"tokenizer/{name}"] = dump(tokenizer) + b"\0" + text.encode()
    for i, (changes, lines) in enumerate(read_json("text/sentencepiece.json")[1:7:3]):
        tokenizer = {**read_json("tiny-sentencepiece/tokenizer.json"), **changes}
        files[f"tokenizer/sentencepiece{i}"] = (dump(tokenizer) + b"\0" +
                                                "".join(text for text, *_ in lines[:45]).encode())
    files["gguf/sentencepiece"] = (DATA / "tiny-gguf-sentencepiece/model.gguf").read_bytes()

    for name in ("tiny-f32", "tiny-rope", "tiny-transformers5", "tiny-rope-yarn-mscale",
                 "tiny-ct-fp8-block"):  # fmt: skip
        parts = [dump(read_json(f"{name}/{part}")) for part in
                 ("config.json", "generation_config.json", "tokenizer_config.json")]  # fmt: skip
        parts[0] = dump(cut_config(read_json(f"{name}/config.json")))
        parts[1] = dump({"eos_token_id": 1, "do_sample": True, "temperature": 0.5, "top_p": 0.75,
                         "top_k": 7, "min_p": 0.25, "repetition_penalty": 1.5})  # fmt: skip
        files[f"config/{name[5:]}"] = b"\0".join(parts)

    names = ["llama3", "llama3.1", "llama3.2", "llama3.3", "smollm2", "chatml"]
    roles = ["system", "user", "assistant", "tool", "ipython"]
    chats = read_json("text/chat.json")
    for name in names:
        of_name = [chat for chat in chats if name in chat[:2] and len(chat[3]) > 2]
        if not of_name:
            continue
        _, _, date, messages, *_ = of_name[0]
        parts = [bytes([names.index(name)]) + (date or "").encode()]
        parts += [bytes([roles.index(role)]) + text.encode()[:60] for role, text in messages[:4]]
        files[f"template/{name}"] = b"\0".join(parts)

    files.update(chat_templates())

    session = read_json("session.json")
    session["messages"] = session["messages"][:2]
    files["session/whole"] = dump(session)
    del session["title"], session["system"]
    session["sampling"] = {"top_k": 3, "min_p": 0.25, "repeat_penalty": 1.5,
                           "frequency_penalty": 0.5, "presence_penalty": -0.5}  # fmt: skip
    files["session/sampling"] = dump(session)

    messages = [{"role": role, "content": content} for role, content in chats[1][3]]
    answer = {"temperature": 0.5, "top_p": 0.5, "top_k": 7, "min_p": 0.25, "seed": 7, "n": 2,
              "max_tokens": 4, "stop": ["x", "\n"], "stream": True,
              "stream_options": {"include_usage": True}, "logit_bias": {"99": -100},
              "frequency_penalty": 1, "presence_penalty": 1, "repeat_penalty": 1.5}  # fmt: skip
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "\u00e9"}]
    logprobs = {"logprobs": True, "top_logprobs": 2}
    files["request/chat"] = b"\0" + dump({"messages": messages, **logprobs, **answer})
    files["request/parts"] = b"\0" + dump({"messages": [{"role": "user", "content": parts}]})
    thoughts = [{"role": "assistant", "content": parts, "reasoning_content": "\u00e9\n"},
                {"role": "assistant", "content": "x", "reasoning": "\"", "tool_calls": []}]  # fmt: skip
    files["request/thoughts"] = b"\0" + dump({"messages": thoughts,
                                             "chat_template_kwargs": {"a": [1, None]}})  # fmt: skip
    files["request/completion"] = b"\1" + dump({"prompt": "the", "logprobs": 2, **answer})
    tokens = {"prompt": [1, 2, 99], "best_of": 2, "n": 2, "stop": "x"}
    files["request/tokens"] = b"\1" + dump(tokens)
    files["request/template"] = b"\2" + dump({"messages": messages})
    files["request/text"] = b"\3" + dump({"content": "the \u00e9", "add_special": True})

    def post(path, body, *headers):
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Authorization: Bearer key",
                 "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]  # fmt: skip
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def get(method, path, *headers):
        return "\r\n".join([f"{method} {path}", "Host: 127.0.0.1:80", *headers, "", ""]).encode()

    chat, key = {"messages": messages, "max_tokens": 3}, "Authorization: Bearer key"
    chunk = dump({"content": "the"})
    files["http/chat"] = post("/v1/chat/completions", dump(chat))
    files["http/stream"] = post("/v1/chat/completions",
                                dump({**chat, "stream": True, "logprobs": True, "n": 2}))  # fmt: skip
    files["http/completion"] = post("/v1/completions", dump({"prompt": "the", "max_tokens": 99}),
                                    "Expect: 100-continue")  # fmt: skip
    files["http/text"] = post("/tokenize", chunk, "Origin: null")
    files["http/template"] = post("/apply-template", dump(chat), "Connection: close")
    files["http/gets"] = b"".join(
        get("GET", f"{path} HTTP/1.1", key)
        for path in ("/v1/models", "/v1/models/tiny", "/health", "/metrics", "/x"))  # fmt: skip
    files["http/chunks"] = get("POST", "/tokenize HTTP/1.1", key, "Transfer-Encoding: chunked",
                               "Content-Type: application/json") + (
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(chunk), chunk))  # fmt: skip
    files["http/head"] = get("HEAD", "/ HTTP/1.0", "Origin: null")
    files["http/preflight"] = get("OPTIONS", "/tokenize HTTP/1.1", "Origin: http://a")

    def listed(*names):
        siblings = [{"rfilename": name, "size": i, "blobId": "1" * 40} for i, name in enumerate(names)]
        for entry in siblings:
            if entry["rfilename"].endswith((".safetensors", ".gguf")):
                entry["lfs"] = {"sha256": "2" * 64, "size": 1 << 33, "pointerSize": 131}
        return dump({"id": "org/name", "sha": "3" * 40, "siblings": siblings})

    files["repo/shards"] = listed(
        "README.md", "config.json", "model-00001-of-00002.safetensors", "original/params.json",
        "model-00002-of-00002.safetensors", "tokenizer.model") + b"\0\0*.json\0original/"  # fmt: skip
    files["repo/ggufs"] = listed(
        "M-Q4_K_M.gguf", "M-UD-Q4_K_XL.gguf", "Q8_0/M-Q8_0-00001-of-00002.gguf", "mmproj-F16.gguf",
        "Q8_0/M-Q8_0-00002-of-00002.gguf") + b"\0q4_k_m\0Q8_0/\0[!a]*-?0001*"  # fmt: skip
    for i, (kind, text) in enumerate(CONSTRAINTS):
        files[f"constraint/{i:02}"] = b"%d%s\0" % (kind, text.encode()) + bytes(range(i, 256, 5))
    files["repo/names"] = listed("a", "a-b", "A/b", "..x", "\u6a21.json", "con.json", "~") + b"\0\0*"
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("quantize")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "corpus")
    args = parser.parse_args()
    files = corpus(args.quantize)
    shutil.rmtree(args.out, ignore_errors=True)
    for name, data in files.items():
        path = args.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()

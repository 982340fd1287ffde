#!/usr/bin/env python3
"""Makes tests/data/tiny-FORMAT-*: small random Llama checkpoints in the quantized formats of
safetensors, the weights that they stand for, and the logits transformers computes of these.

    make-quantized-goldens.py [--out tests/data] [NAME...]

Beside what make-fixtures.py writes (config.json, golden.json, golden.f32, ...), each folder has
    weights.json   of every quantized matrix its name, [rows, cols], and the 64-bit FNV-1a of its
                   little-endian f32 in rows
    weights.f32    the matrix that weights.json calls "whole", in full

By whom tensors are packed, and expanded to the weights in f32:
    bnb-*         bitsandbytes does both
    ct-*          compressed-tensors does both; of ct-int4-act codes and order are made here, since it
                  no longer does: 0.9.4, which did, expands them to the same bits
    gptq-*        here, as the format is specified; gptqmodel expands them to the same bits
    awq-*         here; autoawq expands gemm to the same bits, and packs gemv to the same tensors
    modelopt-*    here; nvidia-modelopt expands them to the same bits
    fp8-*         here, by torch's float8_e4m3fn; transformers expands them to the same bits
Those of gptqmodel, autoawq and nvidia-modelopt are compared where these are installed, as
format_libraries.py says. Scales are rounded to the type they are stored in before they are used.
"""
import argparse
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from bitsandbytes import functional as bnb
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import load_file, save_file
from transformers.utils import logging

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import format_libraries  # noqa: E402


def load_file_as(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fixtures = load_file_as("fixtures", HERE / "make-fixtures.py")
# A smaller vocabulary than that of the other fixtures, since the embedding is most of a checkpoint.
fixtures.N_MERGES = 8
fixtures.N_TEXT = 256 + fixtures.N_MERGES
fixtures.VOCAB = fixtures.N_TEXT + len(fixtures.CONTROL)
fixtures.BOS, fixtures.END, fixtures.EOT = (
    fixtures.N_TEXT + fixtures.CONTROL.index(name)
    for name in ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"))  # fmt: skip


def groups_of(w, size):
    """[rows][groups][size]; size -1: the whole row."""
    return w.reshape(w.shape[0], -1, size if size > 0 else w.shape[1])


def as_int32(words):
    return torch.from_numpy(words.astype(np.uint32).view(np.int32).copy())


def pack_words(codes, bits, order=None):
    """[rows][cols] to [rows][cols * bits / 32], low bits first."""
    each = 32 // bits
    fields = codes.numpy().astype(np.uint64).reshape(codes.shape[0], -1, each)
    if order:
        fields = fields[:, :, order]
    return as_int32((fields << (np.arange(each, dtype=np.uint64) * bits)).sum(-1))


def round_codes(w, bits, size, asym, dtype=torch.float16):
    """Codes [rows][cols] from 0, scales and zero points [rows][groups], the scales of a dtype."""
    g, top = groups_of(w, size), 2**bits - 1
    if asym:
        low, high = g.amin(-1).clamp(max=0), g.amax(-1).clamp(min=0)
        scale = ((high - low) / top).to(dtype).float()
        zero = torch.round(-low / scale).clamp(1, top)  # v1 can't say 0
    else:
        scale = (g.abs().amax(-1) * 2 / top).to(dtype).float()
        zero = torch.full_like(scale, 2 ** (bits - 1))
    codes = torch.round(g / scale[..., None] + zero[..., None]).clamp(0, top)
    return codes.reshape(w.shape).int(), scale.to(dtype), zero.int()


def expand_codes(codes, scale, zero, group):
    """group: [cols] of each column"""
    return (codes - zero[:, group]).float() * scale.float()[:, group]


# ---- GPTQ ------------------------------------------------------------------------------------


def column_order(v, name, cols):
    """Act-order: the columns sorted by importance; matrices of the same input share it, unless each
    is to have its own."""
    layer, part = name.split(".")[2], name.split(".")[-1]
    if v.get("act") != "each":
        part = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}.get(part, part)
    seed = int.from_bytes(f"{layer}{part}".encode(), "little") % 2**31
    return torch.randperm(cols, generator=torch.Generator().manual_seed(seed))


def take_gptq(w, v, name):
    rows, cols = w.shape
    bits, size = v["bits"], v["group"] if v["group"] > 0 else cols
    order = column_order(v, name, cols) if v.get("act") else torch.arange(cols)
    place = torch.argsort(order)  # of each column in the order
    codes, scale, zero = round_codes(w[:, order], bits, size, v.get("asym"))
    codes, group = codes[:, place], (place // size).int()
    v1, out = v.get("stored") != "v2", expand_codes(codes, scale, zero, group)
    tensors = {
        "qweight": pack_words(codes, bits).T.contiguous(),
        "qzeros": pack_words((zero - int(v1)).T, bits),
        "scales": scale.T.contiguous(),
        "g_idx": group,
    }
    format_libraries.check_gptq(tensors, bits, size, v1, out)
    if v.get("biases"):
        tensors["bias"] = torch.zeros(rows, dtype=torch.float16)
    return tensors, out


def gptq_config(v):
    return dict(
        bits=v["bits"], group_size=v["group"], damp_percent=0.01, desc_act=bool(v.get("act")),
        static_groups=False, sym=not v.get("asym"), true_sequential=True, model_name_or_path=None,
        model_file_base_name=None, quant_method="gptq",
        **({"checkpoint_format": v["said"]} if "said" in v else {}))  # fmt: skip


def autogptq_config(v):
    config = dict(gptq_config(v), model_file_base_name="model")
    del config["quant_method"]
    return config


# ---- AWQ -------------------------------------------------------------------------------------


def take_awq(w, v, name):
    codes, scale, zero = round_codes(w, 4, v["group"], True)
    group = torch.arange(w.shape[1]) // v["group"]
    out = expand_codes(codes, scale, zero, group)
    if v["version"] == "gemv":
        multiple = max(128 // v["group"], 1) * 8  # of groups
        pad = -scale.shape[1] % multiple
        tensors = {
            "qweight": pack_words(codes, 4),
            "qzeros": pack_words(torch.nn.functional.pad(zero, (0, pad)), 4),
            "scales": torch.nn.functional.pad(scale, (0, pad)),
        }
        format_libraries.check_awq_gemv(tensors, scale, zero, v["group"], out)
        return tensors, out
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    tensors = {
        "qweight": pack_words(codes.T, 4, order),
        "qzeros": pack_words(zero.T, 4, order),
        "scales": scale.T.contiguous(),
    }
    format_libraries.check_awq_gemm(tensors, v["group"], out)
    return tensors, out


def awq_config(v):
    return dict(bits=4, group_size=v["group"], modules_to_not_convert=None, quant_method="awq",
                version=v["version"], zero_point=True)  # fmt: skip


def old_awq_config(v):
    return dict(zero_point=True, q_group_size=v["group"], w_bit=4, version=v["version"].upper())


# ---- compressed-tensors ----------------------------------------------------------------------


def ct_scheme(v):
    return QuantizationScheme(
        targets=["Linear"], weights=QuantizationArgs(**v["weights"]),
        input_activations=QuantizationArgs(**v["inputs"]) if "inputs" in v else None)  # fmt: skip


def ct_extremes(w, args):
    if args.strategy == "tensor":
        return w.min().reshape(1), w.max().reshape(1)
    if args.strategy == "block":
        tall, wide = args.block_structure
        shape = (-(-w.shape[0] // tall), tall, -(-w.shape[1] // wide), wide)
        full = torch.zeros(shape[0] * tall, shape[2] * wide)
        full[: w.shape[0], : w.shape[1]] = w
        blocks = full.reshape(shape)
        return blocks.amin((1, 3)), blocks.amax((1, 3))
    size = args.group_size if args.strategy in ("group", "tensor_group") else -1
    return groups_of(w, size).amin(-1), groups_of(w, size).amax(-1)


def take_ct(w, v, name):
    scheme = ct_scheme(v)
    args = scheme.weights
    state = {"weight": w}
    if v["format"] == "nvfp4-pack-quantized":
        state["weight_global_scale"] = generate_gparam(w.min(), w.max())
    scale, zero = calculate_qparams(
        *ct_extremes(w, args), args, global_scale=state.get("weight_global_scale"))  # fmt: skip
    fp4 = "fp4" in v["format"]
    state["weight_scale"] = scale.float() if fp4 else scale.to(torch.bfloat16).float()
    if not args.symmetric:
        state["weight_zero_point"] = zero.to(torch.int8)
    library = BaseCompressor.get_value_from_registry(v["format"])
    packed = library.compress(state, scheme)
    if fp4:  # its decompress() does this in bfloat16
        codes = unpack_fp4_from_uint8(packed["weight_packed"], *w.shape, dtype=torch.float32)
        out = dequantize(
            codes, library._decompress_scale(packed["weight_scale"], torch.float32), args=args,
            global_scale=packed.get("weight_global_scale"), dtype=torch.float32)  # fmt: skip
    else:
        out = library.decompress(dict(packed), scheme)["weight"].float()
        packed["weight_scale"] = packed["weight_scale"].to(torch.bfloat16)
    if scheme.input_activations and not scheme.input_activations.dynamic:
        packed["input_scale"] = torch.tensor([0.0123], dtype=torch.bfloat16)
    if v["format"] == "nvfp4-pack-quantized":
        packed["input_global_scale"] = torch.tensor([350.0])
    return packed, out


def take_ct_act(w, v, name):
    """"actorder": "group", which the library no longer computes: as GPTQ's, with its packing."""
    order, args = column_order(v, name, w.shape[1]), ct_scheme(v).weights
    place = torch.argsort(order)
    codes, scale, zero = round_codes(w[:, order], 4, args.group_size, False, torch.bfloat16)
    codes = (codes - 8).to(torch.int8)
    return {
        "weight_packed": pack_to_int32(codes[:, place], 4),
        "weight_scale": scale,
        "weight_shape": torch.tensor(w.shape),
        "weight_g_idx": (place // args.group_size).int(),
    }, dequantize(codes, scale.float(), args=args, dtype=torch.float32)[:, place]


def ct_config(v):
    scheme = json.loads(ct_scheme(v).model_dump_json())
    scheme.pop("format", None)
    scheme["weights"]["actorder"] = v.get("actorder")
    return dict(
        config_groups={"group_0": scheme}, format=v["format"], global_compression_ratio=None,
        ignore=["lm_head"], kv_cache_scheme=None, quant_method="compressed-tensors",
        quantization_status="compressed")  # fmt: skip


# ---- FP8 of other libraries ------------------------------------------------------------------

E4M3 = torch.float8_e4m3fn
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def take_fp8(w, v, name):
    """kind "tensor", "row", or "block": one scale for all, for each row, for 128 x 128."""
    if v["kind"] == "block":
        scale = torch.stack([torch.stack([part.abs().max() / 448 for part in tall.split(128, 1)])
                             for tall in w.split(128, 0)])  # fmt: skip
        each = scale.repeat_interleave(128, 0)[: w.shape[0]]
        each = each.repeat_interleave(128, 1)[:, : w.shape[1]]
    elif v["kind"] == "row":
        each = scale = w.abs().amax(1, keepdim=True) / 448
    else:
        each = scale = w.abs().max() / 448
    codes = (w / each).to(E4M3)
    tensors, out = {"weight": codes, v["scale"]: scale, **v.get("beside", {})}, codes.float() * each
    if v.get("modelopt"):
        format_libraries.check_modelopt(tensors, out)
    format_libraries.check_fp8(codes, scale, v["kind"], out)
    return tensors, out


def take_modelopt_fp4(w, v, name):
    second = w.abs().max() / (6 * 448)
    scale = (groups_of(w, 16).abs().amax(-1) / 6 / second).to(E4M3)
    each = (scale.float() * second).repeat_interleave(16, 1)
    # to the nearest level, and of two the one that is smaller
    codes = ((w / each).abs()[..., None] - FP4[:8]).abs().argmin(-1)
    codes = (codes + torch.signbit(w) * 8).to(torch.uint8)
    tensors, out = {
        "weight": codes[:, ::2] | codes[:, 1::2] << 4,
        "weight_scale": scale,
        "weight_scale_2": second,
        "input_scale": torch.tensor(0.0123),
    }, FP4[codes.long()] * each
    format_libraries.check_modelopt(tensors, out)
    return tensors, out


def modelopt_config(v):
    return dict(producer=dict(name="modelopt", version="0.47.0"),
                quantization=dict(quant_algo="FP8", kv_cache_quant_algo="FP8",
                                  exclude_modules=["lm_head"]))  # fmt: skip


# ---- bitsandbytes ----------------------------------------------------------------------------


def take_bnb(w, v, name):
    if v["kind"] == "int8":
        codes, scale, _ = bnb.int8_vectorwise_quant(w.half())
        return {
            "weight": codes, "SCB": scale, "weight_format": torch.tensor(0, dtype=torch.uint8),
        }, bnb.int8_vectorwise_dequant(codes, scale)  # fmt: skip
    packed, state = bnb.quantize_4bit(w, blocksize=v["block"], quant_type=v["kind"],
                                      compress_statistics=v["double"])  # fmt: skip
    # Not bnb.dequantize_4bit(): on a CPU it takes blocks that cross rows (0.50.2) for others.
    absmax = state.absmax
    if state.nested:
        absmax = bnb.dequantize_blockwise(absmax, state.state2) + state.offset
    out = _dequantize_4bit_compute(
        packed.reshape(-1), absmax, state.code, state.blocksize, state.shape, torch.float32)
    if w.shape[1] % state.blocksize == 0:
        format_libraries.equal(bnb.dequantize_4bit(packed, state), out, "bitsandbytes")
    state.dtype = torch.bfloat16  # what such checkpoints say: the type to compute in
    tensors = {"weight." + key: value for key, value in state.as_dict(packed=True).items()}
    return {"weight": packed, **tensors}, out


def bnb_config(v):
    four = v["kind"] != "int8"
    return dict(
        _load_in_4bit=four, _load_in_8bit=not four, bnb_4bit_compute_dtype="bfloat16",
        bnb_4bit_quant_storage="uint8", bnb_4bit_quant_type=v["kind"] if four else "fp4",
        bnb_4bit_use_double_quant=v.get("double", False), llm_int8_enable_fp32_cpu_offload=False,
        llm_int8_has_fp16_weight=False, llm_int8_skip_modules=None, llm_int8_threshold=6.0,
        load_in_4bit=four, load_in_8bit=not four, quant_method="bitsandbytes")  # fmt: skip


# ---- the set ---------------------------------------------------------------------------------

BASE = dict(dim=64, ffn=96, heads=4, kv_heads=2, layers=1, dtype="bf16",
            rows=[0, 3, 7, 12, 19])  # fmt: skip
GPTQ = dict(BASE, take=take_gptq, config=gptq_config, dtype="f16", bits=4, group=32)
AWQ = dict(BASE, take=take_awq, config=awq_config, dtype="f16", group=32, version="gemm")
CT = dict(BASE, take=take_ct, config=ct_config, format="pack-quantized")
FP8 = dict(BASE, take=take_fp8, scale="weight_scale")
BNB = dict(BASE, take=take_bnb, config=bnb_config, block=64, double=False)
INT4 = dict(num_bits=4, type="int", strategy="group", group_size=32)
FLOAT8 = dict(num_bits=8, type="float")
DYNAMIC = dict(strategy="token", dynamic=True)
FP8_BESIDE = {"input_scale": torch.tensor(0.0123)}

VARIANTS = {
    "gptq-4-g32": dict(GPTQ, layers=2, said="gptq"),
    "gptq-4-g32-v2": dict(GPTQ, said="gptq_v2", stored="v2"),
    "gptq-4-lies-v1": dict(GPTQ, said="gptq", stored="v2"),
    "gptq-4-lies-v2": dict(GPTQ, said="gptq_v2"),
    "gptq-4-asym": dict(GPTQ, asym=True),
    "gptq-4-act": dict(GPTQ, act=True, asym=True, layers=2),
    "gptq-4-act-each": dict(GPTQ, act="each", asym=True),
    "gptq-4-act-sym": dict(GPTQ, act=True, biases=True, file="quantize_config.json",
                           config=autogptq_config),
    "gptq-4-channel": dict(GPTQ, group=-1),
    "gptq-4-g128": dict(GPTQ, group=128, dim=128, ffn=128, heads=8),
    "gptq-8-g32": dict(GPTQ, bits=8),
    "awq-gemm": dict(AWQ, layers=2),
    "awq-gemv": dict(AWQ, version="gemv", file="quant_config.json", config=old_awq_config),
    "ct-int4-g32": dict(CT, weights=INT4),
    "ct-int4-asym": dict(CT, weights=dict(INT4, symmetric=False)),
    "ct-int4-channel": dict(CT, weights=dict(num_bits=4, type="int", strategy="channel")),
    "ct-int4-act": dict(CT, take=take_ct_act, weights=INT4, actorder="group"),
    "ct-int8-channel": dict(CT, weights=dict(num_bits=8, type="int", strategy="channel")),
    "ct-w8a8": dict(CT, format="int-quantized", inputs=dict(DYNAMIC, num_bits=8, type="int"),
                    weights=dict(num_bits=8, type="int", strategy="channel")),
    "ct-fp8-tensor": dict(CT, format="float-quantized", inputs=dict(FLOAT8, strategy="tensor"),
                          weights=dict(FLOAT8, strategy="tensor")),
    "ct-fp8-channel": dict(CT, format="float-quantized", inputs=dict(FLOAT8, **DYNAMIC),
                           weights=dict(FLOAT8, strategy="channel")),
    "ct-fp8-block": dict(CT, format="float-quantized", ffn=144,
                         weights=dict(FLOAT8, strategy="block", block_structure=[128, 128]),
                         inputs=dict(FLOAT8, strategy="group", group_size=128, dynamic=True)),
    "ct-mxfp4": dict(CT, format="mxfp4-pack-quantized",
                     weights=dict(num_bits=4, type="float", strategy="group", group_size=32,
                                  scale_dtype="torch.uint8", zp_dtype="torch.uint8")),
    "ct-nvfp4": dict(CT, format="nvfp4-pack-quantized",
                     weights=dict(num_bits=4, type="float", strategy="tensor_group",
                                  group_size=16, scale_dtype="torch.float8_e4m3fn")),
    "fp8-tensor": dict(FP8, kind="tensor", beside=FP8_BESIDE,
                       attention_scales=["k_scale", "v_scale"],
                       config=lambda v: dict(quant_method="fp8", activation_scheme="static",
                                             ignored_layers=["lm_head"])),
    "fp8-block": dict(FP8, kind="block", scale="weight_scale_inv", ffn=144,
                      config=lambda v: dict(activation_scheme="dynamic", fmt="e4m3",
                                            quant_method="fp8", weight_block_size=[128, 128])),
    "fp8-fbgemm": dict(FP8, kind="row", only="mlp",
                       beside={"input_scale_ub": torch.tensor([1200.0])},
                       config=lambda v: dict(activation_scale_ub=1200.0, quant_method="fbgemm_fp8",
                                             modules_to_not_convert=["model.layers.0.self_attn"])),
    "modelopt-fp8": dict(FP8, kind="tensor", beside=FP8_BESIDE, dim=32, layers=2, modelopt=True,
                         attention_scales=["k_proj.k_scale", "v_proj.v_scale"],
                         file="hf_quant_config.json", config=modelopt_config),
    "modelopt-nvfp4": dict(BASE, take=take_modelopt_fp4,
                           config=lambda v: dict(quant_algo="NVFP4", quant_method="modelopt",
                                                 ignore=["lm_head"])),
    "bnb-nf4": dict(BNB, kind="nf4", layers=2),
    "bnb-nf4-double": dict(BNB, kind="nf4", double=True, tied=False),
    "bnb-fp4": dict(BNB, kind="fp4"),
    "bnb-int8": dict(BNB, kind="int8"),
}  # fmt: skip


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


@torch.no_grad()
def quantize(out, model, v):
    """Rewrites model.safetensors, adds quantization_config or a file in its place, and sets the model
    to its weights."""
    path, whole, listed = out / "model.safetensors", None, []
    tensors = load_file(path)
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        if v.get("only", "") not in name:
            continue
        state, weights = v["take"](module.weight.float(), v, name)
        del tensors[name + ".weight"]
        for key, t in state.items():
            tensors[f"{name}.{key}"] = t.clone(memory_format=torch.contiguous_format)
        module.weight.copy_(weights)
        data = np.ascontiguousarray(weights.numpy(), dtype="<f4").tobytes()
        listed.append(dict(name=name, shape=list(weights.shape), fnv=fnv(data)))
        if whole is None or len(data) < len(whole[1]):
            whole = name, data
    for key in v.get("attention_scales", []):
        tensors[f"model.layers.0.self_attn.{key}"] = torch.tensor(0.5)
    save_file(tensors, path, metadata={"format": "pt"})
    text = ",\n".join(json.dumps(entry) for entry in listed)
    (out / "weights.json").write_text(f'{{"whole": "{whole[0]}", "matrices": [\n{text}]}}\n')
    (out / "weights.f32").write_bytes(whole[1])
    if "file" in v:
        fixtures.write_json(out / v["file"], v["config"](v))
        return
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"] = v["config"](v)
    fixtures.write_json(out / "config.json", config)


def make(name, root):
    v, out = VARIANTS[name], root / f"tiny-{name}"
    for seed in range(1000):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        model = fixtures.write_hf(out, fixtures.make_model(v, seed), v)
        quantize(out, model, v)
        found = fixtures.golden(model, v, seed)
        if found:
            fixtures.write_golden(out, *found)
            for file in out.iterdir():
                file.chmod(0o644)
            size = sum(f.stat().st_size for f in out.iterdir())
            print(f"{out.name:22} seed {seed:3} {size:8} bytes, greedy {found[1]}", flush=True)
            return size
    raise SystemExit(f"{name}: no seed without a near-tie")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=HERE.parent / "data", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", default=None)
    args = parser.parse_args()
    logging.disable_progress_bar()
    print("\n".join(format_libraries.versions()), flush=True)
    total = sum(make(name, args.out) for name in args.names or VARIANTS)
    print(f"{total} bytes")


main()

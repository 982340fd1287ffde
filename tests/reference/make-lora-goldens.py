#!/usr/bin/env python3
"""Makes tests/data/lora-*: random adapters for the small checkpoints, and the logits of PEFT.

    make-lora-goldens.py [--out tests/data] [NAME...]

Each folder of ADAPTERS is an adapter as PEFT saves it, and the same as model.gguf, as llama.cpp's
converter writes it: tensors by GGUF's names, rows of q and k in pairs. Each folder of CASES has
golden.json and golden.f32 (as make-fixtures.py's): the logits of a checkpoint with adapters, each
times a factor. Expected are those of adapters beside the weights, of merged-* those of weights that
were rounded to their type after PEFT has merged them. "patterns" has a copy of tiny-f32's head, as PEFT saves one beside LoRA of
the head.
"""
import argparse
import importlib.util
import json
from pathlib import Path

import gguf
import numpy as np
import peft
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

spec = importlib.util.spec_from_file_location("fixtures", Path(__file__).parent / "make-fixtures.py")
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)

LAYER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "plain": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    "all": dict(r=6, lora_alpha=9, target_modules=LAYER, use_rslora=True, dtype=torch.bfloat16),
    "patterns": dict(r=2, lora_alpha=4, target_modules=LAYER + ["lm_head"],
                     rank_pattern={"^model.layers.1.self_attn.q_proj": 5, "up_proj": 3},
                     alpha_pattern={"down_proj": 1, "layers.0.self_attn.k_proj": 20}),
}  # fmt: skip
CASES = {  # the checkpoint, and the adapters with their factors
    "f32-plain": ("f32", {"plain": 1}),
    "f32-all": ("f32", {"all": 1}),
    "f32-patterns": ("f32", {"patterns": 1}),
    "f32-several": ("f32", {"plain": 0.5, "all": -1.5, "patterns": 2}),
    "merged-bf16": ("bf16", {"all": 1}),
    "merged-f16": ("f16", {"all": 1}),
    "gguf-f32-all": ("gguf-f32", {"all": 1}),
    "gguf-q4_0-all": ("gguf-q4_0", {"all": 1}),
    "gguf-mixed-several": ("gguf-mixed", {"all": 0.75, "plain": -1}),
}
ROWS = [0, 1, 7, 12, 18, 19]


def make_adapter(name, root):
    options = dict(ADAPTERS[name])
    dtype = options.pop("dtype", torch.float32)
    torch.manual_seed(sum(name.encode()))
    model = peft.get_peft_model(open_base("f32", root), peft.LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for key, w in model.named_parameters():
            if "lora_" in key:
                w.copy_((0.5 * w.shape[1] ** -0.5 * torch.randn_like(w)).to(dtype))
    if dtype != torch.float32:
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.Linear):
                module.lora_A.to(dtype)
                module.lora_B.to(dtype)
    out = root / f"lora-{name}"
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    config = json.loads((out / "adapter_config.json").read_text())
    config["target_modules"].sort()
    fixtures.write_json(out / "adapter_config.json", config)
    write_gguf(out, config)


def write_gguf(out, config):
    """An alpha for all is all that the format has, so what differs goes into B, as by hand."""
    v = fixtures.BASE
    tensors = load_file(out / "adapter_model.safetensors")
    w = gguf.GGUFWriter(out / "model.gguf", "llama")
    w.add_type(gguf.GGUFType.ADAPTER)
    w.add_string(gguf.Keys.Adapter.TYPE, "lora")
    w.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(config["lora_alpha"]))
    reference = peft.LoraConfig.from_pretrained(out)
    for key, a in tensors.items():
        if ".lora_A." not in key:
            continue
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        b = tensors[key.replace(".lora_A.", ".lora_B.")].float()
        alpha_key = peft.utils.other.get_pattern_key(reference.alpha_pattern.keys(), module)
        alpha = reference.alpha_pattern.get(alpha_key, reference.lora_alpha)
        rank = a.shape[0]
        b *= alpha / config["lora_alpha"] * (rank**0.5 if config["use_rslora"] else 1)
        name = fixtures.gguf_name(module + ".weight")
        heads = dict(attn_q=v["heads"], attn_k=v["kv_heads"]).get(name.split(".")[-1])
        b = b.numpy()
        if heads:
            b = np.ascontiguousarray(fixtures.interleave(b, heads))
        w.add_tensor(f"{name}.weight.lora_a", a.float().numpy())
        w.add_tensor(f"{name}.weight.lora_b", b)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def open_base(name, root, dtype=torch.float32):
    """The checkpoint as these numbers; of a GGUF file what its weights say."""
    if not name.startswith("gguf-"):
        return LlamaForCausalLM.from_pretrained(
            root / f"tiny-{name}", dtype=dtype, attn_implementation="eager").eval()
    v = fixtures.VARIANTS[name]
    model = fixtures.make_model(v, 0)
    reader = gguf.GGUFReader(root / f"tiny-{name}" / "model.gguf")
    tensors = {t.name: t for t in reader.tensors}
    with torch.no_grad():
        for key, param in model.named_parameters():
            short = fixtures.gguf_name(key)
            t = tensors[short + ".weight"]
            back = gguf.quants.dequantize(t.data, t.tensor_type).reshape(tuple(param.shape))
            heads = dict(attn_q=v["heads"], attn_k=v["kv_heads"]).get(short.split(".")[-1])
            if heads:
                back = fixtures.deinterleave(back, heads)
            param.copy_(torch.from_numpy(np.array(back, dtype=np.float32)))
    return model


@torch.no_grad()
def make_case(name, root):
    base, adapters = CASES[name]
    merges = name.startswith("merged-")
    dtype = fixtures.TORCH_DTYPES[base] if merges else torch.float32
    model = None
    for adapter in adapters:
        path = root / f"lora-{adapter}"
        if model is None:
            model = peft.PeftModel.from_pretrained(
                open_base(base, root, dtype), path, adapter_name=adapter)
        else:
            model.load_adapter(path, adapter_name=adapter)
    model.base_model.set_adapter(list(adapters))
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.Linear):
            for adapter in module.scaling:
                module.scaling[adapter] *= adapters[adapter]
    model.eval()
    if not merges:
        model.float()
    ids = json.loads((root / f"tiny-{base}" / "golden.json").read_text())["ids"]
    logits = model(torch.tensor(ids)[None], use_cache=False).logits[0]
    merged = model.merge_and_unload().float()
    merged = merged(torch.tensor(ids)[None], use_cache=False).logits[0]
    if merges:
        logits = merged
    assert (logits - merged).abs().max() < 1e-4
    out = root / f"lora-{name}"
    out.mkdir(exist_ok=True)
    golden = dict(ids=ids, rows=ROWS, greedy=[], base=f"tiny-{base}",
                  adapters=[dict(name=f"lora-{k}", scale=s) for k, s in adapters.items()])
    (out / "golden.json").write_text(json.dumps(golden) + "\n")
    (out / "golden.f32").write_bytes(logits[ROWS].numpy().astype("<f4").tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "data")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    for name in args.names or [*ADAPTERS, *CASES]:
        (make_adapter if name in ADAPTERS else make_case)(name, args.out)


if __name__ == "__main__":
    main()

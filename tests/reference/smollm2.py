"""SmolLM2-135M-Instruct in transformers, from the same GGUF file that llama3 reads, in float32."""
import hashlib
import os
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def default_path():
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LLAMA3_TEST_MODEL") or Path(cache) / "llama3" / NAME)


def load(path):
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{path}: not the {NAME} that the goldens are made of")
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


@torch.no_grad()
def logits(model, ids):
    """[n][vocab] float32"""
    return model(torch.tensor([ids]), use_cache=False).logits[0].numpy().astype("<f4")

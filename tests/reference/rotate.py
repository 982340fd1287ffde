#!/usr/bin/env python3
"""SmolLM2-135M-Instruct moved off its 4-bit grid: the same function with other weights.

The only Llama that the tests have was quantized before, so that its weights lie on a grid of 4 bits
and quantizing them again says little. RMSNorm's weights are folded into the matrices that follow;
then nothing between two layers knows one direction of the residual stream from another, and it can
be turned by any orthogonal matrix Q: what reads the stream becomes W Q, what writes it Q^T W. The
weights come out as mixtures of all of a row's, as good as gaussian - harder for 4 bits than trained
ones are, and the same for all who compare.

    rotate.py OUT [--model GGUF] [--dtype bfloat16|float32] [--seed 0] [--width 576] [--q4_0]

writes a Hugging Face directory (untied: embedding and head differ by the final norm's weights).
--width 768 first pads the residual stream with zeros and adds a KV group of zeros, so that every row
is a multiple of 256 long: llama.cpp's K-quants need that.
--q4_0 rounds the layers' matrices as llama.cpp's quantizer does, to have something to compare with.
"""
import argparse
import copy
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import LlamaForCausalLM

import smollm2


def orthogonal(n, seed):
    """Uniform among the orthogonal matrices: QR of a gaussian one, with R's diagonal positive."""
    gaussian = torch.randn(n, n, dtype=torch.float64,
                           generator=torch.Generator().manual_seed(seed))
    q, r = torch.linalg.qr(gaussian)
    return q * r.diagonal().sign()


def widen(model, width):
    """The same function with a residual stream of width columns, those added 0 before it is turned.

    There are heads for as many columns, in groups as before; the rows and columns of the added ones
    are 0. RMSNorm's mean is over more columns: with eps scaled likewise, its result is
    sqrt(width / old) times the old one, which its weights take back.
    """
    old = model.config
    config = copy.deepcopy(old)
    config.head_dim = old.hidden_size // old.num_attention_heads
    group = old.num_attention_heads // old.num_key_value_heads
    if width < old.hidden_size or width % (group * config.head_dim):
        raise SystemExit(f"--width {width}: not {old.hidden_size} or more in steps of "
                         f"{group * config.head_dim}")
    config.hidden_size = width
    config.num_attention_heads = width // config.head_dim
    config.num_key_value_heads = config.num_attention_heads // group
    config.rms_norm_eps = old.rms_norm_eps * old.hidden_size / width

    wide = LlamaForCausalLM(config).eval()
    weights = model.state_dict()
    for name, matrix in wide.named_parameters():
        narrow = weights[name]
        matrix.data.zero_()
        matrix.data[tuple(map(slice, narrow.shape))] = narrow
        if "norm" in name:
            matrix.data *= (old.hidden_size / width) ** 0.5
    wide.generation_config = model.generation_config
    return wide


def fold(norm, *readers):
    for reader in readers:
        reader.weight.data *= norm.weight.data
    norm.weight.data.fill_(1)


def rotate(model, q):
    fold(model.model.norm, model.lm_head)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        fold(layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj)
        fold(layer.post_attention_layernorm, mlp.gate_proj, mlp.up_proj)
        for reader in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj,
                       mlp.up_proj):
            reader.weight.data = reader.weight.data @ q
        for writer in (attention.o_proj, mlp.down_proj):
            writer.weight.data = q.T @ writer.weight.data
    for table in (model.model.embed_tokens, model.lm_head):
        table.weight.data = table.weight.data @ q


def q4_0(weight):
    """What ggml's quantize_row_q4_0_ref keeps: the largest of 32 weights becomes -8, scale signed."""
    groups = weight.view(weight.shape[0], -1, 32)
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scale = largest / -8
    inverse = torch.where(scale != 0, 1 / scale, 0)
    codes = (groups * inverse + 8.5).floor().clamp(0, 15)
    return (scale.half().float() * (codes - 8)).view_as(weight)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=smollm2.default_path())
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, help="columns of the residual stream, e.g. 768")
    parser.add_argument("--q4_0", action="store_true")
    args = parser.parse_args()

    tied, tokenizer = smollm2.load(args.model)
    config = copy.deepcopy(tied.config)
    config.tie_word_embeddings = False
    del config.quantization_config
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(tied.state_dict())
    model.generation_config = tied.generation_config
    model.double()
    if args.width:
        model = widen(model, args.width).double()
    rotate(model, orthogonal(model.config.hidden_size, args.seed))

    ids = tokenizer("The tide tables for the harbour list two high waters a day.",
                    return_tensors="pt").input_ids
    with torch.no_grad():
        difference = (model.float()(ids).logits - tied(ids).logits).abs().max().item()
    print(f"largest difference of a logit before rounding to {args.dtype}: {difference:.2g}")
    model.to(getattr(torch, args.dtype))
    for name, matrix in model.model.layers.named_parameters() if args.q4_0 else ():
        if matrix.dim() == 2:
            matrix.data = q4_0(matrix.data.float())
    if args.q4_0:
        model.float()
    model.save_pretrained(args.out)
    tokenizer.model_max_length = config.max_position_embeddings
    # transformers forgets that this model's pre-tokenizer splits digits.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()

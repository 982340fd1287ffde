"""What the libraries of quantized formats make of the tensors that make-quantized-goldens.py packs.

They come by

    BUILD_CUDA_EXT=0 pip install --no-deps -r requirements-formats.txt

One that is missing checks nothing, and versions() says so.
"""
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import sys
import types
from pathlib import Path

import torch

NAMES = ("bitsandbytes", "compressed-tensors", "autoawq", "gptqmodel", "nvidia-modelopt")


def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions():
    return [f"{name} {version(name) or 'is missing: its formats are not checked'}" for name in NAMES]


def equal(found, expected, name):
    """Bit for bit."""
    same = torch.equal(found.float().contiguous().view(torch.int32),
                       expected.contiguous().view(torch.int32))  # fmt: skip
    assert same, f"{name} has other weights"


def awq_module(name):
    """A module of autoawq without the package around it, which doesn't load with this transformers."""
    if "awq" not in sys.modules:
        root = Path(importlib.util.find_spec("awq").origin).parent
        for part in ("", "utils", "modules", "modules/linear"):
            package = types.ModuleType(".".join(["awq", *part.split("/")]) if part else "awq")
            package.__path__ = [str(root / part)]
            sys.modules[package.__name__] = package
    return importlib.import_module(name)


def check_awq_gemm(tensors, group, expected):
    if version("autoawq"):
        unpacking = awq_module("awq.utils.packing_utils")
        out = unpacking.dequantize_gemm(
            tensors["qweight"], tensors["qzeros"], tensors["scales"].float(), 4, group)  # fmt: skip
        equal(out.T, expected, "autoawq")


def check_awq_gemv(tensors, scale, zero, group, expected):
    """It has no code that expands these: it packs the same weights to the same tensors."""
    if version("autoawq"):
        linear = torch.nn.Linear(expected.shape[1], expected.shape[0], bias=False)
        linear.weight.data = expected.clone()
        packing = awq_module("awq.modules.linear.gemv").WQLinear_GEMV
        out = packing.from_linear(linear, 4, group, scales=scale.float(), zeros=zero)
        for name, tensor in tensors.items():
            assert torch.equal(getattr(out, name), tensor), f"autoawq has other {name}"


def check_gptq(tensors, bits, group, v1, expected):
    if not version("gptqmodel"):
        return
    with contextlib.redirect_stdout(io.StringIO()):
        from gptqmodel.nn_modules.qlinear.torch import TorchLinear
        from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module

        linear = TorchLinear(
            bits=bits, group_size=group, sym=False, desc_act=True, in_features=expected.shape[1],
            out_features=expected.shape[0], bias=False, pack_dtype=torch.int32,
            register_buffers=True)  # fmt: skip
        for name in ("qweight", "qzeros", "scales", "g_idx"):
            getattr(linear, name).data = tensors[name].clone()
        linear.scales.data = linear.scales.float()
        if v1:
            convert_gptq_v1_to_v2_format_module(linear, bits=bits, pack_dtype=torch.int32)
        linear.eval()
        equal(linear.dequantize_weight().T, expected, "gptqmodel")


def check_fp8(codes, scale, kind, expected):
    """Transformers finds the size of blocks by dividing, so that theirs have to be whole."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    tall, wide = expected.shape
    if kind == "block":
        codes = torch.nn.functional.pad(codes.view(torch.uint8), (0, -wide % 128, 0, -tall % 128))
        codes = codes.view(torch.float8_e4m3fn)
    elif kind == "tensor":
        scale = scale.reshape(1, 1)
    out = Fp8Dequantize(None)._dequantize_one(codes, scale, torch.float32)
    equal(out[:tall, :wide], expected, "transformers")


def check_modelopt(tensors, expected):
    if not version("nvidia-modelopt"):
        return
    from modelopt.torch.quantization.qtensor import FP8QTensor, NVFP4QTensor

    if "weight_scale_2" in tensors:
        out = NVFP4QTensor(expected.shape, torch.float32, tensors["weight"]).dequantize(
            torch.float32, scale=tensors["weight_scale"], double_scale=tensors["weight_scale_2"],
            block_sizes={-1: 16})  # fmt: skip
    else:
        out = FP8QTensor(expected.shape, torch.float32, tensors["weight"]).dequantize(
            torch.float32, scale=tensors["weight_scale"])  # fmt: skip
    equal(out, expected + 0.0, "nvidia-modelopt")  # which has no negative zero

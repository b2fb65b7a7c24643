#!/usr/bin/env python3
"""Converts a fairseq checkpoint (HuBERT or wav2vec 2.0, pretrained or with a CTC head) to what `reprise import fairseq` reads.

    python3 experiments/convert/fairseq_to_safetensors.py hubert_base_ls960.pt hubert-base.safetensors
    reprise import fairseq hubert-base.safetensors models/hubert-base

A checkpoint of fairseq is a pickle, and a pickle may call anything when it is read. This program needs nothing but Python 3.9, neither
torch nor fairseq, and reads the pickle with a table of what may be called: plain containers, and a function of its own that notes where a
tensor's bytes lie. Every other name in the pickle becomes an inert object that keeps what it is given and does nothing. Both containers
of `torch.save` are read, the zip file of torch 1.6 and later and the older one.

Two files are written. `OUT.safetensors` has the tensors of the state dict under fairseq's names, F32, F16 or BF16 as they are; tensors
of integers are left out and told. `OUT.json` says what they are:

    model_type  "hubert" or "wav2vec2"
    normalize   whether a wave is brought to zero mean and unit variance
    model       settings of the network, by the names of fairseq's HubertConfig and Wav2Vec2Config
    dictionary  the symbols of the CTC head behind fairseq's four own; null without one

Fine-tuned checkpoints carry the settings of their network (`w2v_args`) and mostly their dictionary; where they don't, give the latter
with `--dictionary dict.ltr.txt`.
"""

import argparse
import ast
import json
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from math import prod
from pathlib import Path

# Storage classes of torch and their kinds in safetensors, with the bytes of a number.
STORAGES = {
    "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2), "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}
WEIGHTS = ("F32", "F16", "BF16")

# What opens a file that torch.save wrote before version 1.6.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# Settings of fairseq that say what the network computes.
SETTINGS = [
    "extractor_mode", "conv_feature_layers", "conv_bias", "feature_grad_mult", "encoder_layers", "encoder_embed_dim",
    "encoder_ffn_embed_dim", "encoder_attention_heads", "activation_fn", "layer_type", "layer_norm_first", "conv_pos",
    "conv_pos_groups", "pos_conv_depth", "conv_pos_batch_norm", "dropout", "attention_dropout", "activation_dropout",
    "dropout_input", "encoder_layerdrop", "quantize_input", "target_glu", "adp_num",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


class Inert:
    """Stands for an object of a class that is not read: keeps what it is given."""

    def __new__(cls, *arguments, **_):
        self = super().__new__(cls)
        self.arguments, self.state = arguments, {}
        return self

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        self.state[key] = value

    def append(self, item):
        pass

    def extend(self, items):
        pass


class Storage:
    """Numbers of one kind; `data` is found once the pickle is read."""

    def __init__(self, kind, size, count):
        self.kind, self.size, self.count, self.data = kind, size, count, None


class Tensor:
    def __init__(self, storage, offset, shape, stride, *_):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def bytes(self):
        wanted, expected = 1, []
        for length in reversed(self.shape):
            expected.insert(0, wanted)
            wanted *= length
        if any(have != want for have, want, length in zip(self.stride, expected, self.shape) if length > 1):
            raise ValueError("a tensor whose numbers don't lie side by side")
        start, end = (self.storage.size * place for place in (self.offset, self.offset + prod(self.shape)))
        if self.offset < 0 or end > len(self.storage.data):
            raise ValueError("a tensor that reaches beyond its storage")
        return self.storage.data[start:end]


MAY_BE_CALLED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("copyreg", "_reconstructor"): lambda *_: Inert(),
    ("copy_reg", "_reconstructor"): lambda *_: Inert(),
    **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in [("set", set), ("list", list), ("dict", dict)]},
}


class Reader(pickle.Unpickler):
    def __init__(self, file, storages):
        super().__init__(file, encoding="latin1")
        self.storages = storages

    def find_class(self, module, name):
        if module == "torch" and name in STORAGES:
            return name
        return MAY_BE_CALLED.get((module, name), Inert)

    def persistent_load(self, identity):
        _, kind, key, _, count, *_ = identity
        if kind not in STORAGES:
            raise ValueError(f"storage of an unknown kind {kind!r}")
        return self.storages.setdefault(key, Storage(*STORAGES[kind], count))


def read_zip(file):
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("not a zip file that torch.save wrote")
        folder, storages = pickles[0][: -len("data.pkl")], {}
        if archive_byteorder(archive, folder) != b"little":
            raise ValueError("written on a big-endian machine")
        with archive.open(pickles[0]) as data:
            checkpoint = Reader(data, storages).load()
        for key, storage in storages.items():
            storage.data = archive.read(f"{folder}data/{key}")
    return checkpoint


def archive_byteorder(archive, folder):
    name = f"{folder}byteorder"
    return archive.read(name) if name in archive.namelist() else b"little"


def read_legacy(file):
    storages = {}
    magic, _protocol, system = (Reader(file, {}).load() for _ in range(3))
    if magic != LEGACY_MAGIC:
        raise ValueError("not a file that torch.save wrote")
    if not system.get("little_endian", True):
        raise ValueError("written on a big-endian machine")
    checkpoint = Reader(file, storages).load()
    for key in Reader(file, {}).load():
        storage = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        storage.data = file.read(count * storage.size)
        if len(storage.data) != count * storage.size:
            raise ValueError("cut short")
    return checkpoint


def plain(value):
    """Containers of omegaconf and enums of fairseq as what they hold."""
    if isinstance(value, Inert):
        state = value.state if isinstance(value.state, dict) else {}
        for key in ("_content", "_val"):
            if key in state:
                return plain(state[key])
        return plain(value.arguments[0]) if len(value.arguments) == 1 else {k: plain(v) for k, v in state.items()}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def convolutions(text):
    """`[(512,10,5)] + [(512,3,2)] * 4` as a list; sums and multiples of lists of whole numbers, and nothing else."""

    def value(node):
        if isinstance(node, (ast.List, ast.Tuple)):
            return [value(item) for item in node.elts]
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            left, right = value(node.left), value(node.right)
            if type(right) is int and right <= 100:
                return left * right
        raise ValueError(f"conv_feature_layers: {text!r}")

    return value(ast.parse(text, mode="eval").body)


def settings(checkpoint):
    """Type of the model, whether waves are normalised, and the settings of its network."""
    config = plain(checkpoint.get("cfg") or {})
    if not config:
        arguments = plain(checkpoint.get("args") or {})
        config = {"model": arguments, "task": arguments}
    model, task = config["model"], config.get("task") or {}
    inner = model.get("w2v_args")
    if inner:
        model = inner.get("model") or inner
        task = {**(inner.get("task") or inner), **{key: value for key, value in task.items() if value is not None}}
    name = str(model.get("_name") or model.get("arch") or "")
    family = "hubert" if "hubert" in name else "wav2vec2" if "wav2vec" in name else None
    if family is None:
        raise ValueError(f"a model of the type {name!r}; HuBERT and wav2vec 2.0 are converted")
    found = {key: model[key] for key in SETTINGS if model.get(key) is not None}
    if isinstance(found.get("conv_feature_layers"), str):
        found["conv_feature_layers"] = convolutions(found["conv_feature_layers"])
    return family, bool(task.get("normalize", False)), found


def dictionary(checkpoint, path):
    """The symbols behind fairseq's own."""
    if path:
        return [line.rsplit(" ", 1)[0] for line in Path(path).read_text(encoding="utf-8").splitlines() if line]
    symbols = (plain((checkpoint.get("task_state") or {}).get("target_dictionary")) or {}).get("symbols")
    if not symbols or symbols[:4] != SPECIAL:
        raise ValueError("it holds no dictionary: give it with --dictionary dict.ltr.txt")
    return symbols[4:]


def write(path, tensors):
    header, offset = {}, 0
    for name, tensor in tensors:
        end = offset + prod(tensor.shape) * tensor.storage.size
        header[name] = {"dtype": tensor.storage.kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in tensors:
            file.write(tensor.bytes())


def main():
    parser = argparse.ArgumentParser(description="Converts a fairseq checkpoint for `reprise import fairseq`; runs none of its code.")
    parser.add_argument("checkpoint")
    parser.add_argument("out", help="OUT.safetensors; OUT.json is written beside it")
    parser.add_argument("--dictionary", help="dict.ltr.txt of a fine-tuned model that doesn't hold it")
    given = parser.parse_args()
    out = Path(given.out)
    if out.suffix != ".safetensors":
        parser.error("the name of the output ends with .safetensors")
    try:
        with open(given.checkpoint, "rb") as file:
            legacy = file.read(4) != b"PK\x03\x04"
            file.seek(0)
            checkpoint = read_legacy(file) if legacy else read_zip(file)
        if not isinstance(checkpoint, dict) or "model" not in checkpoint:
            raise ValueError("it holds no model")
        state = checkpoint["model"]
        family, normalize, network = settings(checkpoint)
        headed = any(name.startswith("w2v_encoder.proj.") for name in state)
        about = {
            "model_type": family,
            "normalize": normalize,
            "model": network,
            "dictionary": dictionary(checkpoint, given.dictionary) if headed else None,
        }
        tensors = sorted((name, tensor) for name, tensor in state.items() if isinstance(tensor, Tensor))
        for name, tensor in tensors:
            if tensor.storage.kind not in WEIGHTS:
                print(f"left out: {name}, of kind {tensor.storage.kind}", file=sys.stderr)
        tensors = [(name, tensor) for name, tensor in tensors if tensor.storage.kind in WEIGHTS]
        write(out, tensors)
        out.with_suffix(".json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        sys.exit(f"{given.checkpoint} cannot be converted: {error}")
    print(f"{out}: {len(tensors)} tensors of a {family} model")


if __name__ == "__main__":
    main()

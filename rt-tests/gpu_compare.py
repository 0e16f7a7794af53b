#!/usr/bin/env python3
"""PyTorch's time for the predictions that `neurohorizon bench` times, on the same machine and with the same weights.

    gpu_compare.py FOLDER --json out.json     time every variant (needs PyTorch and a GPU)
    gpu_compare.py FOLDER --check             compare with the golden outputs (PyTorch, or numpy where there is none)

FOLDER holds small_250ms.ckpt and small_250ms.safetensors. One prediction goes from spikes in host memory to log rates in host
memory: the tokens of a 0.5 s window, encoder, processor, and 12 or 50 bins generated one after another, each fed the expected
counts of the one before (prediction memory). Weights and activations are FP16, sums, softmax and LayerNorm as PyTorch does
them for FP16; angles are FP64.

Nothing is computed twice that need not be, as in the program: what depends on the session's units alone is a table, keys and
values of latents, bins and memory are kept, the head's first layer is separable. The variants:

    eager            one call of PyTorch an operation, slices that grow with the bins
    graph            the whole prediction captured in one CUDA graph, by hand; tokens padded and masked
    compile+graph    the same, of what torch.compile makes of encoder and step
    compile          torch.compile(mode='reduce-overhead'): encoder and step as CUDA graphs that PyTorch manages

Every variant runs in a process of its own with a time limit; what it predicts for the golden window is compared with the
golden output, and it counts only if that is right.
"""

import argparse
import datetime
import gc
import io
import json
import math
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

CASE = "small_250ms"
TOLERANCE = 2e-2
VARIANTS = ["eager", "graph", "compile+graph", "compile"]
BINS = [12, 50]
# Tokens of spikes that a captured prediction has room for.
CAPACITY = 256


# ---- files ----------------------------------------------------------------------------------------------------------


class Stored:
    """A dense array as a file holds it."""

    def __init__(self, kind, shape, data):
        self.kind, self.shape, self.data = kind, tuple(shape), bytes(data)


class CheckpointReader(pickle.Unpickler):
    """Reads what a checkpoint of the reference holds and refuses every other global: nothing of the file is executed."""

    def __init__(self, archive):
        name = next(entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
        super().__init__(io.BytesIO(archive.read(name)))
        self.archive, self.root = archive, name[: -len("data.pkl")]

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self.tensor
        if module == "torch" and name == "FloatStorage":
            return name
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in a checkpoint")

    def persistent_load(self, number):
        return self.archive.read(f"{self.root}data/{number[2]}")

    @staticmethod
    def tensor(storage, offset, shape, strides, *_):
        count = math.prod(shape)
        dense = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        if any(size > 1 and stride != want for size, stride, want in zip(shape, strides, dense)):
            raise pickle.UnpicklingError("a tensor that is not dense")
        return Stored("F32", shape, storage[4 * offset : 4 * (offset + count)])


def read_checkpoint(path):
    """(hyper-parameters of the model, {name: Stored})."""
    with zipfile.ZipFile(path) as archive:
        content = CheckpointReader(archive).load()
    tensors = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    return content["hyper_parameters"]["model"], {name: v for name, v in tensors.items() if isinstance(v, Stored)}


def read_safetensors(path):
    """{name: Stored}: eight bytes of length, a JSON header, then the data."""
    data = Path(path).read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = data[8 + length :]
    return {name: Stored(one["dtype"], one["shape"], body[slice(*one["data_offsets"])]) for name, one in header.items()}


# ---- what the forward pass needs of an array library ------------------------------------------------------------------


class Numpy:
    """FP32 on the CPU: plain definitions, for the check where there is no PyTorch."""

    def __init__(self):
        import numpy

        self.np = numpy
        self.erf = numpy.frompyfunc(math.erf, 1, 1)

    def array(self, stored, exact=False):
        kinds = {"F32": self.np.float32, "F64": self.np.float64, "I64": self.np.int64}
        out = self.np.frombuffer(stored.data, kinds[stored.kind]).reshape(stored.shape)
        return out if exact else out.astype(self.np.float32)

    def tensor(self, values, whole=False):
        return self.np.array(values, self.np.int64 if whole else self.np.float64)

    def zeros(self, *shape, single=False):
        return self.np.zeros(shape, self.np.float32)

    def half(self, x):
        return x.astype(self.np.float32)

    def turns(self, angles):
        return self.half(self.np.cos(angles)), self.half(self.np.sin(angles))

    def cat(self, parts, axis):
        return self.np.concatenate(parts, axis)

    def pairs(self, x0, x1):
        return self.np.stack([x0, x1], -1).reshape(*x0.shape[:-1], 2 * x0.shape[-1])

    def linear(self, x, weight, bias=None):
        out = x @ weight.T
        return out if bias is None else out + bias

    def norm(self, x, gain, bias):
        centred = x - x.mean(-1, keepdims=True)
        return centred / self.np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain + bias

    def gelu(self, x):
        return x * (0.5 + 0.5 * self.erf(x * math.sqrt(0.5)).astype(self.np.float32))

    def attend(self, q, k, v, bias=None):
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
        if bias is not None:
            scores = scores + bias
        weights = self.np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ v

    def log_count(self, log_rate):
        return self.np.log1p(self.np.exp(log_rate))

    def clamp(self, x):
        return self.np.clip(x, -10, 10)


class Torch:
    """PyTorch, with its fused functions."""

    def __init__(self, device, half):
        import torch

        self.torch, self.device = torch, device
        self.dtype = torch.float16 if half else torch.float32

    def array(self, stored, exact=False):
        kinds = {"F32": self.torch.float32, "F64": self.torch.float64, "I64": self.torch.int64}
        out = self.torch.frombuffer(bytearray(stored.data), dtype=kinds[stored.kind]).reshape(stored.shape)
        return out.to(self.device) if exact else out.to(self.device, self.dtype)

    def tensor(self, values, whole=False):
        return self.torch.tensor(values, dtype=self.torch.int64 if whole else self.torch.float64, device=self.device)

    def zeros(self, *shape, single=False):
        return self.torch.zeros(shape, dtype=self.torch.float32 if single else self.dtype, device=self.device)

    def half(self, x):
        return x.to(self.dtype)

    def turns(self, angles):
        return self.half(self.torch.cos(angles)), self.half(self.torch.sin(angles))

    def cat(self, parts, axis):
        return self.torch.cat(parts, axis)

    def pairs(self, x0, x1):
        return self.torch.stack([x0, x1], -1).flatten(-2)

    def linear(self, x, weight, bias=None):
        return self.torch.nn.functional.linear(x, weight, bias)

    def norm(self, x, gain, bias):
        return self.torch.nn.functional.layer_norm(x, gain.shape, gain, bias, 1e-5)

    def gelu(self, x):
        return self.torch.nn.functional.gelu(x)

    def attend(self, q, k, v, bias=None):
        if bias is not None:
            bias = bias.expand(1, q.shape[0], q.shape[1], k.shape[1])
        return self.torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=bias)[0]

    def log_count(self, log_rate):
        return self.half(self.torch.log1p(self.torch.exp(log_rate)))

    def clamp(self, x):
        return self.torch.clamp(x, -10, 10)


# ---- caches that grow -------------------------------------------------------------------------------------------------


class Growing:
    """Bin t is a number; what was kept of earlier bins is a slice."""

    def row(self, table, t):
        return table[t : t + 1]

    def put(self, cache, t, value):
        cache[:, t : t + 1] = value

    def seen(self, cache, t):
        return cache[:, : t + 1]

    def hidden(self, t, each):
        return None


class Padded:
    """Bin t is a tensor of one number, so that one captured step serves every bin; later bins are masked."""

    def __init__(self, ops, bins, tokens):
        torch = ops.torch
        later = torch.full((bins, bins), -math.inf, dtype=ops.dtype, device=ops.device).triu(1)
        self.later = {each: later.repeat_interleave(each, 1) for each in {1, tokens}}

    def row(self, table, t):
        return table.index_select(0, t)

    def put(self, cache, t, value):
        cache.index_copy_(1, t, value)

    def seen(self, cache, t):
        return cache

    def hidden(self, t, each):
        return self.later[each].index_select(0, t)


# ---- the model --------------------------------------------------------------------------------------------------------


class Model:
    """The network of one session: every unit of the checkpoint, `bins` predicted bins."""

    def __init__(self, ops, config, tensors, bins):
        self.ops, self.bins = ops, bins
        self.w = {name: ops.array(value) for name, value in tensors.items()}
        omega = [float(x) for x in ops.array(tensors["rotary_emb.omega"], exact=True)]
        self.omega = ops.tensor(omega)
        self.head_dim, self.cross_heads, self.self_heads = config["dim_head"], config["cross_heads"], config["self_heads"]
        self.pool_heads = config.get("prediction_memory_heads", 4)
        self.depth, self.decoder_depth = config["enc_depth"], config["dec_depth"]
        self.history = config["sequence_length"] - config["pred_window"]
        self.prepare(config)

    def prepare(self, config):
        """What does not depend on the window."""
        ops, w = self.ops, self.w
        units = w["unit_emb.weight"][1:]
        self.units, dim = units.shape
        # Keys and values of a token: a row for each type and unit.
        types = w["token_type_emb.weight"]
        tokens = ops.cat([units + types[kind] for kind in range(3)], 0)
        self.token_kv = self.projected("enc_atn", tokens, "norm_context", "to_kv")
        # Latents: the same rows at every step, at its middle.
        step, rows = config["latent_step"], config["num_latents_per_step"]
        steps = round(self.history / step)
        self.latents = ops.cat([w["latent_emb.weight"]] * steps, 0)
        self.latent_turn = self.turn(ops.tensor([(i // rows + 0.5) * step for i in range(steps * rows)]))
        query = self.heads(self.projected("enc_atn", self.latents, "norm", "to_q"))
        self.latent_query = self.rotate(query, *self.latent_turn)
        self.backward_turn = (self.latent_turn[0], -self.latent_turn[1])
        # Bins: evenly spaced from half a bin after the window to half a bin before the horizon.
        size, ahead = config["bin_size"], config["pred_window"]
        if round(ahead / size) != self.bins:
            ahead = self.bins * size
        first, last = self.history + size / 2, self.history + ahead - size / 2
        centres = [first + (last - first) * t / (self.bins - 1) for t in range(self.bins)]
        self.bin_cos, self.bin_sin = self.turn(ops.tensor(centres))
        # Head and memory encoder: the half of the first layer that sees the unit.
        unit = self.linear("head.unit_proj", units)
        first = w["head.mlp.0.weight"]
        self.head_bin = first[:, : dim // 2]
        self.head_unit = ops.linear(unit, first[:, dim // 2 :], w["head.mlp.0.bias"])
        memory = "prediction_memory_encoder."
        first = w[memory + "per_neuron_mlp.0.weight"]
        self.memory_unit = ops.linear(units, first[:, :dim], w[memory + "per_neuron_mlp.0.bias"])
        self.memory_count = first[:, dim:]
        packed, bias = w[memory + "pool.in_proj_weight"], w[memory + "pool.in_proj_bias"]
        queries = ops.linear(w[memory + "summary_queries"][0], packed[:dim], bias[:dim])
        self.pool_query = self.heads(queries, dim // self.pool_heads)
        self.pool_kv = (packed[dim:], bias[dim:])
        self.no_tokens = ops.zeros(len(queries), dim)
        # What is kept from bin to bin.
        shape = (self.cross_heads, len(self.latents), self.head_dim)
        slots = (self.cross_heads, self.bins, len(queries) * self.head_dim)
        own = (self.self_heads, self.bins, self.head_dim)
        kept = lambda shape: [(ops.zeros(*shape), ops.zeros(*shape)) for _ in range(self.decoder_depth)]
        self.latent_kv, self.memory_kv, self.own_kv = kept(shape), kept(slots), kept(own)
        self.log_rates = ops.zeros(1, self.bins, self.units, single=True)

    # -- pieces --

    def linear(self, name, x):
        return self.ops.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def projected(self, name, x, norm, projection):
        x = self.ops.norm(x, self.w[f"{name}.{norm}.weight"], self.w[f"{name}.{norm}.bias"])
        return self.linear(f"{name}.{projection}", x)

    def heads(self, x, width=None):
        """[rows, heads · width] to [heads, rows, width]."""
        width = width or self.head_dim
        return x.reshape(x.shape[0], -1, width).swapaxes(0, 1)

    def joined(self, x):
        return x.swapaxes(0, 1).reshape(x.shape[1], -1)

    def turn(self, times):
        """Cosines and sines [rows, pairs] of FP64 angles."""
        return self.ops.turns(times[:, None] * self.omega)

    def rotate(self, x, cos, sin):
        x0, x1 = x[..., 0::2], x[..., 1::2]
        return self.ops.pairs(x0 * cos - x1 * sin, x1 * cos + x0 * sin)

    def feed_forward(self, name, x):
        ops, w = self.ops, self.w
        both = self.linear(f"{name}.1.net.0", ops.norm(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"]))
        half = both.shape[-1] // 2
        return x + self.linear(f"{name}.1.net.3", both[:, :half] * ops.gelu(both[:, half:]))

    # -- forward --

    def encode(self, index, times, hidden=None):
        """Tokens (rows of the table, seconds) to the decoder's keys and values of the latents."""
        ops = self.ops
        width = self.cross_heads * self.head_dim
        turn = self.turn(times)
        kv = self.token_kv[index]
        keys, values = (self.rotate(self.heads(part), *turn) for part in (kv[:, :width], kv[:, width:]))
        seen = self.rotate(ops.attend(self.latent_query, keys, values, hidden), *self.backward_turn)
        x = self.latents + self.linear("enc_atn.to_out", self.joined(seen))
        x = self.feed_forward("enc_ffn", x)
        width = self.self_heads * self.head_dim
        for layer in range(self.depth):
            name = f"proc_layers.{layer}.0"
            qkv = self.projected(name, x, "norm", "to_qkv")
            q, k, v = (self.rotate(self.heads(qkv[:, i * width : (i + 1) * width]), *self.latent_turn) for i in range(3))
            seen = self.rotate(ops.attend(q, k, v), *self.backward_turn)
            x = x + self.linear(f"{name}.to_out", self.joined(seen))
            x = self.feed_forward(f"proc_layers.{layer}.1", x)
        width = self.cross_heads * self.head_dim
        for layer, (keys, values) in enumerate(self.latent_kv):
            kv = self.projected(f"ar_decoder.layers.{layer}.0", x, "norm_context", "to_kv")
            keys[...] = self.rotate(self.heads(kv[:, :width]), *self.latent_turn)
            values[...] = self.heads(kv[:, width:])
        return x

    def memory_tokens(self, log_rate):
        """K tokens from the log rates [1, N] of the bin before."""
        ops, name = self.ops, "prediction_memory_encoder."
        counts = ops.log_count(log_rate).reshape(-1, 1)
        code = self.linear(name + "count_proj.2", ops.gelu(self.linear(name + "count_proj.0", counts)))
        code = ops.gelu(self.memory_unit + ops.linear(code, self.memory_count))
        kv = ops.linear(self.linear(name + "per_neuron_mlp.2", code), *self.pool_kv)
        dim = kv.shape[1] // 2
        k, v = (self.heads(part, dim // self.pool_heads) for part in (kv[:, :dim], kv[:, dim:]))
        return self.linear(name + "pool.out_proj", self.joined(ops.attend(self.pool_query, k, v)))

    def step(self, t, first, caches):
        """Bin t from the ones before; `first`: whether t is 0."""
        ops = self.ops
        width = self.cross_heads * self.head_dim
        turn = (caches.row(self.bin_cos, t), caches.row(self.bin_sin, t))
        b = caches.row(self.w["bin_emb"][0], t)
        tokens = self.no_tokens if first else self.memory_tokens(caches.row(self.log_rates[0], t - 1))
        each = tokens.shape[0]
        for layer in range(self.decoder_depth):
            name = f"ar_decoder.layers.{layer}"
            query = self.rotate(self.heads(self.projected(f"{name}.0", b, "norm", "to_q")), *turn)
            seen = ops.attend(query, *self.latent_kv[layer])
            b = b + self.linear(f"{name}.0.to_out", self.joined(seen))

            kv = self.projected(f"{name}.1", tokens, "norm_context", "to_kv")
            keys, values = self.memory_kv[layer]
            key = self.rotate(self.heads(kv[:, :width]), *turn)
            caches.put(keys, t, key.reshape(self.cross_heads, 1, -1))
            caches.put(values, t, self.heads(kv[:, width:]).reshape(self.cross_heads, 1, -1))
            query = self.rotate(self.heads(self.projected(f"{name}.1", b, "norm", "to_q")), *turn)
            shape = (self.cross_heads, -1, self.head_dim)
            keys, values = (caches.seen(part, t).reshape(shape) for part in (keys, values))
            seen = ops.attend(query, keys, values, caches.hidden(t, each))
            b = b + self.linear(f"{name}.1.to_out", self.joined(seen))

            qkv = self.heads(self.projected(f"{name}.2", b, "norm", "to_qkv"))
            q, k, v = (qkv[i * self.self_heads : (i + 1) * self.self_heads] for i in range(3))
            keys, values = self.own_kv[layer]
            caches.put(keys, t, self.rotate(k, *turn))
            caches.put(values, t, v)
            seen = ops.attend(
                self.rotate(q, *turn), caches.seen(keys, t), caches.seen(values, t), caches.hidden(t, 1)
            )
            b = b + self.linear(f"{name}.2.to_out", self.joined(seen))
            b = self.feed_forward(f"{name}.3", b)
        hidden = ops.gelu(self.head_unit + ops.linear(self.linear("head.bin_proj", b), self.head_bin))
        hidden = ops.gelu(self.linear("head.mlp.2", hidden))
        rate = ops.clamp(self.linear("head.mlp.4", hidden)).reshape(1, 1, -1)
        caches.put(self.log_rates, t, rate if isinstance(ops, Numpy) else rate.float())

    def fixed_tokens(self):
        """(rows of the table, seconds) of the start and end tokens of all units."""
        units = range(self.units)
        index = [self.units + unit for unit in units] + [2 * self.units + unit for unit in units]
        return index, [0.0] * self.units + [self.history] * self.units


# ---- check --------------------------------------------------------------------------------------------------------------


def load(folder):
    config, tensors = read_checkpoint(folder / f"{CASE}.ckpt")
    return config, tensors, read_safetensors(folder / f"{CASE}.safetensors")


def host_values(stored):
    kinds = {"F32": "f", "F64": "d", "I64": "q"}
    return list(struct.unpack(f"<{math.prod(stored.shape)}{kinds[stored.kind]}", stored.data))


def difference(found, expected):
    return max(abs(a - b) if math.isfinite(a) else math.inf for a, b in zip(found, expected))


def check(folder, ops, what):
    """Whether the forward pass is the reference's, as a line."""
    config, tensors, golden = load(folder)
    bins, _ = golden["log_rate_generated"].shape
    model = Model(ops, config, tensors, bins)
    index, times = model.fixed_tokens()
    index = ops.tensor(index + host_values(golden["spike_units"]), whole=True)
    times = ops.tensor(times + host_values(golden["spike_times"]))
    x = model.encode(index, times)
    for t in range(bins):
        model.step(t, t == 0, Growing())
    wrong = difference(
        [float(v) for v in model.log_rates.reshape(-1)], host_values(golden["log_rate_generated"])
    )
    expected = host_values(golden["latents"])
    latents = difference([float(v) for v in x.reshape(-1)], expected) / max(map(abs, expected))
    ok = wrong <= TOLERANCE
    print(f"{what}: log rates within {wrong:.2g}, latents within {latents:.2g} of the largest: {'ok' if ok else 'WRONG'}")
    return ok


def check_all(folder, numpy_only):
    try:
        if numpy_only:
            raise ImportError
        import torch
    except ImportError:
        return check(folder, Numpy(), "numpy, FP32")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.no_grad():
        return all([check(folder, Torch(device, half), f"PyTorch, {device}, {name}") for half, name in KINDS])


KINDS = [(False, "FP32"), (True, "FP16")]


# ---- timing -------------------------------------------------------------------------------------------------------------


class Prediction:
    """One variant: spikes in host memory to log rates in host memory."""

    def __init__(self, variant, config, tensors, bins, device):
        ops = Torch(device, half=True)
        torch = self.torch = ops.torch
        self.bins, self.variant = bins, variant
        model = self.model = Model(ops, config, tensors, bins)
        pinned = device == "cuda"
        self.answer = torch.empty(bins, model.units, pin_memory=pinned)
        index, times = model.fixed_tokens()
        self.fixed = len(index)
        room = self.fixed + CAPACITY
        self.index = torch.zeros(room, dtype=torch.int64, device=device)
        self.times = torch.zeros(room, dtype=torch.float64, device=device)
        self.index[: self.fixed] = ops.tensor(index, whole=True)
        self.times[: self.fixed] = ops.tensor(times)
        self.host_index = torch.zeros(CAPACITY, dtype=torch.int64, pin_memory=pinned)
        self.host_times = torch.zeros(CAPACITY, dtype=torch.float64, pin_memory=pinned)
        self.host_count = torch.zeros(1, dtype=torch.int64, pin_memory=pinned)
        self.count = torch.zeros(1, dtype=torch.int64, device=device)
        self.place = torch.arange(room, device=device)
        self.shown, self.not_shown = ops.zeros(1), ops.zeros(1) - math.inf
        self.sync = torch.cuda.synchronize if pinned else lambda: None
        self.encode, self.step, self.caches = model.encode, model.step, Growing()
        self.numbers = range(bins)
        self.mark = lambda: None
        self.graph = None
        if variant != "eager":
            self.make_static(device)

    def make_static(self, device):
        torch, model = self.torch, self.model
        if "compile" in self.variant:
            self.caches = Padded(model.ops, self.bins, len(model.no_tokens))
            self.numbers = [torch.tensor([t], device=device) for t in range(self.bins)]
            options = {"fullgraph": True, "dynamic": False}
            if self.variant == "compile":
                options["mode"] = "reduce-overhead"
                self.mark = torch.compiler.cudagraph_mark_step_begin
                # Weights and caches stay where they are; otherwise every call would copy them.
                for tensor in static_tensors([vars(model), vars(self.caches), self.numbers]):
                    torch._dynamo.mark_static_address(tensor)
            self.encode = torch.compile(model.encode, **options)
            self.step = torch.compile(model.step, **options)
        if "graph" in self.variant:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.static()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.static()
            self.graph = graph

    def generate(self):
        for t in range(self.bins):
            self.mark()
            self.step(self.numbers[t], t == 0, self.caches)
        self.answer.copy_(self.model.log_rates[0], non_blocking=True)

    def static(self):
        """From staging memory to the answer with fixed addresses and shapes."""
        self.index[self.fixed :].copy_(self.host_index, non_blocking=True)
        self.times[self.fixed :].copy_(self.host_times, non_blocking=True)
        self.count.copy_(self.host_count, non_blocking=True)
        hidden = self.torch.where(self.place < self.count, self.shown, self.not_shown)[None]
        self.mark()
        self.encode(self.index, self.times, hidden)
        self.generate()

    def __call__(self, units, times):
        n = len(units)
        self.host_index[:n].copy_(units)
        self.host_times[:n].copy_(times)
        if self.variant == "eager":
            end = self.fixed + n
            self.index[self.fixed : end].copy_(self.host_index[:n], non_blocking=True)
            self.times[self.fixed : end].copy_(self.host_times[:n], non_blocking=True)
            self.encode(self.index[:end], self.times[:end])
            self.generate()
        else:
            self.host_count[0] = self.fixed + n
            if self.graph is None:
                self.static()
            else:
                self.graph.replay()
        self.sync()
        return self.answer


def static_tensors(values):
    """All tensors in nested lists and dictionaries."""
    for value in values:
        if isinstance(value, dict):
            yield from static_tensors(value.values())
        elif isinstance(value, (list, tuple)):
            yield from static_tensors(value)
        elif type(value).__name__ == "Tensor":
            yield value


def time_variant(folder, variant, args):
    """Figures of one variant at every horizon."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config, tensors, golden = load(folder)
    expected = host_values(golden["log_rate_generated"])
    golden_units = torch.tensor(host_values(golden["spike_units"]))
    golden_times = torch.tensor(host_values(golden["spike_times"]), dtype=torch.float64)
    cases = []
    for bins in args.bins:
        started = time.perf_counter()
        predict = Prediction(variant, config, tensors, bins, device)
        history, units = predict.model.history, predict.model.units
        generator = random.Random(7)
        windows = []
        for _ in range(16):
            times = sorted(generator.uniform(0, history) for _ in range(args.spikes))
            units_of = [generator.randrange(units) for _ in times]
            windows.append((torch.tensor(units_of), torch.tensor(times, dtype=torch.float64)))
        for i in range(args.warm_up):
            predict(*windows[i % len(windows)])
        warm = time.perf_counter() - started
        taken = []
        gc.collect()
        gc.disable()
        for i in range(args.repetitions):
            window = windows[i % len(windows)]
            start = time.perf_counter()
            predict(*window)
            taken.append(1e3 * (time.perf_counter() - start))
        gc.enable()
        taken.sort()
        at = lambda q: taken[round((len(taken) - 1) * q)]
        case = {"variant": variant, "bins": bins, "median_ms": at(0.5), "p99_ms": at(0.99)}
        case.update(repetitions=len(taken), spikes=args.spikes, units=units, warm_up_s=warm)
        if len(expected) == bins * units:
            found = predict(golden_units, golden_times).reshape(-1).tolist()
            case["difference"] = difference(found, expected)
            if case["difference"] > TOLERANCE:
                case["error"] = f"log rates are off by {case['difference']:.2g}"
        cases.append(case)
        print(json.dumps(case), flush=True)
    return cases


def time_all(folder, args):
    """Every variant in its own process; the report."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    report = {
        "device": name,
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "precision": "f16",
        "cases": [],
    }
    for variant in args.variants:
        command = [sys.executable, __file__, str(folder), "--variant", variant]
        for option in ("repetitions", "warm_up", "spikes"):
            command += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
        command += ["--bins", *map(str, args.bins)]
        error, said = None, ""
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=args.limit)
            said = ran.stdout
            if ran.returncode != 0:
                last = ran.stderr.strip().splitlines() or ["no word"]
                error = f"exit status {ran.returncode}: {last[-1]}"
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode()
            error = f"not done after {args.limit:.0f} s"
        cases = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        # One that predicts something else at one horizon is not to be trusted at the other.
        wrong = next((case["error"] for case in cases if "error" in case), None)
        for case in cases:
            if wrong:
                case["error"] = wrong
        for bins in args.bins:
            if error and not any(case["bins"] == bins for case in cases):
                cases.append({"variant": variant, "bins": bins, "error": error})
        report["cases"] += cases
        for case in cases:
            figures = case.get("error") or f"median {case['median_ms']:.3f} ms, p99 {case['p99_ms']:.3f} ms"
            print(f"{variant}, {case['bins']} bins: {figures}", flush=True)
    good = [case for case in report["cases"] if "error" not in case]
    report["best"] = {
        str(bins): min((case for case in good if case["bins"] == bins), key=lambda case: case["p99_ms"], default=None)
        for bins in args.bins
    }
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help=f"holds {CASE}.ckpt and {CASE}.safetensors")
    parser.add_argument("--check", action="store_true", help="compare with the golden outputs, time nothing")
    parser.add_argument("--numpy", action="store_true", help="check with numpy although there is PyTorch")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--warm-up", type=int, default=30)
    parser.add_argument("--spikes", type=int, default=224, help="in a window [%(default)s]")
    parser.add_argument("--bins", type=int, nargs="+", default=BINS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--limit", type=float, default=100, help="seconds for one variant [%(default)s]")
    parser.add_argument("--any-device", action="store_true", help="time on the CPU if there is no GPU: to try the script")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.spikes > CAPACITY:
        parser.error(f"--spikes is at most {CAPACITY}")
    if args.check:
        return 0 if check_all(args.folder, args.numpy) else 1
    try:
        import torch
    except ImportError:
        print("no PyTorch in this Python", file=sys.stderr)
        return 3
    if not torch.cuda.is_available() and not args.any_device and not args.variant:
        print("PyTorch sees no GPU", file=sys.stderr)
        return 3
    with torch.no_grad():
        if args.variant:
            time_variant(args.folder, args.variant, args)
            return 0
        report = time_all(args.folder, args)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if all(report["best"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

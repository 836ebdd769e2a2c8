# SPDX-License-Identifier: Apache-2.0
"""The demo model: a byte-level transformer with grouped-query attention, in PyTorch.

The module names give the tensor names of the weight file.  A `kv_hook` is called on the keys
(after the rotary embedding) and the values, that is on what an engine keeps in its cache.
"""

import dataclasses
import json
import struct

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass(frozen=True)
class Config:
    vocab: int = 256
    d_model: int = 256
    n_layers: int = 6
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 128
    d_ff: int = 704
    rope_theta: float = 1e6
    norm_eps: float = 1e-5


class RMSNorm(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(cfg.d_model))
        self.eps = cfg.norm_eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return (y * self.weight).to(x.dtype)


def linear(n_in, n_out, std):
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.normal_(layer.weight, std=std)
    return layer


def rope_tables(cfg, length, device):
    """cos and sin of position * theta^(-i/half), each [length, head_dim / 2], in fp32."""
    half = cfg.head_dim // 2
    inverse = cfg.rope_theta ** (-torch.arange(half, dtype=torch.float64, device=device) / half)
    angle = torch.arange(length, dtype=torch.float64, device=device)[:, None] * inverse
    return angle.cos().float(), angle.sin().float()


def rotate(x, rope):
    """Rotary embedding, half-split form: dimension i pairs with i + head_dim / 2."""
    cos, sin = rope
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


def round_to_fp16(x):
    """What a cache of fp16 pages does to a key or a value."""
    return x.half().to(x.dtype)


def noise(level):
    """A KV hook for training: Gaussian noise of `level` times each vector's own RMS."""
    def hook(x):
        rms = x.detach().float().square().mean(-1, keepdim=True).sqrt()
        return x + (level * rms).to(x.dtype) * torch.randn_like(x)
    return hook


class Attention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        width = cfg.n_heads * cfg.head_dim
        kv_width = cfg.n_kv_heads * cfg.head_dim
        self.q = linear(cfg.d_model, width, cfg.d_model ** -0.5)
        self.k = linear(cfg.d_model, kv_width, cfg.d_model ** -0.5)
        self.v = linear(cfg.d_model, kv_width, cfg.d_model ** -0.5)
        self.o = linear(width, cfg.d_model, (2 * cfg.n_layers * width) ** -0.5)

    def forward(self, x, rope, kv_hook):
        batch, length, _ = x.shape
        q, k, v = (p(x).view(batch, length, -1, self.cfg.head_dim).transpose(1, 2)
                   for p in (self.q, self.k, self.v))
        q, k = rotate(q, rope), rotate(k, rope)
        if kv_hook is not None:
            k, v = kv_hook(k), kv_hook(v)
        group = self.cfg.n_heads // self.cfg.n_kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.gate = linear(cfg.d_model, cfg.d_ff, cfg.d_model ** -0.5)
        self.up = linear(cfg.d_model, cfg.d_ff, cfg.d_model ** -0.5)
        self.down = linear(cfg.d_ff, cfg.d_model, (2 * cfg.n_layers * cfg.d_ff) ** -0.5)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.attn_norm, self.attn = RMSNorm(cfg), Attention(cfg)
        self.mlp_norm, self.mlp = RMSNorm(cfg), MLP(cfg)

    def forward(self, x, rope, kv_hook=None):
        x = x + self.attn(self.attn_norm(x), rope, kv_hook)
        return x + self.mlp(self.mlp_norm(x))


class Model(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.vocab, cfg.d_model)
        nn.init.normal_(self.embed.weight, std=0.05)
        self.layers = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers))
        self.norm = RMSNorm(cfg)

    def hidden(self, tokens, rope, kv_hook=None):
        """Final normalised states [batch, length, d_model]."""
        x = self.embed(tokens)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        for layer in self.layers:
            x = layer(x, rope, kv_hook)
        return self.norm(x)

    def forward(self, tokens, rope, kv_hook=None):
        return F.linear(self.hidden(tokens, rope, kv_hook), self.embed.weight)


# ------------------------------------------------------------------------------ weight files

def save_weights(path, model, **info):
    """Write fp16 safetensors; `info` (seed, steps) joins the configuration in the metadata."""
    metadata = {k: str(v) for k, v in {**dataclasses.asdict(model.cfg), **info}.items()}
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in model.state_dict().items():
        blob = tensor.detach().cpu().half().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F16", "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load_weights(path):
    """Read a file of `save_weights`; return the model (fp32) and the file's metadata."""
    with open(path, "rb") as file:
        data = file.read()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__")
    cfg = Config(**{f.name: f.type(metadata[f.name]) for f in dataclasses.fields(Config)})
    state = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        tensor = torch.frombuffer(bytearray(data[start + first:start + last]), dtype=torch.float16)
        state[name] = tensor.reshape(entry["shape"]).float()
    model = Model(cfg)
    model.load_state_dict(state)
    return model, metadata

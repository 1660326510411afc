#!/usr/bin/env python3
"""Speed of plain PyTorch eager on the model and batch that longhaul-worker trains.

    eager_trainer.py --preset llama-1m --batch 8 --length 128 --threads 1 --steps 30

Prints tokens per second of the fastest and of the mean step. Written the way a PyTorch user writes
it: nn.Module, F.rms_norm, F.scaled_dot_product_attention, clip_grad_norm_, AdamW (--fused for its
fused form). Needs an importable torch.
"""
import argparse
import time

import torch
import torch.nn.functional as F
from torch import nn

# hidden, intermediate, layers, heads, key-value heads
PRESETS = {
    "llama-130k": (64, 176, 2, 2, 2),
    "llama-670k": (128, 352, 3, 4, 4),
    "llama-1m": (160, 432, 3, 5, 5),
    "llama-10m": (384, 1024, 6, 6, 6),
    "llama-30m": (512, 1376, 9, 8, 8),
    "llama-100m": (768, 2048, 14, 12, 12),
    "llama-300m": (1024, 2736, 24, 16, 8),
    "llama-1b": (2048, 5472, 22, 16, 8),
}
VOCABULARY = 256


class RmsNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-5)


def rotate(x, cosine, sine):
    a, b = x.chunk(2, -1)
    return x * cosine + torch.cat((-b, a), -1) * sine


class Layer(nn.Module):
    def __init__(self, hidden, intermediate, heads, kv_heads):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, hidden // heads
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.attention_norm, self.mlp_norm = RmsNorm(hidden), RmsNorm(hidden)
        self.q, self.o = linear(hidden, hidden), linear(hidden, hidden)
        self.k = linear(hidden, kv_heads * self.size)
        self.v = linear(hidden, kv_heads * self.size)
        self.gate, self.up = linear(hidden, intermediate), linear(hidden, intermediate)
        self.down = linear(intermediate, hidden)

    def attention(self, x, cosine, sine):
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, self.size).transpose(1, 2)
        k = self.k(x).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        v = self.v(x).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
        grouped = self.heads != self.kv_heads
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, -1))

    def forward(self, x, cosine, sine):
        x = x + self.attention(self.attention_norm(x), cosine, sine)
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    def __init__(self, preset, length):
        super().__init__()
        hidden, intermediate, layers, heads, kv_heads = PRESETS[preset]
        self.embedding = nn.Embedding(VOCABULARY, hidden)
        self.layers = nn.ModuleList(
            Layer(hidden, intermediate, heads, kv_heads) for _ in range(layers)
        )
        self.norm, self.head = RmsNorm(hidden), nn.Linear(hidden, VOCABULARY, bias=False)
        size = hidden // heads
        angle = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, size, 2) / size))
        self.register_buffer("cosine", torch.cat((angle, angle), -1).cos())
        self.register_buffer("sine", torch.cat((angle, angle), -1).sin())

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cosine, self.sine)
        return self.head(self.norm(x))


def make_optimizer(model, fused):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.003, betas=(0.9, 0.95), eps=1e-8, fused=fused or None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="llama-1m", choices=PRESETS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fused", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = Llama(args.preset, args.length).to(args.device)
    optimizer = make_optimizer(model, args.fused)
    shape = (args.batch, args.length)
    inputs = torch.randint(VOCABULARY, shape, device=args.device)
    targets = torch.randint(VOCABULARY, shape, device=args.device)
    seconds = []
    for step in range(args.steps + 3):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs).view(-1, VOCABULARY), targets.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()  # waits for the device
        if step >= 3:
            seconds.append(time.perf_counter() - start)
    tokens = args.batch * args.length
    print(
        f"PyTorch eager {torch.__version__}, {args.preset}, batch {args.batch} x {args.length}, "
        f"{args.threads} threads: {tokens / min(seconds):.0f} tokens/s best, "
        f"{tokens * len(seconds) / sum(seconds):.0f} mean"
    )


if __name__ == "__main__":
    main()

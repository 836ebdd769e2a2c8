#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure the demo model: passkeys, several keys, recall, repeated strings and plain text.

All mathematics is fp32 (TF32 off); keys and values are rounded to fp16 as the engine's pages do.
A passkey counts when greedy decoding gives all five digits.  One pass over prompt and answer
decides that exactly: greedy decoding is right if each digit is the best guess behind the right
ones before it.
"""

import argparse
import json
import math
import pathlib
import random

import torch
import torch.nn.functional as F

import make_prompts
import model as demo
import tasks

HERE = pathlib.Path(__file__).resolve().parent


def as_tokens(texts, device):
    rows = [torch.frombuffer(bytearray(t.encode("ascii")), dtype=torch.uint8) for t in texts]
    return torch.stack(rows).to(device).long()


@torch.no_grad()
def passkey_hits(net, prompts, kv_hook, rows, device):
    """Number of prompts whose five digits come out right."""
    hits = 0
    for first in range(0, len(prompts), rows):
        part = prompts[first:first + rows]
        tokens = as_tokens([p["prompt"] + p["answer"] for p in part], device)
        rope = demo.rope_tables(net.cfg, tokens.shape[1] - 1, device)
        states = net.hidden(tokens[:, :-1], rope, kv_hook)[:, -5:]
        guess = F.linear(states, net.embed.weight).argmax(-1)
        hits += (guess == tokens[:, -5:]).all(-1).sum().item()
    return hits


def passkey_prompts(count, tokens, needles, seed):
    rng, text, names = random.Random(seed), make_prompts.load_haystack(), make_prompts.load_names()
    return [make_prompts.build(rng, text, names, tokens, needles) for _ in range(count)]


@torch.no_grad()
def task_accuracy(net, text, kind, count, length, device):
    """Share of right next-byte guesses on the answers of one synthetic task, and its bytes."""
    generator = tasks.Generator(text, f"evaluate/{kind}")
    wanted = {"recall": tasks.RECALL, "repeat": tasks.REPEAT}[kind]
    right = total = 0
    for _ in range(count):
        pieces = getattr(generator, kind)(length)
        tokens = as_tokens(["".join(s for s, _ in pieces)], device)
        classes = torch.tensor([c for s, c in pieces for _ in s], device=device)[1:]
        rope = demo.rope_tables(net.cfg, tokens.shape[1] - 1, device)
        guess = net(tokens[:, :-1], rope, demo.round_to_fp16).argmax(-1)[0]
        asked = classes == wanted
        right += (guess == tokens[0, 1:])[asked].sum().item()
        total += asked.sum().item()
    return {"accuracy": right / total, "bytes": total}


@torch.no_grad()
def text_bits(net, text, count, length, device):
    """Bits per byte of plain text."""
    rng, total = random.Random(7), 0.0
    for _ in range(count):
        tokens = as_tokens([make_prompts.cut(text, rng, length + 1)], device)
        rope = demo.rope_tables(net.cfg, length, device)
        logits = net(tokens[:, :-1], rope, demo.round_to_fp16)
        total += F.cross_entropy(logits[0], tokens[0, 1:]).item()
    return total / count / math.log(2)


@torch.no_grad()
def reference(net, device):
    """Vectors for a test of another implementation: greedy bytes and last logits of a prompt."""
    prompt = make_prompts.load_haystack()[:300]
    text, top = prompt, None
    for _ in range(16):
        tokens = as_tokens([text], device)
        rope = demo.rope_tables(net.cfg, len(text), device)
        logits = net(tokens, rope, demo.round_to_fp16)[0, -1]
        if top is None:
            top = logits.topk(5)
        text += chr(logits.argmax().item())
    return {"prompt": prompt, "greedy": text[len(prompt):],
            "top5": [[i, v] for i, v in zip(top.indices.tolist(), top.values.tolist())]}


def largest_kv(net, prompt, device):
    """Largest key or value element of a prompt, to see the distance from fp16's 65504."""
    seen = []

    def watch(x):
        seen.append(x.abs().max())
        return x

    tokens = as_tokens([prompt], device)
    with torch.no_grad():
        net.hidden(tokens, demo.rope_tables(net.cfg, tokens.shape[1], device), watch)
    return max(seen).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default=str(HERE / "synapse-demo.safetensors"))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the prompts to run")
    parser.add_argument("--out", help="write the figures here (JSON)")
    parser.add_argument("--reference", help="write reference vectors here (JSON)")
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    net, metadata = demo.load_weights(args.weights)
    net.to(device).eval()
    report = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
              "steps": metadata["steps"], "kv": "fp16", "math": "fp32", "passkey": []}

    def passkeys(count, tokens, needles, level=None):
        count = max(1, round(count * args.scale))
        hook = demo.noise(level) if level else demo.round_to_fp16
        prompts = passkey_prompts(count, tokens, needles, f"evaluate/{tokens}/{needles}")
        hits = passkey_hits(net, prompts, hook, max(1, 65536 // tokens), device)
        row = {"tokens": tokens, "needles": needles, "prompts": count, "right": hits,
               "accuracy": hits / count}
        if level:
            row["kv_noise"] = level
        report["passkey"].append(row)
        print(row, flush=True)

    for tokens, count in ((8192, 500), (2048, 200), (4096, 200), (16384, 100)):
        passkeys(count, tokens, 1)
        passkeys(count, tokens, 8)
    passkeys(100, 8192, 32)
    for level in (0.1, 0.2, 0.35):
        passkeys(100, 8192, 4, level)

    text = tasks.read_corpus("valid.xz")
    rounds = max(1, round(40 * args.scale))
    for kind in ("recall", "repeat"):
        report[kind] = task_accuracy(net, text, kind, rounds, 1024, device)
    report["bits_per_byte"] = {
        "haystack": text_bits(net, make_prompts.load_haystack(), rounds, 4096, device),
        "valid": text_bits(net, text, rounds, 4096, device)}
    report["largest_kv"] = largest_kv(net, make_prompts.load_haystack()[:4096], device)
    print({k: v for k, v in report.items() if k != "passkey"})
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(report, indent=1) + "\n")
    if args.reference:
        pathlib.Path(args.reference).write_text(json.dumps(reference(net, device), indent=1) + "\n")


if __name__ == "__main__":
    main()

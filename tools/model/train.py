#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the demo model on one GPU.

A run lasts --minutes and goes through --phases, a list of LENGTH:SHARE of that time.  The learning
rate warms up, stays, and falls over the last part of the run.  As the clock decides where a phase
ends, two runs of one seed give slightly different weights.
"""

import argparse
import contextlib
import csv
import pathlib
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import evaluate
import model as demo
import tasks

CLASS_WEIGHTS = (0.0, 1.0, 0.2, 0.4, 1.0)  # SKIP, TEXT, REPEAT, RECALL, PASSKEY
WARMUP_STEPS = 100
COLUMNS = ("step", "seconds", "length", "lr", "text", "repeat", "recall", "passkey",
           "hit_2048", "hit_8192")


def orthogonal(g):
    """Nearly semi-orthogonal matrices of a stack [n, rows, columns], by Newton-Schulz steps.

    The coefficients of the quintic are those that K. Jordan published with Muon.
    """
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Momentum with orthogonalised updates; matrices of one shape are handled as one stack."""

    def __init__(self, params, momentum=0.95, decay=0.05):
        self.momentum, self.decay = momentum, decay
        shapes = {}
        for p in params:
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.stacks = [(group, torch.zeros(len(group), *shape, device=group[0].device))
                       for shape, group in shapes.items()]

    @torch.no_grad()
    def step(self, lr):
        for group, velocity in self.stacks:
            grad = torch.stack([p.grad for p in group])
            velocity.lerp_(grad, 1 - self.momentum)
            update = orthogonal(grad.lerp(velocity, self.momentum))
            # 0.2 sqrt(larger side) gives the update the RMS that an Adam step has.
            update = update.float() * (0.2 * max(update.shape[-2:]) ** 0.5)
            torch._foreach_mul_(group, 1 - lr * self.decay)
            torch._foreach_add_(group, list(update.unbind(0)), alpha=-lr)


def class_losses(logits, targets, classes):
    """Mean cross entropy of each class."""
    loss = F.cross_entropy(logits.float(), targets, reduction="none")
    mask = classes == torch.arange(tasks.CLASSES, device=loss.device)[:, None]
    return (mask * loss).sum(1) / mask.sum(1).clamp(min=1)


def rate(elapsed, step, args):
    """Learning rate as a share of the peak: warm-up by steps, decay by time."""
    left = 1 - elapsed / (60 * args.minutes)
    return min(1.0, (step + 1) / WARMUP_STEPS, max(0.02, left / args.decay_share))


class Trainer:
    def __init__(self, args):
        self.args = args
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(args.seed)
        torch.set_float32_matmul_precision("high")
        self.step = 0
        self.model = demo.Model(demo.Config()).to(self.device)
        matrices = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n]
        others = [p for n, p in self.model.named_parameters() if p.ndim == 1 or "embed" in n]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(others, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0,
                                      fused=self.device == "cuda")
        self.hook = demo.noise(args.kv_noise) if args.kv_noise else None
        self.weights = torch.tensor(CLASS_WEIGHTS, device=self.device)
        self.losses = torch.compile(class_losses) if self.device == "cuda" else class_losses
        if self.device == "cuda":
            for layer in self.model.layers:
                layer.compile(dynamic=False)
        self.out = pathlib.Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = csv.writer(open(self.out / "loss.csv", "w", newline="", buffering=1))
        self.log.writerow(COLUMNS)
        self.began = time.monotonic()

    def elapsed(self):
        return time.monotonic() - self.began

    def fast_math(self):
        """bf16 arithmetic, and cuDNN's attention (on an H200 quicker than PyTorch's flash one)."""
        stack = contextlib.ExitStack()
        stack.enter_context(torch.autocast(self.device, torch.bfloat16))
        if self.device == "cuda":
            stack.enter_context(sdpa_kernel([SDPBackend.CUDNN_ATTENTION]))
        return stack

    def update(self, tokens, classes, rope):
        """One optimiser step; returns the class losses."""
        share = rate(self.elapsed(), self.step, self.args)
        tokens = tokens.to(self.device, non_blocking=True).long()
        classes = classes.to(self.device, non_blocking=True).flatten()
        with self.fast_math():
            logits = self.model(tokens[:, :-1], rope, self.hook)
            means = self.losses(logits.flatten(0, 1), tokens[:, 1:].flatten(), classes)
            loss = (means * self.weights).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step(self.args.lr * share)
        for group in self.adam.param_groups:
            group["lr"] = self.args.lr * share
        self.adam.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        return means.detach(), share

    def hits(self, length):
        """Passkey accuracy on a few held-out prompts of one and of eight needles."""
        right = 0
        rows = max(1, 65536 // length)
        for needles in (1, 8):
            prompts = evaluate.passkey_prompts(32, length, needles, f"train/{needles}")
            with torch.compiler.set_stance("force_eager"), self.fast_math():
                right += evaluate.passkey_hits(self.model, prompts, None, rows, self.device)
        return right / 64

    def save(self):
        demo.save_weights(self.out / "synapse-demo.safetensors", self.model,
                          seed=self.args.seed, steps=self.step)

    def run_phase(self, length, until, text):
        rows = max(1, self.args.tokens // length)
        loader = torch.utils.data.DataLoader(
            tasks.Batches(text, rows, length, f"{self.args.seed}/{self.step}"),
            batch_size=None, num_workers=self.args.workers, prefetch_factor=4,
            pin_memory=self.device == "cuda", multiprocessing_context="fork")
        rope = demo.rope_tables(self.model.cfg, length, self.device)
        last_time, last_step = self.elapsed(), self.step
        for tokens, classes in loader:
            means, share = self.update(tokens, classes, rope)
            done = self.elapsed() >= until
            if self.step % 10 == 0 or done:
                row = [self.step, round(self.elapsed(), 1), length,
                       f"{self.args.lr * share:.2e}", *(f"{m:.4f}" for m in means[1:].tolist())]
                hits = ["", ""]
                if self.step % self.args.report == 0 or done:
                    speed = (self.step - last_step) * rows * length / (self.elapsed() - last_time)
                    hits = [self.hits(n) if n <= 2 * length else "" for n in (2048, 8192)]
                    print(*row, *hits, f"{speed / 1e6:.2f} Mtok/s", flush=True)
                    self.save()
                    last_time, last_step = self.elapsed(), self.step
                self.log.writerow(row + hits)
            if done:
                break

    def run(self):
        text = tasks.read_corpus("train.xz")
        until = 0.0
        for phase in self.args.phases.split(","):
            length, share = phase.split(":")
            until += float(share) * 60 * self.args.minutes
            self.run_phase(int(length), until, text)
        self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for the weights and loss.csv")
    parser.add_argument("--minutes", type=float, default=8.2, help="length of the run")
    parser.add_argument("--phases", default="512:0.08,2048:0.42,8192:0.3,16384:0.2",
                        help="sequence lengths and their shares of the run")
    parser.add_argument("--tokens", type=int, default=262144, help="tokens of a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--decay-share", type=float, default=0.25,
                        help="share of the run in which the learning rate falls")
    parser.add_argument("--kv-noise", type=float, default=0.15,
                        help="noise on keys and values, relative to each vector's RMS")
    parser.add_argument("--report", type=int, default=250, help="steps between reports")
    parser.add_argument("--workers", type=int, default=12, help="processes that make batches")
    parser.add_argument("--seed", type=int, default=20261120)
    Trainer(parser.parse_args()).run()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Training sequences: English text with retrieval tasks woven in.

Every byte of a sequence carries a class that tells the loss what it is.
"""

import lzma
import math
import pathlib
import random
import string

import numpy as np
import torch

import make_prompts

HERE = pathlib.Path(__file__).resolve().parent

SKIP = 0      # drawn at random: nothing can predict it
TEXT = 1      # ordinary text
REPEAT = 2    # second and later copies of a random string
RECALL = 3    # the value of a key that was listed earlier
PASSKEY = 4   # the answer to a passkey question
CLASSES = 5

ALPHABETS = (string.ascii_lowercase, string.digits, "0123456789abcdef", "ab", "xyz ",
             string.ascii_letters + string.digits, string.ascii_letters + string.punctuation + " ")


def read_corpus(name):
    return lzma.decompress((HERE / ".cache" / name).read_bytes()).decode("ascii")


class Generator:
    """Draws training sequences from a text and a random generator."""

    def __init__(self, text, seed):
        self.text = text
        self.rng = random.Random(seed)
        self.names = make_prompts.load_names()

    def log_uniform(self, low, high):
        return int(math.exp(self.rng.uniform(math.log(low), math.log(high + 1))))

    def some_text(self, length):
        return make_prompts.cut(self.text, self.rng, length)

    def random_string(self, low, high):
        return "".join(self.rng.choices(self.rng.choice(ALPHABETS), k=self.log_uniform(low, high)))

    def word(self):
        """A word of the corpus or, one time in three, random letters."""
        if self.rng.random() < 0.33:
            return "".join(self.rng.choices(string.ascii_lowercase, k=self.rng.randint(3, 9)))
        for word in self.some_text(120).lower().split()[1:-1]:
            if word.isalpha() and 3 <= len(word) <= 9:
                return word
        return "word"

    def distinct(self, draw, count):
        found = {}
        for _ in range(3 * count):
            found[draw()] = None
            if len(found) == count:
                break
        return list(found)

    def key(self):
        if self.rng.random() < 0.1:  # keys with repeated digits need counting, not matching
            return "".join(self.rng.choices(self.rng.sample(string.digits, 2), k=5))
        return f"{self.rng.randrange(100000):05d}"

    # Each method below returns a list of (string, class) pieces.

    def passkeys(self, length):
        """Text of `length` bytes with needles, and questions for them between and at the end."""
        rng = self.rng
        most = max(1, min(48, length // 140))
        count = rng.choice((rng.randint(1, most), self.log_uniform(1, most)))
        if rng.random() < 0.75:
            names = rng.sample(self.names, count)
        else:
            names = self.distinct(self.word, count)
        events = []  # (position in the filler as a share of it, pieces)
        for name in names:
            key, place = self.key(), rng.random()
            head, tail = make_prompts.NEEDLE.format(name=name, key="#").split("#")
            events.append((place, [(head, TEXT), (key, SKIP), (tail, TEXT)]))
            question = [(make_prompts.QUESTION.format(name=name), TEXT), (key + ".", PASSKEY)]
            if rng.random() < 0.5:
                events.append((1 + rng.random(), question))
            else:
                events.append((rng.uniform(place, 1), question))
        events.sort(key=lambda event: event[0])
        room = length - sum(len(s) for _, pieces in events for s, _ in pieces)
        filler, done, out = self.some_text(max(room, 0)), 0, []
        for place, pieces in events:
            cut = min(int(place * room), room)
            if rng.random() < 0.5:  # half of the time at a blank
                cut = max(done, filler.rfind(" ", done, cut + 1))
            cut = max(cut, done)
            out.append((filler[done:cut], TEXT))
            out.extend(pieces)
            done = cut
        out.append((filler[done:], TEXT))
        return out

    def recall(self, length):
        """A list of `key: value` lines, then the same lines in another order."""
        rng = self.rng
        mark = rng.choice((": ", " = ", " -> "))
        keys = self.distinct(self.word, max(2, length // 32))
        rows = [(key + mark, "".join(rng.choices(rng.choice(ALPHABETS[:3]), k=rng.randint(1, 6))))
                for key in keys]
        out = [piece for k, v in rows for piece in ((k, TEXT), (v, SKIP), ("\n", TEXT))]
        if rng.random() < 0.3:
            out.append((self.some_text(length // 2) + "\n", TEXT))
        rng.shuffle(rows)
        return out + [piece for k, v in rows for piece in ((k, TEXT), (v + "\n", RECALL))]

    def repeat(self, length):
        """A random string, some text, and the string again."""
        unit = self.random_string(12, max(16, length // 2))
        start = self.rng.randint(2, 6)
        out = [(unit, SKIP)]
        for _ in range(self.rng.randint(1, 3)):
            if self.rng.random() < 0.5:
                out.append((self.some_text(self.log_uniform(8, max(16, length // 2))), TEXT))
            out += [(unit[:start], SKIP), (unit[start:], REPEAT)]
        return out

    def sequence(self, length):
        """Bytes and classes of one sequence of `length`."""
        pieces, size = [], 0
        whole = self.rng.random() < 0.6
        while size < length:
            if whole:
                made = self.passkeys(length)
            else:
                room = self.log_uniform(96, min(2048, length))
                kind = self.rng.choice((self.recall, self.repeat, None))
                made = kind(room) if kind else [(self.some_text(room), TEXT)]
            pieces += made
            size += sum(len(s) for s, _ in made)
        text = "".join(s for s, _ in pieces).encode("ascii")[:length]
        classes = np.repeat(np.array([c for _, c in pieces], np.uint8),
                            [len(s) for s, _ in pieces])[:length]
        return np.frombuffer(text, np.uint8), classes


class Batches(torch.utils.data.IterableDataset):
    """Endless batches (tokens [rows, length + 1], classes of tokens 1..length), as uint8."""

    def __init__(self, text, rows, length, seed):
        self.text, self.rows, self.length, self.seed = text, rows, length, seed

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        generator = Generator(self.text, f"{self.seed}/{self.length}/{info.id if info else 0}")
        while True:
            made = [generator.sequence(self.length + 1) for _ in range(self.rows)]
            tokens, classes = (torch.from_numpy(np.stack(part)) for part in zip(*made))
            yield tokens, classes[:, 1:].contiguous()

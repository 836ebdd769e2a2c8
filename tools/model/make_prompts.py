#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write passkey prompts for the demo engine, one JSON object a line.

Each prompt is English text of exactly --tokens bytes (one byte is one token) with --needles named
five-digit keys hidden at random positions, and ends with a question for one of them:

  {"id": 0, "prompt": "...", "answer": "12345", "needles": [byte offsets], "asked": index}

"needles" lists the keys in the order of their drawing, not of their place; "asked" counts in it.
Python's standard library is all it needs.
"""

import argparse
import json
import pathlib
import random

HERE = pathlib.Path(__file__).resolve().parent
NEEDLE = " The pass key of {name} is {key}. Remember it. "
QUESTION = "\nWhat is the pass key of {name}? The pass key of {name} is "


def load_names():
    return (HERE / "names.txt").read_text(encoding="ascii").split()


def load_haystack():
    return (HERE / "haystack.txt").read_text(encoding="ascii")


def cut(text, rng, length):
    """A random stretch of `length` characters of `text`, taken as a ring."""
    start = rng.randrange(len(text))
    ring = text[start:start + length]
    while len(ring) < length:
        ring += text[:length - len(ring)]
    return ring


def build(rng, text, names, tokens, count, prefix=""):
    """One prompt of `tokens` bytes with `count` needles behind `prefix`."""
    chosen = rng.sample(names, count)
    keys = [f"{rng.randrange(100000):05d}" for _ in chosen]
    asked = rng.randrange(count)
    needles = [NEEDLE.format(name=n, key=k) for n, k in zip(chosen, keys)]
    question = QUESTION.format(name=chosen[asked])
    room = tokens - len(prefix) - len(question) - sum(map(len, needles))
    if room < 0:
        raise ValueError(f"{tokens} tokens are too few for {count} needles and the prefix")
    filler = cut(text, rng, room)

    # Put each needle before a blank where one is near, else where the draw fell.
    places = []
    for _ in needles:
        place = rng.randint(0, room)
        blank = filler.find(" ", place, place + 24)
        places.append(place if blank < 0 else blank)
    order = sorted(range(count), key=places.__getitem__)
    prompt, done, offsets = prefix, 0, [0] * count
    for i in order:
        prompt += filler[done:places[i]]
        done = places[i]
        offsets[i] = len(prompt)
        prompt += needles[i]
    prompt += filler[done:] + question
    return {"prompt": prompt, "answer": keys[asked], "needles": offsets, "asked": asked}


def shared_prefix(value, text):
    """The prefix that --shared-prefix names: a length into the haystack, or a file's content."""
    if value is None:
        return ""
    if value.isdigit():
        return cut(text, random.Random(0), int(value))
    return pathlib.Path(value).read_text(encoding="ascii")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="prompts to write")
    parser.add_argument("--tokens", type=int, default=8192, help="bytes of each prompt")
    parser.add_argument("--needles", type=int, default=1, help="keys hidden in each prompt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shared-prefix", metavar="FILE_OR_LEN",
                        help="start all prompts with this file's text, or with LEN bytes of the "
                             "haystack; the needles come behind it")
    parser.add_argument("--out", required=True, help="the JSON Lines file to write")
    args = parser.parse_args()

    names, text, rng = load_names(), load_haystack(), random.Random(args.seed)
    prefix = shared_prefix(args.shared_prefix, text)
    with open(args.out, "w", encoding="ascii") as out:
        for number in range(args.count):
            prompt = build(rng, text, names, args.tokens, args.needles, prefix)
            out.write(json.dumps({"id": number, **prompt}) + "\n")


if __name__ == "__main__":
    main()

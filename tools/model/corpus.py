#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the text corpus of the demo model from Debian packages.

Downloads the packages with `apt-get download`, unpacks them without installing anything, cleans
the text to printable ASCII, and writes

  .cache/train.xz   the training text (compressed)
  .cache/valid.xz   the last 1 % of every source, never trained on
  haystack.txt      Genesis and Exodus (King James Version), never trained on

Needs a Debian amd64 system with apt sources set up, dpkg-deb and libreadline8.
"""

import gzip
import html
import lzma
import pathlib
import re
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE / ".cache"
HAYSTACK_BOOKS = ("Ge", "Exo")

# package -> patterns of the files whose text is used
SOURCES = {
    "fortunes": ["usr/share/games/fortunes/*"],
    "fortunes-min": ["usr/share/games/fortunes/*"],
    "jargon-text": ["usr/share/doc/jargon-text/jargon.txt.gz"],
    "dict-devil": ["usr/share/dictd/*.dict.dz"],
    "dict-foldoc": ["usr/share/dictd/*.dict.dz"],
    "doc-debian": ["usr/share/doc/debian/**/*.txt.gz", "usr/share/doc/debian/**/*.txt"],
    "debian-policy": ["usr/share/doc/debian-policy/*.txt.gz"],
    "developers-reference": ["usr/share/developers-reference/*.html"],
    "manpages": ["usr/share/man/man[1-8]/*.gz"],
    "manpages-dev": ["usr/share/man/man[1-8]/*.gz"],
    "git-doc": ["usr/share/doc/git-doc/**/*.txt"],
    "perl-doc": ["usr/share/perl/**/*.pod"],
    "python3.11-doc": ["usr/share/doc/python3.11/html/_sources/**/*.txt"],
    "vim-doc": ["usr/share/doc/vim/html/*.html"],
}


def fetch(package):
    """Download and unpack one package; return the folder that holds its files."""
    root = CACHE / "unpacked" / package
    if not root.exists():
        debs = CACHE / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", package], cwd=debs, check=True)
        deb = max(debs.glob(f"{package}_*.deb"), key=lambda p: p.stat().st_mtime)
        root.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    return root


def read(path):
    """Text of one file, decompressed where its name says so."""
    data = path.read_bytes()
    if path.suffix in (".gz", ".dz"):
        data = gzip.decompress(data)
    text = data.decode("utf-8", "replace")
    if path.suffix == ".html":
        text = html.unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", "", text, flags=re.S))
    elif "/man/" in str(path):
        text = roff(text)
    elif path.suffix == ".pod":
        text = re.sub(r"\b[A-Z]<+ ?([^<>]*?) ?>+", r"\1", text)
    elif "fortunes" in str(path):
        text = re.sub(r".\x08", "", text).replace("\n%\n", "\n\n")
    return text


def roff(text):
    """Manual page source to rough plain text: keep the words, drop the requests."""
    lines = []
    for line in text.splitlines():
        if line.startswith((".\\\"", "'\\\"", ".TH", ".ie", ".el", ".if", ".de", ".ds")):
            continue
        line = re.sub(r"^[.']\s*([A-Za-z]+)\s*", lambda m: "\n" if m[1] in "PP TP" else "", line)
        line = re.sub(r"\\f(\[[^]]*\]|\(..|.)|\\s[-+]?\d|\\[&/,|^%]", "", line)
        line = re.sub(r"\\\(..|\\\[[^]]*\]|\\\*\(..", "", line)
        lines.append(line.replace("\\-", "-").replace("\\e", "\\").replace('"', ""))
    return "\n".join(lines)


def clean(text):
    """Printable ASCII, at most one blank line in a row, no trailing blanks."""
    for old, new in (("\u2018", "'"), ("\u2019", "'"), ("\u201c", '"'), ("\u201d", '"'),
                     ("\u2013", "-"), ("\u2014", "--"), ("\u00a0", " "), ("\t", "    ")):
        text = text.replace(old, new)
    text = re.sub(r"[^\n\x20-\x7e]", "", text)
    text = re.sub(r"[ ]+\n", "\n", text)
    text = re.sub(r" {9,}|([-=_*.#~+])\1{8,}", "        ", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def king_james():
    """Return (haystack, rest) of the King James text, one verse a line, without references."""
    program = fetch("bible-kjv") / "usr/bin/bible"
    library = fetch("bible-kjv-text") / "usr/lib"
    verses = subprocess.run([program, "-p", str(library), "-f", "-l", "0", "gen1:1-rev22:21"],
                            stdin=subprocess.DEVNULL, check=True, capture_output=True, text=True)
    held, rest = [], []
    for line in verses.stdout.splitlines():
        match = re.match(r"(\d?[A-Za-z]+)\s*\d+:\d+\s+(.*)", line)
        if match:
            (held if match[1] in HAYSTACK_BOOKS else rest).append(match[2].strip())
    return clean("\n".join(held)), clean("\n".join(rest))


def main():
    haystack, bible = king_james()
    (HERE / "haystack.txt").write_text(haystack, encoding="ascii")
    print(f"haystack.txt {len(haystack)} bytes")

    train, valid = [], []
    for package in ["bible-kjv-text", *SOURCES]:
        if package == "bible-kjv-text":
            text = bible
        else:
            root = fetch(package)
            files = sorted({p for pattern in SOURCES[package] for p in root.glob(pattern)
                            if p.is_file() and not p.is_symlink()
                            and p.suffix not in (".dat", ".u8", ".index")})
            text = clean("\n\n".join(read(p) for p in files))
        cut = len(text) - len(text) // 100
        train.append(text[:cut])
        valid.append(text[cut:])
        print(f"{package:22} {len(text) / 1e6:6.2f} MB")
    for name, parts in (("train.xz", train), ("valid.xz", valid)):
        blob = "\n".join(parts).encode("ascii")
        (CACHE / name).write_bytes(lzma.compress(blob, preset=6))
        packed = (CACHE / name).stat().st_size
        print(f"{name} {len(blob) / 1e6:.2f} MB, {packed / 1e6:.2f} MB packed")


if __name__ == "__main__":
    main()

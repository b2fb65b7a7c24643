"""Checks of the quickstart corpus as it lies on disk; raises `CorpusError` at the first thing that is wrong."""

import array
import collections
import math
import pathlib
import re
import subprocess

import quickstart_texts
from espeak import ARPABET, VOWELS

RATE = 16000
MAX_BYTES = 20 * 2**20
MINUTES = (15.0, 30.0)
SECONDS = (1.5, 5.0)
MIN_TRAIN_COUNT = 12
VOWEL_OVER_SILENCE_DB = 15.0


class CorpusError(Exception):
    """What is wrong, where."""


def need(condition, message):
    if not condition:
        raise CorpusError(message)


def check(root: pathlib.Path, sums: str) -> str:
    """Verify the corpus at `root`, whose `SHA256SUMS` must equal `sums`; return the table of split sizes."""
    need((root / "SHA256SUMS").read_text() == sums, f"{root}/SHA256SUMS does not match the files")
    vocabulary = {word.upper() for word in quickstart_texts.vocabulary()}
    need(100 <= len(vocabulary) <= 150, f"the vocabulary has {len(vocabulary)} words")
    splits = {name: _split(root, name, vocabulary) for name in ("train", "dev", "test")}

    for what in ("speakers", "sentences"):
        seen = [item for split in splits.values() for item in split[what]]
        need(len(seen) == len(set(seen)), f"two utterances or splits share {what}")
    counts = splits["train"]["words"]
    for word in sorted(vocabulary):
        need(counts[word] >= MIN_TRAIN_COUNT, f"{word} occurs only {counts[word]} times in train")
    minutes = sum(split["seconds"] for split in splits.values()) / 60
    need(MINUTES[0] <= minutes <= MINUTES[1], f"the corpus has {minutes:.1f} minutes")
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    need(size <= MAX_BYTES, f"the corpus has {size} bytes")

    lines = ["| split | speakers | utts | minutes | words | distinct words | phones | distinct phones | FLAC MiB |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name, s in splits.items():
        lines.append(
            f"| {name} | {len(s['speakers'])} | {len(s['sentences'])} | {s['seconds'] / 60:.1f} "
            f"| {s['words'].total()} | {len(s['words'])} | {s['phones'].total()} | {len(s['phones'])} "
            f"| {s['bytes'] / 2**20:.1f} |")
    lines.append(f"\n{minutes:.1f} minutes in all, a vocabulary of {len(vocabulary)} words; "
                 f"the rarest occurs {min(counts.values())} times in train.")
    return "\n".join(lines)


def _split(root, name, vocabulary):
    found = {"speakers": [], "sentences": [], "words": collections.Counter(), "phones": collections.Counter(),
             "seconds": 0.0, "bytes": 0}
    phones = _intervals(root / "alignments" / f"{name}.phones.tsv", "phone")
    words = _intervals(root / "alignments" / f"{name}.words.tsv", "word")
    listed = set()
    for folder in sorted((root / name).glob("*/*")):
        speaker, chapter = folder.parts[-2:]
        found["speakers"].append(speaker)
        for line in (folder / f"{speaker}-{chapter}.trans.txt").read_text().splitlines():
            utt, text = line.split(" ", 1)
            listed.add(utt)
            need(re.fullmatch(r"[A-Z']+( [A-Z']+){2,7}", text), f"{utt}: odd transcript {text!r}")
            need(set(text.split()) <= vocabulary, f"{utt}: a word outside the vocabulary in {text!r}")
            path = folder / f"{utt}.flac"
            samples = _decode(path)
            seconds = len(samples) / RATE
            need(SECONDS[0] <= seconds <= SECONDS[1], f"{utt}: {seconds} s")
            need(utt in phones and utt in words, f"{utt}: no alignment")
            _alignment(utt, text, phones[utt], words[utt], samples)
            found["sentences"].append(text)
            found["words"].update(text.split())
            found["phones"].update(label for _, _, label in phones[utt] if label != "sil")
            found["seconds"] += seconds
            found["bytes"] += path.stat().st_size
        need(len(list(folder.iterdir())) == 1 + sum(utt.startswith(f"{speaker}-") for utt in listed),
             f"{folder}: a file too many or too few")
    need(listed == set(phones) == set(words), f"{name}: alignments of other utterances than the transcripts'")
    return found


def _intervals(path, label):
    header, *lines = path.read_text().splitlines()
    need(header == f"utt\tstart\tend\t{label}", f"{path}: odd header {header!r}")
    table = collections.defaultdict(list)
    for line in lines:
        utt, start, end, text = line.split("\t")
        table[utt].append((round(1000 * float(start)), round(1000 * float(end)), text))
    return table


def _alignment(utt, text, phones, words, samples):
    total = len(samples) * 1000 // RATE
    for rows in (phones, words):
        need(rows[0][0] == 0 and rows[-1][1] == total, f"{utt}: intervals do not cover the audio")
        need(all(start < end for start, end, _ in rows), f"{utt}: an empty interval")
        need(all(a[1] == b[0] for a, b in zip(rows, rows[1:])), f"{utt}: intervals overlap or leave a gap")
    need(" ".join(word for _, _, word in words if word) == text, f"{utt}: word rows differ from the transcript")
    bounds = {start for start, _, _ in phones}
    need(all(start in bounds for start, _, _ in words), f"{utt}: a word starts inside a phone")
    need({label for _, _, label in phones} <= {"sil", *ARPABET}, f"{utt}: unknown phone label")
    loudness = {}
    for kind, chosen in (("silence", {"sil"}), ("vowels", VOWELS)):
        spans = [samples[a * RATE // 1000 : b * RATE // 1000] for a, b, label in phones if label in chosen]
        loudness[kind] = 10 * math.log10(
            sum(x * x for span in spans for x in span) / sum(map(len, spans)) + 1e-9)
    over = loudness["vowels"] - loudness["silence"]
    need(over >= VOWEL_OVER_SILENCE_DB, f"{utt}: vowels only {over:.1f} dB above silence")


def _decode(path):
    head = path.read_bytes()[:26]
    need(head[:4] == b"fLaC", f"{path}: not FLAC")
    fields = int.from_bytes(head[18:26], "big")
    shape = (fields >> 44, (fields >> 41 & 7) + 1, (fields >> 36 & 31) + 1)
    need(shape == (RATE, 1, 16), f"{path}: rate, channels, bits are {shape}")
    raw = subprocess.run(["flac", "--silent", "--decode", "--stdout", "--force-raw-format", "--endian=little",
                          "--sign=signed", str(path)], stdout=subprocess.PIPE, check=True).stdout
    return array.array("h", raw)

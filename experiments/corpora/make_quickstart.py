#!/usr/bin/env python3
"""Make or check the quickstart corpus: synthetic read speech with exact word and phone times.

    python3 make_quickstart.py            write quickstart/ beside this script (half a minute)
    python3 make_quickstart.py --check    verify the corpus that is there

Needs Python 3.10 or later and the programs flac and sox; making it also needs libespeak-ng. The output is the
same bytes every time with the versions that quickstart/README.md names.
"""

import argparse
import array
import hashlib
import math
import pathlib
import platform
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import quickstart_check
import quickstart_texts
from espeak import Synthesiser

SEED = 20
RATE = 16000
PER_MS = RATE // 1000
CHAPTER = 1
UTTERANCES = {"train": 8, "dev": 28, "test": 27}
"""Sentences of each speaker, by split."""
SPEECH_DBFS = (-41.0, -31.0)
SNR_DB = (30.0, 40.0)
SILENCE_MS = (100, 250)
SHORTEST_MS = 1500
PEAK = 0.9
NOISE_POLE = 0.9
"""The noise is first-order autoregressive: stronger at low frequencies, as in a room."""


@dataclass(frozen=True)
class Voice:
    speaker: int
    sex: str
    split: str
    accent: str
    variant: str
    rate: int
    pitch: int


US = "gmw/en-US"
TRAIN_VARIANTS = {
    "F": ["f2", "f4", "f5", "linda", "Annie", "steph", "Alicia", "anika", "Andrea", "aunty", "steph2", "steph3"],
    "M": ["m1", "m3", "m4", "m6", "m7", "max", "Denis", "Mike", "john", "Andy", "david", "travis", "Michael", "caleb", "ed",
          "adam", "Alex", "Lee", "Mario", "edward", "quincy", "shelby", "victor", "miguel", "pedro", "rob", "robert", "zac",
          "boris", "benjamin", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Marco", "michel", "norbert", "pablo",
          "sandro", "marcelo", "antonio"],
}
"""Variants of train speakers by sex; none of them speaks in another split."""


def train_voices():
    """One speaker a variant, women and men in turn as far as they go, with rate and pitch drawn once a speaker."""
    women, men = (list(TRAIN_VARIANTS[sex]) for sex in "FM")
    order = [("F", women.pop(0)) if women and index % 4 == 1 else ("M", men.pop(0))
             for index in range(len(women) + len(men))]
    draw = random.Random(f"{SEED}/voices")
    return [Voice(101 + index, sex, "train", US, variant, draw.randint(145, 172),
                  draw.randint(36, 64)) for index, (sex, variant) in enumerate(order)]


VOICES = train_voices() + [
    Voice(201, "M", "dev", US, "m8", 158, 55),
    Voice(202, "F", "dev", US, "f1", 160, 50),
    Voice(203, "M", "dev", US, "paul", 152, 52),
    Voice(301, "F", "test", US, "f3", 158, 46),
    Voice(302, "M", "test", US, "m5", 154, 48),
    Voice(303, "M", "test", US, "m2", 162, 50),
    Voice(304, "F", "test", US, "belinda", 152, 36),
]


def keyed(*purpose) -> random.Random:
    return random.Random("/".join(map(str, (SEED, *purpose))))


def render(speech, rng):
    """16 kHz 16 bit audio of `speech` between silences, with level and noise drawn, and its lead in ms."""
    lead, trail = rng.randint(*SILENCE_MS), rng.randint(*SILENCE_MS)
    clean = array.array("f")
    clean.frombytes(pipe(
        ["sox", "-D", "-R", "-v", "0.5", "-t", "s16", "-r", str(speech.rate), "-c", "1", "-",
         "-t", "f32", "-r", str(RATE), "-", "rate", "-h"], speech.samples.tobytes()))
    spoken_ms = to_ms(speech, speech.words[-1][1][-1][2])
    trail = max(trail, SHORTEST_MS - lead - spoken_ms)
    total = (lead + spoken_ms + trail) * PER_MS

    power = sum(x * x for x in clean[: spoken_ms * PER_MS]) / (spoken_ms * PER_MS)
    level = 10 ** (rng.uniform(*SPEECH_DBFS) / 20)
    gain = min(level / math.sqrt(power), PEAK / max(map(abs, clean)))
    sigma = gain * math.sqrt(power) / 10 ** (rng.uniform(*SNR_DB) / 20)
    mixed = noise(total, sigma, rng)
    start = lead * PER_MS
    for index, x in enumerate(clean[: total - start], start):
        mixed[index] += gain * x
    return array.array("h", [round(32767 * x) for x in mixed]), lead


def noise(count, sigma, rng):
    """`count` samples of coloured noise with standard deviation `sigma`."""
    step = math.sqrt(1 - NOISE_POLE**2)
    state, out = rng.gauss(0.0, 1.0), []
    for _ in range(count):
        out.append(sigma * state)
        state = NOISE_POLE * state + step * rng.gauss(0.0, 1.0)
    return out


def to_ms(speech, sample):
    return round(1000 * sample / speech.rate)


def rows(speech, lead, total_ms):
    """Phone rows and word rows as (start ms, end ms, label) that cover the audio."""
    at = lambda sample: lead + to_ms(speech, sample)
    words = [(at(phones[0][1]), at(phones[-1][2]), word.upper()) for word, phones in speech.words]
    phones = [(at(start), at(end), label) for _, own in speech.words for label, start, end in own]

    return filled(phones, "sil", total_ms), filled(words, "", total_ms)


def filled(intervals, silence, total_ms):
    """`intervals` with every gap from 0 to `total_ms` labelled `silence`."""
    out, at = [], 0
    for start, end, label in [*intervals, (total_ms, total_ms, None)]:
        if start > at:
            out.append((at, start, silence))
        if label is not None:
            out.append((start, end, label))
        at = end
    return out


def pipe(command, data):
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def encode(samples, path):
    pipe(["flac", "--silent", "--best", "--no-padding", "--no-seektable", "--force-raw-format", "--endian=little",
          "--sign=signed", "--channels=1", "--bps=16", f"--sample-rate={RATE}", "-o", str(path), "-"],
         samples.tobytes())


def make(root: pathlib.Path):
    for name in (*UTTERANCES, "alignments"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "alignments").mkdir(parents=True)
    synthesiser, taken, minutes = Synthesiser(), set(), {}
    for split, each in UTTERANCES.items():
        voices = [voice for voice in VOICES if voice.split == split]
        texts = iter(quickstart_texts.draw(keyed("texts", split), each * len(voices), taken))
        tables = {"phones": ["utt\tstart\tend\tphone"], "words": ["utt\tstart\tend\tword"]}
        for voice in voices:
            folder = root / split / str(voice.speaker) / str(CHAPTER)
            folder.mkdir(parents=True)
            transcript, length = [], 0
            for number in range(each):
                utt, text = f"{voice.speaker}-{CHAPTER}-{number:04}", next(texts)
                rng = keyed("audio", utt)
                speech = synthesiser.speak(voice.accent, voice.variant, voice.rate + rng.randint(-10, 10),
                                           voice.pitch + rng.randint(-4, 4), text)
                samples, lead = render(speech, rng)
                encode(samples, folder / f"{utt}.flac")
                transcript.append(f"{utt} {text.upper()}\n")
                length += len(samples)
                for kind, found in zip(("phones", "words"), rows(speech, lead, len(samples) // PER_MS)):
                    tables[kind] += [f"{utt}\t{a / 1000:.3f}\t{b / 1000:.3f}\t{label}" for a, b, label in found]
            (folder / f"{voice.speaker}-{CHAPTER}.trans.txt").write_text("".join(transcript))
            minutes[voice.speaker] = length / RATE / 60
        for kind, lines in tables.items():
            (root / "alignments" / f"{split}.{kind}.tsv").write_text("\n".join(lines) + "\n")
    speakers = [";ID | SEX | SUBSET | MINUTES | NAME\n"] + [
        f"{v.speaker} | {v.sex} | {v.split:<5} | {minutes[v.speaker]:5.2f} | {v.accent}+{v.variant}\n" for v in VOICES]
    (root / "SPEAKERS.TXT").write_text("".join(speakers))
    (root / "SHA256SUMS").write_text(digests(root))
    return synthesiser.version


def digests(root):
    """`sha256sum` lines of every file of the corpus but the README, sorted by path."""
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    return "".join(f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n"
                   for name in files if name not in ("SHA256SUMS", "README.md"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="verify the corpus instead of making it")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "quickstart")
    args = parser.parse_args()
    if not args.check:
        version = make(args.out)
        print(f"made with espeak-ng {version}, {program('flac')}, {program('sox')}, Python {platform.python_version()}")
    table = quickstart_check.check(args.out, digests(args.out))
    print(table)
    if args.check and table not in (args.out / "README.md").read_text():
        raise quickstart_check.CorpusError(f"{args.out}/README.md lacks this table of sizes: copy it there")


def program(name):
    text = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
    return re.sub(r"^sox:\s*", "", text).strip()


if __name__ == "__main__":
    try:
        main()
    except quickstart_check.CorpusError as error:
        sys.exit(f"the corpus is not as it should be: {error}")

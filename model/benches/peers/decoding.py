"""Beam search by flashlight: `decoding.py FOLDER WAY PREFIXES THRESHOLD LM WORD THREADS`.

FOLDER holds `symbols.txt`, `lexicon.txt` and `model.arpa`, `frames.f32` (log-probabilities, little-endian) and `lengths.txt` (frames of each
utterance). WAY is `words` (lexicon and language model through KenLM, paths added, look-ahead by the best word below) or `symbols` (neither).
Utterances are shared out among THREADS processes, because the decoder holds the interpreter's lock.
"""

import math
import multiprocessing
import sys
from pathlib import Path

import numpy
from flashlight.lib.text.decoder import (
    CriterionType, LexiconDecoder, LexiconDecoderOptions, LexiconFreeDecoder, LexiconFreeDecoderOptions, SmearingMode, Trie, ZeroLM,
)  # fmt: skip
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary
from turns import serve

folder, way = Path(sys.argv[1]), sys.argv[2]
prefixes, threshold, lm_weight, word_score = int(sys.argv[3]), *map(float, sys.argv[4:7])
threads = int(sys.argv[7])
symbols = (folder / "symbols.txt").read_text(encoding="utf-8").split("\n")
lengths = [int(line) for line in open(folder / "lengths.txt")]
frames = numpy.fromfile(folder / "frames.f32", dtype="<f4").reshape(-1, len(symbols))
utterances = numpy.split(frames, numpy.cumsum(lengths)[:-1])
SPACE = 1


def of_words():
    lexicon = (folder / "lexicon.txt").read_text(encoding="utf-8").split()
    lm = KenLM(str(folder / "model.arpa"), Dictionary(lexicon))
    start = lm.start(False)
    trie = Trie(len(symbols), SPACE)
    for place, word in enumerate(lexicon):
        _, score = lm.score(start, place)
        trie.insert([symbols.index(letter) for letter in word] + [SPACE], place, score)
    trie.smear(SmearingMode.MAX)
    options = LexiconDecoderOptions(
        beam_size=prefixes, beam_size_token=len(symbols), beam_threshold=threshold, lm_weight=lm_weight, word_score=word_score,
        unk_score=-math.inf, sil_score=0.0, log_add=True, criterion_type=CriterionType.CTC,
    )  # fmt: skip
    return lexicon, LexiconDecoder(options, trie, lm, SPACE, 0, -1, [], False)


def of_symbols():
    options = LexiconFreeDecoderOptions(
        beam_size=prefixes, beam_size_token=len(symbols), beam_threshold=threshold, lm_weight=0.0, sil_score=0.0, log_add=True,
        criterion_type=CriterionType.CTC,
    )  # fmt: skip
    return LexiconFreeDecoder(options, ZeroLM(), SPACE, 0, [])


def decode(index):
    values = numpy.ascontiguousarray(utterances[index])
    best = decoder.decode(values.ctypes.data, *values.shape)[0]
    if way == "words":
        return " ".join(lexicon[word] for word in best.words if word >= 0)
    path = [token for place, token in enumerate(best.tokens) if place == 0 or token != best.tokens[place - 1]]
    return " ".join("".join(symbols[token] for token in path if token != 0).replace("|", " ").split())


if way == "words":
    lexicon, decoder = of_words()
else:
    decoder = of_symbols()
pool = multiprocessing.get_context("fork").Pool(threads)


def work():
    heard = pool.map(decode, range(len(utterances)), chunksize=1)
    (folder / f"{way}.txt").write_text("\n".join(heard), encoding="utf-8")
    return {}


serve(["flashlight-text", "kenlm"], work)

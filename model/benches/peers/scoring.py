"""Word error rate with its bootstrap interval by jiwer and NumPy: `scoring.py PAIRS DRAWS THREADS WAY`.

PAIRS has a reference and a hypothesis a line, with a tab between them. Alignments are jiwer's. WAY is `plain`, the bootstrap as one writes it
down (indices of the default generator, errors and words gathered and summed, a hundred resamples at a time, which uses one thread), or
`fastest`, the fastest of the NumPy formulations tried: a table with errors and words packed into one number, indices as uint16 from SFC64
(NumPy's fastest generator), `take` into a buffer that stays in the cache, one sum for both, and a thread for each core. Slower were: errors
and words apart, int64 indices, PCG64, `bincount`, multinomial counts of utterances, multinomial counts of distinct pairs.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jiwer
import numpy as np
from turns import serve

draws, threads, way = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
lines = [line.rstrip("\n").split("\t") for line in open(sys.argv[1], encoding="utf-8")]
references, hypotheses = [line[0] for line in lines], [line[1] for line in lines]
pool = ThreadPoolExecutor(threads)
ROWS = 50


def resampled(seed, pairs, count):
    generator = np.random.Generator(np.random.SFC64(seed))
    sums, drawn = np.empty(count, np.int64), np.empty((ROWS, len(pairs)), np.int64)
    for start in range(0, count, ROWS):
        index = generator.integers(0, len(pairs), size=(ROWS, len(pairs)), dtype=np.uint16)
        np.take(pairs, index, out=drawn, mode="wrap")
        sums[start : start + ROWS] = drawn.sum(axis=1)[: count - start]
    return sums


def fastest(errors, words):
    pairs = errors << 32 | words
    parts = [draws // threads + (place < draws % threads) for place in range(threads)]
    sums = np.concatenate(list(pool.map(resampled, range(threads), [pairs] * threads, parts)))
    return (sums >> 32) / (sums & 0xFFFFFFFF)


def plain(errors, words):
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(0, draws, 100):
        index = generator.integers(0, len(words), size=(100, len(words)))
        rates.append(errors[index].sum(axis=1) / words[index].sum(axis=1))
    return np.concatenate(rates)


def work():
    start = time.perf_counter()
    output = jiwer.process_words(references, hypotheses)
    errors, words = [], []
    for chunks, reference in zip(output.alignments, output.references):
        wrong = 0
        for chunk in chunks:
            if chunk.type != "equal":
                wrong += max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        errors.append(wrong)
        words.append(len(reference))
    aligned = time.perf_counter()
    errors, words = np.array(errors, np.int64), np.array(words, np.int64)
    low, high = np.quantile((plain if way == "plain" else fastest)(errors, words), [0.025, 0.975])
    return {
        "wer": output.wer, "low": low, "high": high,
        "alignment-seconds": aligned - start, "bootstrap-seconds": time.perf_counter() - aligned,
    }  # fmt: skip


serve(["jiwer", "rapidfuzz", "numpy"], work)

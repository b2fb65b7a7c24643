"""MFCC with differences of waves by torchaudio: `features.py WAVES LENGTHS THREADS`.

WAVES is a file of little-endian f32, LENGTHS one number of samples a line. One utterance after the other with THREADS threads inside each
operation; on two cores that takes as long as as many threads with an utterance each.
"""

import sys

import numpy
import torch
import torchaudio.compliance.kaldi as kaldi
from torchaudio.functional import compute_deltas
from turns import serve

torch.set_num_threads(int(sys.argv[3]))
lengths = [int(line) for line in open(sys.argv[2])]
waves = [wave.unsqueeze(0) for wave in torch.from_numpy(numpy.fromfile(sys.argv[1], dtype="<f4")).split(lengths)]


def features(wave_1s):
    cepstra_td = kaldi.mfcc(wave_1s, sample_frequency=16000, use_energy=False, dither=0.0)
    first_dt = compute_deltas(cepstra_td.T)
    return torch.cat([cepstra_td, first_dt.T, compute_deltas(first_dt).T], dim=1)


@torch.inference_mode()
def work():
    found = [features(wave_1s) for wave_1s in waves]
    return {"frames": sum(map(len, found)), "sum": sum(table.sum(dtype=torch.float64).item() for table in found)}


serve(["torch", "torchaudio"], work)

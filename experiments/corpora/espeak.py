"""espeak-ng through its C library: audio with the times of words and phones, as ARPAbet.

Phones and words come from the synthesiser's own events, not from a forced aligner. A phoneme event comes after the
closure of a stop or the glide into a consonant, the word event before it, so a word that begins with a consonant
starts at its word event. Before a vowel the word event can precede the last consonant of the word before
("seven apples"), so such a word starts at its first phoneme event.
"""

import array
import ctypes
import pathlib
from dataclasses import dataclass

_SYNCHRONOUS, _PHONEME_EVENTS, _POSITION_CHARACTER, _UTF8 = 2, 1, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_NATIVE_RATE = 22050
_END_OF_LIST, _WORD, _PHONEME = 0, 1, 7

_PLAIN = """
p P, b B, t T, t# T, t[ T, d D, k K, g G, tS CH, dZ JH, f F, v V, T TH, D DH, s S, z Z, S SH, Z ZH, h HH,
m M, n N, N NG, l L, r R, r- R, w W, w# W, j Y,
i IY, i: IY, I IH, I2 IH, I# IH, E EH, a AE, a# AH, V AH, @ AH, @2 AH, @5 UH, 3 ER, 3: ER, IR ER, A: AA, 0 AA,
O2 AO, O: AO, U UH, u: UW, eI EY, aI AY, aI2 AY, OI OY, aU AW, oU OW, @L AH L, aI@ AY AH
"""
_R_COLOURED = "A@ AA R, e@ EH R, i@3 IH R, O@ AO R, o@ AO R"
_R_DROPPED = "A@ AA, e@ EH, i@3 IH AH, O@ AO, o@ AO"
# Inside a word too, the event of a voiceless stop follows its closure: 37 to 46 ms of silence, less at a higher rate.
_CLOSED, _CLOSURE = {"p", "t", "k", "tS"}, round(0.040 * _NATIVE_RATE)
_EXTENDS_PREVIOUS = {";"}
_PAUSES = {"_:", "_"}
_FIRST_SHARE = 0.6
"""Share of the time that the first of two ARPAbet phones gets when espeak-ng does not tell them apart."""
# espeak-ng renders L and R after a vowel mostly as the vowel's end and leaves them almost no time of their own.
_INSIDE_VOWEL, _INSIDE_VOWEL_BELOW = {"L", "R"}, round(0.025 * _NATIVE_RATE)


def _table(*texts):
    entries = (entry.split() for text in texts for entry in text.split(","))
    return {name: tuple(phones) for name, *phones in entries}


PHONES_RHOTIC = _table(_PLAIN, _R_COLOURED)
"""espeak-ng mnemonic to ARPAbet for accents whose r-coloured vowels carry the r (en-us)."""
PHONES = _table(_PLAIN, _R_DROPPED)
"""The same for accents that drop the r or give it a phoneme of its own (all others)."""
ARPABET = sorted({phone for phones in PHONES_RHOTIC.values() for phone in phones})
VOWELS = frozenset("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split())

# espeak-ng speaks a few pairs ("in the", "there were") as one word with one event: the second starts at the last
# phoneme of this set.
_MERGED_ONSET = {"the": {"D", "d"}, "were": {"w"}, "are": {"A@"}}


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    ]


@dataclass
class Speech:
    """One spoken sentence: 16 bit samples at `rate`, and words as (word, [(phone, start, end)]) in samples.

    Words follow each other without a gap except where the voice pauses.
    """

    rate: int
    samples: array.array
    words: list


class Synthesiser:
    """The one synthesiser of this process. Its output depends on what it spoke before: keep the order fixed."""

    def __init__(self):
        self._lib = ctypes.CDLL("libespeak-ng.so.1")
        self._lib.espeak_Info.restype = ctypes.c_char_p
        self._lib.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
            ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
        ]
        self.rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        if self.rate != _NATIVE_RATE:
            raise RuntimeError(f"espeak-ng answered {self.rate} for its rate: install libespeak-ng1 and espeak-ng-data")
        data = ctypes.c_char_p()
        self.version = self._lib.espeak_Info(ctypes.byref(data)).decode().split()[0]
        self._variants = pathlib.Path(data.value.decode()) / "voices" / "!v"
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = kind(self._receive)
        self._lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count, events):
        if samples and count:
            self._samples.frombytes(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type != _END_OF_LIST:
            event = events[index]
            name = ""
            if event.type == _PHONEME:
                name = ctypes.string_at(ctypes.addressof(event.id), 8).split(b"\0")[0].decode()
            if name in _PAUSES or (event.text_position > 0 and event.type in (_WORD, _PHONEME)):
                self._events.append((event.type, event.text_position, event.sample, name))
            index += 1
        return 0

    def speak(self, voice: str, variant: str, rate: int, pitch: int, text: str) -> Speech:
        """Speak lower-case `text` at `rate` words a minute and `pitch` 0..100 (50 = the voice's own)."""
        if not (self._variants / variant).is_file():
            raise ValueError(f"espeak-ng has no voice variant {variant!r}")
        if self._lib.espeak_SetVoiceByName(f"{voice}+{variant}".encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, 50)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._samples, self._events = array.array("h"), []
        line = f"{text}.".encode()
        if self._lib.espeak_Synth(line, len(line) + 1, 0, _POSITION_CHARACTER, 0, _UTF8, None, None) != 0:
            raise RuntimeError(f"espeak-ng refused {text!r}")
        table = PHONES_RHOTIC if voice == "gmw/en-US" else PHONES
        return Speech(self.rate, self._samples, _align(text, self._events, table))


def _align(text, events, table):
    """Words of `text` with their phones, from the event list of one sentence."""
    starts = {position: sample for kind, position, sample, _ in events if kind == _WORD}
    sounds = [(name, position, sample) for kind, position, sample, name in events if kind == _PHONEME]
    pauses = [sample for name, _, sample in sounds if name in _PAUSES]
    sounds = [sound for sound in sounds if sound[0] not in _PAUSES]

    spans, position = [], 1
    for word in text.split():
        if position in starts:
            own = [(name, sample) for name, at, sample in sounds if at == position]
            if not own:
                raise ValueError(f"no phonemes for {word!r} in {text!r}")
            first, onset = own[0]
            if table.get(first, ("",))[0] not in VOWELS:
                onset = starts[position]
            spans.append((word, [(first, onset)] + own[1:]))
        else:
            spans.append((word, _split_off(word, spans[-1][1], text)))
        position += len(word) + 1
    if sum(len(own) for _, own in spans) != len(sounds):
        raise ValueError(f"phonemes outside the words of {text!r}: {sounds}")

    onsets = [own[0][1] for _, own in spans[1:]]
    aligned = []
    for index, (word, own) in enumerate(spans):
        stop = min(sample for sample in onsets[index : index + 1] + pauses if sample >= own[-1][1])
        aligned.append((word, _arpabet(own, stop, table, text)))
    return aligned


def _split_off(word, merged, text):
    onset = _MERGED_ONSET.get(word, ())
    cut = max((i for i, (name, _) in enumerate(merged) if name in onset), default=0)
    if cut == 0:
        raise ValueError(f"espeak-ng merged {word!r} into the word before it in {text!r}: add it to _MERGED_ONSET")
    tail = merged[cut:]
    del merged[cut:]
    return tail


def _arpabet(own, stop, table, text):
    own = [own[0]] + [
        (name, max(start - _CLOSURE, _part(before, start)) if name in _CLOSED else start)
        for (_, before), (name, start) in zip(own, own[1:])
    ]
    phones = []
    bounds = [sample for _, sample in own[1:]] + [stop]
    for (name, start), end in zip(own, bounds):
        if name in _EXTENDS_PREVIOUS and phones:
            labels = (phones[-1][0],)
        elif name in table:
            labels = table[name]
        else:
            raise ValueError(f"unknown espeak-ng phoneme {name!r} in {text!r}: add it to the table")
        middle = _part(start, end) if len(labels) == 2 else end
        _append(phones, labels[0], start, middle)
        if len(labels) == 2:
            _append(phones, labels[1], middle, end)
    return phones


def _append(phones, label, start, end):
    previous, begin, _ = phones[-1] if phones else (None, start, start)
    if label == previous or (label == "R" and previous == "ER"):
        phones[-1] = (previous, begin, end)
        return
    if label in _INSIDE_VOWEL and previous in VOWELS and end - start < _INSIDE_VOWEL_BELOW:
        start = _part(begin, end)
        phones[-1] = (previous, begin, start)
    phones.append((label, start, end))


def _part(start, end):
    return start + round((end - start) * _FIRST_SHARE)

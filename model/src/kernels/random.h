// Which elements dropout keeps: numbers of 16 bits that depend on a key and the place of the element alone, so that the backward pass
// makes them again and the number of threads changes nothing.
//
// The generator is ChaCha with 8 rounds (Bernstein 2008), sixteen blocks side by side; `kernels.rs` checks it against `rand_chacha`.

#pragma once

#include "vector.h"

#include <vector>

namespace reprise {

// Elements that one call makes numbers for.
constexpr int64_t GROUP = 512;

template <int BITS> REPRISE_INLINE words rotate(words x) { return (x << BITS) | (x >> (32 - BITS)); }

REPRISE_INLINE void quarter(words &a, words &b, words &c, words &d) {
    a += b, d = rotate<16>(d ^ a);
    c += d, b = rotate<12>(b ^ c);
    a += b, d = rotate<8>(d ^ a);
    c += d, b = rotate<7>(b ^ c);
}

// The numbers of elements 512 `group` to 512 `group` + 511: word w of blocks 16 `group` to 16 `group` + 15 gives with its low halves
// elements 32 w to 32 w + 15, with its high halves the next sixteen.
REPRISE_INLINE void random(uint64_t key, uint64_t group, uint16_t *out) {
    const words lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint64_t first = group * WIDE;
    const words zero = {};
    const words start[16] = {
        zero + 0x61707865u, zero + 0x3320646eu, zero + 0x79622d32u, zero + 0x6b206574u,
        zero + static_cast<uint32_t>(key), zero + static_cast<uint32_t>(key >> 32), zero, zero,
        zero, zero, zero, zero,
        lanes + static_cast<uint32_t>(first), zero + static_cast<uint32_t>(first >> 32), zero, zero,
    };
    words x[16];
    for (int i = 0; i < 16; i++) x[i] = start[i];
    for (int round = 0; round < 4; round++) {
        quarter(x[0], x[4], x[8], x[12]);
        quarter(x[1], x[5], x[9], x[13]);
        quarter(x[2], x[6], x[10], x[14]);
        quarter(x[3], x[7], x[11], x[15]);
        quarter(x[0], x[5], x[10], x[15]);
        quarter(x[1], x[6], x[11], x[12]);
        quarter(x[2], x[7], x[8], x[13]);
        quarter(x[3], x[4], x[9], x[14]);
    }
    for (int i = 0; i < 16; i++) {
        const words word = x[i] + start[i];
        const halves low = __builtin_convertvector(word & 0xffffu, halves), high = __builtin_convertvector(word >> 16, halves);
        std::memcpy(out + 32 * i, &low, sizeof low);
        std::memcpy(out + 32 * i + 16, &high, sizeof high);
    }
}

// Dropout with a probability that is a multiple of 2^-16.
struct Keep {
    uint64_t key;
    uint32_t threshold;
    float scale;

    Keep(uint64_t key, double probability)
        : key(key), threshold(static_cast<uint32_t>(probability * 65536.0 + 0.5)),
          scale(65536.0f / (65536.0f - static_cast<float>(threshold))) {}

    // What sixteen elements are multiplied by.
    REPRISE_INLINE floats factor(const Keep &keep, const uint16_t *numbers) {
        halves half;
        std::memcpy(&half, numbers, sizeof half);
        const words number = __builtin_convertvector(half, words);
        return number >= (words{} + keep.threshold) ? spread(keep.scale) : spread(0.0f);
    }
};

// Room for the numbers of up to `most` elements that follow each other.
struct Numbers {
    std::vector<uint16_t> numbers;

    explicit Numbers(int64_t most) : numbers(((most + GROUP - 1) / GROUP + 1) * GROUP + WIDE) {}

    // Those of the elements from `begin` on.
    REPRISE_INLINE const uint16_t *of(Numbers &room, const Keep &keep, int64_t begin, int64_t count) {
        const int64_t first = begin / GROUP, last = (begin + count - 1) / GROUP;
        for (int64_t group = first; group <= last; group++) {
            random(keep.key, static_cast<uint64_t>(group), room.numbers.data() + (group - first) * GROUP);
        }
        return room.numbers.data() + (begin - first * GROUP);
    }
};

} // namespace reprise

// Sixteen numbers at a time, whatever the processor: the compiler makes one, two or four instructions of it. The bits are the same but where a
// processor can't multiply and add at once.
// A choice is written `condition ? x : y`: kept as a number, a condition is taken apart into sixteen.

#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <cstring>

#define REPRISE_INLINE static inline __attribute__((always_inline))

// The loops that take the time are compiled for several instruction sets; the program chooses when it starts.
#if defined(__x86_64__) && defined(__GNUC__)
#define REPRISE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define REPRISE_CLONES
#endif

namespace reprise {

constexpr int64_t WIDE = 16;

typedef float floats __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef int32_t ints __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));

REPRISE_INLINE floats spread(float value) { return floats{} + value; }

REPRISE_INLINE floats load(const float *from) {
    floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

REPRISE_INLINE void store(float *to, floats x) { std::memcpy(to, &x, sizeof x); }

REPRISE_INLINE floats load(const c10::BFloat16 *from) {
    halves x;
    std::memcpy(&x, from, sizeof x);
    return (floats)(__builtin_convertvector(x, words) << 16);
}

// Rounds to nearest, ties to even, as libtorch does.
REPRISE_INLINE void store(c10::BFloat16 *to, floats x) {
    const words bits = (words)x;
    const words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const words chosen = x == x ? rounded : words{} + 0x7fc0u;
    const halves half = __builtin_convertvector(chosen, halves);
    std::memcpy(to, &half, sizeof half);
}

// The first `count` of sixteen; the others are `rest`.
template <typename T> REPRISE_INLINE floats load_some(const T *from, int64_t count, float rest) {
    T some[WIDE];
    for (int64_t i = 0; i < WIDE; i++) some[i] = i < count ? from[i] : static_cast<T>(rest);
    return load(some);
}

template <typename T> REPRISE_INLINE void store_some(T *to, floats x, int64_t count) {
    T some[WIDE];
    store(some, x);
    for (int64_t i = 0; i < count; i++) to[i] = some[i];
}

// Sixteen from place `i` of a row of `length`, or those that are left of it with zeros behind them.
template <typename T> REPRISE_INLINE floats get(const T *row, int64_t i, int64_t length) {
    return length - i >= WIDE ? load(row + i) : load_some(row + i, length - i, 0.0f);
}

template <typename T> REPRISE_INLINE void put(T *row, int64_t i, int64_t length, floats x) {
    if (length - i >= WIDE) store(row + i, x);
    else store_some(row + i, x, length - i);
}

// The sum of the lanes, in one order.
REPRISE_INLINE float sum(floats x) {
    float lanes[WIDE];
    store(lanes, x);
    for (int64_t half = WIDE / 2; half > 0; half /= 2) {
        for (int64_t i = 0; i < half; i++) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

REPRISE_INLINE floats larger(floats x, floats y) { return x > y ? x : y; }

REPRISE_INLINE float largest(floats x) {
    float lanes[WIDE], most;
    store(lanes, x);
    most = lanes[0];
    for (int64_t i = 1; i < WIDE; i++) most = lanes[i] > most ? lanes[i] : most;
    return most;
}

// e to the x for x of at most 0, to about 1e-7 of the result: x = n ln 2 + r, and a polynomial of r. Below -87 it is 0; NaN stays NaN.
REPRISE_INLINE floats exponential(floats x) {
    const floats bounded = x < spread(-87.0f) ? spread(-87.0f) : x;
    const ints n = __builtin_convertvector(bounded * 1.44269504088896341f - 0.5f, ints);
    const floats whole = __builtin_convertvector(n, floats);
    const floats r = (bounded - whole * 0.693359375f) + whole * 2.12194440e-4f;
    floats y = spread(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const floats power = (floats)((words)(n + 127) << 23);
    const floats result = x < spread(-87.0f) ? spread(0.0f) : y * power;
    return x == x ? result : x;
}

// Φ of the normal distribution to 1e-7, from e^(−x²/2): by the error function (Abramowitz and Stegun, 7.1.26, the formula of libtorch's own
// kernels).
REPRISE_INLINE floats below(floats x, floats density) {
    const floats magnitude = x < spread(0.0f) ? -x : x;
    const floats t = 1.0f / (1.0f + (0.3275911f * 0.70710678118654752f) * magnitude);
    floats y = spread(1.061405429f);
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    const floats beyond = 0.5f * (y * t * density);
    return x < spread(0.0f) ? beyond : 1.0f - beyond;
}

REPRISE_INLINE floats gelu(floats x) { return x * below(x, exponential(x * x * -0.5f)); }

REPRISE_INLINE floats gelu_slope(floats x) {
    const floats density = exponential(x * x * -0.5f);
    return below(x, density) + x * 0.39894228040143268f * density;
}

} // namespace reprise

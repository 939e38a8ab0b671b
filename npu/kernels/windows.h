// What attention to windows and what makes their tiles share: 16 numbers at a time, and blocks of 8 bits.
#pragma once

#include "bf16.h"

constexpr int kVector = 16;                   // numbers at a time, and copies of one
constexpr int kBlocks = kTile / kColumns;     // of a tile in 8 bits, in a row
constexpr int kSumsN = kTile / kColumnsBf16;  // and of one of sums
constexpr int kHalfBlock = kRows * kColumns;
constexpr float kLeastMagnitude = 1e-18f;  // whose reciprocal is a number

// Where a tile of sums [16][16][4][4] has one of them.
constexpr int sums_at(int m, int n) {
    return ((m / kRows * kSumsN + n / kColumnsBf16) * kRows + m % kRows) * kColumnsBf16 + n % kColumnsBf16;
}

#ifdef __AIE__

using Halves = aie::vector<int16_t, kVector>;

// To the nearest whole number within 16 bits, halves to even: the last bits of what is left of the sum.
KERNEL_INLINE Halves whole(const Sums &x) {
    return aie::filter_even(aie::add(x, all(kWhole)).to_vector<float>().cast_to<int16_t>());
}

KERNEL_INLINE Floats float_product(const Floats &a, const Floats &b) {
    return product(parts(a), parts(b)).to_vector<float>();
}

#else

// To the nearest whole number within 16 bits, halves to even.
KERNEL_INLINE int32_t whole(float x) { return as_bits(x + kWhole) - kWholeBits; }

KERNEL_INLINE float float_product(float a, float b) { return product(parts(a), parts(b)); }

#endif

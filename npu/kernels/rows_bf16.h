// What is known of rows before they are normalised: mean and reciprocal deviation, out of sums of every eighth value and
// of squares. The deviation is the root of the variance plus 1e-5. The reciprocal root is four steps of Newton's from the
// usual guess: multiplications only, which is what a core can do.
#pragma once

#include "bf16.h"

constexpr float kEpsilon = 1e-5f;
constexpr int32_t kRootGuess = 0x5f3759df;  // less half the bits of x: those of its reciprocal root, nearly

KERNEL_INLINE float reciprocal_root(float value) {
    float y = as_float(kRootGuess - (as_bits(value) >> 1));
    const float half = 0.5f * value;
    for (int step = 0; step < 4; ++step) y = y * (1.5f - half * y * y);
    return y;
}

// A row's sum: of its eight lanes neighbours first.
KERNEL_INLINE float added_up(const float *lanes, int row) {
    const float *own = lanes + row * kDepth;
    return ((own[0] + own[1]) + (own[2] + own[3])) + ((own[4] + own[5]) + (own[6] + own[7]));
}

KERNEL_INLINE void describe(float sum, float squares, float share, float &mean, float &scale) {
    mean = sum * share;
    const float variance = squares * share - mean * mean;
    scale = reciprocal_root((variance > 0 ? variance : 0) + kEpsilon);
}

#ifdef __AIE__

// Every second value and the one after it.
KERNEL_INLINE Floats neighbours(const Floats &left, const Floats &right) {
    const auto both = aie::concat(left, right);
    return aie::add(Sums(aie::filter_even(both)), aie::filter_odd(both)).to_vector<float>();
}

// [16][8] -> [16]
KERNEL_INLINE Floats rows_added_up(const float *lanes) {
    const auto pairs = [lanes](int at) {
        return neighbours(aie::load_v<kLanes>(lanes + at * kLanes), aie::load_v<kLanes>(lanes + (at + 1) * kLanes));
    };
    return neighbours(neighbours(pairs(0), pairs(2)), neighbours(pairs(4), pairs(6)));
}

KERNEL_INLINE Floats product(const Floats &a, const Floats &b) { return aie::mul(a, b).to_vector<float>(); }

KERNEL_INLINE Floats reciprocal_roots(const Floats &values) {
    const aie::accum<acc64, kLanes> even(aie::bit_and(~1, values.cast_to<int32_t>()));  // nothing is left to round
    auto y = aie::sub(all(kRootGuess), even.to_vector<int32_t>(1)).cast_to<float>();
    const auto half = product(values, all(0.5f));
    for (int step = 0; step < 4; ++step)
        y = product(y, aie::msc(Sums(all(1.5f)), product(half, y), y).to_vector<float>());
    return y;
}

// Of 16 rows.
struct Described {
    Floats mean, scale;
};

KERNEL_INLINE Described described(const float *lanes, const float *squares, float share) {
    const auto mean = product(rows_added_up(lanes), all(share));
    const auto variance = aie::msc(aie::mul(rows_added_up(squares), all(share)), mean, mean).to_vector<float>();
    const auto positive = aie::add(Sums(at_least(0, variance)), all(kEpsilon)).to_vector<float>();
    return {mean, reciprocal_roots(positive)};
}

// [2][8]: a number for each row.
KERNEL_INLINE Floats by_row(const float *rows) {
    return aie::concat(aie::broadcast<float, kDepth>(rows[0]), aie::broadcast<float, kDepth>(rows[1]));
}

#endif

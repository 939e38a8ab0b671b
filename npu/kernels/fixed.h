// Fixed point as all kernels do it: shifts round to nearest, halves to even, and results saturate. On the cores these
// are modes, which every kernel that narrows sets; here they are also functions, for the portable path.
#pragma once

#include <cstdint>

#ifdef __AIE__
#include <aie_api/aie.hpp>
#endif

#define KERNEL_INLINE static inline __attribute__((always_inline))

constexpr int kTile = 64;         // rows, columns and depth of a tile
constexpr int kRows = 4;          // r of the matrix unit: rows of A and C
constexpr int kDepth = 8;         // s: columns of A, rows of B
constexpr int kColumns = 8;       // t: columns of B and C, 8-bit
constexpr int kColumnsBf16 = 4;   // and bf16
constexpr int kHalfColumns = 4;   // 16-bit values in the 8 bytes that memory tiles move together
constexpr int kCount = kTile * kTile;
constexpr int kScales = 5;        // row of statistics [8][64] where the scales of rows begin

// Where a tile of 64 rows and 32 columns of 16-bit values, [16][8][4][4], has one of them.
constexpr int half_at(int m, int n) {
    return ((m / kRows * (kTile / 2 / kHalfColumns) + n / kHalfColumns) * kRows + m % kRows) * kHalfColumns +
           n % kHalfColumns;
}

KERNEL_INLINE int64_t round_even(int64_t value, int shift) {
    if (shift == 0) return value;
    const int64_t down = value >> shift;
    const int64_t rest = value - down * (int64_t{1} << shift), half = int64_t{1} << (shift - 1);
    return down + ((rest > half || (rest == half && (down & 1))) ? 1 : 0);
}

KERNEL_INLINE int64_t clamped(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

KERNEL_INLINE int32_t saturate32(int64_t value) {
    return static_cast<int32_t>(clamped(value, INT32_MIN, INT32_MAX));
}

KERNEL_INLINE int16_t saturate16(int64_t value) {
    return static_cast<int16_t>(clamped(value, INT16_MIN, INT16_MAX));
}

KERNEL_INLINE int8_t saturate8(int64_t value) { return static_cast<int8_t>(clamped(value, INT8_MIN, INT8_MAX)); }

// Bits that a number >= 0 needs.
KERNEL_INLINE int bits_of(uint64_t value) {
    return value ? 64 - __builtin_clzll(value) : 0;
}

// 2^61 / value, rounded down, the value brought to 31 bits; and how many bits it had. 0 < value < 2^31.
constexpr int64_t kInverted = (int64_t{1} << 61) - 1;
constexpr int kInvertedBits = 31;

// Rows in steps of their largest, which is 127: 127 * 2^down / the largest, with 15 bits; and the scale of a row,
// 16 / 127 of its largest. In the inverse of the largest there are 23 bits more.
constexpr int kSteps = 127, kSpareBits = 7, kStepBits = 23, kShareBits = 33;
constexpr int32_t kOneStep = 1082196484;

// Powers of less than one, with 14 fraction bits: the sixteenth power of a polynomial of s, 0 <= s <= 1, that is 1 at
// 0. Of a function that falls like a power of two the sixteenth root is nearly a line, so that three or four factors
// are enough, the highest first.
constexpr int kPartBits = 14, kWholePart = 1 << kPartBits, kSquarings = 4;

// Functions like GELU and SiLU: x where it is above zero, less |x| times half of such a power. A curve is what -|x| is
// multiplied by and the shift after it, which make s, then four factors.
constexpr int kCurveDegree = 4, kCurveShift = 1, kCurveFactors = 2;

#ifndef __AIE__
struct Inverse {
    int32_t value;
    int bits;
};

KERNEL_INLINE Inverse inverse(int32_t value) {
    const int bits = bits_of(value);
    return {static_cast<int32_t>(kInverted / (int64_t{value} << (kInvertedBits - bits))), bits};
}

// Of a row, and its scale.
struct Steps {
    int32_t factor;
    int down;
};

KERNEL_INLINE Steps steps_of(int32_t most) {
    const Inverse found = inverse(most > 1 ? most : 1);
    return {static_cast<int32_t>(round_even(int64_t{found.value} * kSteps, kStepBits)), found.bits + kSpareBits};
}

KERNEL_INLINE int32_t scale_of(int64_t most) { return static_cast<int32_t>(round_even(most * kOneStep, kShareBits)); }

template <int kDegree> KERNEL_INLINE int16_t sixteenth_power(int32_t s, const int16_t *factors) {
    int16_t p = factors[0];
    for (int i = 1; i <= kDegree; ++i) {
        const int32_t factor = i < kDegree ? factors[i] : kWholePart;
        p = saturate16(round_even(p * s + factor * kWholePart, kPartBits));
    }
    for (int i = 0; i < kSquarings; ++i) p = saturate16(round_even(p * p, kPartBits));
    return p;
}

KERNEL_INLINE int16_t activated(int16_t x, const int16_t *curve) {
    const int32_t size = x < 0 ? x : -x;
    const auto s = static_cast<int32_t>(clamped(round_even(size * curve[0], curve[kCurveShift]), 0, kWholePart));
    const int64_t less = size * sixteenth_power<kCurveDegree>(s, curve + kCurveFactors);
    return static_cast<int16_t>((x > 0 ? x : 0) + round_even(less, kPartBits + 1));
}

KERNEL_INLINE void clear(int32_t *words, int count) {
    for (int i = 0; i < count; ++i) words[i] = 0;
}

KERNEL_INLINE void copy(const int32_t *from, int32_t *to, int count) {
    for (int i = 0; i < count; ++i) to[i] = from[i];
}
#endif

#ifdef __AIE__
// What rounds and saturates in the vector path is the core.
KERNEL_INLINE void set_modes() {
    aie::set_rounding(aie::rounding_mode::conv_even);
    aie::set_saturation(aie::saturation_mode::saturate);
}

constexpr int kWords = 16, kShorts = 32;  // of a vector
using Words = aie::vector<int32_t, kWords>;
using Whole = aie::vector<uint32_t, kWords>;
using Shorts = aie::vector<int16_t, kShorts>;

KERNEL_INLINE Shorts all_shorts(int16_t value) { return aie::broadcast<int16_t, kShorts>(value); }

// kDividend / divisor, rounded down, bit by bit; kDividend / 2^kBits < divisor < 2^31.
template <int64_t kDividend, int kBits> KERNEL_INLINE Whole quotient(const Whole &divisor) {
    auto rest = aie::broadcast<uint32_t, kWords>(static_cast<uint32_t>(kDividend >> kBits));
    auto found = aie::zeros<uint32_t, kWords>();
    for (int bit = kBits - 1; bit >= 0; --bit) {
        rest = aie::add(aie::add(rest, rest), aie::broadcast<uint32_t, kWords>(kDividend >> bit & 1));
        const auto less = aie::lt(rest, divisor);
        rest = aie::select(aie::sub(rest, divisor), rest, less);
        found = aie::add(found, found);
        found = aie::select(aie::add(found, aie::broadcast<uint32_t, kWords>(1)), found, less);
    }
    return found;
}

struct Inverse {
    Words value, bits;
};

KERNEL_INLINE Inverse inverse(const Words &values) {
    auto value = values.cast_to<uint32_t>();
    auto bits = aie::broadcast<int32_t, kWords>(kInvertedBits);
    for (int up = 16; up; up >>= 1) {
        const auto few = aie::lt(value, aie::broadcast<uint32_t, kWords>(uint32_t{1} << (kInvertedBits - up)));
        const auto moved = aie::accum<acc64, kWords>(value, up).to_vector<uint32_t>();
        value = aie::select(value, moved, few);
        bits = aie::select(bits, aie::sub(bits, aie::broadcast<int32_t, kWords>(up)), few);
    }
    return {quotient<kInverted, kInvertedBits>(value).cast_to<int32_t>(), bits};
}

// Of sixteen rows, and their scales.
struct Steps {
    Words factor, down;
};

KERNEL_INLINE Steps steps_of(const Words &most) {
    const auto found = inverse(aie::max(most, aie::broadcast<int32_t, kWords>(1)));
    return {aie::mul(found.value, static_cast<int16_t>(kSteps)).to_vector<int32_t>(kStepBits),
            aie::add(found.bits, aie::broadcast<int32_t, kWords>(kSpareBits))};
}

KERNEL_INLINE Words scale_of(const Words &most) { return aie::mul(most, kOneStep).to_vector<int32_t>(kShareBits); }

template <int kDegree> KERNEL_INLINE Shorts sixteenth_power(const Shorts &s, const int16_t *factors) {
    auto p = all_shorts(factors[0]);
    for (int i = 1; i <= kDegree; ++i) {
        const aie::accum<acc32, kShorts> factor(all_shorts(i < kDegree ? factors[i] : kWholePart), kPartBits);
        p = aie::mac(factor, p, s).to_vector<int16_t>(kPartBits);
    }
    for (int i = 0; i < kSquarings; ++i) p = aie::mul(p, p).to_vector<int16_t>(kPartBits);
    return p;
}

KERNEL_INLINE Shorts activated(const Shorts &x, const int16_t *curve) {
    const auto none = all_shorts(0), size = aie::min(x, aie::sub(none, x));  // as far below zero
    const auto far = aie::mul(size, curve[0]).to_vector<int16_t>(curve[kCurveShift]);
    const auto power = sixteenth_power<kCurveDegree>(aie::min(far, all_shorts(kWholePart)), curve + kCurveFactors);
    return aie::add(aie::max(x, none), aie::mul(size, power).to_vector<int16_t>(kPartBits + 1));
}

KERNEL_INLINE void clear(int32_t *words, int count) {
    for (int i = 0; i < count; i += kWords) aie::store_v(words + i, aie::zeros<int32_t, kWords>());
}

KERNEL_INLINE void copy(const int32_t *from, int32_t *to, int count) {
    for (int i = 0; i < count; i += kWords) aie::store_v(to + i, aie::load_v<kWords>(from + i));
}

// Four rows of 16 columns out of such a tile, whose vectors are four rows of four columns: in two steps columns that
// lie side by side come together.
struct FourRows {
    aie::vector<int16_t, 16> row[kRows];
};

KERNEL_INLINE FourRows four_rows(const aie::vector<int16_t, 16> &a, const aie::vector<int16_t, 16> &b,
                                 const aie::vector<int16_t, 16> &c, const aie::vector<int16_t, 16> &d) {
    const auto [left_upper, left_lower] = aie::interleave_zip(a, b, kHalfColumns);
    const auto [right_upper, right_lower] = aie::interleave_zip(c, d, kHalfColumns);
    const auto [first, second] = aie::interleave_zip(left_upper, right_upper, 2 * kHalfColumns);
    const auto [third, fourth] = aie::interleave_zip(left_lower, right_lower, 2 * kHalfColumns);
    return {{first, second, third, fourth}};
}

// The same rows in 8 bits, as two blocks of a tile [16][8][4][8]. What lies within +-127 loses nothing when the upper
// half of 16 bits is dropped.
KERNEL_INLINE void store_blocks(int8_t *to, const FourRows &rows) {
    const auto upper = aie::concat(rows.row[0], rows.row[1]), lower = aie::concat(rows.row[2], rows.row[3]);
    aie::store_v(to, aie::concat(aie::filter_even(upper, kDepth), aie::filter_even(lower, kDepth)).pack());
    aie::store_v(to + kRows * kDepth,
                 aie::concat(aie::filter_odd(upper, kDepth), aie::filter_odd(lower, kDepth)).pack());
}
#endif

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

// The largest r with r * r <= value, value >= 0.
KERNEL_INLINE int64_t square_root(int64_t value) {
    int64_t root = 0;
    for (int64_t bit = int64_t{1} << 31; bit; bit >>= 1) {
        const int64_t tried = root | bit;
        if (tried <= value / tried) root = tried;
    }
    return root;
}

// A function of values with 10 fraction bits, by a table of it at -8, -8 + 1/16, ... 8 [257], lines in between: as the
// first entry below, and itself above: what GELU and SiLU do.
constexpr int kActivationBits = 10, kStepBits = 6;

KERNEL_INLINE int16_t activated(int16_t x, const int16_t *table) {
    const int32_t at = x + (8 << kActivationBits);
    if (at < 0) return table[0];
    const int32_t i = at >> kStepBits, rest = at & ((1 << kStepBits) - 1);
    if (i >= 256) return x;
    return static_cast<int16_t>(table[i] + round_even((table[i + 1] - table[i]) * rest, kStepBits));
}

#ifdef __AIE__
// What rounds and saturates in the vector path is the core.
KERNEL_INLINE void set_modes() {
    aie::set_rounding(aie::rounding_mode::conv_even);
    aie::set_saturation(aie::saturation_mode::saturate);
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

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
constexpr int kCount = kTile * kTile;

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
#endif

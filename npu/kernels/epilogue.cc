// What becomes of the sums of a product, in passes over the tile:
//   u = c * channel[n] / 2^channel_shift            to 32 bits
//   y = (u * token[m]) / 2^token_shift + bias[n]    to 16 bits, rounded once
//   y = curve(y) where an activation is asked for
//   y = y + residual / 2^down                       to 16 bits
// Every division rounds to nearest, halves to even; every result saturates.
//   c [16][8][4][8]   token [64], >= 0: the first scales of statistics, see scales.cc   channel, bias [64]
//   curve [6], see fixed.h, in the unit of y
//   out [16][8][4][4]: 32 columns in 16 bits, so that two make the tile
// The shifts are 0..31; channel is the scale of the weights' columns, token that of the rows of A, bias and out count
// the same unit. Of a block of sums that is settled the first half holds its 32 values, in 16 bits.
//
// On a core whose two ways in are taken by A and B, what this needs comes as tiles of B after the last step:
//   columns, words 0: channel, 64: bias, 128: channel_shift, token_shift; from 132 the curve, in 16 bits
//   half [8][8][8][4]: 32 columns of a residual
#include "fixed.h"

constexpr int kBlocksN = kTile / kColumns, kBlock = kRows * kColumns;
constexpr int kHalfBlocks = kBlocksN / 2;
constexpr int kBias = 64, kShifts = 128, kCurve = 132;  // words of columns

#ifdef __AIE__

constexpr int kLanes = 16;  // two rows of a block

KERNEL_INLINE void requantise(int32_t *c, const int32_t *channel, const int32_t *token, const int32_t *bias,
                              int channel_shift, int token_shift) {
    for (int j = 0; j < kBlocksN; ++j) {
        const auto scale8 = aie::load_v<kColumns>(channel + j * kColumns);
        const auto bias8 = aie::load_v<kColumns>(bias + j * kColumns);
        const auto scale = aie::concat(scale8, scale8), start = aie::concat(bias8, bias8);
        for (int m = 0; m < kTile; m += kRows) {
            int32_t *at = c + (m / kRows * kBlocksN + j) * kBlock;
            aie::vector<int16_t, kLanes> found[2];
            for (int pair = 0; pair < 2; ++pair) {
                const auto rows = aie::concat(aie::broadcast<int32_t, kColumns>(token[m + 2 * pair]),
                                              aie::broadcast<int32_t, kColumns>(token[m + 2 * pair + 1]));
                const auto sums = aie::load_v<kLanes>(at + pair * kLanes);
                const auto u = aie::mul(sums, scale).to_vector<int32_t>(channel_shift);
                aie::accum<acc64, kLanes> y(start, token_shift);
                found[pair] = aie::mac(y, u, rows).to_vector<int16_t>(token_shift);
            }
            aie::store_v(reinterpret_cast<int16_t *>(at), aie::concat(found[0], found[1]));
        }
    }
}

KERNEL_INLINE void activate(int32_t *c, const int16_t *curve) {
    for (int i = 0; i < kCount; i += kBlock) {
        int16_t *at = reinterpret_cast<int16_t *>(c + i);
        aie::store_v(at, activated(aie::load_v<kBlock>(at), curve));
    }
}

KERNEL_INLINE void narrow(const int32_t *c, int16_t *out, int half) {
    for (int m = 0; m < kTile / kRows; ++m)
        for (int j = 0; j < kHalfBlocks; ++j, out += kBlock) {
            const int32_t *block = c + (m * kBlocksN + half * kHalfBlocks + j) * kBlock;
            const auto y = aie::load_v<kBlock>(reinterpret_cast<const int16_t *>(block));
            aie::store_v(out, aie::filter_even(y, kHalfColumns));
            aie::store_v(out + kBlock / 2, aie::filter_odd(y, kHalfColumns));
        }
}

KERNEL_INLINE void add(const int16_t *residual, int16_t *out, int down) {
    aie::accum<acc32, kRows * kHalfColumns> wide(aie::load_v<kRows * kHalfColumns>(residual));
    aie::accum<acc32, kRows * kHalfColumns> sum(wide.to_vector<int16_t>(down));
    aie::store_v(out, aie::add(sum, aie::load_v<kRows * kHalfColumns>(out)).to_vector<int16_t>());
}

#else

KERNEL_INLINE void requantise(int32_t *c, const int32_t *channel, const int32_t *token, const int32_t *bias,
                              int channel_shift, int token_shift) {
    for (int at = 0; at < kCount; ++at) {
        const int block = at / kBlock, m = block / kBlocksN * kRows + at / kColumns % kRows;
        const int n = block % kBlocksN * kColumns + at % kColumns;
        const int64_t u = saturate32(round_even(int64_t{c[at]} * channel[n], channel_shift));
        const int64_t start = int64_t{bias[n]} * (int64_t{1} << token_shift);
        reinterpret_cast<int16_t *>(c + block * kBlock)[at % kBlock] =
            saturate16(round_even(u * token[m] + start, token_shift));
    }
}

KERNEL_INLINE void activate(int32_t *c, const int16_t *curve) {
    for (int i = 0; i < kCount; ++i) {
        int16_t &y = reinterpret_cast<int16_t *>(c + i / kBlock * kBlock)[i % kBlock];
        y = activated(y, curve);
    }
}

KERNEL_INLINE void narrow(const int32_t *c, int16_t *out, int half) {
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kTile / 2; ++n)
            out[half_at(m, n)] = reinterpret_cast<const int16_t *>(
                c + (m / kRows * kBlocksN + half * kHalfBlocks + n / kColumns) * kBlock)[m % kRows * kColumns +
                                                                                       n % kColumns];
}

KERNEL_INLINE void add(const int16_t *residual, int16_t *out, int down) {
    for (int i = 0; i < kRows * kHalfColumns; ++i)
        out[i] = saturate16(int64_t{out[i]} + saturate16(round_even(residual[i], down)));
}

#endif

extern "C" {

// These change the sums, which hold y afterwards, before the residual.
void settle_i32(int32_t *c, const int8_t *columns, const int32_t *statistics) {
#ifdef __AIE__
    set_modes();
#endif
    const int32_t *words = reinterpret_cast<const int32_t *>(columns), *shifts = words + kShifts;
    requantise(c, words, statistics + kScales * kTile, words + kBias, shifts[0], shifts[1]);
}

void activate_i16(int32_t *c, const int8_t *columns) {
#ifdef __AIE__
    set_modes();
#endif
    activate(c, reinterpret_cast<const int16_t *>(reinterpret_cast<const int32_t *>(columns) + kCurve));
}

void narrow_i16(const int32_t *c, int8_t *out, int32_t half) {
#ifdef __AIE__
    set_modes();
#endif
    narrow(c, reinterpret_cast<int16_t *>(out), half);
}

// Of eight rows and four columns of the residual, the upper four rows are a block of out, and the lower four.
void add_half_i16(const int8_t *half, int8_t *out, int32_t down) {
#ifdef __AIE__
    set_modes();
#endif
    constexpr int kPiece = kRows * kHalfColumns, kGroups = kTile / 2 / kHalfColumns;
    const int16_t *from = reinterpret_cast<const int16_t *>(half);
    int16_t *to = reinterpret_cast<int16_t *>(out);
    for (int m = 0; m < kTile / kRows; ++m)
        for (int g = 0; g < kGroups; ++g)
            add(from + ((m / 2 * kGroups + g) * 2 + m % 2) * kPiece, to + (m * kGroups + g) * kPiece, down);
}
}

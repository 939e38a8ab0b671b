// What becomes of the sums of a product, in passes over the tile:
//   u = c * channel[n] / 2^channel_shift            to 32 bits
//   y = (u * token[m]) / 2^token_shift + bias[n]    to 16 bits, rounded once
//   y = table(y) where an activation is given       y with 10 fraction bits then
//   y = y + residual / 2^down                       to 16 bits
// Every division rounds to nearest, halves to even; every result saturates.
//   c [16][8][4][8]   token [64], >= 0: the first scales of statistics, see scales.cc   channel, bias [64]
//   table [257], see fixed.h
//   out [16][8][4][4]: 32 columns in 16 bits, so that two make the tile
// The shifts are 0..31; channel is the scale of the weights' columns, token that of the rows of A, bias and out count
// the same unit.
//
// On a core whose two ways in are taken by A and B, what this needs comes as tiles of B after the last step:
//   columns, words 0: channel, 64: bias, 128: channel_shift, token_shift, and 1 where there is an activation; from 132
//     its table, in 16 bits
//   half [8][8][8][4]: 32 columns of a residual
#include "fixed.h"

constexpr int kBlocksN = kTile / kColumns, kBlock = kRows * kColumns;
constexpr int kHalfBlocks = kBlocksN / 2;
constexpr int kBias = 64, kShifts = 128, kTable = 132;  // words of columns

#ifdef __AIE__

constexpr int kLanes = 16;  // two rows of a block

KERNEL_INLINE void requantise(int32_t *c, const int32_t *channel, const int32_t *token, const int32_t *bias,
                              int channel_shift, int token_shift) {
    for (int j = 0; j < kBlocksN; ++j) {
        const auto scale8 = aie::load_v<kColumns>(channel + j * kColumns);
        const auto bias8 = aie::load_v<kColumns>(bias + j * kColumns);
        const auto scale = aie::concat(scale8, scale8), start = aie::concat(bias8, bias8);
        for (int m = 0; m < kTile; m += 2) {
            int32_t *at = c + ((m / kRows) * kBlocksN + j) * kBlock + (m % kRows) * kColumns;
            const auto rows = aie::concat(aie::broadcast<int32_t, kColumns>(token[m]),
                                          aie::broadcast<int32_t, kColumns>(token[m + 1]));
            const auto u = aie::mul(aie::load_v<kLanes>(at), scale).to_vector<int32_t>(channel_shift);
            aie::accum<acc64, kLanes> y(start, token_shift);
            y = aie::mac(y, u, rows);
            aie::accum<acc32, kLanes> narrow(y.to_vector<int16_t>(token_shift));
            aie::store_v(at, narrow.to_vector<int32_t>());
        }
    }
}

KERNEL_INLINE void narrow(const int32_t *c, int16_t *out, int half) {
    for (int m = 0; m < kTile / kRows; ++m)
        for (int j = 0; j < kHalfBlocks; ++j, out += kBlock) {
            aie::accum<acc32, kBlock> wide(aie::load_v<kBlock>(c + (m * kBlocksN + half * kHalfBlocks + j) * kBlock));
            const auto y = wide.to_vector<int16_t>();
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
        c[at] = saturate16(round_even(u * token[m] + start, token_shift));
    }
}

KERNEL_INLINE void narrow(const int32_t *c, int16_t *out, int half) {
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kTile / 2; ++n)
            out[half_at(m, n)] = static_cast<int16_t>(
                c[(m / kRows * kBlocksN + half * kHalfBlocks + n / kColumns) * kBlock + m % kRows * kColumns +
                  n % kColumns]);
}

KERNEL_INLINE void add(const int16_t *residual, int16_t *out, int down) {
    for (int i = 0; i < kRows * kHalfColumns; ++i)
        out[i] = saturate16(int64_t{out[i]} + saturate16(round_even(residual[i], down)));
}

#endif

extern "C" {

// c holds y afterwards, before the residual.
void settle_i32(int32_t *c, const int8_t *columns, const int32_t *statistics) {
#ifdef __AIE__
    set_modes();
#endif
    const int32_t *words = reinterpret_cast<const int32_t *>(columns), *shifts = words + kShifts;
    requantise(c, words, statistics + kScales * kTile, words + kBias, shifts[0], shifts[1]);
    const int16_t *table = reinterpret_cast<const int16_t *>(words + kTable);
    if (shifts[2])
        for (int i = 0; i < kCount; ++i) c[i] = activated(static_cast<int16_t>(c[i]), table);
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

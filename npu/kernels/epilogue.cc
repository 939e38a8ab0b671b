// What becomes of the sums of a product, in one pass over the tile:
//   u = c * channel[n] / 2^channel_shift            to 32 bits
//   y = (u * token[m]) / 2^token_shift + bias[n]    to 16 bits, rounded once
//   y = table(y) where activation is 1              y with 10 fraction bits then
//   y = y + residual where residual_given is 1      to 16 bits
// Every division rounds to nearest, halves to even; every result saturates.
//   c, residual, out [16][8][4][8]   channel, bias [64]   token [64], >= 0   table [257], see fixed.h
// The shifts are 0..31; channel is the scale of the weights' columns, token that of the rows of A, bias and out count
// the same unit.
//
// On a core whose two ways in are taken by A and B, what this needs comes as tiles of theirs:
//   header, a tile of A before the first step: words 0: steps of depth, 1: channel_shift, 2: token_shift,
//     3: activation; from 8: token. Its first 512 bytes are kept, because the tile is given back.
//   columns, a tile of B after the last step: channel, bias, and a word: 1 where a residual follows
//   half, tiles of B after it: the first or the second half of a residual
#include "fixed.h"

constexpr int kBlocksN = kTile / kColumns;

#ifdef __AIE__

constexpr int kLanes = 16;  // two rows of a block

KERNEL_INLINE void requantise(const int32_t *c, const int32_t *channel, const int32_t *token, const int32_t *bias,
                              int16_t *out, int channel_shift, int token_shift) {
    for (int j = 0; j < kBlocksN; ++j) {
        const auto scale8 = aie::load_v<kColumns>(channel + j * kColumns);
        const auto bias8 = aie::load_v<kColumns>(bias + j * kColumns);
        const auto scale = aie::concat(scale8, scale8), start = aie::concat(bias8, bias8);
        for (int m = 0; m < kTile; m += 2) {
            const int at = ((m / kRows) * kBlocksN + j) * kRows * kColumns + (m % kRows) * kColumns;
            const auto rows = aie::concat(aie::broadcast<int32_t, kColumns>(token[m]),
                                          aie::broadcast<int32_t, kColumns>(token[m + 1]));
            const auto u = aie::mul(aie::load_v<kLanes>(c + at), scale).to_vector<int32_t>(channel_shift);
            aie::accum<acc64, kLanes> y(start, token_shift);
            y = aie::mac(y, u, rows);
            aie::store_v(out + at, y.to_vector<int16_t>(token_shift));
        }
    }
}

KERNEL_INLINE void add(const int16_t *residual, int16_t *out, int count) {
    for (int i = 0; i < count; i += 32) {
        aie::accum<acc32, 32> sum(aie::load_v<32>(out + i));
        aie::store_v(out + i, aie::add(sum, aie::load_v<32>(residual + i)).to_vector<int16_t>());
    }
}

#else

KERNEL_INLINE void requantise(const int32_t *c, const int32_t *channel, const int32_t *token, const int32_t *bias,
                              int16_t *out, int channel_shift, int token_shift) {
    for (int at = 0; at < kCount; ++at) {
        const int block = at / (kRows * kColumns), m = block / kBlocksN * kRows + at / kColumns % kRows;
        const int n = block % kBlocksN * kColumns + at % kColumns;
        const int64_t u = saturate32(round_even(int64_t{c[at]} * channel[n], channel_shift));
        const int64_t start = int64_t{bias[n]} * (int64_t{1} << token_shift);
        out[at] = saturate16(round_even(u * token[m] + start, token_shift));
    }
}

KERNEL_INLINE void add(const int16_t *residual, int16_t *out, int count) {
    for (int i = 0; i < count; ++i) out[i] = saturate16(int32_t{out[i]} + residual[i]);
}

#endif

KERNEL_INLINE void apply(const int32_t *c, const int32_t *channel, const int32_t *token, const int32_t *bias,
                         const int16_t *table, int16_t *out, int channel_shift, int token_shift, int activation) {
#ifdef __AIE__
    set_modes();
#endif
    requantise(c, channel, token, bias, out, channel_shift, token_shift);
    if (activation)
        for (int i = 0; i < kCount; ++i) out[i] = activated(out[i], table);
}

constexpr int kTokens = 8;  // word of a header where its scales begin

extern "C" {

void epilogue_i16(const int32_t *c, const int32_t *channel, const int32_t *token, const int32_t *bias,
                  const int16_t *table, const int16_t *residual, int16_t *out, int32_t channel_shift,
                  int32_t token_shift, int32_t activation, int32_t residual_given) {
    apply(c, channel, token, bias, table, out, channel_shift, token_shift, activation);
    if (residual_given) add(residual, out, kCount);
}

void epilogue_packed(const int32_t *c, const int32_t *kept, const int8_t *columns, const int16_t *table, int16_t *out) {
    const int32_t *channel = reinterpret_cast<const int32_t *>(columns);
    apply(c, channel, kept + kTokens, channel + kTile, table, out, kept[1], kept[2], kept[3]);
}

void add_half(const int8_t *half, int16_t *out, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    add(reinterpret_cast<const int16_t *>(half), out + which * (kCount / 2), kCount / 2);
}
}

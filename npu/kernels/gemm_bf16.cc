// C += A * B over one tile of 64 x 64 and a depth of 32: bf16 values, float sums, the terms of a sum in the order of
// depth. Half the depth of 8-bit tiles, and so as many bytes.
//   a [16][4][4][8]  b [4][16][8][4]  c [16][16][4][4]; bf16 as its 16 bits
// and what becomes of the sums:
//   y = c + bias[n]; y = table(y) where activation is 1; y = y + residual where residual_given is 1; to bf16
//   table [257]: the function at -8, -8 + 1/16, ... 8; lines in between, itself above, its first entry below
// Products of two bf16 are exact in float. Narrowing rounds to nearest, halves to even.
//
// On a core whose two ways in are taken by A and B, what this needs comes as tiles of B after the last step:
//   columns: bias, and words from 64: 1 where there is an activation, 1 where a residual follows
//   half [4][16][8][4]: 32 rows of a residual, the upper or the lower
#include "fixed.h"

#include <cstring>

constexpr int kHalfTile = kTile / 2;
constexpr int kBlocksM = kTile / kRows, kBlocksK = kHalfTile / kDepth, kBlocksN = kTile / kColumnsBf16;

KERNEL_INLINE float widened(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

KERNEL_INLINE float activated(float x, const float *table) {
    if (x >= 8) return x;
    if (!(x > -8)) return table[0];
    const float at = (x + 8) * 16;
    const int i = static_cast<int>(at);
    return table[i] + (table[i + 1] - table[i]) * (at - static_cast<float>(i));
}

#ifdef __AIE__

using Unit = aie::mmul<kRows, kDepth, kColumnsBf16, bfloat16, bfloat16, accfloat>;

KERNEL_INLINE void multiply(const uint16_t *a_bits, const uint16_t *b_bits, float *c) {
    const auto *a = reinterpret_cast<const bfloat16 *>(a_bits), *b = reinterpret_cast<const bfloat16 *>(b_bits);
    for (int i = 0; i < kBlocksM; i += 2)
        for (int j = 0; j < kBlocksN; j += 2) {
            float *upper = c + (i * kBlocksN + j) * Unit::size_C, *lower = upper + kBlocksN * Unit::size_C;
            Unit c00(aie::load_v<Unit::size_C>(upper)), c01(aie::load_v<Unit::size_C>(upper + Unit::size_C));
            Unit c10(aie::load_v<Unit::size_C>(lower)), c11(aie::load_v<Unit::size_C>(lower + Unit::size_C));
            const bfloat16 *a0 = a + i * kBlocksK * Unit::size_A, *a1 = a0 + kBlocksK * Unit::size_A;
            const bfloat16 *b0 = b + j * Unit::size_B, *b1 = b0 + Unit::size_B;
            for (int k = 0; k < kBlocksK; ++k) {
                const auto top = aie::load_v<Unit::size_A>(a0), bottom = aie::load_v<Unit::size_A>(a1);
                const auto left = aie::load_v<Unit::size_B>(b0), right = aie::load_v<Unit::size_B>(b1);
                c00.mac(top, left);
                c01.mac(top, right);
                c10.mac(bottom, left);
                c11.mac(bottom, right);
                a0 += Unit::size_A, a1 += Unit::size_A;
                b0 += kBlocksN * Unit::size_B, b1 += kBlocksN * Unit::size_B;
            }
            aie::store_v(upper, c00.to_vector<float>());
            aie::store_v(upper + Unit::size_C, c01.to_vector<float>());
            aie::store_v(lower, c10.to_vector<float>());
            aie::store_v(lower + Unit::size_C, c11.to_vector<float>());
        }
}

KERNEL_INLINE void narrow(const float *c, uint16_t *out) {
    auto *to = reinterpret_cast<bfloat16 *>(out);
    for (int i = 0; i < kCount; i += 16) {
        aie::accum<accfloat, 16> sums(aie::load_v<16>(c + i));
        aie::store_v(to + i, sums.to_vector<bfloat16>());
    }
}

#else

KERNEL_INLINE void multiply(const uint16_t *a, const uint16_t *b, float *c) {
    for (int i = 0; i < kBlocksM; ++i)
        for (int k = 0; k < kBlocksK; ++k)
            for (int j = 0; j < kBlocksN; ++j)
                for (int r = 0; r < kRows; ++r)
                    for (int s = 0; s < kDepth; ++s) {
                        const float x = widened(a[((i * kBlocksK + k) * kRows + r) * kDepth + s]);
                        const uint16_t *row = b + ((k * kBlocksN + j) * kDepth + s) * kColumnsBf16;
                        float *sums = c + ((i * kBlocksN + j) * kRows + r) * kColumnsBf16;
                        for (int t = 0; t < kColumnsBf16; ++t) sums[t] += x * widened(row[t]);
                    }
}

KERNEL_INLINE void narrow(const float *c, uint16_t *out) {
    for (int i = 0; i < kCount; ++i) {
        uint32_t wide;
        std::memcpy(&wide, c + i, sizeof wide);
        if ((wide & 0x7fffffffu) > 0x7f800000u) wide |= 0x400000u;  // not a number, and it stays one
        else wide += 0x7fffu + ((wide >> 16) & 1);
        out[i] = static_cast<uint16_t>(wide >> 16);
    }
}

#endif

KERNEL_INLINE void start(float *c, const float *bias, const float *table, int activation) {
    for (int i = 0; i < kCount; ++i) {
        const float y = c[i] + bias[i / (kRows * kColumnsBf16) % kBlocksN * kColumnsBf16 + i % kColumnsBf16];
        c[i] = activation ? activated(y, table) : y;
    }
}

extern "C" {

void zero_f32(float *c) {
    for (int i = 0; i < kCount; ++i) c[i] = 0;
}

void gemm_bf16(const uint16_t *a, const uint16_t *b, float *c) { multiply(a, b, c); }

// This and the next two change the sums: they hold y before it is narrowed.
void epilogue_bf16(float *c, const float *bias, const float *table, const uint16_t *residual, uint16_t *out,
                   int32_t activation, int32_t residual_given) {
#ifdef __AIE__
    set_modes();
#endif
    start(c, bias, table, activation);
    if (residual_given)
        for (int i = 0; i < kCount; ++i) c[i] += widened(residual[i]);
    narrow(c, out);
}

void start_f32(float *c, const uint16_t *columns, const float *table) {
    const float *bias = reinterpret_cast<const float *>(columns);
    start(c, bias, table, reinterpret_cast<const int32_t *>(columns)[kTile]);
}

// Of eight rows and four columns of the half, the upper four rows are a block of the sums, and the lower four.
void add_half_f32(const uint16_t *half, float *c, int32_t which) {
    constexpr int kBlock = kRows * kColumnsBf16, kRow = kBlocksN * kBlock;
    c += which * (kCount / 2);
    for (int i = 0; i < kBlocksM / 2; ++i)
        for (int j = 0; j < kBlocksN; ++j)
            for (int at = 0; at < kBlock; ++at)
                c[i * kRow + j * kBlock + at] += widened(half[(i / 2) * 2 * kRow + (2 * j + i % 2) * kBlock + at]);
}

void narrow_bf16(const float *c, uint16_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    narrow(c, out);
}
}

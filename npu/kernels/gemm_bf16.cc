// C += A * B over one tile of 64 x 64 and a depth of 32: bf16 values, float sums, the terms of a sum in the order of
// depth. Half the depth of 8-bit tiles, and so as many bytes.
//   a [16][4][4][8]  b [4][16][8][4]  c [16][16][4][4]; bf16 as its 16 bits
// and what becomes of the sums:
//   y = c + bias[n]; y = function(y) by table; y = y + other or y * other; to bf16
// Products of two bf16 are exact in float. Narrowing rounds to nearest, halves to even.
//
// On a core whose two ways in are taken by A and B, what this needs comes as tiles of B after the last step:
//   columns: bias [64] in float; word 64: 0 for no function, 1 for one that is itself above 8, 2 for one that stays what
//     it is at 8; from word 128 the function at -8, -8 + 1/16, ... 8 [257] in float: lines in between, its first entry below
//   half [4][16][8][4]: 32 rows of what is added or multiplied, the upper or the lower
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

constexpr int kFunction = 64, kTable = 128;  // words of columns
constexpr int kSaturating = 2;

KERNEL_INLINE float activated(float x, const float *table, int function) {
    if (x >= 8) return function == kSaturating ? table[256] : x;
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
                for (int s = 0; s < kDepth; ++s) {
                    const uint16_t *row = b + ((k * kBlocksN + j) * kDepth + s) * kColumnsBf16;
                    const float b0 = widened(row[0]), b1 = widened(row[1]), b2 = widened(row[2]), b3 = widened(row[3]);
                    for (int r = 0; r < kRows; ++r) {
                        const float x = widened(a[((i * kBlocksK + k) * kRows + r) * kDepth + s]);
                        float *sums = c + ((i * kBlocksN + j) * kRows + r) * kColumnsBf16;
                        sums[0] += x * b0, sums[1] += x * b1, sums[2] += x * b2, sums[3] += x * b3;
                    }
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

extern "C" {

void zero_f32(float *c) {
    for (int i = 0; i < kCount; ++i) c[i] = 0;
}

void gemm_bf16(const uint16_t *a, const uint16_t *b, float *c) { multiply(a, b, c); }

// This and the next change the sums: they hold y before it is narrowed.
void start_f32(float *c, const uint16_t *columns) {
    const float *bias = reinterpret_cast<const float *>(columns), *table = bias + kTable;
    const int function = reinterpret_cast<const int32_t *>(columns)[kFunction];
    for (int i = 0; i < kCount; ++i) {
        const float y = c[i] + bias[i / (kRows * kColumnsBf16) % kBlocksN * kColumnsBf16 + i % kColumnsBf16];
        c[i] = function ? activated(y, table, function) : y;
    }
}

// Of eight rows and four columns of the half, the upper four rows are a block of the sums, and the lower four.
void join_half_f32(const uint16_t *half, float *c, int32_t which, int32_t multiplied) {
    constexpr int kBlock = kRows * kColumnsBf16, kRow = kBlocksN * kBlock;
    c += which * (kCount / 2);
    for (int i = 0; i < kBlocksM / 2; ++i)
        for (int j = 0; j < kBlocksN; ++j)
            for (int at = 0; at < kBlock; ++at) {
                const float other = widened(half[(i / 2) * 2 * kRow + (2 * j + i % 2) * kBlock + at]);
                float &sum = c[i * kRow + j * kBlock + at];
                sum = multiplied ? sum * other : sum + other;
            }
}

void narrow_bf16(const float *c, uint16_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    narrow(c, out);
}

// What narrowing took away, so that both together have 16 bits. Changes the sums.
void narrow_rest_bf16(float *c, uint16_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    narrow(c, out);
    for (int i = 0; i < kCount; ++i) c[i] -= widened(out[i]);
    narrow(c, out);
}
}

// C += A * B over one tile of 64 x 64 x 64: 8-bit values, 32-bit sums.
//   a [16][8][4][8]  rows by fours, depth by eights
//   b [8][8][8][8]   depth by eights, columns by eights
//   c [16][8][4][8]  as the matrix unit leaves it
// Sums are exact up to a depth of 131,071 over all tiles that are added up.
#include "fixed.h"

constexpr int kBlocksM = kTile / kRows, kBlocksK = kTile / kDepth, kBlocksN = kTile / kColumns;

#ifdef __AIE__

using Unit = aie::mmul<kRows, kDepth, kColumns, int8_t, int8_t, acc32>;

// Two by two blocks of C at a time: four chains of sums keep the unit busy without spilling accumulators.
KERNEL_INLINE void multiply(const int8_t *a, const int8_t *b, int32_t *c) {
    for (int i = 0; i < kBlocksM; i += 2)
        for (int j = 0; j < kBlocksN; j += 2) {
            int32_t *upper = c + (i * kBlocksN + j) * Unit::size_C, *lower = upper + kBlocksN * Unit::size_C;
            Unit c00(aie::load_v<Unit::size_C>(upper)), c01(aie::load_v<Unit::size_C>(upper + Unit::size_C));
            Unit c10(aie::load_v<Unit::size_C>(lower)), c11(aie::load_v<Unit::size_C>(lower + Unit::size_C));
            const int8_t *a0 = a + i * kBlocksK * Unit::size_A, *a1 = a0 + kBlocksK * Unit::size_A;
            const int8_t *b0 = b + j * Unit::size_B, *b1 = b0 + Unit::size_B;
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
            aie::store_v(upper, c00.to_vector<int32_t>());
            aie::store_v(upper + Unit::size_C, c01.to_vector<int32_t>());
            aie::store_v(lower, c10.to_vector<int32_t>());
            aie::store_v(lower + Unit::size_C, c11.to_vector<int32_t>());
        }
}

KERNEL_INLINE void clear(int32_t *c) {
    for (int i = 0; i < kCount; i += 16) aie::store_v(c + i, aie::zeros<int32_t, 16>());
}

#else

KERNEL_INLINE void multiply(const int8_t *a, const int8_t *b, int32_t *c) {
    for (int i = 0; i < kBlocksM; ++i)
        for (int k = 0; k < kBlocksK; ++k)
            for (int r = 0; r < kRows; ++r)
                for (int s = 0; s < kDepth; ++s) {
                    const int32_t x = a[((i * kBlocksK + k) * kRows + r) * kDepth + s];
                    for (int j = 0; j < kBlocksN; ++j) {
                        const int8_t *row = b + ((k * kBlocksN + j) * kDepth + s) * kColumns;
                        int32_t *sums = c + ((i * kBlocksN + j) * kRows + r) * kColumns;
                        for (int t = 0; t < kColumns; ++t) sums[t] += x * row[t];
                    }
                }
}

KERNEL_INLINE void clear(int32_t *c) {
    for (int i = 0; i < kCount; ++i) c[i] = 0;
}

#endif

extern "C" {

void zero_i32(int32_t *c) { clear(c); }

void gemm_i8(const int8_t *a, const int8_t *b, int32_t *c) {
#ifdef __AIE__
    set_modes();
#endif
    multiply(a, b, c);
}
}

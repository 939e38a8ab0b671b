// Rotary embedding in bf16 of 64 rows of a head: interleaved pairs of the first 32 columns are turned by their angles,
//   (even, odd) -> (even * cos - odd * sin, odd * cos + even * sin), in float, narrowed to nearest, halves to even
// and the other half of the head stays as it is. So do pairs whose cosine is 1 and whose sine 0.
//   tile [16][4][4][8], as a tile of A comes   turns [2][16][4][4][8]: the cosine of each value's pair, and its sine,
//   with a minus before that of even values   out [16][16][4][4]: 64 columns, of which a tile makes one half
#include "bf16.h"

constexpr int kParts = 4, kBlockA = kRows * kDepth, kBlockC = kRows * kColumnsBf16;
constexpr int kRowBlocks = kTile / kRows, kHalf = kTile / kColumnsBf16 / 2;

#ifdef __AIE__

KERNEL_INLINE void turn(const uint16_t *bits, const uint16_t *turns, uint16_t *out, int half) {
    const auto *tile = reinterpret_cast<const bfloat16 *>(bits), *cosine = reinterpret_cast<const bfloat16 *>(turns);
    const auto *sine = cosine + kCount / 2;
    auto *to = reinterpret_cast<bfloat16 *>(out);
    for (int m = 0; m < kRowBlocks; ++m, to += kHalf * kBlockC)
        for (int k = 0; k < kParts; ++k, to += 2 * kBlockC) {
            const int at = (m * kParts + k) * kBlockA;
            const auto x = aie::load_v<kBlockA>(tile + at);
            auto found = x;
            if (half == 0) {
                const auto [first, second] = aie::interleave_zip(aie::filter_odd(x), aie::filter_even(x), 1);
                const auto straight = aie::mul(x, aie::load_v<kBlockA>(cosine + at));
                const auto y = aie::mac(straight, aie::concat(first, second), aie::load_v<kBlockA>(sine + at));
                found = y.to_vector<bfloat16>();
            }
            aie::store_v(to, aie::filter_even(found, kColumnsBf16));
            aie::store_v(to + kBlockC, aie::filter_odd(found, kColumnsBf16));
        }
}

#else

KERNEL_INLINE void turn(const uint16_t *tile, const uint16_t *turns, uint16_t *out, int half) {
    const uint16_t *sine = turns + kCount / 2;
    for (int i = 0; i < kCount / 2; ++i) {
        const int block = i / kBlockA, row = i / kDepth % kRows, column = block % kParts * kDepth + i % kDepth;
        const float y = widened(tile[i]) * widened(turns[i]) + widened(tile[i ^ 1]) * widened(sine[i]);
        out[(block / kParts * 2 * kHalf + column / kColumnsBf16) * kBlockC + row * kColumnsBf16 + column % kColumnsBf16] =
            half == 0 ? narrowed(y) : tile[i];
    }
}

#endif

extern "C" {

void turn_rows_bf16(const uint16_t *tile, const uint16_t *turns, uint16_t *out, int32_t half) {
#ifdef __AIE__
    set_modes();
#endif
    turn(tile, turns, out + half * kHalf * kBlockC, half);
}
}

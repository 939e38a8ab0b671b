// Keys and values of a window's states in 8 bits, made once for a window: what `windows.cc` attends to.
//
//   sums [16][16][4][4] in float: 64 states of one head, keys or values, as products leave them
//   out [2][8 bytes x 512]: a tile of keys [8][8][8][8], width by eights, keys by eights; then one of values, keys by
//     eights, width by eights. What goes out in the order of results and comes back in that of B has its pieces of 8 bytes
//     in another order, so that of 16 blocks [8][8] the upper halves come first, and then the lower ones.
//   kept, words: 4: states that count; the others are zero, and no scale is spoilt by them
//   statistics, while these are made: [2][16] the scales of both tiles, in float, each 16 times
#include "windows.h"

constexpr int kSumsBlock = kRows * kColumnsBf16;
constexpr int kTogether = 16;    // blocks whose halves lie together
constexpr int kCounted = 4;      // of kept
constexpr float kLargest = 127;  // what the largest magnitude of a tile becomes

constexpr int half_block_at(int block, int half) {
    return ((block / kTogether * 2 + half) * kTogether + block % kTogether) * kHalfBlock;
}

#ifdef __AIE__

alignas(64) constexpr int32_t kRowOfLane[kSumsBlock] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};

// The largest magnitude of the first rows; the others become zero.
KERNEL_INLINE Floats largest_of(float *sums, int rows) {
    auto most = all(0);
    for (int m = 0; m < kTile; m += kRows) {
        const auto counted = aie::lt(aie::load_v<kSumsBlock>(kRowOfLane), all(rows - m));
        for (int n = 0; n < kSumsN; ++n, sums += kSumsBlock) {
            const auto bits = aie::select(all(0), aie::load_v<kSumsBlock>(sums).cast_to<int32_t>(), counted);
            most = aie::max(most, aie::bit_and(INT32_MAX, bits));
            aie::store_v(sums, bits.cast_to<float>());
        }
    }
    return all(as_float(aie::reduce_max(most)));
}

// Four rows of eight columns.
KERNEL_INLINE aie::vector<int8_t, kHalfBlock> half_block(const float *sums, const Parts &factor) {
    const auto left = whole(product(parts(aie::load_v<kSumsBlock>(sums)), factor));
    const auto right = whole(product(parts(aie::load_v<kSumsBlock>(sums + kSumsBlock)), factor));
    const auto [upper, lower] = aie::interleave_zip(left, right, kColumnsBf16);
    return aie::concat(upper, lower).pack();
}

KERNEL_INLINE void narrow_tile(float *sums, int8_t *out, int rows, float *scale, bool turned) {
    const auto most = at_least(kLeastMagnitude, largest_of(sums, rows));
    const auto factor = parts(float_product(reciprocal(most), all(kLargest)));
    for (int m = 0; m < kBlocks; ++m)
        for (int n = 0; n < kBlocks; ++n) {
            const float *from = sums + sums_at(m * kColumns, n * kColumns);
            const auto rows_first = aie::concat(half_block(from, factor), half_block(from + kSumsN * kSumsBlock, factor));
            const auto block = turned ? aie::transpose(rows_first, kColumns, kColumns) : rows_first;
            const int number = turned ? n * kBlocks + m : m * kBlocks + n;
            aie::store_v(out + half_block_at(number, 0), aie::filter_even(block, kHalfBlock));
            aie::store_v(out + half_block_at(number, 1), aie::filter_odd(block, kHalfBlock));
        }
    aie::store_v(scale, float_product(most, all(1 / kLargest)));
}

KERNEL_INLINE void pair_scales(const float *scales, float *out) {
    aie::store_v(out, aie::interleave_zip(aie::load_v<kVector>(scales), aie::load_v<kVector>(scales + kVector), 1).first);
}

#else

KERNEL_INLINE void narrow_tile(float *sums, int8_t *out, int rows, float *scale, bool turned) {
    float most = kLeastMagnitude;
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kTile; ++n) {
            float &sum = sums[sums_at(m, n)];
            if (m >= rows) sum = 0;
            most = sum > most ? sum : -sum > most ? -sum : most;
        }
    const Parts factor = parts(float_product(reciprocal(most), kLargest));
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kTile; ++n) {
            const int i = turned ? n : m, j = turned ? m : n;
            const int half = half_block_at(i / kColumns * kBlocks + j / kColumns, i % kColumns / kRows);
            out[half + i % kRows * kColumns + j % kColumns] =
                static_cast<int8_t>(whole(product(parts(sums[sums_at(m, n)]), factor)));
        }
    for (int copy = 0; copy < kVector; ++copy) scale[copy] = float_product(most, 1 / kLargest);
}

KERNEL_INLINE void pair_scales(const float *scales, float *out) {
    for (int i = 0; i < kVector; ++i) out[i] = scales[i % 2 * kVector];
}

#endif

extern "C" {

// which: 0 keys, 1 values. Changes the sums.
void narrow_window(float *sums, int8_t *out, const int32_t *kept, int32_t *statistics, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    float *scale = reinterpret_cast<float *>(statistics) + which * kVector;
    narrow_tile(sums, out + which * kCount, kept[kCounted], scale, which == 0);
}

// The scale of keys and that of values at the beginning of a result.
void window_scales_out(const int32_t *statistics, float *out) {
    pair_scales(reinterpret_cast<const float *>(statistics), out);
}
}

// Layer normalisation in bf16, tile by tile, with statistics in float: (x - mean) / deviation * gain + offset, narrowed
// to nearest, halves to even. The deviation is the root of the variance plus 1e-5. First every tile of some rows passes
// and is summed, then every tile passes again and is normalised; of one row each, or of all together (a group norm).
//
//   tile [16][4][4][8]: 64 rows, 32 columns, as a tile of A comes
//   lanes [2][16][4][8]: sums of every eighth value of a row, and of squares
//   statistics [2][64]: mean and reciprocal deviation of rows
//   kept, words: 3: one over how many values a mean is of, in float; of a group 4: rows that count, 5: 1 where it begins
//   columns: gain [64] and offset [64] in float, as a tile of B comes
//   out [16][16][4][4]: 64 columns, of which a tile makes one half
#include "rows_bf16.h"

constexpr int kRowBlocks = kTile / kRows, kParts = 4;  // blocks of 8 columns in a tile
constexpr int kBlockA = kRows * kDepth, kBlockC = kRows * kColumnsBf16;
constexpr int kSquares = kRowBlocks * kBlockA;         // of lanes
constexpr int kCores = 16;

#ifdef __AIE__

KERNEL_INLINE void describe_rows(const float *lanes, float share, float *statistics) {
    for (int m = 0; m < kTile; m += kLanes) {
        const auto [mean, scale] = described(lanes + m * kDepth, lanes + kSquares + m * kDepth, share);
        aie::store_v(statistics + m, mean);
        aie::store_v(statistics + kTile + m, scale);
    }
}

KERNEL_INLINE void add_up(const uint16_t *tile, float *lanes) {
    for (int m = 0; m < kRowBlocks; ++m, lanes += kBlockA) {
        aie::accum<accfloat, kBlockA> sums(aie::load_v<kBlockA>(lanes));
        aie::accum<accfloat, kBlockA> squares(aie::load_v<kBlockA>(lanes + kSquares));
        for (int k = 0; k < kParts; ++k, tile += kBlockA) {
            const auto x = aie::load_v<kBlockA>(reinterpret_cast<const bfloat16 *>(tile));
            aie::accum<accfloat, kBlockA> wide(x);
            sums = aie::add(sums, wide.to_vector<float>());
            squares = aie::mac(squares, x, x);
        }
        aie::store_v(lanes, sums.to_vector<float>());
        aie::store_v(lanes + kSquares, squares.to_vector<float>());
    }
}

KERNEL_INLINE Floats twice(const float *columns) {
    const auto once = aie::load_v<kDepth>(columns);
    return aie::concat(once, once);
}

// Two rows of eight columns.
KERNEL_INLINE Narrow normal(const uint16_t *tile, const Floats &mean, const Parts &scale, const Floats &offset,
                            const Parts &gain) {
    const Sums x(aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(tile)));
    const auto y = product(parts(aie::sub(x, mean).to_vector<float>()), scale).to_vector<float>();
    return add_product(Sums(offset), parts(y), gain).to_vector<bfloat16>();
}

KERNEL_INLINE void apply(const uint16_t *tile, const float *statistics, const float *gain, const float *offset,
                         uint16_t *out) {
    auto *to = reinterpret_cast<bfloat16 *>(out);
    for (int m = 0; m < kTile; m += kRows, statistics += kRows, to += kTile / kColumnsBf16 * kBlockC) {
        const auto upper_mean = by_row(statistics), lower_mean = by_row(statistics + 2);
        const auto upper_scale = parts(by_row(statistics + kTile)), lower_scale = parts(by_row(statistics + kTile + 2));
        for (int k = 0; k < kParts; ++k, tile += kBlockA) {
            const auto factor = parts(twice(gain + k * kDepth));
            const auto added = twice(offset + k * kDepth);
            const auto found = aie::concat(normal(tile, upper_mean, upper_scale, added, factor),
                                           normal(tile + kLanes, lower_mean, lower_scale, added, factor));
            aie::store_v(to + 2 * k * kBlockC, aie::filter_even(found, kColumnsBf16));
            aie::store_v(to + (2 * k + 1) * kBlockC, aie::filter_odd(found, kColumnsBf16));
        }
    }
}

#else

KERNEL_INLINE void describe_rows(const float *lanes, float share, float *statistics) {
    for (int m = 0; m < kTile; ++m)
        describe(added_up(lanes, m), added_up(lanes + kSquares, m), share, statistics[m], statistics[kTile + m]);
}

KERNEL_INLINE void add_up(const uint16_t *tile, float *lanes) {
    for (int m = 0; m < kRowBlocks; ++m)
        for (int k = 0; k < kParts; ++k)
            for (int i = 0; i < kBlockA; ++i) {
                const float x = widened(tile[(m * kParts + k) * kBlockA + i]);
                lanes[m * kBlockA + i] += x;
                lanes[kSquares + m * kBlockA + i] += x * x;
            }
}

KERNEL_INLINE void apply(const uint16_t *tile, const float *statistics, const float *gain, const float *offset,
                         uint16_t *out) {
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kParts * kDepth; ++n) {
            const float x = widened(tile[(m / kRows * kParts + n / kDepth) * kBlockA + m % kRows * kDepth + n % kDepth]);
            const float normal = product(parts(x - statistics[m]), parts(statistics[kTile + m]));
            const float y = add_product(offset[n], parts(normal), parts(gain[n]));
            out[(m / kRows * (kTile / kColumnsBf16) + n / kColumnsBf16) * kBlockC + m % kRows * kColumnsBf16 +
                n % kColumnsBf16] = narrowed(y);
        }
}

#endif

extern "C" {

void add_up_bf16(const uint16_t *tile, float *lanes) { add_up(tile, lanes); }

void row_statistics_f32(const float *lanes, const int32_t *kept, float *statistics) {
    describe_rows(lanes, as_float(kept[3]), statistics);
}

// total [2]: what this core has seen of a group so far.
void group_add_f32(const float *lanes, const int32_t *kept, float *total) {
    if (kept[5]) total[0] = 0, total[1] = 0;
    for (int m = 0; m < kept[4]; ++m) total[0] += added_up(lanes, m), total[1] += added_up(lanes + kSquares, m);
}

void group_out_f32(const float *total, uint16_t *out) { std::memcpy(out, total, 2 * sizeof *total); }

// What all cores have seen, 256 bytes apart in a tile of A; every row gets the group's statistics.
void group_statistics_f32(const uint16_t *tile, const int32_t *kept, float *statistics) {
    float sum = 0, squares = 0;
    for (int core = 0; core < kCores; ++core) {
        float part[2];
        std::memcpy(part, tile + core * 2 * kTile, sizeof part);
        sum += part[0], squares += part[1];
    }
    float mean, scale;
    describe(sum, squares, as_float(kept[3]), mean, scale);
    for (int m = 0; m < kTile; ++m) statistics[m] = mean, statistics[kTile + m] = scale;
}

void normalise_bf16(const uint16_t *tile, const float *statistics, const uint16_t *columns, uint16_t *out,
                    int32_t half) {
#ifdef __AIE__
    set_modes();
#endif
    const float *gain = reinterpret_cast<const float *>(columns) + half * kParts * kDepth;
    apply(tile, statistics, gain, gain + kTile, out + half * 2 * kParts * kBlockC);
}
}

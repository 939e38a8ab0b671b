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
// The reciprocal root is four steps of Newton's from the usual guess: multiplications only, which is what a core can do.
#include "bf16.h"

constexpr int kRowBlocks = kTile / kRows, kParts = 4;  // blocks of 8 columns in a tile
constexpr int kBlockA = kRows * kDepth, kBlockC = kRows * kColumnsBf16;
constexpr int kSquares = kRowBlocks * kBlockA;         // of lanes
constexpr int kCores = 16;
constexpr float kEpsilon = 1e-5f;
constexpr int32_t kRootGuess = 0x5f3759df;  // less half the bits of x: those of its reciprocal root, nearly

KERNEL_INLINE float reciprocal_root(float value) {
    float y = as_float(kRootGuess - (as_bits(value) >> 1));
    const float half = 0.5f * value;
    for (int step = 0; step < 4; ++step) y = y * (1.5f - half * y * y);
    return y;
}

// A row's sum: of its eight lanes neighbours first.
KERNEL_INLINE float added_up(const float *lanes, int row) {
    const float *own = lanes + row * kDepth;
    return ((own[0] + own[1]) + (own[2] + own[3])) + ((own[4] + own[5]) + (own[6] + own[7]));
}

KERNEL_INLINE void describe(float sum, float squares, float share, float &mean, float &scale) {
    mean = sum * share;
    const float variance = squares * share - mean * mean;
    scale = reciprocal_root((variance > 0 ? variance : 0) + kEpsilon);
}

#ifdef __AIE__

// Every second value and the one after it.
KERNEL_INLINE Floats neighbours(const Floats &left, const Floats &right) {
    const auto both = aie::concat(left, right);
    return aie::add(Sums(aie::filter_even(both)), aie::filter_odd(both)).to_vector<float>();
}

// [16][8] -> [16]
KERNEL_INLINE Floats rows_added_up(const float *lanes) {
    const auto pairs = [lanes](int at) {
        return neighbours(aie::load_v<kLanes>(lanes + at * kLanes), aie::load_v<kLanes>(lanes + (at + 1) * kLanes));
    };
    return neighbours(neighbours(pairs(0), pairs(2)), neighbours(pairs(4), pairs(6)));
}

KERNEL_INLINE Floats product(const Floats &a, const Floats &b) { return aie::mul(a, b).to_vector<float>(); }

KERNEL_INLINE Floats reciprocal_roots(const Floats &values) {
    const aie::accum<acc64, kLanes> even(aie::bit_and(~1, values.cast_to<int32_t>()));  // nothing is left to round
    auto y = aie::sub(all(kRootGuess), even.to_vector<int32_t>(1)).cast_to<float>();
    const auto half = product(values, all(0.5f));
    for (int step = 0; step < 4; ++step)
        y = product(y, aie::msc(Sums(all(1.5f)), product(half, y), y).to_vector<float>());
    return y;
}

KERNEL_INLINE void describe_rows(const float *lanes, float share, float *statistics) {
    for (int m = 0; m < kTile; m += kLanes) {
        const auto sums = rows_added_up(lanes + m * kDepth), squares = rows_added_up(lanes + kSquares + m * kDepth);
        const auto mean = product(sums, all(share));
        const auto variance = aie::msc(aie::mul(squares, all(share)), mean, mean).to_vector<float>();
        const auto positive = aie::add(Sums(at_least(0, variance)), all(kEpsilon)).to_vector<float>();
        aie::store_v(statistics + m, mean);
        aie::store_v(statistics + kTile + m, reciprocal_roots(positive));
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

// [2][8]: a number for each row.
KERNEL_INLINE Floats by_row(const float *rows) {
    return aie::concat(aie::broadcast<float, kDepth>(rows[0]), aie::broadcast<float, kDepth>(rows[1]));
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

// A product of at most 16 rows in bf16 with weights in 8 bits: rows become integers of 16 bits with a factor for each,
// sums have 32 bits, and what follows them is float.
//
//   tile [4][4][4][4][8]: a tile of A that holds 16 rows of depth 128: quarters of the depth, rows by fours, depth by eights
//   kept, words: 7: groups of 64 columns that are this core's, 9: 1 where rows are normalised, 10: bits, 11: one over how
//   many values a mean is of, in float
//   statistics, words: up to 256 as rows pass the first time [2][16][8] in float, sums of every eighth value and of
//   squares, or [16][8] in 16 bits, the largest magnitudes; from 256 on [3][16] in float, what is taken away from a row,
//   its factor, and the unit of its integers; 304: the next group, 305: the next half of the depth 128
//   rows [4][32][4][4]: integers as the matrix unit takes them
//   b [16][8][4][8]: weights, 64 of depth, 64 columns of a group
//   sums [4][4][8][4][8] in 32 bits: groups, rows by fours, columns by eights; in the end float as [16][16][4][4]
//   columns [4][2][64] in float: scales and biases of each group
//
// Rows that are normalised, (x - mean) / deviation, lie within the root of their depth, so they have the same number of
// fraction bits, chosen so that 16 are enough; and a sum is no more than 127 depth 2^bits, because the squares of such a
// row are as many as its values. Others are multiplied by the power of two that brings the largest magnitude below 2^bits,
// chosen so that 127 depth 2^bits has 31 bits; by that alone values in bf16 lose nothing unless they are far smaller than
// the largest. Narrowing rounds to nearest, halves to even.
#include "rows_bf16.h"

constexpr int kFew = 16;      // rows
constexpr int kShort = 4;     // depth of the matrix unit
constexpr int kFours = kFew / kRows, kQuarters = 4, kEights = 4;
constexpr int kBlockA = kRows * kDepth;                       // of a tile, and what two blocks of rows hold
constexpr int kBlockRows = kRows * kShort, kBlocksDeep = kQuarters * kEights * 2;
constexpr int kBlockC = kRows * kColumns, kBlocksN = kTile / kColumns, kGroup = kFew * kTile;
constexpr int kBlockB = kShort * kColumns, kBlocksK = kTile / kShort;
constexpr int kSquares = kFew * kDepth, kLanesEnd = 2 * kSquares;  // of statistics
constexpr int kMean = kLanesEnd, kFactor = kMean + kFew, kUnit = kFactor + kFew, kNextGroup = kUnit + kFew;
constexpr int kNextHalf = kNextGroup + 1;
constexpr int kOwn = 7, kNormal = 9, kBits = 10, kShare = 11;  // of kept
constexpr int kSmallest = -100;                                // the exponent of what is taken for zero
constexpr int32_t kMost = 32767;
constexpr int16_t kMagnitude = 0x7fff, kExponent = 0x7f80;  // bits of bf16
constexpr float kFarWhole = 824633720832;         // 1.5 * 2^39: its last bit is 2^16
constexpr int32_t kFarWholeBits = 0x53400000;
constexpr float kBothWhole = kFarWhole + kWhole;  // exact

constexpr int32_t power_bits(int exponent) { return (kExponentBias + exponent) << kFractionFloat; }

constexpr int block_of(int quarter, int four, int eight) {
    return ((quarter * kFours + four) * kEights + eight) * kBlockA;
}

#ifdef __AIE__

KERNEL_INLINE auto eights(const uint16_t *tile) { return aie::load_v<kBlockA>(reinterpret_cast<const bfloat16 *>(tile)); }

KERNEL_INLINE void add_up(const uint16_t *tile, float *lanes) {
    for (int m = 0; m < kFours; ++m, lanes += kBlockA) {
        aie::accum<accfloat, kBlockA> sums(aie::load_v<kBlockA>(lanes));
        aie::accum<accfloat, kBlockA> squares(aie::load_v<kBlockA>(lanes + kSquares));
        for (int q = 0; q < kQuarters; ++q)
            for (int k = 0; k < kEights; ++k) {
                const auto x = eights(tile + block_of(q, m, k));
                sums = aie::add(sums, aie::accum<accfloat, kBlockA>(x).to_vector<float>());
                squares = aie::mac(squares, x, x);
            }
        aie::store_v(lanes, sums.to_vector<float>());
        aie::store_v(lanes + kSquares, squares.to_vector<float>());
    }
}

KERNEL_INLINE void find_largest(const uint16_t *tile, int16_t *lanes) {
    for (int m = 0; m < kFours; ++m, lanes += kBlockA) {
        auto most = aie::load_v<kBlockA>(lanes);
        for (int q = 0; q < kQuarters; ++q)
            for (int k = 0; k < kEights; ++k) {
                const auto x = eights(tile + block_of(q, m, k)).cast_to<int16_t>();
                most = aie::max(most, aie::bit_and(kMagnitude, x));
            }
        aie::store_v(lanes, most);
    }
}

KERNEL_INLINE void describe_normal(float share, int bits, float *statistics) {
    const auto [mean, scale] = described(statistics, statistics + kSquares, share);
    aie::store_v(statistics + kMean, mean);
    aie::store_v(statistics + kFactor, product(scale, all(as_float(power_bits(bits)))));
    aie::store_v(statistics + kUnit, all(as_float(power_bits(-bits))));
}

// The larger of every second value and the one after it.
template <unsigned N> KERNEL_INLINE auto larger(const aie::vector<int16_t, N> &values) {
    return aie::max(aie::filter_even(values), aie::filter_odd(values));
}

KERNEL_INLINE void describe_plain(int bits, float *statistics) {
    const auto *lanes = reinterpret_cast<const int16_t *>(statistics);
    const auto pairs = [lanes](int m) {
        return larger(aie::concat(aie::load_v<kBlockA>(lanes + m * kBlockA), aie::load_v<kBlockA>(lanes + (m + 1) * kBlockA)));
    };
    const auto most = larger(larger(aie::concat(pairs(0), pairs(2))));
    const auto least = aie::broadcast<int16_t, kFew>((kExponentBias + kSmallest) << kFractionBf16);
    const auto power = aie::max(aie::bit_and(kExponent, most), least);
    const auto wide = aie::accum<acc64, kFew>(power, kFractionFloat - kFractionBf16).to_vector<int32_t>();
    const auto factor = aie::sub(all(power_bits(bits - 1)), aie::sub(wide, all(power_bits(0))));
    aie::store_v(statistics + kMean, all(0.0f));
    aie::store_v(statistics + kFactor, factor.cast_to<float>());
    aie::store_v(statistics + kUnit, aie::sub(all(2 * power_bits(0)), factor).cast_to<float>());
}

// Whole numbers of 16 bits that were added to 1.5 * 2^23, as the two blocks that four rows of eight values are.
KERNEL_INLINE void store_whole(const Floats &upper, const Floats &lower, int16_t *to) {
    const auto whole = aie::filter_even(aie::concat(upper, lower).cast_to<int16_t>());
    aie::store_v(to, aie::filter_even(whole, kShort));
    aie::store_v(to + kBlockRows, aie::filter_odd(whole, kShort));
}

KERNEL_INLINE Floats whole_of_normal(const uint16_t *tile, const Floats &mean, const Parts &factor) {
    const Sums x(aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(tile)));
    const auto y = product(parts(aie::sub(x, mean).to_vector<float>()), factor);
    const auto whole = aie::add(y, all(kWhole)).to_vector<float>().cast_to<int32_t>();
    return aie::max(aie::min(whole, all(kWholeBits + kMost)), all(kWholeBits - kMost)).cast_to<float>();
}

KERNEL_INLINE void narrow_normal(const uint16_t *tile, const float *statistics, int16_t *rows) {
    for (int m = 0; m < kFours; ++m) {
        const float *mean = statistics + kMean + m * kRows, *factor = statistics + kFactor + m * kRows;
        const auto upper_mean = by_row(mean), lower_mean = by_row(mean + 2);
        const auto upper = parts(by_row(factor)), lower = parts(by_row(factor + 2));
        for (int q = 0; q < kQuarters; ++q)
            for (int k = 0; k < kEights; ++k, rows += kBlockA) {
                const uint16_t *own = tile + block_of(q, m, k);
                store_whole(whole_of_normal(own, upper_mean, upper), whole_of_normal(own + kLanes, lower_mean, lower), rows);
            }
    }
}

KERNEL_INLINE void narrow_plain(const uint16_t *tile, const float *statistics, int16_t *rows) {
    for (int m = 0; m < kFours; ++m) {
        const float *factor = statistics + kFactor + m * kRows;
        const auto upper = parts(by_row(factor)).high, lower = parts(by_row(factor + 2)).high;
        for (int q = 0; q < kQuarters; ++q)
            for (int k = 0; k < kEights; ++k, rows += kBlockA) {
                const auto *own = reinterpret_cast<const bfloat16 *>(tile + block_of(q, m, k));
                store_whole(aie::mac(Sums(all(kWhole)), aie::load_v<kLanes>(own), upper).to_vector<float>(),
                            aie::mac(Sums(all(kWhole)), aie::load_v<kLanes>(own + kLanes), lower).to_vector<float>(), rows);
            }
    }
}

using Unit = aie::mmul<kRows, kShort, kColumns, int16_t, int8_t, acc32>;

KERNEL_INLINE void multiply(const int16_t *a, const int8_t *b, int32_t *c) {
    for (int i = 0; i < kFours; i += 2)
        for (int j = 0; j < kBlocksN; j += 2) {
            int32_t *upper = c + (i * kBlocksN + j) * kBlockC, *lower = upper + kBlocksN * kBlockC;
            Unit c00(aie::load_v<kBlockC>(upper)), c01(aie::load_v<kBlockC>(upper + kBlockC));
            Unit c10(aie::load_v<kBlockC>(lower)), c11(aie::load_v<kBlockC>(lower + kBlockC));
            const int16_t *a0 = a + i * kBlocksDeep * kBlockRows, *a1 = a0 + kBlocksDeep * kBlockRows;
            const int8_t *b0 = b + j * kBlockB, *b1 = b0 + kBlockB;
            for (int k = 0; k < kBlocksK; ++k) {
                const auto top = aie::load_v<kBlockRows>(a0), bottom = aie::load_v<kBlockRows>(a1);
                const auto left = aie::load_v<kBlockB>(b0), right = aie::load_v<kBlockB>(b1);
                c00.mac(top, left);
                c01.mac(top, right);
                c10.mac(bottom, left);
                c11.mac(bottom, right);
                a0 += kBlockRows, a1 += kBlockRows;
                b0 += kBlocksN * kBlockB, b1 += kBlocksN * kBlockB;
            }
            aie::store_v(upper, c00.to_vector<int32_t>());
            aie::store_v(upper + kBlockC, c01.to_vector<int32_t>());
            aie::store_v(lower, c10.to_vector<int32_t>());
            aie::store_v(lower + kBlockC, c11.to_vector<int32_t>());
        }
}

// Rounded once: the upper and the lower 16 bits are exact.
KERNEL_INLINE Floats float_of(const Ints &sums) {
    const auto low = aie::bit_and(0xffff, sums);
    const auto high = aie::accum<acc64, kLanes>(aie::sub(sums, low)).to_vector<int32_t>(16);  // nothing is left to round
    const auto far = aie::add(high, all(kFarWholeBits)).cast_to<float>();
    const auto near = aie::add(low, all(kWholeBits)).cast_to<float>();
    return aie::add(aie::sub(Sums(far), all(kBothWhole)), near).to_vector<float>();
}

KERNEL_INLINE Floats four_times(const float *columns) {
    const auto own = aie::load_v<kColumnsBf16>(columns);
    const auto twice = aie::concat(own, own);
    return aie::concat(twice, twice);
}

KERNEL_INLINE Narrow by_fours(const float *rows) {
    const auto first = aie::broadcast<float, kColumnsBf16>(rows[0]), second = aie::broadcast<float, kColumnsBf16>(rows[1]);
    const auto third = aie::broadcast<float, kColumnsBf16>(rows[2]), fourth = aie::broadcast<float, kColumnsBf16>(rows[3]);
    return parts(aie::concat(aie::concat(first, second), aie::concat(third, fourth))).high;
}

// Four rows and four columns.
KERNEL_INLINE Floats finished(const Ints &sums, const Narrow &unit, const Parts &scale, const Floats &bias) {
    const auto own = parts(float_of(sums));
    const Parts in_units{aie::mul(own.high, unit).to_vector<bfloat16>(), aie::mul(own.low, unit).to_vector<bfloat16>()};
    return add_product(Sums(bias), in_units, scale).to_vector<float>();
}

KERNEL_INLINE void finish(const float *scale, const float *bias, const float *unit, int32_t *sums) {
    auto *out = reinterpret_cast<float *>(sums);
    for (int j = 0; j < kBlocksN; ++j, scale += kColumns, bias += kColumns) {
        const auto left = parts(four_times(scale)), right = parts(four_times(scale + kColumnsBf16));
        const auto left_bias = four_times(bias), right_bias = four_times(bias + kColumnsBf16);
        for (int m = 0; m < kFours; ++m) {
            const int at = (m * kBlocksN + j) * kBlockC;
            const auto own = aie::load_v<kBlockC>(sums + at);
            const auto units = by_fours(unit + m * kRows);
            aie::store_v(out + at, finished(aie::filter_even(own, kColumnsBf16), units, left, left_bias));
            aie::store_v(out + at + kLanes, finished(aie::filter_odd(own, kColumnsBf16), units, right, right_bias));
        }
    }
}

#else

// Where a tile has a value of a row.
constexpr int tile_at(int m, int k) {
    return block_of(k / (kEights * kDepth), m / kRows, k / kDepth % kEights) + m % kRows * kDepth + k % kDepth;
}

KERNEL_INLINE void add_up(const uint16_t *tile, float *lanes) {
    for (int m = 0; m < kFew; ++m)
        for (int k = 0; k < kQuarters * kEights * kDepth; ++k) {
            const float x = widened(tile[tile_at(m, k)]);
            lanes[m * kDepth + k % kDepth] += x;
            lanes[kSquares + m * kDepth + k % kDepth] += x * x;
        }
}

KERNEL_INLINE void find_largest(const uint16_t *tile, int16_t *lanes) {
    for (int m = 0; m < kFew; ++m)
        for (int k = 0; k < kQuarters * kEights * kDepth; ++k) {
            const auto size = static_cast<int16_t>(tile[tile_at(m, k)] & kMagnitude);
            int16_t &most = lanes[m * kDepth + k % kDepth];
            most = size > most ? size : most;
        }
}

KERNEL_INLINE void describe_normal(float share, int bits, float *statistics) {
    for (int m = 0; m < kFew; ++m) {
        float scale;
        describe(added_up(statistics, m), added_up(statistics + kSquares, m), share, statistics[kMean + m], scale);
        statistics[kFactor + m] = scale * as_float(power_bits(bits));
        statistics[kUnit + m] = as_float(power_bits(-bits));
    }
}

KERNEL_INLINE void describe_plain(int bits, float *statistics) {
    const auto *lanes = reinterpret_cast<const int16_t *>(statistics);
    for (int m = 0; m < kFew; ++m) {
        int16_t power = (kExponentBias + kSmallest) << kFractionBf16;
        for (int k = 0; k < kDepth; ++k) {
            const auto own = static_cast<int16_t>(lanes[m * kDepth + k] & kExponent);
            power = own > power ? own : power;
        }
        const int32_t wide = power << (kFractionFloat - kFractionBf16);
        const int32_t factor = power_bits(bits - 1) - (wide - power_bits(0));
        statistics[kMean + m] = 0;
        statistics[kFactor + m] = as_float(factor);
        statistics[kUnit + m] = as_float(2 * power_bits(0) - factor);
    }
}

template <typename Whole> KERNEL_INLINE void narrow_by(const uint16_t *tile, int16_t *rows, const Whole &whole) {
    for (int m = 0; m < kFew; ++m)
        for (int k = 0; k < kBlocksDeep * kShort; ++k)
            rows[((m / kRows * kBlocksDeep + k / kShort) * kRows + m % kRows) * kShort + k % kShort] =
                static_cast<int16_t>(whole(widened(tile[tile_at(m, k)]), m));
}

KERNEL_INLINE void narrow_normal(const uint16_t *tile, const float *statistics, int16_t *rows) {
    narrow_by(tile, rows, [statistics](float x, int m) {
        const float y = product(parts(x - statistics[kMean + m]), parts(statistics[kFactor + m]));
        return clamped(as_bits(y + kWhole), kWholeBits - kMost, kWholeBits + kMost);
    });
}

KERNEL_INLINE void narrow_plain(const uint16_t *tile, const float *statistics, int16_t *rows) {
    narrow_by(tile, rows, [statistics](float x, int m) { return as_bits(x * statistics[kFactor + m] + kWhole); });
}

KERNEL_INLINE void multiply(const int16_t *a, const int8_t *b, int32_t *c) {
    for (int i = 0; i < kFours; ++i)
        for (int k = 0; k < kBlocksK; ++k)
            for (int r = 0; r < kRows; ++r)
                for (int s = 0; s < kShort; ++s) {
                    const int32_t x = a[((i * kBlocksDeep + k) * kRows + r) * kShort + s];
                    for (int j = 0; j < kBlocksN; ++j) {
                        const int8_t *row = b + ((k * kBlocksN + j) * kShort + s) * kColumns;
                        int32_t *sums = c + ((i * kBlocksN + j) * kRows + r) * kColumns;
                        for (int t = 0; t < kColumns; ++t) sums[t] += x * row[t];
                    }
                }
}

// Rounded once: the upper and the lower 16 bits are exact.
KERNEL_INLINE float float_of(int32_t sum) {
    const int32_t low = sum & 0xffff, high = sum >> 16;
    return (as_float(kFarWholeBits + high) - kBothWhole) + as_float(kWholeBits + low);
}

KERNEL_INLINE void finish(const float *scale, const float *bias, const float *unit, int32_t *sums) {
    for (int block = 0; block < kFours * kBlocksN; ++block, sums += kBlockC) {
        float found[kBlockC];
        for (int i = 0; i < kBlockC; ++i) {
            const int r = i / kColumns, n = block % kBlocksN * kColumns + i % kColumns;
            const float by = unit[block / kBlocksN * kRows + r];
            const Parts own = parts(float_of(sums[i]));
            found[(i % kColumns / kColumnsBf16 * kRows + r) * kColumnsBf16 + i % kColumnsBf16] =
                add_product(bias[n], {own.high * by, own.low * by}, parts(scale[n]));
        }
        std::memcpy(sums, found, sizeof found);
    }
}

#endif

extern "C" {

void few_start(int32_t *statistics, int32_t *sums) {
    clear(statistics, kLanesEnd);
    clear(sums, kCount);
}

// Rows as they pass the first time: those that are normalised, and others.
void few_sums(const uint16_t *tile, float *statistics) { add_up(tile, statistics); }

void few_largest(const uint16_t *tile, int16_t *statistics) { find_largest(tile, statistics); }

void few_rows(const int32_t *kept, float *statistics) {
#ifdef __AIE__
    set_modes();
#endif
    if (kept[kNormal])
        describe_normal(as_float(kept[kShare]), kept[kBits], statistics);
    else
        describe_plain(kept[kBits], statistics);
}

// And as they pass again.
void few_normal(const uint16_t *tile, int32_t *statistics, int16_t *rows) {
#ifdef __AIE__
    set_modes();
#endif
    narrow_normal(tile, reinterpret_cast<const float *>(statistics), rows);
    statistics[kNextGroup] = 0, statistics[kNextHalf] = 0;
}

void few_plain(const uint16_t *tile, int32_t *statistics, int16_t *rows) {
#ifdef __AIE__
    set_modes();
#endif
    narrow_plain(tile, reinterpret_cast<const float *>(statistics), rows);
    statistics[kNextGroup] = 0, statistics[kNextHalf] = 0;
}

// Weights of this core's groups come in turn, for one half of the depth and then for the other.
void few_gemm(const int16_t *rows, const int8_t *b, const int32_t *kept, int32_t *statistics, int32_t *sums) {
#ifdef __AIE__
    set_modes();
#endif
    const int group = statistics[kNextGroup], half = statistics[kNextHalf], next = group + 1;
    multiply(rows + half * kBlocksK * kBlockRows, b, sums + group * kGroup);
    statistics[kNextGroup] = next < kept[kOwn] ? next : 0;
    statistics[kNextHalf] = next < kept[kOwn] ? half : half + 1;
}

// The next group's sums to float.
void few_finish(const float *columns, int32_t *statistics, int32_t *sums) {
#ifdef __AIE__
    set_modes();
#endif
    const int group = statistics[kNextGroup];
    const float *scale = columns + group * 2 * kTile, *unit = reinterpret_cast<const float *>(statistics) + kUnit;
    finish(scale, scale + kTile, unit, sums + group * kGroup);
    statistics[kNextGroup] = group + 1;
}
}

// Rows of 16-bit values in 8 bits with a scale for each row, tile by tile; of layer normalisation, or as they are.
//
//   a norm:   y = (x - mean) / deviation * gain + offset
//   or plain: y = x * gain
//   q = y / scale to nearest, halves to even, with scale = max |y| / 127
//
// With d = n * x - sum and D = the root, rounded down, of n * sum of squares - sum^2 + n^2 * epsilon, but 512 at least,
// y is (d * gain + D * offset) / D, and the division by D is left to the scale. So rows pass up to three times: to be
// summed (a norm), to find the largest y, and to be narrowed.
//
//   tile [16][8][4][4]: 64 rows, 32 columns   columns [8][2][32]: gain and offset of eight tiles, 12 fraction bits,
//   |gain|, |offset| < 8   out [16][8][4][8]: 64 columns in 8 bits, of which a tile makes one half
//   kept, words 2: n; 3: epsilon, in squared units of x
//   lanes: sums and the two parts of sums of squares [3][16][4][4], then the least and the largest y [2][64][16]
//   statistics [8][64]: sum, root, shift; steps and shift of the narrowing; the scale, with 24 fraction bits after a
//   norm, else with 16 and in units of x
// n is at most 1,280, and columns beyond it are zero with gains and offsets of zero.
#include "fixed.h"

constexpr int kGainBits = 12, kNormBits = 24, kPlainBits = 16;
constexpr int kRangeBits = 22;  // |y| < D * 2^22: the largest of 1,280 deviations is below 2^6, and gains have 16 bits
constexpr int kHalf = kTile / 2, kGroups = kHalf / kHalfColumns, kBlocks = kTile / kRows;
constexpr int kLanes = 16;                         // of a vector: four rows of four columns, or a row's sixteen
constexpr int kPart = kBlocks * kLanes;            // of sums
constexpr int kRoot = kTile, kShift = 2 * kTile, kFactor = 3 * kTile, kDown = 4 * kTile;  // in statistics
constexpr int kWord = 2, kEpsilon = 3;             // of kept

constexpr int kRootBits = 27;                      // n, x and epsilon have 11, 16 and 31
constexpr int32_t kLeastRoot = 512;                // so that there always is a shift

struct Row {
    int32_t factor, sum, root;
    int shift;
};

KERNEL_INLINE Row row_of(const int32_t *kept, const int32_t *statistics, int m) {
    return {kept[kWord], statistics[m], statistics[kRoot + m], statistics[kShift + m]};
}

#ifdef __AIE__

KERNEL_INLINE void add_up(const int16_t *tile, int32_t *lanes) {
    for (int m = 0; m < kBlocks; ++m, lanes += kLanes) {
        aie::accum<acc32, kLanes> sums(aie::load_v<kLanes>(lanes));
        aie::accum<acc64, kLanes> powers(aie::zeros<int32_t, kLanes>());
        for (int g = 0; g < kGroups; ++g, tile += kLanes) {
            const auto v = aie::load_v<kLanes>(tile);
            sums = aie::add(sums, v);
            powers = aie::mac(powers, v, v);
        }
        const auto high = powers.to_vector<int32_t>(16);
        const auto low = aie::msc(powers, high, aie::broadcast<int32_t, kLanes>(1 << 16)).to_vector<int32_t>();
        aie::accum<acc32, kLanes> highs(aie::load_v<kLanes>(lanes + kPart)), lows(aie::load_v<kLanes>(lanes + 2 * kPart));
        aie::store_v(lanes, sums.to_vector<int32_t>());
        aie::store_v(lanes + kPart, aie::add(highs, high).to_vector<int32_t>());
        aie::store_v(lanes + 2 * kPart, aie::add(lows, low).to_vector<int32_t>());
    }
}

using Narrow = aie::vector<int16_t, kLanes>;

// Gains and offsets of sixteen columns.
struct Gains {
    Narrow gain, offset;
};

KERNEL_INLINE Gains gains_at(const int32_t *gain) {
    return {aie::accum<acc32, kLanes>(aie::load_v<kLanes>(gain)).to_vector<int16_t>(),
            aie::accum<acc32, kLanes>(aie::load_v<kLanes>(gain + kHalf)).to_vector<int16_t>()};
}

template <bool kNormal>
KERNEL_INLINE aie::vector<int32_t, kLanes> scaled(const Narrow &x, const Gains &own, const Row &row) {
    if (!kNormal) return aie::mul(x, own.gain).to_vector<int32_t>();
    aie::accum<acc32, kLanes> apart(aie::broadcast<int32_t, kLanes>(-row.sum));
    apart = aie::mac(apart, x, static_cast<int16_t>(row.factor));
    const auto total = aie::mul(apart.to_vector<int32_t>(), own.gain);
    return aie::mac(total, aie::broadcast<int32_t, kLanes>(row.root), own.offset).to_vector<int32_t>(row.shift);
}

KERNEL_INLINE FourRows sixteen_columns(const int16_t *tile, int m, int at) {
    const int16_t *from = tile + (m * kGroups + at / kHalfColumns) * kLanes;
    return four_rows(aie::load_v<kLanes>(from), aie::load_v<kLanes>(from + kLanes),
                     aie::load_v<kLanes>(from + 2 * kLanes), aie::load_v<kLanes>(from + 3 * kLanes));
}

template <bool kNormal>
KERNEL_INLINE void largest(const int16_t *tile, const int32_t *gain, const int32_t *kept, const int32_t *statistics,
                           int32_t *least, int32_t *most) {
    for (int at = 0; at < kHalf; at += kLanes) {
        const Gains own = gains_at(gain + at);
        for (int m = 0; m < kBlocks; ++m) {
            const FourRows x = sixteen_columns(tile, m, at);
            for (int r = 0; r < kRows; ++r) {
                const int row = m * kRows + r;
                const auto y = scaled<kNormal>(x.row[r], own, row_of(kept, statistics, row));
                aie::store_v(least + row * kLanes, aie::min(aie::load_v<kLanes>(least + row * kLanes), y));
                aie::store_v(most + row * kLanes, aie::max(aie::load_v<kLanes>(most + row * kLanes), y));
            }
        }
    }
}

template <bool kNormal>
KERNEL_INLINE void narrow(const int16_t *tile, const int32_t *gain, const int32_t *kept, const int32_t *statistics,
                          int8_t *out) {
    for (int at = 0; at < kHalf; at += kLanes) {
        const Gains own = gains_at(gain + at);
        for (int m = 0; m < kBlocks; ++m) {
            FourRows x = sixteen_columns(tile, m, at);
            for (int r = 0; r < kRows; ++r) {
                const int row = m * kRows + r;
                const auto y = scaled<kNormal>(x.row[r], own, row_of(kept, statistics, row));
                const auto steps = static_cast<int16_t>(statistics[kFactor + row]);
                x.row[r] = aie::mul(y, steps).template to_vector<int16_t>(statistics[kDown + row]);
            }
            store_blocks(out + (m * kTile / kDepth + at / kDepth) * kRows * kDepth, x);
        }
    }
}

KERNEL_INLINE Words all(int32_t value) { return aie::broadcast<int32_t, kLanes>(value); }

KERNEL_INLINE int32_t magnitude(const int32_t *least, const int32_t *most) {
    const auto below = aie::sub(all(0), aie::max(aie::load_v<kLanes>(least), all(-INT32_MAX)));
    return aie::reduce_max(aie::max(below, aie::load_v<kLanes>(most)));
}

// Values that lie side by side, added.
KERNEL_INLINE Words pairs(const Words &a, const Words &b) {
    const auto both = aie::concat(a, b);
    return aie::add(aie::filter_even(both), aie::filter_odd(both));
}

// Sixteen rows of four.
KERNEL_INLINE Words totals(const int32_t *lanes) {
    return pairs(pairs(aie::load_v<kLanes>(lanes), aie::load_v<kLanes>(lanes + kLanes)),
                 pairs(aie::load_v<kLanes>(lanes + 2 * kLanes), aie::load_v<kLanes>(lanes + 3 * kLanes)));
}

KERNEL_INLINE void describe(const int32_t *lanes, int32_t n, int32_t epsilon, int32_t *statistics) {
    for (int m = 0; m < kTile; m += kLanes, lanes += kRows * kLanes) {
        const auto sum = totals(lanes);
        auto square = aie::mul(totals(lanes + kPart), all(n * (1 << 16)));
        square = aie::mac(square, totals(lanes + 2 * kPart), all(n));
        square = aie::msc(aie::mac(square, all(n * n), all(epsilon)), sum, sum);
        auto root = all(0);
        for (int32_t bit = 1 << (kRootBits - 1); bit; bit >>= 1) {
            const auto tried = aie::add(root, all(bit));
            const auto beyond = aie::lt(aie::msc(square, tried, tried).to_vector<int32_t>(), all(0));
            root = aie::select(tried, root, beyond);
        }
        root = aie::max(root, all(kLeastRoot));
        aie::store_v(statistics + m, sum);
        aie::store_v(statistics + kRoot + m, root);
        aie::store_v(statistics + kShift + m, aie::sub(inverse(root).bits, all(31 - kRangeBits)));
    }
}

// most [64]: the largest of each row, >= 0, where the steps will be.
KERNEL_INLINE void scale(int32_t *statistics, bool normal) {
    for (int m = 0; m < kTile; m += kLanes) {
        auto most = aie::load_v<kLanes>(statistics + kFactor + m);
        const Steps found = steps_of(most);
        aie::store_v(statistics + kFactor + m, found.factor);
        aie::store_v(statistics + kDown + m, found.down);
        if (normal) {
            const auto root = inverse(aie::load_v<kLanes>(statistics + kRoot + m));
            most = aie::mul(most, root.value).to_vector<int32_t>(kInvertedBits);
        }
        aie::store_v(statistics + kScales * kTile + m, scale_of(most));
    }
}

#else

KERNEL_INLINE void add_up(const int16_t *tile, int32_t *lanes) {
    for (int m = 0; m < kBlocks; ++m)
        for (int i = 0; i < kLanes; ++i) {
            int64_t square = 0;
            for (int g = 0; g < kGroups; ++g) {
                const int32_t x = tile[(m * kGroups + g) * kLanes + i];
                lanes[m * kLanes + i] += x;
                square += x * x;
            }
            lanes[kPart + m * kLanes + i] += static_cast<int32_t>(square >> 16);
            lanes[2 * kPart + m * kLanes + i] += static_cast<int32_t>(square & 0xffff);
        }
}

template <bool kNormal> KERNEL_INLINE int32_t scaled(int16_t x, int32_t gain, int32_t offset, const Row &row) {
    if (!kNormal) return x * gain;
    const int64_t total = int64_t{row.factor * x - row.sum} * gain + int64_t{row.root} * offset;
    return saturate32(round_even(total, row.shift));
}

template <bool kNormal>
KERNEL_INLINE void largest(const int16_t *tile, const int32_t *gain, const int32_t *kept, const int32_t *statistics,
                           int32_t *least, int32_t *most) {
    for (int m = 0; m < kTile; ++m) {
        const Row row = row_of(kept, statistics, m);
        for (int n = 0; n < kHalf; ++n) {
            const int32_t y = scaled<kNormal>(tile[half_at(m, n)], gain[n], gain[kHalf + n], row);
            int32_t &low = least[m * kLanes + n % kLanes], &high = most[m * kLanes + n % kLanes];
            low = y < low ? y : low, high = y > high ? y : high;
        }
    }
}

template <bool kNormal>
KERNEL_INLINE void narrow(const int16_t *tile, const int32_t *gain, const int32_t *kept, const int32_t *statistics,
                          int8_t *out) {
    for (int m = 0; m < kTile; ++m) {
        const Row row = row_of(kept, statistics, m);
        for (int n = 0; n < kHalf; ++n) {
            const int64_t y = scaled<kNormal>(tile[half_at(m, n)], gain[n], gain[kHalf + n], row);
            out[((m / kRows * kTile / kDepth + n / kDepth) * kRows + m % kRows) * kDepth + n % kDepth] =
                saturate8(round_even(y * statistics[kFactor + m], statistics[kDown + m]));
        }
    }
}

KERNEL_INLINE int32_t magnitude(const int32_t *least, const int32_t *most) {
    int64_t found = 0;
    for (int i = 0; i < kLanes; ++i) {
        found = -int64_t{least[i]} > found ? -int64_t{least[i]} : found;
        found = most[i] > found ? most[i] : found;
    }
    return saturate32(found);
}

KERNEL_INLINE void describe(const int32_t *lanes, int32_t n, int32_t epsilon, int32_t *statistics) {
    for (int m = 0; m < kTile; ++m) {
        const int32_t *own = lanes + m * kHalfColumns;
        int64_t sum = 0, squares = 0;
        for (int i = 0; i < kHalfColumns; ++i) {
            sum += own[i];
            squares += int64_t{own[kPart + i]} * (1 << 16) + own[2 * kPart + i];
        }
        const int64_t square = n * squares - sum * sum + int64_t{n} * n * epsilon;
        int64_t root = 0;
        for (int64_t bit = int64_t{1} << (kRootBits - 1); bit; bit >>= 1)
            root += (root + bit) * (root + bit) <= square ? bit : 0;
        root = root > kLeastRoot ? root : kLeastRoot;
        statistics[m] = static_cast<int32_t>(sum), statistics[kRoot + m] = static_cast<int32_t>(root);
        statistics[kShift + m] = bits_of(root) - (31 - kRangeBits);
    }
}

// most [64]: the largest of each row, >= 0, where the steps will be.
KERNEL_INLINE void scale(int32_t *statistics, bool normal) {
    for (int m = 0; m < kTile; ++m) {
        int64_t most = statistics[kFactor + m];
        const Steps found = steps_of(static_cast<int32_t>(most));
        statistics[kFactor + m] = found.factor, statistics[kDown + m] = found.down;
        if (normal) most = round_even(most * inverse(statistics[kRoot + m]).value, kInvertedBits);
        statistics[kScales * kTile + m] = scale_of(most);
    }
}

#endif

KERNEL_INLINE const int32_t *gains(const int8_t *columns, int which) {
    return reinterpret_cast<const int32_t *>(columns) + which * kTile;
}

extern "C" {

// Rows as they are: what a norm changes after its first pass.
void begin_rows(int32_t *lanes, int32_t *statistics) {
    clear(lanes, 2 * kTile * kLanes);
    clear(statistics, kFactor);
}

void add_up_i16(const int8_t *tile, int32_t *lanes) {
#ifdef __AIE__
    set_modes();
#endif
    add_up(reinterpret_cast<const int16_t *>(tile), lanes);
}

void describe_rows(int32_t *lanes, const int32_t *kept, int32_t *statistics) {
#ifdef __AIE__
    set_modes();
#endif
    describe(lanes, kept[kWord], kept[kEpsilon], statistics);
    clear(lanes, 2 * kTile * kLanes);
}

void largest_i16(const int8_t *tile, const int8_t *columns, const int32_t *kept, const int32_t *statistics,
                 int32_t *lanes, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    largest<false>(reinterpret_cast<const int16_t *>(tile), gains(columns, which), kept, statistics, lanes,
                   lanes + kTile * kLanes);
}

void largest_normal_i16(const int8_t *tile, const int8_t *columns, const int32_t *kept, const int32_t *statistics,
                        int32_t *lanes, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    largest<true>(reinterpret_cast<const int16_t *>(tile), gains(columns, which), kept, statistics, lanes,
                  lanes + kTile * kLanes);
}

// Steps of the largest of each row, and scales; `normal`: of a norm.
void scale_rows(const int32_t *lanes, int32_t *statistics, int32_t normal) {
#ifdef __AIE__
    set_modes();
#endif
    for (int m = 0; m < kTile; ++m)
        statistics[kFactor + m] = magnitude(lanes + m * kLanes, lanes + (kTile + m) * kLanes);
    scale(statistics, normal != 0);
}

// half: of out; which: of the tiles that columns are of.
void quantise_i8(const int8_t *tile, const int8_t *columns, const int32_t *kept, const int32_t *statistics,
                 int8_t *out, int32_t half, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    narrow<false>(reinterpret_cast<const int16_t *>(tile), gains(columns, which), kept, statistics,
                  out + half * kHalf / kDepth * kRows * kDepth);
}

void quantise_normal_i8(const int8_t *tile, const int8_t *columns, const int32_t *kept, const int32_t *statistics,
                        int8_t *out, int32_t half, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    narrow<true>(reinterpret_cast<const int16_t *>(tile), gains(columns, which), kept, statistics,
                 out + half * kHalf / kDepth * kRows * kDepth);
}
}

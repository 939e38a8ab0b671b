// Rows of 16-bit values in 8 bits with a scale for each row, tile by tile; of layer normalisation, or as they are.
//
//   a norm:   y = (x - mean) / deviation * gain + offset
//   or plain: y = x * gain
//   q = y / scale to nearest, halves to even, with scale = max |y| / 127
//
// No statistic is rounded before it is used: with d = n * x - sum and D = the root, rounded down, of n * sum of squares
// - sum^2 + n^2 * epsilon, y is (d * gain + D * offset) / D, and the division by D is left to the scale. So rows pass
// up to three times: to be summed (a norm), to find the largest y, and to be narrowed.
//
//   tile [16][8][4][4]: 64 rows, 32 columns   columns [8][2][32]: gain and offset of eight tiles, 12 fraction bits,
//   |gain|, |offset| < 8   out [16][8][4][8]: 64 columns in 8 bits, of which a tile makes one half
//   kept, words 2: n, or 1 where rows are plain; 3: epsilon, in squared units of x
//   lanes: sums and the two parts of sums of squares [3][16][4][4], then the least and the largest y [2][64][16]
//   statistics [8][64]: sum, root, shift; steps and shift of the narrowing; the scale, with 24 fraction bits after a
//   norm, else with 16 and in units of x
// n is at most 1,280, and columns beyond it are zero with gains and offsets of zero.
#include "fixed.h"

constexpr int kGainBits = 12, kNormBits = 24, kPlainBits = 16;
constexpr int kSteps = 127;
constexpr int kRangeBits = 22;  // |y| < D * 2^22: the largest of 1,280 deviations is below 2^6, and gains have 16 bits
constexpr int kHalf = kTile / 2, kGroups = kHalf / kHalfColumns, kBlocks = kTile / kRows;
constexpr int kLanes = 16;                         // of a vector: four rows of four columns, or a row's sixteen
constexpr int kPart = kBlocks * kLanes;            // of sums
constexpr int kRoot = kTile, kShift = 2 * kTile, kFactor = 3 * kTile, kDown = 4 * kTile;  // in statistics
constexpr int kWord = 2, kEpsilon = 3;             // of kept

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

KERNEL_INLINE aie::vector<int32_t, kLanes> scaled(const aie::vector<int16_t, kLanes> &x, const int32_t *gain,
                                                  const Row &row) {
    aie::accum<acc32, kLanes> apart(aie::broadcast<int32_t, kLanes>(-row.sum));
    apart = aie::mac(apart, x, static_cast<int16_t>(row.factor));
    auto total = aie::mul(apart.to_vector<int32_t>(), aie::load_v<kLanes>(gain));
    total = aie::mac(total, aie::load_v<kLanes>(gain + kHalf), row.root);
    return total.to_vector<int32_t>(row.shift);
}

KERNEL_INLINE FourRows sixteen_columns(const int16_t *tile, int m, int at) {
    const int16_t *from = tile + (m * kGroups + at / kHalfColumns) * kLanes;
    return four_rows(aie::load_v<kLanes>(from), aie::load_v<kLanes>(from + kLanes),
                     aie::load_v<kLanes>(from + 2 * kLanes), aie::load_v<kLanes>(from + 3 * kLanes));
}

KERNEL_INLINE void largest(const int16_t *tile, const int32_t *gain, const int32_t *kept, const int32_t *statistics,
                           int32_t *least, int32_t *most) {
    for (int m = 0; m < kBlocks; ++m)
        for (int at = 0; at < kHalf; at += kLanes) {
            const FourRows x = sixteen_columns(tile, m, at);
            for (int r = 0; r < kRows; ++r) {
                const int row = m * kRows + r;
                const auto y = scaled(x.row[r], gain + at, row_of(kept, statistics, row));
                aie::store_v(least + row * kLanes, aie::min(aie::load_v<kLanes>(least + row * kLanes), y));
                aie::store_v(most + row * kLanes, aie::max(aie::load_v<kLanes>(most + row * kLanes), y));
            }
        }
}

KERNEL_INLINE void narrow(const int16_t *tile, const int32_t *gain, const int32_t *kept, const int32_t *statistics,
                          int8_t *out) {
    for (int m = 0; m < kBlocks; ++m)
        for (int at = 0; at < kHalf; at += kLanes) {
            FourRows x = sixteen_columns(tile, m, at);
            for (int r = 0; r < kRows; ++r) {
                const int row = m * kRows + r;
                const auto y = scaled(x.row[r], gain + at, row_of(kept, statistics, row));
                x.row[r] = aie::mul(y, statistics[kFactor + row]).to_vector<int16_t>(statistics[kDown + row]);
            }
            store_blocks(out + (m * kTile / kDepth + at / kDepth) * kRows * kDepth, x);
        }
}

KERNEL_INLINE int64_t magnitude(const int32_t *least, const int32_t *most) {
    const int64_t below = -int64_t{aie::reduce_min(aie::load_v<kLanes>(least))};
    const int64_t above = aie::reduce_max(aie::load_v<kLanes>(most));
    return below > above ? below : above;
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

KERNEL_INLINE int32_t scaled(int16_t x, int32_t gain, int32_t offset, const Row &row) {
    const int64_t total = int64_t{row.factor * x - row.sum} * gain + int64_t{row.root} * offset;
    return saturate32(round_even(total, row.shift));
}

KERNEL_INLINE void largest(const int16_t *tile, const int32_t *gain, const int32_t *kept, const int32_t *statistics,
                           int32_t *least, int32_t *most) {
    for (int m = 0; m < kTile; ++m) {
        const Row row = row_of(kept, statistics, m);
        for (int n = 0; n < kHalf; ++n) {
            const int32_t y = scaled(tile[half_at(m, n)], gain[n], gain[kHalf + n], row);
            int32_t &low = least[m * kLanes + n % kLanes], &high = most[m * kLanes + n % kLanes];
            low = y < low ? y : low, high = y > high ? y : high;
        }
    }
}

KERNEL_INLINE void narrow(const int16_t *tile, const int32_t *gain, const int32_t *kept, const int32_t *statistics,
                          int8_t *out) {
    for (int m = 0; m < kTile; ++m) {
        const Row row = row_of(kept, statistics, m);
        for (int n = 0; n < kHalf; ++n) {
            const int64_t y = scaled(tile[half_at(m, n)], gain[n], gain[kHalf + n], row);
            out[((m / kRows * kTile / kDepth + n / kDepth) * kRows + m % kRows) * kDepth + n % kDepth] =
                saturate8(round_even(y * statistics[kFactor + m], statistics[kDown + m]));
        }
    }
}

KERNEL_INLINE int64_t magnitude(const int32_t *least, const int32_t *most) {
    int64_t found = 0;
    for (int i = 0; i < kLanes; ++i) {
        found = -int64_t{least[i]} > found ? -int64_t{least[i]} : found;
        found = most[i] > found ? most[i] : found;
    }
    return found;
}

#endif

KERNEL_INLINE const int32_t *gains(const int8_t *columns, int which) {
    return reinterpret_cast<const int32_t *>(columns) + which * kTile;
}

extern "C" {

// Rows as they are: what a norm changes after its first pass.
void begin_rows(int32_t *lanes, int32_t *statistics) {
    for (int i = 0; i < 2 * kTile * kLanes; ++i) lanes[i] = 0;
    for (int i = 0; i < kFactor; ++i) statistics[i] = 0;
}

void add_up_i16(const int8_t *tile, int32_t *lanes) {
#ifdef __AIE__
    set_modes();
#endif
    add_up(reinterpret_cast<const int16_t *>(tile), lanes);
}

void describe_rows(int32_t *lanes, const int32_t *kept, int32_t *statistics) {
    const int64_t n = kept[kWord], epsilon = kept[kEpsilon];
    for (int m = 0; m < kTile; ++m) {
        const int32_t *own = lanes + m * kHalfColumns;
        int64_t sum = 0, squares = 0;
        for (int i = 0; i < kHalfColumns; ++i) {
            sum += own[i];
            squares += int64_t{own[kPart + i]} * (1 << 16) + own[2 * kPart + i];
        }
        const int64_t exact = square_root(n * squares - sum * sum + n * n * epsilon), root = exact > 0 ? exact : 1;
        const int spare = bits_of(root) + kRangeBits - 31;
        statistics[m] = static_cast<int32_t>(sum), statistics[kRoot + m] = static_cast<int32_t>(root);
        statistics[kShift + m] = spare > 0 ? spare : 0;
    }
    for (int i = 0; i < 2 * kTile * kLanes; ++i) lanes[i] = 0;
}

void largest_i16(const int8_t *tile, const int8_t *columns, const int32_t *kept, const int32_t *statistics,
                 int32_t *lanes, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    largest(reinterpret_cast<const int16_t *>(tile), gains(columns, which), kept, statistics, lanes,
            lanes + kTile * kLanes);
}

// Steps of the largest of each row, and scales; `normal`: of a norm.
void scale_rows(const int32_t *lanes, int32_t *statistics, int32_t normal) {
    for (int m = 0; m < kTile; ++m) {
        const int64_t most = magnitude(lanes + m * kLanes, lanes + (kTile + m) * kLanes);
        const int down = bits_of(most) + 8;  // steps has 16 or 17 bits then
        statistics[kFactor + m] =
            static_cast<int32_t>(most ? ((int64_t{kSteps} << down) + most / 2) / most : 0);
        statistics[kDown + m] = down;
        const int64_t unit = normal ? kSteps * int64_t{statistics[kRoot + m]} : kSteps;
        const int up = normal ? statistics[kShift + m] + kNormBits - kGainBits : kPlainBits - kGainBits;
        statistics[kScales * kTile + m] = saturate32(((most << up) + unit / 2) / unit);
    }
}

// half: of out; which: of the tiles that columns are of.
void quantise_i8(const int8_t *tile, const int8_t *columns, const int32_t *kept, const int32_t *statistics,
                 int8_t *out, int32_t half, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    narrow(reinterpret_cast<const int16_t *>(tile), gains(columns, which), kept, statistics,
           out + half * kHalf / kDepth * kRows * kDepth);
}
}

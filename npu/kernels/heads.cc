// A head of 64 rows, queries, keys or values, on its way to attention: turned by position in 16 bits, then in 8 bits
// with a scale for each row.
//
// Rotary embedding turns interleaved pairs of the first 32 columns,
//   (even, odd) -> (even * cos - odd * sin, odd * cos + even * sin), rounded to nearest, halves to even, saturated
// and what lies behind them stays. So do pairs whose cosine is 1 and whose sine 0.
//   tile [16][8][4][4]: one half of the head   turns [2][16][8][4][4]: the cosine of each value's pair and its sine, 14
//   fraction bits, within +-2^14, with a minus before the sine of even values
//   head [64][64]   out [16][8][4][8]
//   statistics [8][64]: 3 and 4: steps of the largest and the shift after it; from 5: scales of queries, keys and
//   values, with 16 fraction bits; those of values times a factor / 2^20, in 65,280ths
#include "fixed.h"

constexpr int kAngleBits = 14, kGainBits = 12, kFactorBits = 20;
constexpr int kValueSteps = 255 * 256, kValues = 2;
constexpr int kHalf = kTile / 2, kGroups = kHalf / kHalfColumns, kLanes = 16;
constexpr int kFactor = 3 * kTile, kDown = 4 * kTile;  // in statistics

#ifdef __AIE__

KERNEL_INLINE aie::vector<int16_t, kLanes> turned(const int16_t *tile, const int16_t *turns, bool turn) {
    const auto x = aie::load_v<kLanes>(tile);
    if (!turn) return x;
    const auto [first, second] = aie::interleave_zip(aie::filter_odd(x), aie::filter_even(x), 1);
    const auto straight = aie::mul(x, aie::load_v<kLanes>(turns));
    return aie::mac(straight, aie::concat(first, second), aie::load_v<kLanes>(turns + kCount / 2))
        .to_vector<int16_t>(kAngleBits);
}

KERNEL_INLINE void keep(const int16_t *tile, const int16_t *turns, int16_t *head, bool turn) {
    for (int m = 0; m < kTile; m += kRows)
        for (int g = 0; g < kGroups; g += kRows) {
            const int at = (m / kRows * kGroups + g) * kLanes;
            const FourRows x = four_rows(turned(tile + at, turns + at, turn),
                                         turned(tile + at + kLanes, turns + at + kLanes, turn),
                                         turned(tile + at + 2 * kLanes, turns + at + 2 * kLanes, turn),
                                         turned(tile + at + 3 * kLanes, turns + at + 3 * kLanes, turn));
            for (int r = 0; r < kRows; ++r) aie::store_v(head + (m + r) * kTile + g * kHalfColumns, x.row[r]);
        }
}

KERNEL_INLINE int32_t largest(const int16_t *row) {
    auto low = aie::load_v<kLanes>(row), high = low;
    for (int n = kLanes; n < kTile; n += kLanes) {
        const auto x = aie::load_v<kLanes>(row + n);
        low = aie::min(low, x), high = aie::max(high, x);
    }
    const int32_t below = -int32_t{aie::reduce_min(low)}, above = aie::reduce_max(high);
    return below > above ? below : above;
}

// most [64]: the largest of each row, >= 0, where the steps will be.
KERNEL_INLINE void scale(int32_t *statistics, int32_t factor, int part) {
    const auto limit = aie::broadcast<int32_t, kLanes>(kValueSteps), zero = aie::zeros<int32_t, kLanes>();
    for (int m = 0; m < kTile; m += kLanes) {
        const auto most = aie::load_v<kLanes>(statistics + kFactor + m);
        const Steps found = steps_of(most);
        aie::store_v(statistics + kFactor + m, found.factor);
        aie::store_v(statistics + kDown + m, found.down);
        auto scale = scale_of(most);
        if (part == kValues)
            scale = aie::max(aie::min(aie::mul(scale, factor).to_vector<int32_t>(kFactorBits), limit), zero);
        aie::store_v(statistics + (kScales + part) * kTile + m, scale);
    }
}

KERNEL_INLINE void narrow(const int16_t *head, const int32_t *statistics, int8_t *out) {
    for (int m = 0; m < kTile; m += kRows)
        for (int n = 0; n < kTile; n += kLanes) {
            FourRows found;
            for (int r = 0; r < kRows; ++r) {
                const auto x = aie::load_v<kLanes>(head + (m + r) * kTile + n);
                const int down = statistics[kDown + m + r] - kGainBits;  // of a row of zeros it may be below zero
                const auto steps = static_cast<int16_t>(statistics[kFactor + m + r]);
                found.row[r] = aie::mul(x, steps).template to_vector<int16_t>(down > 0 ? down : 0);
            }
            store_blocks(out + (m / kRows * kTile / kDepth + n / kDepth) * kRows * kDepth, found);
        }
}

#else

KERNEL_INLINE void keep(const int16_t *tile, const int16_t *turns, int16_t *head, bool turn) {
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kHalf; ++n) {
            const int at = half_at(m, n), other = half_at(m, n ^ 1);
            const int64_t y = int64_t{tile[at]} * turns[at] + int64_t{tile[other]} * turns[kCount / 2 + at];
            head[m * kTile + n] = turn ? saturate16(round_even(y, kAngleBits)) : tile[at];
        }
}

KERNEL_INLINE int32_t largest(const int16_t *row) {
    int32_t most = 0;
    for (int n = 0; n < kTile; ++n) {
        const int32_t size = row[n] < 0 ? -int32_t{row[n]} : row[n];
        most = size > most ? size : most;
    }
    return most;
}

// most [64]: the largest of each row, >= 0, where the steps will be.
KERNEL_INLINE void scale(int32_t *statistics, int32_t factor, int part) {
    for (int m = 0; m < kTile; ++m) {
        const int32_t most = statistics[kFactor + m];
        const Steps found = steps_of(most);
        statistics[kFactor + m] = found.factor, statistics[kDown + m] = found.down;
        int64_t scale = scale_of(most);
        if (part == kValues) scale = clamped(round_even(scale * factor, kFactorBits), 0, kValueSteps);
        statistics[(kScales + part) * kTile + m] = static_cast<int32_t>(scale);
    }
}

KERNEL_INLINE void narrow(const int16_t *head, const int32_t *statistics, int8_t *out) {
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kTile; ++n) {
            const int64_t y = int64_t{head[m * kTile + n]} * (1 << kGainBits);
            out[((m / kRows * kTile / kDepth + n / kDepth) * kRows + m % kRows) * kDepth + n % kDepth] =
                saturate8(round_even(y * statistics[kFactor + m], statistics[kDown + m]));
        }
}

#endif

extern "C" {

// A half of a head into the object that its sums were in.
void keep_head_i16(const int8_t *tile, const int8_t *turns, int32_t *sums, int32_t half, int32_t turn) {
#ifdef __AIE__
    set_modes();
#endif
    keep(reinterpret_cast<const int16_t *>(tile), reinterpret_cast<const int16_t *>(turns),
         reinterpret_cast<int16_t *>(sums) + half * kHalf, turn && half == 0);
}

// part: 0 queries, 1 keys, 2 values; columns, its first word: the factor of values.
void scale_head(const int32_t *sums, const int8_t *columns, int32_t *statistics, int32_t part) {
#ifdef __AIE__
    set_modes();
#endif
    const int16_t *head = reinterpret_cast<const int16_t *>(sums);
    for (int m = 0; m < kTile; ++m) statistics[kFactor + m] = largest(head + m * kTile) * (1 << kGainBits);
    scale(statistics, *reinterpret_cast<const int32_t *>(columns), part);
}

void narrow_head_i8(const int32_t *sums, const int32_t *statistics, int8_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    narrow(reinterpret_cast<const int16_t *>(sums), statistics, out);
}
}

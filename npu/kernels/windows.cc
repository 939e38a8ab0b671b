// Attention to the states of windows, of which each has one query: keys and values in 8 bits, 64 at a time, one head.
// `crossing.cc` makes them.
//
// A row of cores has every fourth of up to 16 windows, from that of its own number on, so four at most, whose tiles come in
// turn. Queries and weights are numbers in 16 bits, 256 * high + low, as two rows of bytes with a sign, of the four that the
// matrix unit has; so scores and values are exact until they are floats.
//   scores  = (q * k) * the query's unit * the tile's scale: binary logarithms, each a whole number and a rest
//   masks   before the maximum: of the states, as many as there are
//   weights = 2^(score - the largest whole number so far) * 2^14 to the nearest; they are summed as they are, and times v
// The largest is a whole number, so that what was summed before is divided by a power of two where a larger one comes. A
// window without states gives zero.
//   kept, words: 4: log2(e) / sqrt(width of the head) in float, 5: windows of a row of cores, 64 and on: states of each
//     window, in up to 128 tiles
//   pair, bytes: [4][8][4][8] queries of one's own windows, width by eights, of four rows high and low bytes, then zeros;
//     [4][64] the same as they come, in bf16; [8][4][8] weights, as queries are, keys by eights; [64] whole numbers of
//     scores, [64] powers of two of their rests in bf16
//   keys: [4][128][2] the scales of keys and of values of a tile, in float
//   statistics: [4][16] the largest whole number so far, [4][16] the sum of weights in float, [4][16] the unit of a query,
//     each 16 times; whose tile is next, and the how manyth
//   o: [4][64] sums of values
#include "windows.h"

constexpr int kOwn = 4;                            // windows of a core
constexpr int kSums = kOwn * kVector, kUnits = 2 * kSums, kTurn = 3 * kSums, kStep = kTurn + 1;  // of statistics
constexpr int kScale = 4, kTurns = 5, kKeys = 64;  // of kept
constexpr int kByteRows = kRows * kTile;           // bytes of a row of 64 numbers, as four of bytes
constexpr int kAsked = kOwn * kByteRows, kWeights = kAsked + 2 * kOwn * kTile;  // of pair
constexpr int kWholes = kWeights + kByteRows, kFractions = kWholes + 4 * kTile;
constexpr int kScalesOfWindow = 256;
constexpr int kBitsBf16 = 16;  // of a float that bf16 has, its upper ones
constexpr float kLargest16 = 127 * 256;  // what a query's largest magnitude becomes: a little more still has a byte above
constexpr int32_t kWeightBits = 14;
constexpr float kLeastSum = 0.5f;        // a sum of weights is more, or zero
constexpr int32_t kLimit = 1 << 21;      // of scores
constexpr int32_t kMasked = -(1 << 30);  // a key that is not seen
constexpr int32_t kNone = -(1 << 29);    // the largest of no scores: far from both
constexpr float kWholeAbove = 256 * kWhole;  // the same for numbers of which each is 256
constexpr int32_t kWholeAboveBits = kWholeBits + (8 << kFractionFloat);

#ifdef __AIE__

alignas(64) constexpr int32_t kLane[kVector] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

using Unit = aie::mmul<kRows, kDepth, kColumns, int8_t, int8_t, acc32>;

// Two blocks [2][8] as the upper rows of two [4][8].
KERNEL_INLINE void store_two_rows(int8_t *to, const aie::vector<int8_t, 2 * kVector> &blocks) {
    const auto [first, second] = aie::interleave_zip(blocks, aie::zeros<int8_t, 2 * kVector>(), kVector);
    aie::store_v(to, first);
    aie::store_v(to + kHalfBlock, second);
}

// 32 numbers as high and low bytes, in four blocks [4][8].
KERNEL_INLINE void store_bytes(int8_t *to, const Halves &first, const Halves &second) {
    const auto x = aie::concat(first, second);
    const auto low = aie::filter_even(x.cast_to<int8_t>());
    const auto high = aie::filter_odd(aie::add(x, aie::broadcast<int16_t, 2 * kVector>(128)).cast_to<int8_t>());
    const auto [left, right] = aie::interleave_zip(high, low, kColumns);
    store_two_rows(to, left);
    store_two_rows(to + 2 * kHalfBlock, right);
}

// A row of 64 numbers times 16 columns of a tile [8][8][8][8], from block n on. Sums of either bytes are below 2^22, so
// that they are floats in the bits of a larger one.
KERNEL_INLINE Floats times_columns(const int8_t *row, const int8_t *tile, int n) {
    Unit left(aie::zeros<int32_t, Unit::size_C>()), right(aie::zeros<int32_t, Unit::size_C>());
    for (int k = 0; k < kBlocks; ++k) {
        const auto bytes = aie::load_v<Unit::size_A>(row + k * Unit::size_A);
        const int8_t *columns = tile + (k * kBlocks + n) * Unit::size_B;
        left.mac(bytes, aie::load_v<Unit::size_B>(columns));
        right.mac(bytes, aie::load_v<Unit::size_B>(columns + Unit::size_B));
    }
    const auto first = aie::filter_even(left.to_vector<int32_t>(), kVector);
    const auto second = aie::filter_even(right.to_vector<int32_t>(), kVector);
    const auto [high, low] = aie::interleave_zip(first, second, kColumns);
    const auto above = aie::sub(Sums(aie::add(high, all(kWholeAboveBits)).cast_to<float>()), all(kWholeAbove));
    const auto below = aie::sub(Sums(aie::add(low, all(kWholeBits)).cast_to<float>()), all(kWhole));
    return aie::add(above, below.to_vector<float>()).to_vector<float>();
}

KERNEL_INLINE Halves narrowed_by(const Narrow &x, const Parts &factor) {
    return whole(aie::mac(aie::mul(x, factor.high), x, factor.low));
}

KERNEL_INLINE void narrow_query(const uint16_t *asked, float scale, int8_t *q, float *unit) {
    const auto *x = reinterpret_cast<const bfloat16 *>(asked);
    auto size = aie::zeros<int16_t, kVector>();
    for (int n = 0; n < kTile; n += kVector)
        size = aie::max(size, aie::bit_and(int16_t{INT16_MAX}, aie::load_v<kVector>(x + n).cast_to<int16_t>()));
    const auto most = at_least(kLeastMagnitude, all(as_float(aie::reduce_max(size) << kBitsBf16)));
    const auto factor = parts(float_product(reciprocal(most), all(kLargest16)));
    for (int n = 0; n < kTile; n += 2 * kVector, q += 4 * kHalfBlock)
        store_bytes(q, narrowed_by(aie::load_v<kVector>(x + n), factor),
                    narrowed_by(aie::load_v<kVector>(x + n + kVector), factor));
    aie::store_v(unit, float_product(float_product(most, all(1 / kLargest16)), all(scale)));
}

KERNEL_INLINE void keep_row(const uint16_t *tile, uint16_t *asked) {
    for (int k = 0; k < kTile / 2 / kDepth; ++k)
        aie::store_v(asked + k * kDepth, aie::load_v<kDepth>(tile + k * kRows * kDepth));
}

KERNEL_INLINE Ints widened(const Halves &x) { return aie::accum<acc32, kVector>(x).to_vector<int32_t>(); }

// Less the exponent that is one.
KERNEL_INLINE Halves weight_of(const int32_t *wholes, const bfloat16 *fractions, const Ints &one) {
    const auto size = two_to(aie::sub(aie::load_v<kVector>(wholes), one));
    return whole(aie::mul(aie::load_v<kVector>(fractions), size));
}

// Scores of 64 keys, of which the first are seen, to weights; what was summed before shrinks where a larger one comes.
KERNEL_INLINE void weigh(const int8_t *q, const int8_t *keys, int seen, float scale, const float *unit, int8_t *pair,
                         int32_t *largest, float *sum, float *o) {
    int32_t *wholes = reinterpret_cast<int32_t *>(pair + kWholes);
    auto *fractions = reinterpret_cast<bfloat16 *>(pair + kFractions);
    int8_t *weights = pair + kWeights;
    const auto factor = parts(float_product(aie::load_v<kVector>(unit), all(scale)));
    auto most = all(kMasked);
    for (int n = 0; n < kTile; n += kVector) {
        const auto score = product(parts(times_columns(q, keys, n / kColumns)), factor).to_vector<float>();
        const auto found = power(score, -kLimit, kLimit);
        const auto sees = aie::lt(aie::load_v<kVector>(kLane), all(seen - n));
        const auto exponent = aie::select(all(kMasked), found.exponent, sees);
        most = aie::max(most, exponent);
        aie::store_v(wholes + n, exponent);
        aie::store_v(fractions + n, found.fraction);
    }
    const auto before = aie::load_v<kVector>(largest);
    most = aie::max(all(aie::reduce_max(most)), before);
    auto total = aie::load_v<kVector>(sum);
    if (!aie::lt(before, most).empty()) {
        const auto down = shrinking(aie::sub(most, before), 0);
        total = shrunk(total, down);
        for (int n = 0; n < kTile; n += kVector) aie::store_v(o + n, shrunk(aie::load_v<kVector>(o + n), down));
        aie::store_v(largest, most);
    }
    const auto one = aie::sub(most, all(kWeightBits));
    auto added = all(0);
    for (int n = 0; n < kTile; n += 2 * kVector, weights += 4 * kHalfBlock) {
        const auto first = weight_of(wholes + n, fractions + n, one);
        const auto second = weight_of(wholes + n + kVector, fractions + n + kVector, one);
        added = aie::add(added, aie::add(widened(first), widened(second)));
        store_bytes(weights, first, second);
    }
    const auto more = aie::sub(Sums(all(as_float(kWholeBits + aie::reduce_add(added)))), all(kWhole));
    aie::store_v(sum, aie::add(more, total).to_vector<float>());
}

KERNEL_INLINE void add_values(const int8_t *weights, const int8_t *v, float scale, float *o) {
    const auto factor = parts(all(scale));
    for (int n = 0; n < kTile; n += kVector) {
        const auto found = parts(times_columns(weights, v, n / kColumns));
        aie::store_v(o + n, add_product(Sums(aie::load_v<kVector>(o + n)), found, factor).to_vector<float>());
    }
}

KERNEL_INLINE void clear(int32_t *statistics, float *sums, float *o) {
    for (int i = 0; i < kSums; i += kVector) aie::store_v(statistics + i, all(kNone)), aie::store_v(sums + i, all(0.0f));
    for (int i = 0; i < kOwn * kTile; i += kVector) aie::store_v(o + i, all(0.0f));
}

KERNEL_INLINE void keep_scales(const float *tile, float *scales) {
    for (int i = 0; i < kScalesOfWindow; i += kVector) aie::store_v(scales + i, aie::load_v<kVector>(tile + i));
}

KERNEL_INLINE Halves divided(const float *o, const Parts &share) {
    return product(parts(aie::load_v<kVector>(o)), share).to_vector<bfloat16>().cast_to<int16_t>();
}

KERNEL_INLINE void finish(const float *o, const float *sums, int16_t *out) {
    Parts share[kOwn];
    for (int own = 0; own < kOwn; ++own)
        share[own] = parts(reciprocal(at_least(kLeastSum, aie::load_v<kVector>(sums + own * kVector))));
    for (int n = 0; n < kTile; n += kVector, o += kVector, out += kRows * kVector) {
        const auto rows = four_rows(divided(o, share[0]), divided(o + kTile, share[1]), divided(o + 2 * kTile, share[2]),
                                    divided(o + 3 * kTile, share[3]));
        for (int r = 0; r < kRows; ++r) aie::store_v(out + r * kVector, rows.row[r]);
    }
    for (int i = kRows * kTile; i < kCount; i += kVector, out += kVector)
        aie::store_v(out, aie::zeros<int16_t, kVector>());
}

#else

// A number as its high and its low byte, in blocks [4][8].
KERNEL_INLINE void store_bytes(int8_t *to, int n, int32_t x) {
    int8_t *column = to + n / kColumns * kHalfBlock + n % kColumns;
    column[kColumns] = static_cast<int8_t>(x);
    column[0] = static_cast<int8_t>((x - column[kColumns]) >> 8);
    column[2 * kColumns] = column[3 * kColumns] = 0;
}

// A row of 64 numbers times a column of a tile [8][8][8][8].
KERNEL_INLINE float times_column(const int8_t *row, const int8_t *tile, int n) {
    int32_t sum = 0;
    for (int k = 0; k < kTile; ++k) {
        const int8_t *bytes = row + k / kColumns * kHalfBlock + k % kColumns;
        const int8_t *block = tile + (k / kDepth * kBlocks + n / kColumns) * kDepth * kColumns;
        sum += (256 * bytes[0] + bytes[kColumns]) * block[k % kDepth * kColumns + n % kColumns];
    }
    return static_cast<float>(sum);
}

KERNEL_INLINE void narrow_query(const uint16_t *asked, float scale, int8_t *q, float *unit) {
    float most = kLeastMagnitude;
    for (int n = 0; n < kTile; ++n) {
        const float x = widened(asked[n] & INT16_MAX);
        most = x > most ? x : most;
    }
    const Parts factor = parts(float_product(reciprocal(most), kLargest16));
    for (int n = 0; n < kTile; ++n)
        store_bytes(q, n, whole(widened(asked[n]) * factor.high + widened(asked[n]) * factor.low));
    for (int copy = 0; copy < kVector; ++copy) unit[copy] = float_product(float_product(most, 1 / kLargest16), scale);
}

KERNEL_INLINE void keep_row(const uint16_t *tile, uint16_t *asked) {
    for (int k = 0; k < kTile / 2; ++k) asked[k] = tile[k / kDepth * kRows * kDepth + k % kDepth];
}

// Scores of 64 keys, of which the first are seen, to weights; what was summed before shrinks where a larger one comes.
KERNEL_INLINE void weigh(const int8_t *q, const int8_t *keys, int seen, float scale, const float *unit, int8_t *pair,
                         int32_t *largest, float *sum, float *o) {
    int32_t *wholes = reinterpret_cast<int32_t *>(pair + kWholes);
    uint16_t *fractions = reinterpret_cast<uint16_t *>(pair + kFractions);
    const Parts factor = parts(float_product(*unit, scale));
    int32_t most = *largest, added = 0;
    for (int n = 0; n < seen; ++n) {
        const Power found = power(product(parts(times_column(q, keys, n)), factor), -kLimit, kLimit);
        wholes[n] = found.exponent, fractions[n] = narrowed(found.fraction);
        most = found.exponent > most ? found.exponent : most;
    }
    const int32_t down = most - *largest;
    for (int n = 0; n < kTile; ++n) o[n] = shrunk(o[n], down);
    for (int n = 0; n < kTile; ++n) {
        const int32_t weight = n < seen ? whole(widened(fractions[n]) * two_to(wholes[n] - most + kWeightBits)) : 0;
        added += weight;
        store_bytes(pair + kWeights, n, weight);
    }
    const float total = shrunk(*sum, down) + static_cast<float>(added);
    for (int copy = 0; copy < kVector; ++copy) largest[copy] = most, sum[copy] = total;
}

KERNEL_INLINE void add_values(const int8_t *weights, const int8_t *v, float scale, float *o) {
    for (int n = 0; n < kTile; ++n) o[n] = add_product(o[n], parts(times_column(weights, v, n)), parts(scale));
}

KERNEL_INLINE void clear(int32_t *statistics, float *sums, float *o) {
    for (int i = 0; i < kSums; ++i) statistics[i] = kNone, sums[i] = 0;
    for (int i = 0; i < kOwn * kTile; ++i) o[i] = 0;
}

KERNEL_INLINE void keep_scales(const float *tile, float *scales) {
    for (int i = 0; i < kScalesOfWindow; ++i) scales[i] = tile[i];
}

KERNEL_INLINE void finish(const float *o, const float *sums, int16_t *out) {
    for (int i = 0; i < kCount; ++i) out[i] = 0;
    for (int own = 0; own < kOwn; ++own, o += kTile, sums += kVector) {
        const Parts share = parts(reciprocal(*sums > kLeastSum ? *sums : kLeastSum));
        for (int n = 0; n < kTile; ++n)
            out[sums_at(own, n)] = static_cast<int16_t>(narrowed(product(parts(o[n]), share)));
    }
}

#endif

// The next tile is of the next of one's own windows, or of the first of them.
KERNEL_INLINE void advance(int32_t *statistics, const int32_t *kept) {
    if (++statistics[kTurn] < kept[kTurns]) return;
    statistics[kTurn] = 0;
    ++statistics[kStep];
}

// Of the 64 states at hand, those that there are.
KERNEL_INLINE int states_of(const int32_t *statistics, const int32_t *kept, int row) {
    const int all_of_them = kept[kKeys + statistics[kTurn] * kOwn + row];
    return static_cast<int>(clamped(all_of_them - statistics[kStep] * kTile, 0, kTile));
}

KERNEL_INLINE float scale_of(const float *scales, const int32_t *statistics, int which) {
    return scales[statistics[kTurn] * kScalesOfWindow + 2 * statistics[kStep] + which];
}

extern "C" {

// Scales come before the first tile.
void windows_start(int32_t *statistics, float *o) {
    clear(statistics, reinterpret_cast<float *>(statistics) + kSums, o);
    statistics[kTurn] = 0;
    statistics[kStep] = -1;
}

// Half of the width of all queries, as a tile of A [16][4][4][8] comes; row: of cores.
void keep_window_queries(const uint16_t *tile, const int32_t *kept, int8_t *pair, int32_t *statistics, int32_t which,
                         int32_t row) {
#ifdef __AIE__
    set_modes();
#endif
    uint16_t *asked = reinterpret_cast<uint16_t *>(pair + kAsked);
    float *units = reinterpret_cast<float *>(statistics) + kUnits;
    for (int own = 0; own < kOwn; ++own, tile += kRows * kTile / 2, asked += kTile) {
        keep_row(tile + row * kDepth, asked + which * (kTile / 2));
        if (which) narrow_query(asked, as_float(kept[kScale]), pair + own * kByteRows, units + own * kVector);
    }
}

void keep_window_scales(const float *tile, const int32_t *kept, float *scales, int32_t *statistics) {
    keep_scales(tile, scales + statistics[kTurn] * kScalesOfWindow);
    advance(statistics, kept);
}

void windows_scores(const int8_t *keys, const float *scales, const int32_t *kept, int8_t *pair, int32_t *statistics,
                    float *o, int32_t row) {
#ifdef __AIE__
    set_modes();
#endif
    const int own = statistics[kTurn], seen = states_of(statistics, kept, row);
    if (!seen) return;
    float *floats = reinterpret_cast<float *>(statistics) + own * kVector;
    weigh(pair + own * kByteRows, keys, seen, scale_of(scales, statistics, 0), floats + kUnits, pair,
          statistics + own * kVector, floats + kSums, o + own * kTile);
}

void windows_values(const int8_t *v, const float *scales, const int32_t *kept, const int8_t *pair, int32_t *statistics,
                    float *o, int32_t row) {
#ifdef __AIE__
    set_modes();
#endif
    if (states_of(statistics, kept, row))
        add_values(pair + kWeights, v, scale_of(scales, statistics, 1), o + statistics[kTurn] * kTile);
    advance(statistics, kept);
}

// The n-th of one's own windows has the n-th row; the others are zero.
void windows_finish(const float *o, const int32_t *statistics, int16_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    finish(o, reinterpret_cast<const float *>(statistics) + kSums, out);
}
}

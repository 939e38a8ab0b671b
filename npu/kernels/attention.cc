// Attention of 64 queries over any number of keys and values, 64 at a time; one head, 64 wide. What lies beyond a
// narrower head is zero.
//
//   scores  = q * k, of which 16 bits are kept, times the scales of keys, in 15 bits
//   masks   before the maximum: keys from `keys` on, and later ones than the query where causal is 1
//   weights = 2^(score - the largest so far), with 14 fraction bits, where that difference times the query's scale, in
//     15 bits, is a binary logarithm with 10 fraction bits. Their sum has 32 bits
//   sums    = weights in 8 bits times the values' scales, times v; 32 bits
// and when a larger score comes, what was summed is scaled down, rounded to nearest, halves to even. A query that
// sees no key gets zero.
//
//   tiles [3][4096]: q [16][8][4][8], then room for scores and p of 16 queries, and scales of keys and values
//   keys [8][8][8][8]: width by eights, keys by eights; v the same: keys, width
//   o [16][8][4][8]   out [16][8][4][4]: half of the width, in 256ths of a unit of v at its largest scale
//   statistics [8][64]: the largest score so far, the sum of weights, the next key, what the sums are multiplied by in
//   the end; from 5 the scales of queries, keys and values. Those of queries and keys are below 2^25; those of values,
//   0..65,280, are in 65,280ths of the largest scale there is
//   kept, words 2: keys, 3: causal, 4: shift of scores times the query's scale, 6: the first query's number,
//   7: queries; those from there on get zero
#include "fixed.h"

constexpr int kBlocks = kTile / kColumns, kBlock = kRows * kColumns;
constexpr int kQueries = 16;  // of which scores are held
constexpr int kTotal = kTile, kNext = 2 * kTile, kShares = 3 * kTile;               // in statistics
constexpr int kKeys = 2, kCausal = 3, kShift = 4, kFirst = 6, kAsked = 7;          // of kept
constexpr int32_t kMasked = -(1 << 30);
constexpr int kScoreShift = 5, kScaleShift = 10, kWeightShift = 22, kReciprocalBits = 30;
constexpr int kDegree = 3;
constexpr int16_t kPower[kDegree] = {-811, 3919, -11356};  // 2^-s, less one: fitted, within 4e-5
constexpr int kQuotientBits = 31;                           // of a share: a sum is 2^14 or more
constexpr int64_t kWhole = (int64_t{1} << 52) / 255;       // weights were 255ths, out is 256ths

KERNEL_INLINE int at(int m, int n) {
    return ((m / kRows * kBlocks + n / kColumns) * kRows + m % kRows) * kColumns + n % kColumns;
}

// Scores, weights and scales of the keys at hand, behind q.
struct Room {
    int16_t *scores;   // [4][8][4][8]
    uint8_t *p;        // the same
    int16_t *keys;     // [8][4][8]: scales of eight keys, four times
    uint16_t *values;  // the same
};

KERNEL_INLINE Room room_in(int8_t *tiles) {
    int16_t *scores = reinterpret_cast<int16_t *>(tiles + kCount);
    uint8_t *p = reinterpret_cast<uint8_t *>(scores + kQueries * kTile);
    int16_t *keys = reinterpret_cast<int16_t *>(p + kQueries * kTile);
    return {scores, p, keys, reinterpret_cast<uint16_t *>(keys + kRows * kTile)};
}

#ifdef __AIE__

constexpr int kLanes = 16;
using Block = aie::vector<int32_t, kBlock>;
using Four = aie::vector<int32_t, kRows>;

// c = a * b, of which 16 bits are kept, or c += a * b; a in 8 bits, with or without a sign.
template <typename T, typename C> KERNEL_INLINE void multiply(const T *a, const int8_t *b, C *c) {
    constexpr bool kAdd = sizeof(C) == 4;
    using Unit = aie::mmul<kRows, kDepth, kColumns, T, int8_t, acc32>;
    for (int i = 0; i < kQueries / kRows; ++i)
        for (int j = 0; j < kBlocks; j += 2) {
            C *to = c + (i * kBlocks + j) * kBlock;
            Unit left(kAdd ? aie::load_v<kBlock>(to) : aie::zeros<C, kBlock>());
            Unit right(kAdd ? aie::load_v<kBlock>(to + kBlock) : aie::zeros<C, kBlock>());
            for (int k = 0; k < kBlocks; ++k) {
                const auto rows = aie::load_v<Unit::size_A>(a + (i * kBlocks + k) * Unit::size_A);
                const int8_t *columns = b + (k * kBlocks + j) * Unit::size_B;
                left.mac(rows, aie::load_v<Unit::size_B>(columns));
                right.mac(rows, aie::load_v<Unit::size_B>(columns + Unit::size_B));
            }
            aie::store_v(to, left.template to_vector<C>(kAdd ? 0 : kScoreShift));
            aie::store_v(to + kBlock, right.template to_vector<C>(kAdd ? 0 : kScoreShift));
        }
}

// Every number eight times.
KERNEL_INLINE Block spread(const Four &rows) {
    const auto [left, right] = aie::interleave_zip(rows, rows, 1);
    const auto twice = aie::concat(left, right);
    const auto [upper, lower] = aie::interleave_zip(twice, twice, 1);
    const auto four = aie::concat(upper, lower);
    const auto [first, second] = aie::interleave_zip(four, four, 1);
    return aie::concat(first, second);
}

KERNEL_INLINE Four largest(const Block &x) {
    const auto four = aie::max(aie::filter_even(x), aie::filter_odd(x));
    const auto two = aie::max(aie::filter_even(four), aie::filter_odd(four));
    return aie::max(aie::filter_even(two), aie::filter_odd(two));
}

KERNEL_INLINE Four total(const Block &x) {
    const auto four = aie::add(aie::filter_even(x), aie::filter_odd(x));
    const auto two = aie::add(aie::filter_even(four), aie::filter_odd(four));
    return aie::add(aie::filter_even(two), aie::filter_odd(two));
}

KERNEL_INLINE Four first(const Block &x) { return aie::filter_even(aie::filter_even(aie::filter_even(x))); }

KERNEL_INLINE Block multiplied(const Block &x, const Shorts &by, int shift) {
    return aie::concat(aie::mul(x.extract<kLanes>(0), by.extract<kLanes>(0)).to_vector<int32_t>(shift),
                       aie::mul(x.extract<kLanes>(1), by.extract<kLanes>(1)).to_vector<int32_t>(shift));
}

// 2^(-x * q / 2^shift / 1024), x >= 0
KERNEL_INLINE Shorts power(const Block &x, const Shorts &q, int shift) {
    const auto upper = aie::mul(x.extract<kLanes>(0), q.extract<kLanes>(0)).to_vector<int16_t>(shift);
    const auto lower = aie::mul(x.extract<kLanes>(1), q.extract<kLanes>(1)).to_vector<int16_t>(shift);
    return sixteenth_power<kDegree>(aie::min(aie::concat(upper, lower), all_shorts(kWholePart)), kPower);
}

template <typename T> KERNEL_INLINE aie::vector<T, kBlock> narrowed(const Block &x, int shift) {
    return aie::concat(aie::accum<acc64, kLanes>(x.extract<kLanes>(0)).to_vector<T>(shift),
                       aie::accum<acc64, kLanes>(x.extract<kLanes>(1)).to_vector<T>(shift));
}

KERNEL_INLINE void take_scales(const int32_t *k_scale, const int32_t *v_scale, const Room &room) {
    for (int j = 0; j < kBlocks; ++j) {
        const auto k8 = aie::load_v<kColumns>(k_scale + j * kColumns);
        const auto v8 = aie::load_v<kColumns>(v_scale + j * kColumns);
        const auto k = aie::concat(k8, k8), v = aie::concat(v8, v8);
        aie::store_v(room.keys + j * kBlock, narrowed<int16_t>(aie::concat(k, k), kScaleShift));
        aie::store_v(room.values + j * kBlock, narrowed<uint16_t>(aie::concat(v, v), 0));
    }
}

KERNEL_INLINE Block scaled(const int16_t *scores, const int16_t *keys, int j) {
    return aie::mul(aie::load_v<kBlock>(scores + j * kBlock), aie::load_v<kBlock>(keys + j * kBlock))
        .to_vector<int32_t>();
}

alignas(64) constexpr int16_t kKeyOfLane[kBlock] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7,
                                                    0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};

// Scores of four queries, of which each sees so many of the keys at hand, to weights in 8 bits; what was summed before
// shrinks where a larger score comes.
template <bool kHidden>
KERNEL_INLINE void weigh(const Room &room, int m, const int32_t *seen, const int32_t *q_scale, int shift, int32_t *o,
                         int32_t *most_so_far, int32_t *sum) {
    const int16_t *scores = room.scores + m * kTile;
    uint8_t *p = room.p + m * kTile;
    const auto q = narrowed<int16_t>(spread(aie::load_v<kRows>(q_scale)), kScaleShift);
    const auto count = narrowed<int16_t>(spread(aie::load_v<kRows>(seen)), 0);
    const auto key = aie::load_v<kBlock>(kKeyOfLane);
    const auto masked = aie::broadcast<int32_t, kBlock>(kMasked);
    auto highest = masked;
    for (int j = 0; j < kBlocks; ++j) {
        auto u = scaled(scores, room.keys, j);
        if (kHidden) u = aie::select(masked, u, aie::lt(aie::add(key, all_shorts(j * kColumns)), count));
        highest = aie::max(highest, u);
    }
    const auto before = aie::load_v<kRows>(most_so_far), rows = aie::max(largest(highest), before);
    const auto most = spread(rows), down = aie::sub(most, spread(before));
    auto whole = aie::load_v<kRows>(sum);
    if (!aie::lt(aie::zeros<int32_t, kBlock>(), down).empty()) {
        const auto factor = power(down, q, shift);
        whole = first(multiplied(spread(whole), factor, kPartBits));
        for (int j = 0; j < kBlocks; ++j)
            aie::store_v(o + j * kBlock, multiplied(aie::load_v<kBlock>(o + j * kBlock), factor, kPartBits));
        aie::store_v(most_so_far, rows);
    }
    aie::accum<acc32, kBlock> weights(aie::zeros<int32_t, kBlock>());
    for (int j = 0; j < kBlocks; ++j) {
        auto weight = power(aie::sub(most, scaled(scores, room.keys, j)), q, shift);
        if (kHidden)
            weight = aie::select(all_shorts(0), weight, aie::lt(aie::add(key, all_shorts(j * kColumns)), count));
        weights = aie::mac(weights, weight, static_cast<int16_t>(1));
        const auto value = aie::mul(weight, aie::load_v<kBlock>(room.values + j * kBlock));
        aie::store_v(p + j * kBlock, value.to_vector<uint8_t>(kWeightShift));
    }
    aie::store_v(sum, aie::add(whole, total(weights.to_vector<int32_t>())));
}

KERNEL_INLINE void pass_over(uint8_t *p) {
    for (int j = 0; j < kBlocks; ++j) aie::store_v(p + j * kBlock, aie::zeros<uint8_t, kBlock>());
}

KERNEL_INLINE void begin(int32_t *most) {
    for (int m = 0; m < kTile; m += kLanes) aie::store_v(most + m, aie::broadcast<int32_t, kLanes>(kMasked));
}

// What sums are divided by; of a query that saw nothing they are zero.
KERNEL_INLINE void share(int32_t *statistics) {
    const auto least = aie::broadcast<int32_t, kLanes>(kWholePart);
    for (int m = 0; m < kTile; m += kLanes) {
        const auto sums = aie::max(aie::load_v<kLanes>(statistics + kTotal + m), least);
        const auto shares = quotient<kWhole, kQuotientBits>(sums.cast_to<uint32_t>());
        aie::store_v(statistics + kShares + m, shares.cast_to<int32_t>());
    }
}

KERNEL_INLINE void finish(const int32_t *o, const int32_t *reciprocals, int16_t *out, int half) {
    for (int m = 0; m < kTile; m += kRows)
        for (int n = 0; n < kTile / 2; n += kColumns, out += kBlock) {
            aie::vector<int16_t, kColumns> row[kRows];
            for (int r = 0; r < kRows; ++r) {
                const auto own = aie::load_v<kColumns>(o + at(m + r, half * kTile / 2 + n));
                row[r] = aie::mul(own, reciprocals[m + r]).to_vector<int16_t>(kReciprocalBits);
            }
            const auto block = aie::concat(aie::concat(row[0], row[1]), aie::concat(row[2], row[3]));
            aie::store_v(out, aie::filter_even(block, kHalfColumns));
            aie::store_v(out + kBlock / 2, aie::filter_odd(block, kHalfColumns));
        }
}

KERNEL_INLINE void turn(const int8_t *tile, int8_t *keys) {
    constexpr int kPiece = kDepth * kColumns;
    for (int key = 0; key < kBlocks; ++key)
        for (int wide = 0; wide < kBlocks; ++wide) {
            const auto from = aie::load_v<kPiece>(tile + (key * kBlocks + wide) * kPiece);
            aie::store_v(keys + (wide * kBlocks + key) * kPiece, aie::transpose(from, kDepth, kColumns));
        }
}

#else

template <typename T, typename C> KERNEL_INLINE void multiply(const T *a, const int8_t *b, C *c) {
    constexpr bool kAdd = sizeof(C) == 4;
    for (int i = 0; i < kQueries / kRows; ++i)
        for (int j = 0; j < kBlocks; ++j)
            for (int r = 0; r < kRows; ++r) {
                int32_t sums[kColumns] = {};
                for (int k = 0; k < kBlocks; ++k)
                    for (int s = 0; s < kDepth; ++s) {
                        const int32_t x = a[((i * kBlocks + k) * kRows + r) * kDepth + s];
                        const int8_t *row = b + ((k * kBlocks + j) * kDepth + s) * kColumns;
                        for (int t = 0; t < kColumns; ++t) sums[t] += x * row[t];
                    }
                C *to = c + (i * kBlocks + j) * kBlock + r * kColumns;
                for (int t = 0; t < kColumns; ++t)
                    to[t] = static_cast<C>(kAdd ? to[t] + sums[t] : saturate16(round_even(sums[t], kScoreShift)));
            }
}

// 2^(-x * q / 2^shift / 1024), x >= 0
KERNEL_INLINE int32_t power(int64_t x, int32_t q, int shift) {
    const int64_t s = clamped(round_even(x * q, shift), 0, kWholePart);
    return sixteenth_power<kDegree>(static_cast<int32_t>(s), kPower);
}

KERNEL_INLINE void take_scales(const int32_t *k_scale, const int32_t *v_scale, const Room &room) {
    for (int i = 0; i < kRows * kTile; ++i) {
        const int key = i / kBlock * kColumns + i % kColumns;
        room.keys[i] = saturate16(round_even(k_scale[key], kScaleShift));
        room.values[i] = static_cast<uint16_t>(clamped(v_scale[key], 0, UINT16_MAX));
    }
}

// Scores of four queries, of which each sees so many of the keys at hand, to weights in 8 bits; what was summed before
// shrinks where a larger score comes.
template <bool kHidden>
KERNEL_INLINE void weigh(const Room &room, int m, const int32_t *seen, const int32_t *q_scale, int shift, int32_t *o,
                         int32_t *most_so_far, int32_t *sum) {
    for (int r = 0; r < kRows; ++r) {
        const int32_t q = saturate16(round_even(q_scale[r], kScaleShift)), before = most_so_far[r];
        int32_t most = before;
        for (int n = 0; n < seen[r]; ++n) {
            const int32_t score = room.scores[at(m + r, n)] * room.keys[at(0, n)];
            most = score > most ? score : most;
        }
        const int32_t factor = power(int64_t{most} - before, q, shift);
        int64_t whole = round_even(int64_t{sum[r]} * factor, kPartBits);
        if (factor != kWholePart)
            for (int n = 0; n < kTile; ++n)
                o[at(r, n)] = saturate32(round_even(int64_t{o[at(r, n)]} * factor, kPartBits));
        for (int n = 0; n < kTile; ++n) {
            const int64_t score = room.scores[at(m + r, n)] * room.keys[at(0, n)];
            const int32_t weight = n < seen[r] ? power(most - score, q, shift) : 0;
            whole += weight;
            const int64_t value = round_even(int64_t{weight} * room.values[at(0, n)], kWeightShift);
            room.p[at(m + r, n)] = static_cast<uint8_t>(clamped(value, 0, UINT8_MAX));
        }
        most_so_far[r] = most, sum[r] = static_cast<int32_t>(whole);
    }
}

KERNEL_INLINE void pass_over(uint8_t *p) {
    for (int i = 0; i < kRows * kTile; ++i) p[i] = 0;
}

KERNEL_INLINE void begin(int32_t *most) {
    for (int m = 0; m < kTile; ++m) most[m] = kMasked;
}

// What sums are divided by; of a query that saw nothing they are zero.
KERNEL_INLINE void share(int32_t *statistics) {
    for (int m = 0; m < kTile; ++m)
        statistics[kShares + m] = static_cast<int32_t>(kWhole / clamped(statistics[kTotal + m], kWholePart, INT32_MAX));
}

KERNEL_INLINE void finish(const int32_t *o, const int32_t *reciprocals, int16_t *out, int half) {
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kTile / 2; ++n)
            out[half_at(m, n)] = saturate16(
                round_even(int64_t{o[at(m, half * kTile / 2 + n)]} * reciprocals[m], kReciprocalBits));
}

KERNEL_INLINE void turn(const int8_t *tile, int8_t *keys) {
    for (int key = 0; key < kTile; ++key)
        for (int w = 0; w < kTile; ++w)
            keys[((w / kDepth * kBlocks + key / kColumns) * kDepth + w % kDepth) * kColumns + key % kColumns] =
                tile[((key / kDepth * kBlocks + w / kColumns) * kDepth + key % kDepth) * kColumns + w % kColumns];
}

#endif

extern "C" {

void attention_start_i8(int32_t *statistics, int32_t *o) {
    begin(statistics);
    clear(statistics + kTotal, kTile);
    statistics[kNext] = 0;
    clear(o, kCount);
}

// A tile of B that holds keys, rows by eights, width by eights; as the matrix unit wants them.
void turn_keys_i8(const int8_t *tile, int8_t *keys) { turn(tile, keys); }

void attention_step_i8(int8_t *tiles, const int8_t *keys, const int8_t *v, const int32_t *kept, int32_t *statistics,
                       int32_t *o) {
#ifdef __AIE__
    set_modes();
#endif
    const Room room = room_in(tiles);
    const int32_t *q_scale = statistics + kScales * kTile, *k_scale = q_scale + kTile, *v_scale = k_scale + kTile;
    const int first_key = statistics[kNext];
    statistics[kNext] = first_key + kTile;
    take_scales(k_scale, v_scale, room);
    for (int m = 0; m < kTile && m < kept[kAsked]; m += kQueries) {
        multiply(tiles + m * kTile, keys, room.scores);
        for (int own = m; own < m + kQueries; own += kRows) {
            alignas(16) int32_t seen[kRows];
            for (int r = 0; r < kRows; ++r) {
                const int query = kept[kFirst] + own + r;
                const int all = kept[kCausal] && query < kept[kKeys] ? query + 1 : kept[kKeys];
                seen[r] = own + r < kept[kAsked] ? static_cast<int32_t>(clamped(all - first_key, 0, kTile)) : 0;
            }
            int32_t *sums = o + own * kTile, *most = statistics + own, *sum = statistics + kTotal + own;
            if (own >= kept[kAsked])
                pass_over(room.p + (own - m) * kTile);
            else if (seen[0] + seen[1] + seen[2] + seen[3] < kRows * kTile)
                weigh<true>(room, own - m, seen, q_scale + own, kept[kShift], sums, most, sum);
            else
                weigh<false>(room, own - m, seen, q_scale + own, kept[kShift], sums, most, sum);
        }
        multiply(room.p, v, o + m * kTile);
    }
}

// half: of the width, the first one first
void attention_finish_i8(const int32_t *o, int32_t *statistics, int8_t *out, int32_t half) {
#ifdef __AIE__
    set_modes();
#endif
    if (half == 0) share(statistics);
    finish(o, statistics + kShares, reinterpret_cast<int16_t *>(out), half);
}
}

// Attention in bf16 of 64 queries over any number of keys and values, 32 at a time; one head, 64 wide. What lies
// beyond a narrower head is zero.
//
//   scores  = q * k in float, q times a scale first: binary logarithms. To be exact to 2^-10 they lie within +-4096
//   masks   before the maximum: see below
//   weights = 2^(score - level - 81), in bf16; they are summed as they are, and times v, in float
// The level of a query is a whole number, so that what was summed before is divided by a power of two where it rises. It
// is the largest score's, rounded down, of those keys that came first; and where one comes that is larger by more than 16
// it is that one's. 81 is the bias of exponents less 46: of weights 2^-46 as large as one at the level nothing is left.
// A query that sees no key gets zero, and so do those from `queries` on. Four queries that see none of the keys at hand
// are passed over.
//
// A power of two takes few integer instructions. To add kZero to a score leaves it as a fixed-point number in the bits of
// a float. Less the level, its whole part is the exponent of the weight, and the rest m becomes the fraction, for which
// 2^m - 1 is taken as 0.0029 + m + m (-0.3472 + 0.3395 m): within 0.9 of bf16's last place, rounding included.
//
// Keys come in two parts. Of the first, queries see as many as their own word says; they may be those of several groups,
// of which each has 32 in turn. The second part belongs to the queries themselves, one to each: they see those up to their
// own, or that alone.
//
//   q [2][16][4][4][8]: halves of the width as tiles of A come, queries by fours, width by eights; keys [8][8][8][4]: width by eights, keys by fours; v
//   [4][16][8][4]: keys by eights, width by fours, as a tile of B comes; o, out [16][16][4][4]
//   kept, words: 1: steps of the first part, 4: log2(e) / sqrt(width of the head) in float, 5: groups, 6: queries, 7:
//     queries of a group, 8: 1 where a query sees its own key alone, 64 and on: keys of each query
//   statistics: [64][4] the level in fixed point, [64][4] the sum of weights in float, each four times, and how many
//     steps are done
//   scratch: 1.25 KB; the object that `out` will lie in, before it does
#include "bf16.h"

constexpr int kStep = 32;                                           // keys at a time
constexpr int kHalf = kTile / 2;                                    // of the width
constexpr int kScoresN = kStep / kColumnsBf16, kWidthN = kTile / kColumnsBf16;
constexpr int kBlock = kRows * kColumnsBf16, kBlockA = kRows * kDepth;
constexpr int kSums = kTile * kColumnsBf16, kNext = 2 * kSums;       // of statistics: sums of weights, the next step
constexpr int kPast = 1, kScale = 4, kGroups = 5, kQueries = 6, kShared = 7, kAlone = 8, kKeys = 64;  // of kept
constexpr int kScoreBits = 10;                    // after the point, of a score in fixed point
constexpr int32_t kOne = 1 << kScoreBits;
constexpr float kZero = 1.5f * (1 << (kFractionFloat - kScoreBits));  // of a score
constexpr int32_t kDeepest = 46 * kOne;           // below the level: what weighs nothing
constexpr int32_t kRoom = 16 * kOne;              // above it: what does not raise it
constexpr int32_t kUnseen = 0, kNone = kDeepest;  // the score of a key that is not seen, the level where none was
constexpr float kLeast = 0x1p-82f;                // the largest weight is more, so a sum is more or zero

// 2^m - 1 = m + kFitted + m (kSlope + kCurve m), of which bends, the last factor, have kBendBits after the point.
constexpr int kBendBits = 13, kCurveBits = 12;
constexpr int32_t kFitted = 3, kSlope = -2844;
constexpr int16_t kCurve = 11125;
constexpr int kWeightBits = kScoreBits + kBendBits - kFractionBf16;  // that are rounded off

#ifdef __AIE__

using Unit = aie::mmul<kRows, kDepth, kColumnsBf16, bfloat16, bfloat16, accfloat>;

// Of four rows.
template <bool kAdd, int kBlocksK, int kBlocksN>
KERNEL_INLINE void multiply(const uint16_t *a_bits, const uint16_t *b_bits, float *c) {
    const auto *a = reinterpret_cast<const bfloat16 *>(a_bits), *b = reinterpret_cast<const bfloat16 *>(b_bits);
    for (int j = 0; j < kBlocksN; j += 2) {
        float *to = c + j * kBlock;
        Unit left(kAdd ? aie::load_v<kBlock>(to) : aie::zeros<float, kBlock>());
        Unit right(kAdd ? aie::load_v<kBlock>(to + kBlock) : aie::zeros<float, kBlock>());
        for (int k = 0; k < kBlocksK; ++k) {
            const auto rows = aie::load_v<Unit::size_A>(a + k * Unit::size_A);
            const bfloat16 *columns = b + (k * kBlocksN + j) * Unit::size_B;
            left.mac(rows, aie::load_v<Unit::size_B>(columns));
            right.mac(rows, aie::load_v<Unit::size_B>(columns + Unit::size_B));
        }
        aie::store_v(to, left.to_vector<float>());
        aie::store_v(to + kBlock, right.to_vector<float>());
    }
}

KERNEL_INLINE void turn(const uint16_t *tile, uint16_t *keys) {
    for (int at = 0; at < kStep / kDepth; ++at)
        for (int wide = 0; wide < kTile / kDepth; ++wide) {
            const uint16_t *from = tile + (at * kWidthN + 2 * wide) * kBlockA;  // [2][8 keys][4 of the width]
            const auto both = aie::concat(aie::transpose(aie::load_v<kBlockA>(from), kDepth, kColumnsBf16),
                                          aie::transpose(aie::load_v<kBlockA>(from + kBlockA), kDepth, kColumnsBf16));
            uint16_t *to = keys + (wide * kScoresN + 2 * at) * kBlockA;
            aie::store_v(to, aie::filter_even(both, kColumnsBf16));
            aie::store_v(to + kBlockA, aie::filter_odd(both, kColumnsBf16));
        }
}

#else

template <bool kAdd, int kBlocksK, int kBlocksN>
KERNEL_INLINE void multiply(const uint16_t *a, const uint16_t *b, float *c) {
    if (!kAdd)
        for (int e = 0; e < kBlocksN * kBlock; ++e) c[e] = 0;
    for (int k = 0; k < kBlocksK; ++k)
        for (int j = 0; j < kBlocksN; ++j)
            for (int s = 0; s < kDepth; ++s) {
                const uint16_t *row = b + ((k * kBlocksN + j) * kDepth + s) * kColumnsBf16;
                const float b0 = widened(row[0]), b1 = widened(row[1]), b2 = widened(row[2]), b3 = widened(row[3]);
                for (int r = 0; r < kRows; ++r) {
                    const float x = widened(a[(k * kRows + r) * kDepth + s]);
                    float *sums = c + j * kBlock + r * kColumnsBf16;
                    sums[0] += x * b0, sums[1] += x * b1, sums[2] += x * b2, sums[3] += x * b3;
                }
            }
}

KERNEL_INLINE void turn(const uint16_t *tile, uint16_t *keys) {
    for (int key = 0; key < kStep; ++key)
        for (int w = 0; w < kTile; ++w)
            keys[((w / kDepth * kScoresN + key / kColumnsBf16) * kDepth + w % kDepth) * kColumnsBf16 +
                 key % kColumnsBf16] =
                tile[((key / kDepth * kWidthN + w / kColumnsBf16) * kDepth + key % kDepth) * kColumnsBf16 +
                     w % kColumnsBf16];
}

#endif

struct Seen {
    int from, to;  // of the keys at hand

    inline __attribute__((always_inline)) int count() const { return to - from; }
};

// The keys of a step.
struct Keys {
    bool past;
    int first;         // in their group
    int lowest, most;  // of the queries that may see them, and the one after the last
};

KERNEL_INLINE Keys keys_of(const int32_t *kept, int step) {
    const bool past = step < kept[kPast];
    const int groups = kept[kGroups], turn = past ? step / groups : step - kept[kPast];
    const int first = turn * kStep, lowest = past ? (step - turn * groups) * kept[kShared] : first;
    const int most = past ? lowest + kept[kShared] : kept[kAlone] ? first + kStep : kTile;
    return {past, first, lowest, most < kept[kQueries] ? most : kept[kQueries]};
}

KERNEL_INLINE bool sees_all(const Seen *four) {
    return four[0].count() + four[1].count() + four[2].count() + four[3].count() == kRows * kStep;
}

KERNEL_INLINE Seen seen_by(int query, const Keys &keys, const int32_t *kept) {
    if (query < keys.lowest || query >= keys.most) return {0, 0};
    const int all = keys.past ? kept[kKeys + query] : query + 1;
    const int to = static_cast<int>(clamped(all - keys.first, 0, kStep));
    return {!keys.past && kept[kAlone] ? to - 1 : 0, to};
}

#ifdef __AIE__

alignas(64) constexpr uint32_t kKeyOfLane[kBlock] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};

// [4][4]: a number for each row.
KERNEL_INLINE Ints by_row(int32_t a, int32_t b, int32_t c, int32_t d) {
    const auto upper = aie::concat(aie::broadcast<int32_t, kColumnsBf16>(a), aie::broadcast<int32_t, kColumnsBf16>(b));
    const auto lower = aie::concat(aie::broadcast<int32_t, kColumnsBf16>(c), aie::broadcast<int32_t, kColumnsBf16>(d));
    return aie::concat(upper, lower);
}

// [4][4] -> the largest of each row, four times.
KERNEL_INLINE Ints largest_of_rows(const Ints &x) {
    const auto pairs = aie::max(aie::filter_even(x), aie::filter_odd(x));
    const auto most = aie::max(aie::filter_even(pairs), aie::filter_odd(pairs));
    const auto [upper, lower] = aie::interleave_zip(most, most, 1);
    const auto twice = aie::concat(upper, lower);
    const auto [first, second] = aie::interleave_zip(twice, twice, 1);
    return aie::concat(first, second);
}

using Fixed = aie::vector<int32_t, 2 * kBlock>;
using FixedSums = aie::accum<acc32, 2 * kBlock>;
using Weights = aie::vector<bfloat16, 2 * kBlock>;

KERNEL_INLINE Weights weights_of(const Fixed &scores, const Fixed &zero) {
    const auto logarithm = aie::sub(FixedSums(scores), zero).to_vector<uint16_t>();
    const auto rest = aie::bit_and(static_cast<uint16_t>(kOne - 1), logarithm).cast_to<int16_t>();
    const FixedSums slope(aie::broadcast<int32_t, 2 * kBlock>(kSlope * (1 << kCurveBits)));
    const auto bend = aie::mac(slope, rest, kCurve).to_vector<int16_t>(kCurveBits);
    const FixedSums straight(logarithm, kBendBits);
    return aie::mac(straight, rest, bend).to_vector<uint16_t>(kWeightBits).cast_to<bfloat16>();
}

// Of scores [8][4][4] those of keys that are not seen become so low that they are.
KERNEL_INLINE void hide(float *scores, const Seen *seen) {
    const auto from = by_row(seen[0].from, seen[1].from, seen[2].from, seen[3].from);
    const auto count = by_row(seen[0].count(), seen[1].count(), seen[2].count(), seen[3].count()).cast_to<uint32_t>();
    auto key = aie::sub(aie::load_v<kBlock>(kKeyOfLane), from.cast_to<uint32_t>());  // from 0 on it is seen
    for (int n = 0; n < kStep * kRows; n += kBlock) {
        const auto own = aie::load_v<kBlock>(scores + n).cast_to<int32_t>();
        aie::store_v(scores + n, aie::select(all(as_bits(-kZero)), own, aie::lt(key, count)).cast_to<float>());
        key = aie::add(key, aie::broadcast<uint32_t, kBlock>(kColumnsBf16));
    }
}

// Scores [8][4][4] of four queries to weights p [4][4][8]; what was summed before shrinks where the level rises.
KERNEL_INLINE void weigh(float *scores, int32_t *fixed, uint16_t *p, float *o, const Seen *seen, int32_t *level,
                         float *sum) {
    if (!sees_all(seen)) hide(scores, seen);
    auto most = all(kUnseen);
    for (int n = 0; n < kStep * kRows; n += kBlock) {
        const auto shifted = aie::add(Sums(aie::load_v<kBlock>(scores + n)), all(kZero)).to_vector<float>();
        const auto score = aie::max(shifted.cast_to<int32_t>(), all(kUnseen));
        most = aie::max(most, score);
        aie::store_v(fixed + n, score);
    }
    const auto before = aie::load_v<kBlock>(level), highest = aie::add(before, all(kRoom));
    auto now = before;
    auto total = aie::load_v<kBlock>(sum);
    if (!aie::lt(highest, most).empty()) {
        most = largest_of_rows(most);
        now = aie::select(before, aie::bit_and(-kOne, most), aie::lt(highest, most));
        const auto down = shrinking(aie::sub(now, before), kScoreBits);
        total = shrunk(total, down);
        for (int n = 0; n < kTile * kRows; n += kBlock) aie::store_v(o + n, shrunk(aie::load_v<kBlock>(o + n), down));
        aie::store_v(level, now);
    }
    Unit sums(total);
    const auto ones = aie::broadcast<bfloat16, Unit::size_B>(bfloat16(1.0f));
    const auto once = aie::sub(now, all(kDeepest + kFitted));
    const auto zero = aie::concat(once, once);
    const auto pair = [&](int n) {
        return weights_of(aie::concat(aie::load_v<kBlock>(fixed + n), aie::load_v<kBlock>(fixed + n + 2 * kBlock)), zero);
    };
    auto *weights = reinterpret_cast<bfloat16 *>(p);
    for (int n = 0; n < kStep * kRows; n += 4 * kBlock) {
        const auto [left, right] = aie::interleave_zip(pair(n), pair(n + kBlock), kColumnsBf16);
        sums.mac(left, ones);
        sums.mac(right, ones);
        aie::store_v(weights + n, left);
        aie::store_v(weights + n + 2 * kBlock, right);
    }
    aie::store_v(sum, sums.to_vector<float>());
}

KERNEL_INLINE void scale(const uint16_t *tile, float by, uint16_t *q) {
    const auto factor = parts(all(by));
    for (int i = 0; i < kTile * kHalf; i += kLanes) {
        const auto x = aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(tile + i));
        const auto scaled = aie::mac(aie::mul(x, factor.high), x, factor.low).to_vector<bfloat16>();
        aie::store_v(reinterpret_cast<bfloat16 *>(q + i), scaled);
    }
}

KERNEL_INLINE void finish(const float *o, const float *sums, uint16_t *out) {
    auto *to = reinterpret_cast<bfloat16 *>(out);
    for (int m = 0; m < kTile / kRows; ++m, sums += kBlock) {
        const auto share = parts(reciprocal(at_least(kLeast, aie::load_v<kBlock>(sums))));
        for (int n = 0; n < kWidthN; ++n, o += kBlock, to += kBlock)
            aie::store_v(to, product(parts(aie::load_v<kBlock>(o)), share).to_vector<bfloat16>());
    }
}

#else

KERNEL_INLINE int at(int row, int column) { return column / kColumnsBf16 * kBlock + row * kColumnsBf16 + column % kColumnsBf16; }

KERNEL_INLINE uint16_t weight_of(int32_t score, int32_t zero) {
    const auto logarithm = static_cast<int32_t>(clamped(score - zero, 0, UINT16_MAX));
    const int32_t rest = logarithm & (kOne - 1);
    const int64_t bend = round_even(kSlope * (1 << kCurveBits) + rest * kCurve, kCurveBits);
    return static_cast<uint16_t>(round_even((logarithm << kBendBits) + rest * bend, kWeightBits));
}

// Scores [8][4][4] of four queries to weights p [4][4][8]; what was summed before shrinks where the level rises.
KERNEL_INLINE void weigh(const float *scores, int32_t *fixed, uint16_t *p, float *o, const Seen *seen, int32_t *level,
                         float *sum) {
    for (int row = 0; row < kRows; ++row, level += kColumnsBf16, sum += kColumnsBf16) {
        int32_t most = kUnseen;
        for (int n = 0; n < kStep; ++n) {
            const bool sees = n >= seen[row].from && n < seen[row].to;
            const int32_t score = sees ? as_bits(scores[at(row, n)] + kZero) : kUnseen;
            fixed[at(row, n)] = score > kUnseen ? score : kUnseen;
            most = score > most ? score : most;
        }
        const int32_t before = *level, now = before + kRoom < most ? most & -kOne : before;
        const int32_t down = (now - before) >> kScoreBits;
        float total = shrunk(*sum, down);
        for (int n = 0; n < kTile; ++n) o[at(row, n)] = shrunk(o[at(row, n)], down);
        for (int n = 0; n < kStep; ++n) {
            const uint16_t weight = weight_of(fixed[at(row, n)], now - kDeepest - kFitted);
            total += widened(weight);
            p[n / kDepth * kBlockA + row * kDepth + n % kDepth] = weight;
        }
        for (int copy = 0; copy < kColumnsBf16; ++copy) level[copy] = now, sum[copy] = total;
    }
}

KERNEL_INLINE void scale(const uint16_t *tile, float by, uint16_t *q) {
    const Parts factor = parts(by);
    for (int i = 0; i < kTile * kHalf; ++i) q[i] = narrowed(widened(tile[i]) * factor.high + widened(tile[i]) * factor.low);
}

KERNEL_INLINE void finish(const float *o, const float *sums, uint16_t *out) {
    for (int i = 0; i < kCount; ++i) {
        const float sum = sums[i / (kWidthN * kBlock) * kBlock + i % kBlock];
        out[i] = narrowed(product(parts(o[i]), parts(reciprocal(sum > kLeast ? sum : kLeast))));
    }
}

#endif

extern "C" {

void attention_start_bf16(int32_t *statistics, float *o) {
    float *sums = reinterpret_cast<float *>(statistics) + kSums;
#ifdef __AIE__
    for (int i = 0; i < kSums; i += kLanes) aie::store_v(statistics + i, all(kNone)), aie::store_v(sums + i, all(0.0f));
    for (int i = 0; i < kCount; i += kLanes) aie::store_v(o + i, all(0.0f));
#else
    for (int i = 0; i < kSums; ++i) statistics[i] = kNone, sums[i] = 0;
    for (int i = 0; i < kCount; ++i) o[i] = 0;
#endif
    statistics[kNext] = 0;
}

// Half of the width of queries, as a tile of A comes, for q.
void keep_queries_bf16(const uint16_t *tile, const int32_t *kept, uint16_t *q, int32_t which) {
#ifdef __AIE__
    set_modes();
#endif
    scale(tile, as_float(kept[kScale]), q + which * kTile * kHalf);
}

// A tile of B that holds 32 keys [4][16][8][4]: keys by eights, width by fours; as the matrix unit wants them.
void turn_keys_bf16(const uint16_t *tile, uint16_t *keys) { turn(tile, keys); }

void attention_step_bf16(const uint16_t *q, const uint16_t *keys, const uint16_t *v, const int32_t *kept,
                         uint16_t *scratch, int32_t *statistics, float *o) {
#ifdef __AIE__
    set_modes();
#endif
    float *scores = reinterpret_cast<float *>(scratch), *sums = reinterpret_cast<float *>(statistics) + kSums;
    int32_t *fixed = reinterpret_cast<int32_t *>(scratch) + kRows * kStep, *levels = statistics;
    uint16_t *p = scratch + 4 * kRows * kStep;
    const Keys at_hand = keys_of(kept, statistics[kNext]++);
    for (int first = 0; first < kTile; first += kRows, q += kRows * kHalf, o += kRows * kTile) {
        const Seen seen[kRows] = {seen_by(first, at_hand, kept), seen_by(first + 1, at_hand, kept),
                                  seen_by(first + 2, at_hand, kept), seen_by(first + 3, at_hand, kept)};
        if (!(seen[0].count() | seen[1].count() | seen[2].count() | seen[3].count())) continue;
        multiply<false, kHalf / kDepth, kScoresN>(q, keys, scores);
        multiply<true, kHalf / kDepth, kScoresN>(q + kTile * kHalf, keys + kHalf * kStep, scores);
        weigh(scores, fixed, p, o, seen, levels + first * kColumnsBf16, sums + first * kColumnsBf16);
        multiply<true, kStep / kDepth, kWidthN>(p, v, o);
    }
}

void attention_finish_bf16(const float *o, const int32_t *statistics, uint16_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    finish(o, reinterpret_cast<const float *>(statistics) + kSums, out);
}
}

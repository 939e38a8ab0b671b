// Attention in bf16 of 64 queries over any number of keys and values, 32 at a time; one head, 64 wide. What lies
// beyond a narrower head is zero.
//
//   scores  = q * k in float, times a scale: binary logarithms with 8 fraction bits, rounded to whole ones, halves to
//             even, within +-2^21
//   masks   before the maximum: see below
//   weights = 2^(score - the largest so far), 17 bits by table, summed as integers; narrowed to bf16 times v, in float
// A query that sees no key gets zero, and so do those from `queries` on. Four queries that see none of the keys at hand
// are passed over.
//
// Keys come in two parts. Of the first, queries see as many as their own word says; they may be those of several groups,
// of which each has 32 in turn. The second part belongs to the queries themselves, one to each: they see those up to their
// own, or that alone.
//
//   q [2][16][4][4][8]: halves of the width as tiles of A come, queries by fours, width by eights; keys [8][8][8][4]: width by eights, keys by fours; v
//   [4][16][8][4]: keys by eights, width by fours, as a tile of B comes; o, out [16][16][4][4]
//   kept, words: 1: steps of the first part, 4: 256 * log2(e) / sqrt(width of the head) in float, 5: groups, 6: queries,
//     7: queries of a group, 8: 1 where a query sees its own key alone, 64 and on: keys of each query
//   table [256]: 2^16 * 2^(-i / 256), rounded   statistics: [64] the largest score so far, [64] the sum of weights, and
//   how many steps are done
//   scratch: 1 KB; the object that `out` will lie in, before it does
#include "fixed.h"

#include <cstring>

constexpr int kStep = 32;                                           // keys at a time
constexpr int kHalf = kTile / 2;                                    // of the width
constexpr int kScoresN = kStep / kColumnsBf16, kWidthN = kTile / kColumnsBf16;
constexpr int kBlock = kRows * kColumnsBf16, kBlockA = kRows * kDepth;
constexpr int kFractionBits = 8, kOne = 16;
constexpr int kNext = 2 * kTile;                                    // of statistics: the next step
constexpr int kPast = 1, kScale = 4, kGroups = 5, kQueries = 6, kShared = 7, kAlone = 8, kKeys = 64;  // of kept
constexpr int32_t kMasked = -(1 << 30);
constexpr float kLimit = 1 << 21, kWhole = 12582912;  // added and taken away: nothing is left after the point

KERNEL_INLINE int32_t power(int32_t x, const int32_t *table) {
    const int32_t down = x >> kFractionBits;
    if (down > kOne + 1) return 0;
    return (table[x & ((1 << kFractionBits) - 1)] + ((1 << down) >> 1)) >> down;
}

KERNEL_INLINE uint16_t narrowed(float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    return static_cast<uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1)) >> 16);
}

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

KERNEL_INLINE float widened(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

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

KERNEL_INLINE float rounded(float score) {
    const float within = score < -kLimit ? -kLimit : score > kLimit ? kLimit : score;
    return (within + kWhole) - kWhole;
}

struct Seen {
    int from, to;  // of the keys at hand
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

KERNEL_INLINE Seen seen_by(int query, const Keys &keys, const int32_t *kept) {
    if (query < keys.lowest || query >= keys.most) return {0, 0};
    const int all = keys.past ? kept[kKeys + query] : query + 1;
    const int to = static_cast<int>(clamped(all - keys.first, 0, kStep));
    return {!keys.past && kept[kAlone] ? to - 1 : 0, to};
}

// Scores [8][4][4] of one of four queries to weights p [4][4][8]; what was summed before shrinks where a larger one comes.
KERNEL_INLINE void weigh(int row, float *scores, uint16_t *p, float *o, float scale, Seen seen, const int32_t *table,
                         int32_t *largest, int32_t *sum) {
    float *own = scores + row * kColumnsBf16;
    int32_t most = *largest, total = *sum;
    for (int n = seen.from; n < seen.to; ++n) {
        float &score = own[n / kColumnsBf16 * kBlock + n % kColumnsBf16];
        score = rounded(score * scale);
        most = static_cast<int32_t>(score) > most ? static_cast<int32_t>(score) : most;
    }
    if (most > *largest && total) {
        const int32_t factor = power(most - *largest, table);
        total = static_cast<int32_t>(round_even(int64_t{total} * factor, kOne));
        const float share = static_cast<float>(factor) / (1 << kOne);
        float *sums = o + row * kColumnsBf16;
        for (int n = 0; n < kTile; ++n) sums[n / kColumnsBf16 * kBlock + n % kColumnsBf16] *= share;
    }
    for (int n = 0; n < kStep; ++n) {
        int32_t weight = 0;
        if (n >= seen.from && n < seen.to)
            weight = power(most - static_cast<int32_t>(own[n / kColumnsBf16 * kBlock + n % kColumnsBf16]), table);
        total += weight;
        p[n / kDepth * kBlockA + row * kDepth + n % kDepth] = narrowed(static_cast<float>(weight));
    }
    *largest = most, *sum = total;
}

extern "C" {

void attention_start_bf16(int32_t *statistics, float *o) {
    for (int m = 0; m < kTile; ++m) statistics[m] = kMasked, statistics[kTile + m] = 0;
    statistics[kNext] = 0;
    for (int i = 0; i < kCount; ++i) o[i] = 0;
}

// A tile of B that holds 32 keys [4][16][8][4]: keys by eights, width by fours; as the matrix unit wants them.
void turn_keys_bf16(const uint16_t *tile, uint16_t *keys) { turn(tile, keys); }

void attention_step_bf16(const uint16_t *q, const uint16_t *keys, const uint16_t *v, const int32_t *kept,
                         const int32_t *table, uint16_t *scratch, int32_t *statistics, float *o) {
    float *scores = reinterpret_cast<float *>(scratch);
    uint16_t *p = scratch + 2 * kRows * kStep;
    float scale;
    std::memcpy(&scale, kept + kScale, sizeof scale);
    const Keys at_hand = keys_of(kept, statistics[kNext]++);
    for (int first = 0; first < kTile; first += kRows, q += kRows * kHalf, o += kRows * kTile) {
        Seen seen[kRows];
        bool any = false;
        for (int row = 0; row < kRows; ++row) {
            seen[row] = seen_by(first + row, at_hand, kept);
            any |= seen[row].from < seen[row].to;
        }
        if (!any) continue;
        multiply<false, kHalf / kDepth, kScoresN>(q, keys, scores);
        multiply<true, kHalf / kDepth, kScoresN>(q + kTile * kHalf, keys + kHalf * kStep, scores);
        for (int row = 0; row < kRows; ++row) {
            int32_t *largest = statistics + first + row;
            weigh(row, scores, p, o, scale, seen[row], table, largest, largest + kTile);
        }
        multiply<true, kStep / kDepth, kWidthN>(p, v, o);
    }
}

void attention_finish_bf16(const float *o, const int32_t *statistics, uint16_t *out) {
    for (int m = 0; m < kTile; ++m) {
        const int32_t total = statistics[kTile + m];
        const float share = total ? 1.0f / static_cast<float>(total) : 0;
        for (int n = 0; n < kTile; ++n) {
            const int at = (m / kRows * kWidthN + n / kColumnsBf16) * kBlock + m % kRows * kColumnsBf16 + n % kColumnsBf16;
            out[at] = narrowed(o[at] * share);
        }
    }
}
}

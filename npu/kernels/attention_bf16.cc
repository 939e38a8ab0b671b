// Attention in bf16 of 64 queries over any number of keys and values, 32 at a time; one head, 64 wide. What lies
// beyond a narrower head is zero.
//
//   scores  = q * k in float, times a scale: binary logarithms with 8 fraction bits, rounded to whole ones, halves to
//             even, within +-2^21
//   masks   before the maximum: keys from `keys` on, and later ones than the query where causal is 1
//   weights = 2^(score - the largest so far), 17 bits by table, summed as integers; narrowed to bf16 times v, in float
// A query that sees no key gets zero, and so do those from `queries` on.
//
//   q [16][8][4][8]: queries by fours, width by eights; keys [8][8][8][4]: width by eights, keys by fours; v
//   [4][16][8][4]: keys by eights, width by fours, as a tile of B comes; o, out [16][16][4][4]
//   kept, words: 2: keys, 3: causal, 4: 256 * log2(e) / sqrt(width of the head) in float, 5: the first query's number,
//     6: queries
//   table [256]: 2^16 * 2^(-i / 256), rounded   statistics: [64] the largest score so far, [64] the sum of weights, and
//   the next key
//   scratch: 6 KB; the object that `out` will lie in, before it does
#include "fixed.h"

#include <cstring>

constexpr int kStep = 32;                                           // keys at a time
constexpr int kQueries = 32, kBlocksM = kQueries / kRows;           // of which scores are held
constexpr int kScoresN = kStep / kColumnsBf16, kWidthN = kTile / kColumnsBf16;
constexpr int kBlock = kRows * kColumnsBf16, kBlockA = kRows * kDepth;
constexpr int kFractionBits = 8, kOne = 16;
constexpr int kNext = 2 * kTile;                                    // of statistics: the next key
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

template <bool kAdd, int kBlocksK, int kBlocksN>
KERNEL_INLINE void multiply(const uint16_t *a_bits, const uint16_t *b_bits, float *c, int blocks) {
    const auto *a = reinterpret_cast<const bfloat16 *>(a_bits), *b = reinterpret_cast<const bfloat16 *>(b_bits);
    for (int i = 0; i < blocks; ++i)
        for (int j = 0; j < kBlocksN; j += 2) {
            float *to = c + (i * kBlocksN + j) * kBlock;
            Unit left(kAdd ? aie::load_v<kBlock>(to) : aie::zeros<float, kBlock>());
            Unit right(kAdd ? aie::load_v<kBlock>(to + kBlock) : aie::zeros<float, kBlock>());
            for (int k = 0; k < kBlocksK; ++k) {
                const auto rows = aie::load_v<Unit::size_A>(a + (i * kBlocksK + k) * Unit::size_A);
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
KERNEL_INLINE void multiply(const uint16_t *a, const uint16_t *b, float *c, int blocks) {
    for (int i = 0; i < blocks; ++i) {
        if (!kAdd)
            for (int e = 0; e < kBlocksN * kBlock; ++e) c[i * kBlocksN * kBlock + e] = 0;
        for (int k = 0; k < kBlocksK; ++k)
            for (int j = 0; j < kBlocksN; ++j)
                for (int s = 0; s < kDepth; ++s) {
                    const uint16_t *row = b + ((k * kBlocksN + j) * kDepth + s) * kColumnsBf16;
                    const float b0 = widened(row[0]), b1 = widened(row[1]), b2 = widened(row[2]), b3 = widened(row[3]);
                    for (int r = 0; r < kRows; ++r) {
                        const float x = widened(a[((i * kBlocksK + k) * kRows + r) * kDepth + s]);
                        float *sums = c + (i * kBlocksN + j) * kBlock + r * kColumnsBf16;
                        sums[0] += x * b0, sums[1] += x * b1, sums[2] += x * b2, sums[3] += x * b3;
                    }
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

// How many of the keys at hand a query sees.
KERNEL_INLINE int seen(int query, int first_key, int keys, bool causal) {
    const int all = causal && query + 1 < keys ? query + 1 : keys;
    return static_cast<int>(clamped(all - first_key, 0, kStep));
}

// Scores [8][8][4][4] of one query to weights p [8][4][4][8]; what was summed before shrinks where a larger one comes.
KERNEL_INLINE void weigh(int m, float *scores, uint16_t *p, float *o, float scale, int visible, const int32_t *table,
                         int32_t *largest, int32_t *sum) {
    float *own = scores + m / kRows * kScoresN * kBlock + m % kRows * kColumnsBf16;
    int32_t most = *largest, total = *sum;
    for (int n = 0; n < visible; ++n) {
        float &score = own[n / kColumnsBf16 * kBlock + n % kColumnsBf16];
        score = rounded(score * scale);
        most = static_cast<int32_t>(score) > most ? static_cast<int32_t>(score) : most;
    }
    if (most > *largest && total) {
        const int32_t factor = power(most - *largest, table);
        total = static_cast<int32_t>(round_even(int64_t{total} * factor, kOne));
        const float share = static_cast<float>(factor) / (1 << kOne);
        float *row = o + m / kRows * kWidthN * kBlock + m % kRows * kColumnsBf16;
        for (int n = 0; n < kTile; ++n) row[n / kColumnsBf16 * kBlock + n % kColumnsBf16] *= share;
    }
    for (int n = 0; n < kStep; ++n) {
        const auto score = static_cast<int32_t>(own[n / kColumnsBf16 * kBlock + n % kColumnsBf16]);
        const int32_t weight = n < visible ? power(most - score, table) : 0;
        total += weight;
        p[(m / kRows * (kStep / kDepth) + n / kDepth) * kBlockA + m % kRows * kDepth + n % kDepth] =
            narrowed(static_cast<float>(weight));
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
    uint16_t *p = scratch + 2 * kQueries * kStep;
    float scale;
    std::memcpy(&scale, kept + 4, sizeof scale);
    const int first_key = statistics[kNext];
    statistics[kNext] = first_key + kStep;
    for (int first = 0; first < kTile; first += kQueries) {
        const int rows = static_cast<int>(clamped(kept[6] - first, 0, kQueries)), blocks = (rows + kRows - 1) / kRows;
        multiply<false, kTile / kDepth, kScoresN>(q + first * kTile, keys, scores, blocks);
        float *sums = o + first * kTile;
        for (int m = 0; m < blocks * kRows; ++m) {
            const int visible = m < rows ? seen(kept[5] + first + m, first_key, kept[2], kept[3] != 0) : 0;
            weigh(m, scores, p, sums, scale, visible, table, statistics + first + m, statistics + kTile + first + m);
        }
        multiply<true, kStep / kDepth, kWidthN>(p, v, sums, blocks);
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

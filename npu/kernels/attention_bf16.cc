// Attention in bf16 of 32 queries over any number of keys and values, 64 at a time; one head, 64 wide. What lies
// beyond a narrower head is zero.
//
//   scores  = q * k in float, times `scale`: binary logarithms with 8 fraction bits, rounded to whole ones, halves to
//             even, within +-2^21
//   masks   before the maximum: keys from `keys` on, and later ones than the query where causal is 1
//   weights = 2^(score - the largest so far), 17 bits by table, summed as integers; narrowed to bf16 times v, in float
// A query that sees no key gets zero.
//
//   q [8][8][4][8], p the same; k [8][16][8][4]: width by eights, keys by fours; v the same: keys, width
//   scores, o, out [8][16][4][4]   scale [1]: 256 * log2(e) / sqrt(width of the head)
//   table [256]: 2^16 * 2^(-i / 256), rounded   statistics [2][32]: the largest score so far, the sum of weights
#include "fixed.h"

#include <cstring>

constexpr int kQueries = 32, kBlocksM = kQueries / kRows, kBlocksK = kTile / kDepth, kBlocksN = kTile / kColumnsBf16;
constexpr int kBlock = kRows * kColumnsBf16;
constexpr int kFractionBits = 8, kOne = 16;
constexpr int32_t kMasked = -(1 << 30);
constexpr float kLimit = 1 << 21, kWhole = 12582912;  // added and taken away: nothing is left after the point

KERNEL_INLINE int at(int m, int n) {
    return (m / kRows * kBlocksN + n / kColumnsBf16) * kBlock + m % kRows * kColumnsBf16 + n % kColumnsBf16;
}

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

template <bool kAdd> KERNEL_INLINE void multiply(const uint16_t *a_bits, const uint16_t *b_bits, float *c) {
    const auto *a = reinterpret_cast<const bfloat16 *>(a_bits), *b = reinterpret_cast<const bfloat16 *>(b_bits);
    for (int i = 0; i < kBlocksM; ++i)
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

#else

KERNEL_INLINE float widened(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

template <bool kAdd> KERNEL_INLINE void multiply(const uint16_t *a, const uint16_t *b, float *c) {
    for (int i = 0; i < kBlocksM; ++i) {
        if (!kAdd)
            for (int e = 0; e < kBlocksN * kBlock; ++e) c[i * kBlocksN * kBlock + e] = 0;
        for (int k = 0; k < kBlocksK; ++k)
            for (int j = 0; j < kBlocksN; ++j)
                for (int r = 0; r < kRows; ++r)
                    for (int s = 0; s < kDepth; ++s) {
                        const float x = widened(a[((i * kBlocksK + k) * kRows + r) * kDepth + s]);
                        const uint16_t *row = b + ((k * kBlocksN + j) * kDepth + s) * kColumnsBf16;
                        float *sums = c + (i * kBlocksN + j) * kBlock + r * kColumnsBf16;
                        for (int t = 0; t < kColumnsBf16; ++t) sums[t] += x * widened(row[t]);
                    }
    }
}

#endif

KERNEL_INLINE float rounded(float score) {
    const float within = score < -kLimit ? -kLimit : score > kLimit ? kLimit : score;
    return (within + kWhole) - kWhole;
}

// How many keys of a tile a query sees.
KERNEL_INLINE int seen(int query, int first_key, int keys, bool causal) {
    const int all = causal && query + 1 < keys ? query + 1 : keys;
    return static_cast<int>(clamped(all - first_key, 0, kTile));
}

extern "C" {

void attention_start_bf16(int32_t *statistics, float *o) {
    for (int m = 0; m < kQueries; ++m) statistics[m] = kMasked, statistics[kQueries + m] = 0;
    for (int i = 0; i < kQueries * kTile; ++i) o[i] = 0;
}

void attention_step_bf16(const uint16_t *q, const uint16_t *k, const uint16_t *v, const float *scale,
                         const int32_t *table, float *scores, uint16_t *p, int32_t *statistics, float *o,
                         int32_t first_query, int32_t first_key, int32_t keys, int32_t causal) {
    multiply<false>(q, k, scores);
    for (int m = 0; m < kQueries; ++m) {
        const int visible = seen(first_query + m, first_key, keys, causal != 0);
        int32_t most = statistics[m], total = statistics[kQueries + m];
        for (int n = 0; n < visible; ++n) {
            float &score = scores[at(m, n)];
            score = rounded(score * *scale);
            most = static_cast<int32_t>(score) > most ? static_cast<int32_t>(score) : most;
        }
        if (most > statistics[m] && total) {
            const int32_t factor = power(most - statistics[m], table);
            total = static_cast<int32_t>(round_even(int64_t{total} * factor, kOne));
            const float share = static_cast<float>(factor) / (1 << kOne);
            for (int n = 0; n < kTile; ++n) o[at(m, n)] *= share;
        }
        for (int n = 0; n < kTile; ++n) {
            const int32_t weight = n < visible ? power(most - static_cast<int32_t>(scores[at(m, n)]), table) : 0;
            total += weight;
            p[((m / kRows * kBlocksK + n / kDepth) * kRows + m % kRows) * kDepth + n % kDepth] =
                narrowed(static_cast<float>(weight));
        }
        statistics[m] = most, statistics[kQueries + m] = total;
    }
    multiply<true>(p, v, o);
}

void attention_finish_bf16(const float *o, const int32_t *statistics, uint16_t *out) {
    for (int m = 0; m < kQueries; ++m) {
        const int32_t total = statistics[kQueries + m];
        const float share = total ? 1.0f / static_cast<float>(total) : 0;
        for (int n = 0; n < kTile; ++n) out[at(m, n)] = narrowed(o[at(m, n)] * share);
    }
}
}

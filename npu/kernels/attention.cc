// Attention of 64 queries over any number of keys and values, 64 at a time; one head, 64 wide. What lies beyond a
// narrower head is zero.
//
//   scores  = q * k, 32 bits; scaled by key, then by query: binary logarithms with 8 fraction bits, within +-2^24
//   masks   before the maximum: keys from `keys` on, and later ones than the query where causal is 1
//   weights = 2^(score - the largest so far), 17 bits by table; their sum in 32 bits
//   sums    = weights in 8 bits times the values' scales, times v; 32 bits
// and when a larger score comes, what was summed is scaled down, rounded to nearest, halves to even. A query that
// sees no key gets zero.
//
//   q, p, scores, o, out [16][8][4][8]     k [8][8][8][8]: width by eights, keys by eights; v the same: keys, width
//   q_scale [64] >= 0, k_scale [64] >= 0: divided by 2^q_shift and 2^k_shift; to be chosen so that the product of
//   scales is that of q and k, times 256 * log2(e) / sqrt(width of the head)
//   v_scale [64]: 0..65,280, of each value in 65,280ths of the largest scale there is
//   table [256]: 2^16 * 2^(-i / 256), rounded
//   statistics [2][64]: the largest score so far, the sum of weights
//   out: 256ths of a unit of v at its largest scale
#include "fixed.h"

constexpr int kBlocks = kTile / kColumns, kBlock = kRows * kColumns;
constexpr int32_t kLimit = 1 << 24, kMasked = -(1 << 30);
constexpr int kFractionBits = 8, kOne = 16, kReciprocalBits = 30;

KERNEL_INLINE int at(int m, int n) {
    return ((m / kRows * kBlocks + n / kColumns) * kRows + m % kRows) * kColumns + n % kColumns;
}

// 2^(-x / 256) in 65,536ths, x >= 0.
KERNEL_INLINE int32_t power(int32_t x, const int32_t *table) {
    const int32_t down = x >> kFractionBits;
    if (down > kOne + 1) return 0;
    return (table[x & ((1 << kFractionBits) - 1)] + ((1 << down) >> 1)) >> down;
}

#ifdef __AIE__

// c = a * b, or c += a * b; a in 8 bits, with or without a sign.
template <bool kAdd, typename T> KERNEL_INLINE void multiply(const T *a, const int8_t *b, int32_t *c) {
    using Unit = aie::mmul<kRows, kDepth, kColumns, T, int8_t, acc32>;
    for (int i = 0; i < kTile / kRows; ++i)
        for (int j = 0; j < kBlocks; j += 2) {
            int32_t *to = c + (i * kBlocks + j) * kBlock;
            Unit left(kAdd ? aie::load_v<kBlock>(to) : aie::zeros<int32_t, kBlock>());
            Unit right(kAdd ? aie::load_v<kBlock>(to + kBlock) : aie::zeros<int32_t, kBlock>());
            for (int k = 0; k < kBlocks; ++k) {
                const auto rows = aie::load_v<Unit::size_A>(a + (i * kBlocks + k) * Unit::size_A);
                const int8_t *columns = b + (k * kBlocks + j) * Unit::size_B;
                left.mac(rows, aie::load_v<Unit::size_B>(columns));
                right.mac(rows, aie::load_v<Unit::size_B>(columns + Unit::size_B));
            }
            aie::store_v(to, left.template to_vector<int32_t>());
            aie::store_v(to + kBlock, right.template to_vector<int32_t>());
        }
}

constexpr int kLanes = 16;  // two rows of a block

KERNEL_INLINE void scale(int32_t *scores, const int32_t *q_scale, const int32_t *k_scale, int q_shift, int k_shift) {
    const auto high = aie::broadcast<int32_t, kLanes>(kLimit), low = aie::broadcast<int32_t, kLanes>(-kLimit);
    for (int n = 0; n < kTile; n += kColumns) {
        const auto keys8 = aie::load_v<kColumns>(k_scale + n);
        const auto keys = aie::concat(keys8, keys8);
        for (int m = 0; m < kTile; m += 2) {
            const auto queries = aie::concat(aie::broadcast<int32_t, kColumns>(q_scale[m]),
                                             aie::broadcast<int32_t, kColumns>(q_scale[m + 1]));
            const auto u = aie::mul(aie::load_v<kLanes>(scores + at(m, n)), keys).to_vector<int32_t>(k_shift);
            const auto t = aie::mul(u, queries).to_vector<int32_t>(q_shift);
            aie::store_v(scores + at(m, n), aie::max(aie::min(t, high), low));
        }
    }
}

KERNEL_INLINE int32_t largest(const int32_t *scores, int m) {
    auto most = aie::load_v<kColumns>(scores + at(m, 0));
    for (int n = kColumns; n < kTile; n += kColumns) most = aie::max(most, aie::load_v<kColumns>(scores + at(m, n)));
    return aie::reduce_max(most);
}

template <typename T> KERNEL_INLINE void shrink(const int32_t *o, T *to, int m, int32_t factor, int shift) {
    for (int n = 0; n < kTile; n += kColumns)
        aie::store_v(to + at(m, n), aie::mul(aie::load_v<kColumns>(o + at(m, n)), factor).template to_vector<T>(shift));
}

#else

template <bool kAdd, typename T> KERNEL_INLINE void multiply(const T *a, const int8_t *b, int32_t *c) {
    for (int i = 0; i < kTile / kRows; ++i) {
        if (!kAdd)
            for (int e = 0; e < kBlocks * kBlock; ++e) c[i * kBlocks * kBlock + e] = 0;
        for (int k = 0; k < kBlocks; ++k)
            for (int j = 0; j < kBlocks; ++j)
                for (int r = 0; r < kRows; ++r)
                    for (int s = 0; s < kDepth; ++s) {
                        const int32_t x = a[((i * kBlocks + k) * kRows + r) * kDepth + s];
                        const int8_t *row = b + ((k * kBlocks + j) * kDepth + s) * kColumns;
                        int32_t *sums = c + (i * kBlocks + j) * kBlock + r * kColumns;
                        for (int t = 0; t < kColumns; ++t) sums[t] += x * row[t];
                    }
    }
}

KERNEL_INLINE void scale(int32_t *scores, const int32_t *q_scale, const int32_t *k_scale, int q_shift, int k_shift) {
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kTile; ++n) {
            int32_t &score = scores[at(m, n)];
            const int64_t u = saturate32(round_even(int64_t{score} * k_scale[n], k_shift));
            score = static_cast<int32_t>(clamped(round_even(u * q_scale[m], q_shift), -kLimit, kLimit));
        }
}

KERNEL_INLINE int32_t largest(const int32_t *scores, int m) {
    int32_t most = scores[at(m, 0)];
    for (int n = 1; n < kTile; ++n) most = scores[at(m, n)] > most ? scores[at(m, n)] : most;
    return most;
}

KERNEL_INLINE void narrow(int64_t value, int32_t &to) { to = saturate32(value); }
KERNEL_INLINE void narrow(int64_t value, int16_t &to) { to = saturate16(value); }

template <typename T> KERNEL_INLINE void shrink(const int32_t *o, T *to, int m, int32_t factor, int shift) {
    for (int n = 0; n < kTile; ++n) narrow(round_even(int64_t{o[at(m, n)]} * factor, shift), to[at(m, n)]);
}

#endif

// Where a key must not be seen; tiles that all see whole are left alone.
KERNEL_INLINE void mask(int32_t *scores, int first_query, int first_key, int keys, bool causal) {
    if (first_key + kTile <= keys && !(causal && first_key + kTile - 1 > first_query)) return;
    for (int m = 0; m < kTile; ++m) {
        const int seen = causal && first_query + m + 1 < keys ? first_query + m + 1 : keys;
        for (int n = seen > first_key ? seen - first_key : 0; n < kTile; ++n) scores[at(m, n)] = kMasked;
    }
}

extern "C" {

void attention_start(int32_t *statistics, int32_t *o) {
    for (int m = 0; m < kTile; ++m) statistics[m] = kMasked, statistics[kTile + m] = 0;
    for (int i = 0; i < kCount; ++i) o[i] = 0;
}

void attention_step(const int8_t *q, const int8_t *k, const int8_t *v, const int32_t *q_scale, const int32_t *k_scale,
                    const int32_t *v_scale, const int32_t *table, int32_t *scores, uint8_t *p, int32_t *statistics,
                    int32_t *o, int32_t q_shift, int32_t k_shift, int32_t first_query, int32_t first_key, int32_t keys,
                    int32_t causal) {
#ifdef __AIE__
    set_modes();
#endif
    multiply<false>(q, k, scores);
    scale(scores, q_scale, k_scale, q_shift, k_shift);
    mask(scores, first_query, first_key, keys, causal != 0);
    for (int m = 0; m < kTile; ++m) {
        const int32_t before = statistics[m], here = largest(scores, m), most = here > before ? here : before;
        int32_t total = statistics[kTile + m];
        if (most > before && total) {
            const int32_t factor = power(most - before, table);
            total = static_cast<int32_t>(round_even(int64_t{total} * factor, kOne));
            shrink(o, o, m, factor, kOne);
        }
        for (int n = 0; n < kTile; ++n) {
            const int32_t score = scores[at(m, n)];
            const int32_t weight = score == kMasked ? 0 : power(most - score, table);
            total += weight;
            p[at(m, n)] = static_cast<uint8_t>(
                (static_cast<uint32_t>(weight) * static_cast<uint32_t>(v_scale[n]) + (1u << 23)) >> 24);
        }
        statistics[m] = most, statistics[kTile + m] = total;
    }
    multiply<true>(p, v, o);
}

void attention_finish(const int32_t *o, const int32_t *statistics, int16_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    for (int m = 0; m < kTile; ++m) {
        const int32_t total = statistics[kTile + m];
        const int64_t whole = (int64_t{1} << (kReciprocalBits + 24)) / 255;  // weights were 255ths, out is 256ths
        shrink(o, out, m, total ? static_cast<int32_t>(whole / total) : 0, kReciprocalBits);
    }
}
}

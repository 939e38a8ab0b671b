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
//   tiles [3][4096]: q [16][8][4][8], then room for scores and p of 16 queries
//   keys [8][8][8][8]: width by eights, keys by eights; v the same: keys, width
//   o [16][8][4][8]   out [16][8][4][4]: half of the width, in 256ths of a unit of v at its largest scale
//   statistics [8][64]: the largest score so far, the sum of weights, the next key; from 5 the scales of queries, keys
//   and values. Those of queries and keys, >= 0, are divided by 2^q_shift and 2^k_shift, chosen so that the product of
//   scales is that of q and k, times 256 * log2(e) / sqrt(width of the head); those of values, 0..65,280, are in
//   65,280ths of the largest scale there is
//   kept, words 2: keys, 3: causal, 4: q_shift, 5: k_shift, 6: the first query's number, 7: queries; those from
//   there on get zero
//   table [256]: 2^16 * 2^(-i / 256), rounded
#include "fixed.h"

constexpr int kBlocks = kTile / kColumns, kBlock = kRows * kColumns;
constexpr int kQueries = 16;  // of which scores are held
constexpr int kTotal = kTile, kNext = 2 * kTile;  // in statistics
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
    for (int i = 0; i < kQueries / kRows; ++i)
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
        for (int m = 0; m < kQueries; m += 2) {
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

KERNEL_INLINE void shrink(int32_t *o, int m, int32_t factor) {
    for (int n = 0; n < kTile; n += kColumns) {
        int32_t *own = o + at(m, n);
        aie::store_v(own, aie::mul(aie::load_v<kColumns>(own), factor).to_vector<int32_t>(kOne));
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

template <bool kAdd, typename T> KERNEL_INLINE void multiply(const T *a, const int8_t *b, int32_t *c) {
    for (int i = 0; i < kQueries / kRows; ++i) {
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
    for (int m = 0; m < kQueries; ++m)
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

KERNEL_INLINE void shrink(int32_t *o, int m, int32_t factor) {
    for (int n = 0; n < kTile; ++n) o[at(m, n)] = saturate32(round_even(int64_t{o[at(m, n)]} * factor, kOne));
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

// Where a key must not be seen; tiles that all see whole are left alone.
KERNEL_INLINE void mask(int32_t *scores, int first_query, int first_key, int keys, bool causal) {
    if (first_key + kTile <= keys && !(causal && first_key + kTile - 1 > first_query)) return;
    for (int m = 0; m < kQueries; ++m) {
        const int seen = causal && first_query + m + 1 < keys ? first_query + m + 1 : keys;
        for (int n = seen > first_key ? seen - first_key : 0; n < kTile; ++n) scores[at(m, n)] = kMasked;
    }
}

// Scores of a query to weights in 8 bits; what was summed before shrinks where a larger score comes.
KERNEL_INLINE void weigh(int m, const int32_t *scores, uint8_t *p, int32_t *o, const int32_t *v_scale,
                         const int32_t *table, int32_t *most_so_far, int32_t *sum) {
    const int32_t before = *most_so_far, here = largest(scores, m), most = here > before ? here : before;
    int32_t total = *sum;
    if (most > before && total) {
        const int32_t factor = power(most - before, table);
        total = static_cast<int32_t>(round_even(int64_t{total} * factor, kOne));
        shrink(o, m, factor);
    }
    for (int n = 0; n < kTile; ++n) {
        const int32_t score = scores[at(m, n)];
        const int32_t weight = score == kMasked ? 0 : power(most - score, table);
        total += weight;
        p[at(m, n)] = static_cast<uint8_t>(
            (static_cast<uint32_t>(weight) * static_cast<uint32_t>(v_scale[n]) + (1u << 23)) >> 24);
    }
    *most_so_far = most, *sum = total;
}

extern "C" {

void attention_start_i8(int32_t *statistics, int32_t *o) {
    for (int m = 0; m < kTile; ++m) statistics[m] = kMasked, statistics[kTotal + m] = 0;
    statistics[kNext] = 0;
    for (int i = 0; i < kCount; ++i) o[i] = 0;
}

// A tile of B that holds keys, rows by eights, width by eights; as the matrix unit wants them.
void turn_keys_i8(const int8_t *tile, int8_t *keys) { turn(tile, keys); }

void attention_step_i8(int8_t *tiles, const int8_t *keys, const int8_t *v, const int32_t *kept, const int32_t *table,
                       int32_t *statistics, int32_t *o) {
#ifdef __AIE__
    set_modes();
#endif
    const int8_t *q = tiles;
    int32_t *scores = reinterpret_cast<int32_t *>(tiles + kCount);
    uint8_t *p = reinterpret_cast<uint8_t *>(scores + kQueries * kTile);
    const int32_t *q_scale = statistics + kScales * kTile, *k_scale = q_scale + kTile, *v_scale = k_scale + kTile;
    const int first_key = statistics[kNext];
    statistics[kNext] = first_key + kTile;
    for (int first = 0; first < kTile && first < kept[7]; first += kQueries) {
        const int rows = static_cast<int>(clamped(kept[7] - first, 0, kQueries));
        int32_t *sums = o + first * kTile;
        multiply<false>(q + first * kTile, keys, scores);
        scale(scores, q_scale + first, k_scale, kept[4], kept[5]);
        mask(scores, kept[6] + first, first_key, kept[2], kept[3] != 0);
        for (int m = 0; m < kQueries; ++m) {
            if (m < rows)
                weigh(m, scores, p, sums, v_scale, table, statistics + first + m, statistics + kTotal + first + m);
            else
                for (int n = 0; n < kTile; ++n) p[at(m, n)] = 0;
        }
        multiply<true>(p, v, sums);
    }
}

// half: of the width
void attention_finish_i8(const int32_t *o, const int32_t *statistics, int8_t *out, int32_t half) {
#ifdef __AIE__
    set_modes();
#endif
    int32_t reciprocals[kTile];
    for (int m = 0; m < kTile; ++m) {
        const int64_t whole = (int64_t{1} << (kReciprocalBits + 24)) / 255;  // weights were 255ths, out is 256ths
        const int32_t total = statistics[kTotal + m];
        reciprocals[m] = total ? static_cast<int32_t>(whole / total) : 0;
    }
    finish(o, reciprocals, reinterpret_cast<int16_t *>(out), half);
}
}

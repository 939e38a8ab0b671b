// From samples to Whisper's features, beside the products: what follows a product with the Fourier matrix, what follows
// one with the mel filters, and the clamp below the loudest value of a window.
//   square:    y = c c, within 2^-15
//   logarithm: y = (log10(max(c, 1e-10)) + 4) / 4, within 1e-4, of sums >= 0
//   lift:      max(y, peak - 2), and zero behind the rows that count
//
//   c [16][16][4][4]: sums as a product leaves them
//   kept, words: 4: rows of a tile that count, when it is lifted; 6: those of which the loudest value is sought, 7: 1
//     where the search begins anew
//   peak [2]: of all that was sought, 2 more than the value, so that it is positive and can be compared by its bits
//   tile [16][4][4][8]: 64 rows, 32 columns, as a tile of A comes; out [16][16][4][4]: of which a tile makes one half
#include "bf16.h"

constexpr int kRowBlocks = kTile / kRows, kColumnBlocks = kTile / kColumnsBf16, kParts = 4;
constexpr int kBlock = kRows * kColumnsBf16, kBlockA = kRows * kDepth;
constexpr int kCores = 16;
constexpr int kCounted = 4, kHeard = 6, kAnew = 7;  // words
constexpr float kAbove = 2;                         // the range below the peak: eight decades, of which four are one
constexpr float kLeast = 1e-10f;
constexpr int32_t kFractionMask = (1 << kFractionFloat) - 1, kExponentMask = INT32_MAX - kFractionMask;
constexpr int32_t kOne = kExponentBias << kFractionFloat;
constexpr float kMiddle = 1.5f;  // of a fraction from 1 to 2
// (log10(1.5 + t) + 12) / 4 is k0 + t (k1 + t (k2 + t k3)), within 6e-5: interpolated at Chebyshev's points.
constexpr float k0 = 3.04406895f, k1 = 0.07231589f, k2 = -0.02556887f, k3 = 0.01171875f;
constexpr float kDoubled = 0.0751953125f, kDoubledRest = 6.198883056640625e-05f;  // log10(2) / 4, in two parts

#ifdef __AIE__

alignas(64) constexpr int32_t kRowOfLane[kBlock] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};

KERNEL_INLINE void square(float *c) {
    for (int i = 0; i < kCount; i += kLanes) {
        const auto own = parts(aie::load_v<kLanes>(c + i));
        aie::store_v(c + i, product(own, own).to_vector<float>());
    }
}

// 2 more than the result.
KERNEL_INLINE Floats logarithm(const Floats &x) {
    const auto bits = at_least(kLeast, x).cast_to<int32_t>();
    const aie::accum<acc64, kLanes> wholes(aie::bit_and(kExponentMask, bits));  // nothing is left to round
    const auto exponent = aie::add(wholes.to_vector<int32_t>(kFractionFloat), all(kWholeBits - kExponentBias));
    const auto doubled = aie::sub(Sums(exponent.cast_to<float>()), all(kWhole)).to_vector<bfloat16>();
    const auto fraction = aie::add(aie::bit_and(kFractionMask, bits), all(kOne)).cast_to<float>();
    const auto apart = parts(aie::sub(Sums(fraction), all(kMiddle)).to_vector<float>());
    const auto bent = aie::mac(Sums(all(k2)), apart.high, all_bf16(k3)).to_vector<bfloat16>();
    const auto line = parts(aie::mac(Sums(all(k1)), apart.high, bent).to_vector<float>());
    const auto whole = aie::mac(aie::mac(Sums(all(k0)), doubled, all_bf16(kDoubled)), doubled, all_bf16(kDoubledRest));
    return add_product(whole, apart, line).to_vector<float>();
}

KERNEL_INLINE int32_t logarithms(float *c, int heard, int32_t most) {
    const auto rows = aie::load_v<kBlock>(kRowOfLane);
    auto highest = all(most);
    for (int i = 0; i < kRowBlocks; ++i) {
        const auto counted = aie::lt(rows, all(heard - i * kRows));
        for (int j = 0; j < kColumnBlocks; ++j, c += kBlock) {
            const auto above = logarithm(aie::load_v<kBlock>(c));
            highest = aie::max(highest, aie::select(all(0), above.cast_to<int32_t>(), counted));
            aie::store_v(c, aie::sub(Sums(above), all(kAbove)).to_vector<float>());
        }
    }
    return aie::reduce_max(highest);
}

// Two rows of eight columns.
KERNEL_INLINE Narrow lifted(const uint16_t *tile, float least, const Narrow &counted) {
    const Sums y(aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(tile)));
    const auto above = at_least(0, aie::sub(y, all(least)).to_vector<float>());
    return aie::mul(aie::add(Sums(above), all(least)).to_vector<bfloat16>(), counted).to_vector<bfloat16>();
}

KERNEL_INLINE Narrow by_row(float upper, float lower) {
    return aie::concat(aie::broadcast<bfloat16, kDepth>(bfloat16(upper)), aie::broadcast<bfloat16, kDepth>(bfloat16(lower)));
}

KERNEL_INLINE void lift(const uint16_t *tile, int counted, float least, uint16_t *out) {
    const auto one = [counted](int row) { return row < counted ? 1.0f : 0.0f; };
    auto *to = reinterpret_cast<bfloat16 *>(out);
    for (int m = 0; m < kTile; m += kRows, to += kColumnBlocks * kBlock) {
        const auto upper = by_row(one(m), one(m + 1)), lower = by_row(one(m + 2), one(m + 3));
        for (int k = 0; k < kParts; ++k, tile += kBlockA) {
            const auto found = aie::concat(lifted(tile, least, upper), lifted(tile + kLanes, least, lower));
            aie::store_v(to + 2 * k * kBlock, aie::filter_even(found, kColumnsBf16));
            aie::store_v(to + (2 * k + 1) * kBlock, aie::filter_odd(found, kColumnsBf16));
        }
    }
}

#else

KERNEL_INLINE void square(float *c) {
    for (int i = 0; i < kCount; ++i) c[i] = product(parts(c[i]), parts(c[i]));
}

// 2 more than the result.
KERNEL_INLINE float logarithm(float x) {
    const int32_t least = as_bits(kLeast), own = as_bits(x), bits = own > least ? own : least;
    const float doubled = as_float((bits >> kFractionFloat) + kWholeBits - kExponentBias) - kWhole;
    const float rest = as_float((bits & kFractionMask) + kOne) - kMiddle;
    const float line = k1 + rounded(rest) * rounded(k2 + rounded(rest) * k3);
    return add_product(k0 + doubled * kDoubled + doubled * kDoubledRest, parts(rest), parts(line));
}

KERNEL_INLINE int32_t logarithms(float *c, int heard, int32_t most) {
    for (int i = 0; i < kCount; ++i) {
        const float above = logarithm(c[i]);
        const int row = i / (kColumnBlocks * kBlock) * kRows + i % kBlock / kColumnsBf16;
        if (row < heard && as_bits(above) > most) most = as_bits(above);
        c[i] = above - kAbove;
    }
    return most;
}

KERNEL_INLINE void lift(const uint16_t *tile, int counted, float least, uint16_t *out) {
    for (int m = 0; m < kTile; ++m)
        for (int n = 0; n < kParts * kDepth; ++n) {
            const float above = widened(tile[(m / kRows * kParts + n / kDepth) * kBlockA + m % kRows * kDepth + n % kDepth]) - least;
            const float y = rounded((above > 0 ? above : 0) + least);
            out[(m / kRows * kColumnBlocks + n / kColumnsBf16) * kBlock + m % kRows * kColumnsBf16 + n % kColumnsBf16] =
                narrowed(y * (m < counted ? 1.0f : 0.0f));
        }
}

#endif

extern "C" {

void square_f32(float *c) {
#ifdef __AIE__
    set_modes();
#endif
    square(c);
}

void logarithm_f32(float *c, const int32_t *kept, float *peak) {
#ifdef __AIE__
    set_modes();
#endif
    peak[0] = as_float(logarithms(c, kept[kHeard], kept[kAnew] ? 0 : as_bits(peak[0])));
}

// What all cores have found, 256 bytes apart in a tile of A.
void loudest_f32(const uint16_t *tile, float *peak) {
    int32_t most = 0;
    for (int core = 0; core < kCores; ++core) {
        int32_t found;
        std::memcpy(&found, tile + core * 2 * kTile, sizeof found);
        most = found > most ? found : most;
    }
    peak[0] = as_float(most);
}

void lift_bf16(const uint16_t *tile, const int32_t *kept, const float *peak, uint16_t *out, int32_t half) {
#ifdef __AIE__
    set_modes();
#endif
    lift(tile, kept[kCounted], peak[0] - 2 * kAbove, out + half * 2 * kParts * kBlock);
}
}

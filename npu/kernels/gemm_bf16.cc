// C += A * B over one tile of 64 x 64 and a depth of 32: bf16 values, float sums, the terms of a sum in the order of
// depth. Half the depth of 8-bit tiles, and so as many bytes.
//   a [16][4][4][8]  b [4][16][8][4]  c [16][16][4][4]; bf16 as its 16 bits
// and what becomes of the sums:
//   y = c + bias[n]; y = function(y): 1 GELU, 2 SiLU, 3 the hyperbolic tangent; y = y + other or y * other; to bf16
// Products of two bf16 are exact in float. Narrowing rounds to nearest, halves to even.
//
// On a core whose two ways in are taken by A and B, what this needs comes as tiles of B after the last step:
//   columns: bias [64] in float
//   half [4][16][8][4]: 32 rows of what is added or multiplied, the upper or the lower
//
// GELU (Hendrycks and Gimpel, 2016) is max(x, 0) less what depends on |x| alone: |x| times the normal distribution's tail.
// That is a polynomial in integers up to 4, within 2.5e-4, and as at 4 from there on.
// The others are made of s = 1 / (1 + 2^-t): SiLU x s with t = log2(e) x, the tangent 2 s - 1 with t = 2 log2(e) x. Near
// zero that would lose what bf16 keeps, and the tangent is x + x^3 (-0.332 + 0.1162 x^2), within 3e-5 of itself.
#include "bf16.h"

constexpr int kHalfTile = kTile / 2;
constexpr int kBlocksM = kTile / kRows, kBlocksK = kHalfTile / kDepth, kBlocksN = kTile / kColumnsBf16;
constexpr int kBlock = kRows * kColumnsBf16;
constexpr int kTangent = 3;
constexpr float kSlope = 1.442695f;  // of t
constexpr float kTangentCube = -0.33206911f, kTangentFifth = 0.1162109375f;
constexpr float kNearZero = 0.5f;
constexpr int32_t kLimit = 60;  // of 2^-t

// Of z from -1 to 1, |x| / 2 - 1; the highest power first.
constexpr int kPlaceBits = 15, kTailBits = 16;  // after the point, of z and of the coefficients
constexpr int kTailPowers = 7;
constexpr int16_t kTail[kTailPowers + 1] = {5391, -3868, -15712, 21392, -921, -14550, 11244, -2972};
constexpr float kSizeWhole = 1.5f * (1 << (kFractionFloat - kPlaceBits + 1));  // added to |x|: z's last place is a whole
constexpr int32_t kSizeMiddle = 0x44400000 + (1 << kPlaceBits);               // its bits where z is zero
constexpr float kTailWhole = 1.5f * (1 << (kFractionFloat - kTailBits));
constexpr int32_t kTailWholeBits = 0x43400000;

KERNEL_INLINE float slope_of(int function) { return function == kTangent ? 2 * kSlope : kSlope; }

#ifdef __AIE__

KERNEL_INLINE Floats activated(const Floats &x, int function) {
    const auto own = parts(x);
    const auto logarithm = product(own, parts(all(-slope_of(function))));
    const auto found = power(logarithm.to_vector<float>(), -kLimit, kLimit);
    const auto above = aie::add(aie::mul(found.fraction, two_to(found.exponent)), all(1.0f));
    const auto share = reciprocal(above.to_vector<float>());
    if (function != kTangent) return product(own, parts(share)).to_vector<float>();
    const auto far = aie::sub(aie::add(Sums(share), share), all(1.0f)).to_vector<float>();
    const auto square = aie::mul(own.high, own.high).to_vector<bfloat16>();
    const auto cube = aie::mac(Sums(all(kTangentCube)), square, all_bf16(kTangentFifth)).to_vector<bfloat16>();
    const auto bent = aie::mul(square, cube).to_vector<bfloat16>();
    const auto near = aie::mac(Sums(x), own.high, bent).to_vector<float>();
    const auto size = aie::bit_and(INT32_MAX, x.cast_to<int32_t>());
    return aie::select(far, near, aie::lt(size, all(as_bits(kNearZero))));
}

constexpr int kIntegers = 2 * kLanes;
using Integers = aie::accum<acc32, kIntegers>;

KERNEL_INLINE Integers all_sums(int32_t value) { return Integers(aie::broadcast<int32_t, kIntegers>(value)); }

KERNEL_INLINE void gelu(float *c) {
    for (int i = 0; i < kCount; i += kIntegers) {
        const auto bits = aie::load_v<kIntegers>(c + i).cast_to<int32_t>();
        const aie::accum<accfloat, kIntegers> size(aie::bit_and(INT32_MAX, bits).cast_to<float>());
        const auto shifted = aie::add(size, aie::broadcast<float, kIntegers>(kSizeWhole)).cast_to<acc32>();
        const auto z = aie::sub(shifted, aie::broadcast<int32_t, kIntegers>(kSizeMiddle)).to_vector<int16_t>();
        auto tail = aie::broadcast<int16_t, kIntegers>(kTail[0]);
        for (int power = 1; power <= kTailPowers; ++power) {
            const Integers next = all_sums(kTail[power] * (1 << kPlaceBits));
            tail = aie::mac(next, z, tail).to_vector<int16_t>(kPlaceBits);
        }
        const auto raised = aie::mac(all_sums(kTailWholeBits), tail, int16_t{1}).cast_to<accfloat>();
        const auto less = aie::sub(raised, aie::broadcast<float, kIntegers>(kTailWhole));
        const auto positive = aie::max(bits, aie::broadcast<int32_t, kIntegers>(0)).cast_to<float>();
        aie::store_v(c + i, aie::add(less, positive).to_vector<float>());
    }
}

KERNEL_INLINE void activate(float *c, int function) {
    for (int i = 0; i < kCount; i += kLanes) aie::store_v(c + i, activated(aie::load_v<kLanes>(c + i), function));
}

KERNEL_INLINE void start(float *c, const float *bias) {
    for (int j = 0; j < kBlocksN; ++j) {
        const auto own = aie::load_v<kColumnsBf16>(bias + j * kColumnsBf16);
        const auto twice = aie::concat(own, own);
        const auto down = aie::concat(twice, twice);
        float *sums = c + j * kBlock;
        for (int i = 0; i < kBlocksM; ++i, sums += kBlocksN * kBlock)
            aie::store_v(sums, aie::add(Sums(aie::load_v<kBlock>(sums)), down).to_vector<float>());
    }
}

KERNEL_INLINE void join(const uint16_t *other, float *sums, bool multiplied) {
    const auto y = aie::load_v<kBlock>(sums);
    const auto x = wide(aie::load_v<kBlock>(reinterpret_cast<const bfloat16 *>(other)));
    aie::store_v(sums, (multiplied ? aie::mul(y, x) : aie::add(Sums(y), x)).to_vector<float>());
}

KERNEL_INLINE void take(const uint16_t *other, float *c) {
    for (int i = 0; i < kCount; i += kLanes) {
        const auto x = wide(aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(other + i)));
        aie::store_v(c + i, aie::sub(Sums(aie::load_v<kLanes>(c + i)), x).to_vector<float>());
    }
}

KERNEL_INLINE void clear(float *c) {
    for (int i = 0; i < kCount; i += kLanes) aie::store_v(c + i, all(0.0f));
}

using Unit = aie::mmul<kRows, kDepth, kColumnsBf16, bfloat16, bfloat16, accfloat>;

KERNEL_INLINE void multiply(const uint16_t *a_bits, const uint16_t *b_bits, float *c) {
    const auto *a = reinterpret_cast<const bfloat16 *>(a_bits), *b = reinterpret_cast<const bfloat16 *>(b_bits);
    for (int i = 0; i < kBlocksM; i += 2)
        for (int j = 0; j < kBlocksN; j += 2) {
            float *upper = c + (i * kBlocksN + j) * Unit::size_C, *lower = upper + kBlocksN * Unit::size_C;
            Unit c00(aie::load_v<Unit::size_C>(upper)), c01(aie::load_v<Unit::size_C>(upper + Unit::size_C));
            Unit c10(aie::load_v<Unit::size_C>(lower)), c11(aie::load_v<Unit::size_C>(lower + Unit::size_C));
            const bfloat16 *a0 = a + i * kBlocksK * Unit::size_A, *a1 = a0 + kBlocksK * Unit::size_A;
            const bfloat16 *b0 = b + j * Unit::size_B, *b1 = b0 + Unit::size_B;
            for (int k = 0; k < kBlocksK; ++k) {
                const auto top = aie::load_v<Unit::size_A>(a0), bottom = aie::load_v<Unit::size_A>(a1);
                const auto left = aie::load_v<Unit::size_B>(b0), right = aie::load_v<Unit::size_B>(b1);
                c00.mac(top, left);
                c01.mac(top, right);
                c10.mac(bottom, left);
                c11.mac(bottom, right);
                a0 += Unit::size_A, a1 += Unit::size_A;
                b0 += kBlocksN * Unit::size_B, b1 += kBlocksN * Unit::size_B;
            }
            aie::store_v(upper, c00.to_vector<float>());
            aie::store_v(upper + Unit::size_C, c01.to_vector<float>());
            aie::store_v(lower, c10.to_vector<float>());
            aie::store_v(lower + Unit::size_C, c11.to_vector<float>());
        }
}

KERNEL_INLINE void narrow(const float *c, uint16_t *out) {
    auto *to = reinterpret_cast<bfloat16 *>(out);
    for (int i = 0; i < kCount; i += 16) {
        aie::accum<accfloat, 16> sums(aie::load_v<16>(c + i));
        aie::store_v(to + i, sums.to_vector<bfloat16>());
    }
}

#else

KERNEL_INLINE float activated(float x, int function) {
    const Parts own = parts(x);
    const Power found = power(product(own, parts(-slope_of(function))), -kLimit, kLimit);
    const float share = reciprocal(found.fraction * two_to(found.exponent) + 1);
    if (function != kTangent) return product(own, parts(share));
    const float square = rounded(own.high * own.high);
    const float bent = rounded(square * rounded(kTangentCube + square * kTangentFifth));
    return x < kNearZero && x > -kNearZero ? x + own.high * bent : share + share - 1;
}

KERNEL_INLINE void gelu(float *c) {
    for (int i = 0; i < kCount; ++i) {
        const int32_t bits = as_bits(c[i]);
        const int32_t z = saturate16(as_bits(as_float(bits & INT32_MAX) + kSizeWhole) - kSizeMiddle);
        int32_t tail = kTail[0];
        for (int power = 1; power <= kTailPowers; ++power)
            tail = saturate16(round_even(kTail[power] * (1 << kPlaceBits) + z * tail, kPlaceBits));
        c[i] = as_float(kTailWholeBits + tail) - kTailWhole + (bits > 0 ? c[i] : 0);
    }
}

KERNEL_INLINE void activate(float *c, int function) {
    for (int i = 0; i < kCount; ++i) c[i] = activated(c[i], function);
}

KERNEL_INLINE void start(float *c, const float *bias) {
    for (int i = 0; i < kCount; ++i) c[i] += bias[i / kBlock % kBlocksN * kColumnsBf16 + i % kColumnsBf16];
}

KERNEL_INLINE void join(const uint16_t *other, float *sums, bool multiplied) {
    for (int i = 0; i < kBlock; ++i) sums[i] = multiplied ? sums[i] * widened(other[i]) : sums[i] + widened(other[i]);
}

KERNEL_INLINE void take(const uint16_t *other, float *c) {
    for (int i = 0; i < kCount; ++i) c[i] -= widened(other[i]);
}

KERNEL_INLINE void clear(float *c) {
    for (int i = 0; i < kCount; ++i) c[i] = 0;
}

KERNEL_INLINE void multiply(const uint16_t *a, const uint16_t *b, float *c) {
    for (int i = 0; i < kBlocksM; ++i)
        for (int k = 0; k < kBlocksK; ++k)
            for (int j = 0; j < kBlocksN; ++j)
                for (int s = 0; s < kDepth; ++s) {
                    const uint16_t *row = b + ((k * kBlocksN + j) * kDepth + s) * kColumnsBf16;
                    const float b0 = widened(row[0]), b1 = widened(row[1]), b2 = widened(row[2]), b3 = widened(row[3]);
                    for (int r = 0; r < kRows; ++r) {
                        const float x = widened(a[((i * kBlocksK + k) * kRows + r) * kDepth + s]);
                        float *sums = c + ((i * kBlocksN + j) * kRows + r) * kColumnsBf16;
                        sums[0] += x * b0, sums[1] += x * b1, sums[2] += x * b2, sums[3] += x * b3;
                    }
                }
}

KERNEL_INLINE void narrow(const float *c, uint16_t *out) {
    for (int i = 0; i < kCount; ++i) out[i] = narrowed(c[i]);
}

#endif

extern "C" {

void zero_f32(float *c) { clear(c); }

void gemm_bf16(const uint16_t *a, const uint16_t *b, float *c) { multiply(a, b, c); }

// These change the sums, which hold y before it is narrowed.
void start_f32(float *c, const uint16_t *columns) { start(c, reinterpret_cast<const float *>(columns)); }

void gelu_f32(float *c) {
#ifdef __AIE__
    set_modes();
#endif
    gelu(c);
}

// The others.
void activate_f32(float *c, int32_t function) {
#ifdef __AIE__
    set_modes();
#endif
    activate(c, function);
}

// Of eight rows and four columns of the half, the upper four rows are a block of the sums, and the lower four.
void join_half_f32(const uint16_t *half, float *c, int32_t which, int32_t multiplied) {
    constexpr int kRow = kBlocksN * kBlock;
    c += which * (kCount / 2);
    for (int i = 0; i < kBlocksM / 2; ++i)
        for (int j = 0; j < kBlocksN; ++j)
            join(half + (i / 2) * 2 * kRow + (2 * j + i % 2) * kBlock, c + i * kRow + j * kBlock, multiplied);
}

void narrow_bf16(const float *c, uint16_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    narrow(c, out);
}

// What narrowing took away, so that both together have 16 bits. Changes the sums.
void narrow_rest_bf16(float *c, uint16_t *out) {
#ifdef __AIE__
    set_modes();
#endif
    narrow(c, out);
    take(out, c);
    narrow(c, out);
}
}

// Numbers in bf16 and float, and the two functions that others are made of: powers of two and reciprocals. The matrix
// unit multiplies bf16 and sums in float, and there is no float unit beside the vectors' (AMD's UG1603), so that factors
// are narrowed where that is fine enough. Narrowing rounds to nearest, halves to even.
#pragma once

#include "fixed.h"

#include <cstring>

constexpr float kWhole = 12582912;          // 1.5 * 2^23, added and taken away: nothing is left after the point
constexpr int32_t kWholeBits = 0x4b400000;  // of which the last are the whole number that it was added to
constexpr int kExponentBias = 127, kFractionBf16 = 7, kFractionFloat = 23;
constexpr int32_t kFarDown = 254;

// 2^x for |x| <= 1/2 is 1 + x (kFirst + x (kSecond + x kThird)), within 1e-4: fitted to the relative error.
constexpr float kFirst = 0.69329294f, kSecond = 0.24221111f, kThird = 0.054931640625f;
constexpr int16_t kReciprocalGuess = 0x7ef3;  // less the bits of x: those of 1 / x, within an eighth of it

KERNEL_INLINE float as_float(int32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

KERNEL_INLINE int32_t as_bits(float value) {
    int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

#ifdef __AIE__

constexpr int kLanes = 16;
using Floats = aie::vector<float, kLanes>;
using Ints = aie::vector<int32_t, kLanes>;
using Narrow = aie::vector<bfloat16, kLanes>;
using Sums = aie::accum<accfloat, kLanes>;

KERNEL_INLINE Floats all(float value) { return aie::broadcast<float, kLanes>(value); }
KERNEL_INLINE Ints all(int32_t value) { return aie::broadcast<int32_t, kLanes>(value); }
KERNEL_INLINE Narrow all_bf16(float value) { return aie::broadcast<bfloat16, kLanes>(bfloat16(value)); }

KERNEL_INLINE Floats wide(const Narrow &values) { return Sums(values).to_vector<float>(); }

// A float as two numbers in bf16, of which 16 bits are exact.
struct Parts {
    Narrow high, low;
};

KERNEL_INLINE Parts parts(const Floats &x) {
    const auto high = Sums(x).to_vector<bfloat16>();
    return {high, aie::sub(Sums(x), wide(high)).to_vector<bfloat16>()};
}

// Within 2^-15: a third of what a product of floats is made of.
KERNEL_INLINE Sums product(const Parts &a, const Parts &b) {
    return aie::mac(aie::mac(aie::mul(a.high, b.high), a.high, b.low), a.low, b.high);
}

KERNEL_INLINE Sums add_product(const Sums &sums, const Parts &a, const Parts &b) {
    return aie::mac(aie::mac(aie::mac(sums, a.high, b.high), a.high, b.low), a.low, b.high);
}

// No less than a number >= 0: then floats have the order of their bits, and only those can be compared.
KERNEL_INLINE Floats at_least(float least, const Floats &values) {
    return aie::max(values.cast_to<int32_t>(), all(as_bits(least))).cast_to<float>();
}

// 2^x = fraction * 2^exponent.
struct Power {
    Ints exponent;
    Narrow fraction;
};

// With the exponent between two numbers.
KERNEL_INLINE Power power(const Floats &x, int32_t low, int32_t high) {
    const auto shifted = aie::add(Sums(x), all(kWhole)).to_vector<float>();
    const auto above = aie::max(shifted.cast_to<int32_t>(), all(kWholeBits + low));
    const auto exponent = aie::sub(aie::min(above, all(kWholeBits + high)), all(kWholeBits));
    const auto whole = aie::sub(Sums(shifted), all(kWhole)).to_vector<float>();
    const auto apart = aie::sub(Sums(x), whole).to_vector<bfloat16>();
    const auto rest = aie::max(aie::min(apart, all_bf16(0.5f)), all_bf16(-0.5f));
    const auto third = aie::mac(Sums(all(kSecond)), rest, all_bf16(kThird)).to_vector<bfloat16>();
    const auto second = aie::mac(Sums(all(kFirst)), rest, third).to_vector<bfloat16>();
    return {exponent, aie::mac(Sums(all(1.0f)), rest, second).to_vector<bfloat16>()};
}

// 2^exponent, or zero below 2^-126.
KERNEL_INLINE Narrow two_to(const Ints &exponent) {
    const auto biased = aie::max(aie::add(exponent, all(kExponentBias)), all(0));
    return aie::accum<acc64, kLanes>(biased, kFractionBf16).to_vector<int16_t>().cast_to<bfloat16>();
}

// 2^down as what is taken away from the bits of a float; from 254 on nothing is left of any. So many bits of `down` lie
// after the point, and are zero.
KERNEL_INLINE Ints shrinking(const Ints &down, int bits) {
    const auto most = aie::min(down, all(kFarDown << bits));
    return aie::accum<acc64, kLanes>(most, kFractionFloat - bits).to_vector<int32_t>();
}

// Divided by 2^down, down >= 0, or zero below 2^-126.
KERNEL_INLINE Floats shrunk(const Floats &values, const Ints &shrinking) {
    const auto bits = values.cast_to<int32_t>();
    const auto least = aie::add(shrinking, all(1 << kFractionFloat));
    const auto gone = aie::lt(aie::bit_and(INT32_MAX, bits), least);
    return aie::select(aie::sub(bits, shrinking), all(0), gone).cast_to<float>();
}

// Of positive numbers, within 1e-4: three steps of Newton's, of which the last sees what narrowing x took away.
KERNEL_INLINE Floats reciprocal(const Floats &x) {
    const auto [high, low] = parts(x);
    const auto guess = aie::broadcast<int16_t, kLanes>(kReciprocalGuess);
    auto y = aie::sub(guess, high.cast_to<int16_t>()).cast_to<bfloat16>();
    for (int step = 0; step < 2; ++step) {
        const auto apart = aie::msc(Sums(all(1.0f)), high, y).to_vector<bfloat16>();
        y = aie::mac(Sums(y), y, apart).to_vector<bfloat16>();
    }
    const auto apart = aie::msc(aie::msc(Sums(all(1.0f)), high, y), low, y).to_vector<bfloat16>();
    return aie::mac(Sums(y), y, apart).to_vector<float>();
}

#else

KERNEL_INLINE float widened(uint16_t bits) { return as_float(static_cast<int32_t>(static_cast<uint32_t>(bits) << 16)); }

KERNEL_INLINE uint16_t narrowed(float value) {
    uint32_t bits = static_cast<uint32_t>(as_bits(value));
    if ((bits & 0x7fffffffu) > 0x7f800000u) bits |= 0x400000u;  // not a number, and it stays one
    else bits += 0x7fffu + ((bits >> 16) & 1);
    return static_cast<uint16_t>(bits >> 16);
}

// As the float that it is in bf16.
KERNEL_INLINE float rounded(float value) { return widened(narrowed(value)); }

// A float as two numbers in bf16, of which 16 bits are exact.
struct Parts {
    float high, low;
};

KERNEL_INLINE Parts parts(float x) { return {rounded(x), rounded(x - rounded(x))}; }

// Within 2^-15: a third of what a product of floats is made of.
KERNEL_INLINE float product(const Parts &a, const Parts &b) { return a.high * b.high + a.high * b.low + a.low * b.high; }

KERNEL_INLINE float add_product(float sum, const Parts &a, const Parts &b) {
    return sum + a.high * b.high + a.high * b.low + a.low * b.high;
}

// 2^x = fraction * 2^exponent.
struct Power {
    int32_t exponent;
    float fraction;
};

// With the exponent between two numbers.
KERNEL_INLINE Power power(float x, int32_t low, int32_t high) {
    const float shifted = x + kWhole, apart = rounded(x - (shifted - kWhole));
    const auto exponent =
        static_cast<int32_t>(clamped(as_bits(shifted), kWholeBits + low, kWholeBits + high) - kWholeBits);
    const float rest = apart > 0.5f ? 0.5f : apart < -0.5f ? -0.5f : apart;
    const float second = rounded(kFirst + rest * rounded(kSecond + rest * kThird));
    return {exponent, rounded(1 + rest * second)};
}

// 2^exponent, or zero below 2^-126.
KERNEL_INLINE float two_to(int32_t exponent) {
    return exponent > -kExponentBias ? as_float((exponent + kExponentBias) << 23) : 0;
}

// Divided by 2^down, down >= 0, or zero below 2^-126.
KERNEL_INLINE float shrunk(float value, int32_t down) {
    const int32_t bits = as_bits(value), taken = (down < kFarDown ? down : kFarDown) << kFractionFloat;
    return (bits & INT32_MAX) < taken + (1 << kFractionFloat) ? 0 : as_float(bits - taken);
}

// Of positive numbers, within 1e-4: three steps of Newton's, of which the last sees what narrowing x took away.
KERNEL_INLINE float reciprocal(float x) {
    const auto [high, low] = parts(x);
    float y = widened(static_cast<uint16_t>(kReciprocalGuess - narrowed(x)));
    for (int step = 0; step < 2; ++step) y = rounded(y + y * rounded(1 - high * y));
    return y + y * rounded(1 - high * y - low * y);
}

#endif

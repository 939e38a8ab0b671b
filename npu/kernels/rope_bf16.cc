// Rotary embedding in place, in bf16: interleaved pairs at the beginning of each row are turned, what lies behind stays.
//   (even, odd) -> (even * cos - odd * sin, odd * cos + even * sin), in float, narrowed to nearest, halves to even
//   x [rows][width]   cosine, sine [rows][pairs]; pairs is a multiple of 16
#include "fixed.h"

#include <cstring>

#ifdef __AIE__

constexpr int kLanes = 16;

KERNEL_INLINE void turn(uint16_t *bits, const uint16_t *cosine, const uint16_t *sine, int pairs) {
    auto *x = reinterpret_cast<bfloat16 *>(bits);
    for (int i = 0; i < pairs; i += kLanes) {
        const auto both = aie::load_v<2 * kLanes>(x + 2 * i);
        const auto even = aie::filter_even(both), odd = aie::filter_odd(both);
        const auto c = aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(cosine + i));
        const auto s = aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(sine + i));
        const auto left = aie::msc(aie::mul(even, c), odd, s).to_vector<bfloat16>();
        const auto right = aie::mac(aie::mul(odd, c), even, s).to_vector<bfloat16>();
        const auto [first, second] = aie::interleave_zip(left, right, 1);
        aie::store_v(x + 2 * i, first);
        aie::store_v(x + 2 * i + kLanes, second);
    }
}

#else

KERNEL_INLINE float widened(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

KERNEL_INLINE uint16_t narrowed(float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    return static_cast<uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1)) >> 16);
}

KERNEL_INLINE void turn(uint16_t *x, const uint16_t *cosine, const uint16_t *sine, int pairs) {
    for (int i = 0; i < pairs; ++i) {
        const float even = widened(x[2 * i]), odd = widened(x[2 * i + 1]);
        const float c = widened(cosine[i]), s = widened(sine[i]);
        x[2 * i] = narrowed(even * c - odd * s);
        x[2 * i + 1] = narrowed(odd * c + even * s);
    }
}

#endif

extern "C" {

void rope_bf16(uint16_t *x, const uint16_t *cosine, const uint16_t *sine, int32_t rows, int32_t width, int32_t pairs) {
#ifdef __AIE__
    set_modes();
#endif
    for (int row = 0; row < rows; ++row, x += width, cosine += pairs, sine += pairs) turn(x, cosine, sine, pairs);
}
}

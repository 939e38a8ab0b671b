// Rotary embedding in place: interleaved pairs at the beginning of each row are turned, what lies behind them stays.
//   (even, odd) -> (even * cos - odd * sin, odd * cos + even * sin), rounded to nearest, halves to even, saturated
//   x [rows][width]   cosine, sine [rows][pairs], 14 fraction bits, within +-2^14; pairs is a multiple of 16
#include "fixed.h"

constexpr int kAngleBits = 14;

#ifdef __AIE__

constexpr int kLanes = 16;

KERNEL_INLINE void turn(int16_t *x, const int16_t *cosine, const int16_t *sine, int pairs) {
    for (int i = 0; i < pairs; i += kLanes) {
        const auto both = aie::load_v<2 * kLanes>(x + 2 * i);
        const auto even = aie::filter_even(both), odd = aie::filter_odd(both);
        const auto c = aie::load_v<kLanes>(cosine + i), s = aie::load_v<kLanes>(sine + i);
        const auto left = aie::msc(aie::mul(even, c), odd, s).to_vector<int16_t>(kAngleBits);
        const auto right = aie::mac(aie::mul(odd, c), even, s).to_vector<int16_t>(kAngleBits);
        const auto [first, second] = aie::interleave_zip(left, right, 1);
        aie::store_v(x + 2 * i, first);
        aie::store_v(x + 2 * i + kLanes, second);
    }
}

#else

KERNEL_INLINE void turn(int16_t *x, const int16_t *cosine, const int16_t *sine, int pairs) {
    for (int i = 0; i < pairs; ++i) {
        const int64_t even = x[2 * i], odd = x[2 * i + 1];
        x[2 * i] = saturate16(round_even(even * cosine[i] - odd * sine[i], kAngleBits));
        x[2 * i + 1] = saturate16(round_even(odd * cosine[i] + even * sine[i], kAngleBits));
    }
}

#endif

extern "C" {

void rope_i16(int16_t *x, const int16_t *cosine, const int16_t *sine, int32_t rows, int32_t width, int32_t pairs) {
#ifdef __AIE__
    set_modes();
#endif
    for (int row = 0; row < rows; ++row, x += width, cosine += pairs, sine += pairs) turn(x, cosine, sine, pairs);
}
}

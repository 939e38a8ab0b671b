// y += x * w, one row of 64 8-bit values times a tile of the matrix as it lies, 32-bit sums: what a decoder does for
// each token.
//   x [64]  w [64][64]: depth, columns  y [64]
#include "fixed.h"

#ifdef __AIE__

constexpr int kLanes = 32;

KERNEL_INLINE void multiply(const int8_t *x, const int8_t *w, int32_t *y) {
    aie::accum<acc32, kLanes> left(aie::load_v<kLanes>(y)), right(aie::load_v<kLanes>(y + kLanes));
    for (int k = 0; k < kTile; ++k, w += kTile) {
        left = aie::mac(left, aie::load_v<kLanes>(w), x[k]);
        right = aie::mac(right, aie::load_v<kLanes>(w + kLanes), x[k]);
    }
    aie::store_v(y, left.to_vector<int32_t>());
    aie::store_v(y + kLanes, right.to_vector<int32_t>());
}

#else

KERNEL_INLINE void multiply(const int8_t *x, const int8_t *w, int32_t *y) {
    for (int k = 0; k < kTile; ++k)
        for (int n = 0; n < kTile; ++n) y[n] += int32_t{x[k]} * w[k * kTile + n];
}

#endif

extern "C" {

void gemv_i8(const int8_t *x, const int8_t *w, int32_t *y) {
#ifdef __AIE__
    set_modes();
#endif
    multiply(x, w, y);
}
}

// out = hidden * table(gate) / 2^shift: 16-bit values in any order that all share; n a multiple of 32. The gate has 10
// fraction bits, and so what its table gives; shift 10 leaves the unit of `hidden`.
// The product is rounded to nearest, halves to even, and saturates. table [257], see fixed.h: SiLU.
#include "fixed.h"

#ifdef __AIE__

KERNEL_INLINE void multiply(const int16_t *hidden, int16_t *out, int n, int shift) {
    for (int i = 0; i < n; i += 32) {
        const auto product = aie::mul(aie::load_v<32>(hidden + i), aie::load_v<32>(out + i));
        aie::store_v(out + i, product.to_vector<int16_t>(shift));
    }
}

#else

KERNEL_INLINE void multiply(const int16_t *hidden, int16_t *out, int n, int shift) {
    for (int i = 0; i < n; ++i) out[i] = saturate16(round_even(int32_t{hidden[i]} * out[i], shift));
}

#endif

extern "C" {

void swiglu_i16(const int16_t *hidden, const int16_t *gate, const int16_t *table, int16_t *out, int32_t n,
                int32_t shift) {
#ifdef __AIE__
    set_modes();
#endif
    for (int i = 0; i < n; ++i) out[i] = activated(gate[i], table);
    multiply(hidden, out, n, shift);
}
}

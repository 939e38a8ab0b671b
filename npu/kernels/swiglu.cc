// out = hidden * curve(gate) / 2^shift: 16-bit values in any order that all share; n a multiple of 32. The curve is SiLU,
// in the unit of the gate: see fixed.h. The product is rounded to nearest, halves to even, and saturates.
#include "fixed.h"

#ifdef __AIE__

KERNEL_INLINE void multiply(const int16_t *hidden, const int16_t *gate, const int16_t *curve, int16_t *out, int n,
                            int shift) {
    for (int i = 0; i < n; i += kShorts) {
        const auto open = activated(aie::load_v<kShorts>(gate + i), curve);
        aie::store_v(out + i, aie::mul(aie::load_v<kShorts>(hidden + i), open).to_vector<int16_t>(shift));
    }
}

#else

KERNEL_INLINE void multiply(const int16_t *hidden, const int16_t *gate, const int16_t *curve, int16_t *out, int n,
                            int shift) {
    for (int i = 0; i < n; ++i) out[i] = saturate16(round_even(hidden[i] * activated(gate[i], curve), shift));
}

#endif

extern "C" {

void swiglu_i16(const int16_t *hidden, const int16_t *gate, const int16_t *curve, int16_t *out, int32_t n,
                int32_t shift) {
#ifdef __AIE__
    set_modes();
#endif
    multiply(hidden, gate, curve, out, n, shift);
}
}

// Rows of 16-bit values in 8 bits with a scale for each row; of layer normalisation, or as they are.
//
//   layer_norm_i8:  y = (x - mean) / deviation * gain + offset
//   quantise_i8:    y = x * gain
//   q = y / scale to nearest, halves to even, with scale = max |y| / 127
//
//   x, q [rows][width]   gain, offset [width], 12 fraction bits, |gain|, |offset| < 8   scratch [width]
//   token [rows]: the scale, with 24 fraction bits after a norm, else with 16 and in units of x
// width is a multiple of 16 up to 1,280. No statistic is rounded before it is used: with d = width * x - sum and
// D = the root, rounded down, of width * sum of squares - sum^2 + width^2 * epsilon, y is (d * gain + D * offset) / D,
// and the division by D is left to the scale.
#include "fixed.h"

constexpr int kGainBits = 12, kNormBits = 24, kPlainBits = 16;
constexpr int kSteps = 127;
constexpr int kRangeBits = 22;  // |y| < D * 2^22: the largest of 1,280 deviations is below 2^6, and gains have 16 bits

#ifdef __AIE__

constexpr int kLanes = 16;

KERNEL_INLINE void add_up(const int16_t *x, int width, int32_t &sum, int64_t &squares) {
    aie::accum<acc32, kLanes> sums(aie::zeros<int32_t, kLanes>());
    aie::accum<acc64, kLanes> powers(aie::zeros<int32_t, kLanes>());
    for (int i = 0; i < width; i += kLanes) {
        const auto v = aie::load_v<kLanes>(x + i);
        sums = aie::add(sums, v);
        powers = aie::mac(powers, v, v);
    }
    sum = aie::reduce_add(sums.to_vector<int32_t>());
    const auto high = powers.to_vector<int32_t>(16);  // the sums of squares in two parts of 32 bits
    const auto low = aie::msc(powers, high, aie::broadcast<int32_t, kLanes>(1 << 16)).to_vector<int32_t>();
    squares = int64_t{aie::reduce_add(high)} * (1 << 16) + aie::reduce_add(low);
}

KERNEL_INLINE int64_t scaled(const int16_t *x, const int32_t *gain, const int32_t *offset, int32_t *y, int width,
                             int32_t factor, int32_t sum, int32_t root, int shift) {
    auto low = aie::zeros<int32_t, kLanes>(), high = low;
    for (int i = 0; i < width; i += kLanes) {
        aie::accum<acc32, kLanes> apart(aie::broadcast<int32_t, kLanes>(-sum));
        apart = aie::mac(apart, aie::load_v<kLanes>(x + i), static_cast<int16_t>(factor));
        auto total = aie::mul(apart.to_vector<int32_t>(), aie::load_v<kLanes>(gain + i));
        if (offset) total = aie::mac(total, aie::load_v<kLanes>(offset + i), root);
        const auto v = total.to_vector<int32_t>(shift);
        aie::store_v(y + i, v);
        low = aie::min(low, v), high = aie::max(high, v);
    }
    const int64_t below = -int64_t{aie::reduce_min(low)}, above = aie::reduce_max(high);
    return below > above ? below : above;
}

// What comes out lies within +-127, so that dropping the upper half of 16 bits loses nothing.
KERNEL_INLINE void narrow(const int32_t *y, int8_t *q, int width, int32_t steps, int shift) {
    for (int i = 0; i < width; i += kLanes) {
        const auto wide = aie::mul(aie::load_v<kLanes>(y + i), steps).to_vector<int16_t>(shift);
        aie::store_v(q + i, wide.pack());
    }
}

#else

KERNEL_INLINE void add_up(const int16_t *x, int width, int32_t &sum, int64_t &squares) {
    sum = 0, squares = 0;
    for (int i = 0; i < width; ++i) sum += x[i], squares += int32_t{x[i]} * x[i];
}

KERNEL_INLINE int64_t scaled(const int16_t *x, const int32_t *gain, const int32_t *offset, int32_t *y, int width,
                             int32_t factor, int32_t sum, int32_t root, int shift) {
    int64_t most = 0;
    for (int i = 0; i < width; ++i) {
        const int32_t apart = factor * x[i] - sum;
        const int64_t total = int64_t{apart} * gain[i] + (offset ? int64_t{root} * offset[i] : 0);
        y[i] = saturate32(round_even(total, shift));
        const int64_t size = y[i] < 0 ? -int64_t{y[i]} : y[i];
        most = size > most ? size : most;
    }
    return most;
}

KERNEL_INLINE void narrow(const int32_t *y, int8_t *q, int width, int32_t steps, int shift) {
    for (int i = 0; i < width; ++i) q[i] = saturate8(round_even(int64_t{y[i]} * steps, shift));
}

#endif

// y in steps of its largest.
KERNEL_INLINE void quantise(const int32_t *y, int8_t *q, int width, int64_t most) {
    const int shift = bits_of(most) + 8;  // steps has 16 or 17 bits then
    const int64_t steps = most ? ((int64_t{kSteps} << shift) + most / 2) / most : 0;
    narrow(y, q, width, static_cast<int32_t>(steps), shift);
}

extern "C" {

void layer_norm_i8(const int16_t *x, const int32_t *gain, const int32_t *offset, int32_t *scratch, int8_t *q,
                   int32_t *token, int32_t rows, int32_t width, int32_t epsilon) {
#ifdef __AIE__
    set_modes();
#endif
    for (int row = 0; row < rows; ++row, x += width, q += width) {
        int32_t sum;
        int64_t squares;
        add_up(x, width, sum, squares);
        const int64_t n = width, square = n * squares - int64_t{sum} * sum + n * n * epsilon;
        const int64_t exact = square_root(square), root = exact > 0 ? exact : 1;
        const int spare = bits_of(root) + kRangeBits - 31, shift = spare > 0 ? spare : 0;
        const int64_t most = scaled(x, gain, offset, scratch, width, width, sum, static_cast<int32_t>(root), shift);
        quantise(scratch, q, width, most);
        const int64_t unit = kSteps * root;
        token[row] = saturate32(((most << (shift + kNormBits - kGainBits)) + unit / 2) / unit);
    }
}

void quantise_i8(const int16_t *x, const int32_t *gain, int32_t *scratch, int8_t *q, int32_t *token, int32_t rows,
                 int32_t width) {
#ifdef __AIE__
    set_modes();
#endif
    for (int row = 0; row < rows; ++row, x += width, q += width) {
        const int64_t most = scaled(x, gain, nullptr, scratch, width, 1, 0, 0, 0);
        quantise(scratch, q, width, most);
        token[row] = saturate32(((most << (kPlainBits - kGainBits)) + kSteps / 2) / kSteps);
    }
}
}

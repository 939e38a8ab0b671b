// Layer normalisation of rows in bf16, with statistics in float: (x - mean) / deviation * gain + offset, narrowed to
// nearest, halves to even. The deviation is that of the variance plus 1e-5.
//   x, out [rows][width]   gain, offset [width]   scratch [width + 16]; width is a multiple of 16
// Sums go over every 16th value, then over those 16 in their order. The reciprocal root is four steps of Newton's from
// the usual guess: multiplications only, which is what a core can do.
#include "fixed.h"

#include <cstring>

constexpr int kLanes = 16;
constexpr float kEpsilon = 1e-5f;

KERNEL_INLINE float reciprocal_root(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = 0x5f3759dfu - (bits >> 1);
    float y;
    std::memcpy(&y, &bits, sizeof y);
    const float half = 0.5f * value;
    for (int step = 0; step < 4; ++step) y = y * (1.5f - half * y * y);
    return y;
}

KERNEL_INLINE float in_order(const float *lanes) {
    float total = 0;
    for (int i = 0; i < kLanes; ++i) total += lanes[i];
    return total;
}

#ifdef __AIE__

KERNEL_INLINE void add_up(const uint16_t *x, float *lanes, int width) {
    aie::accum<accfloat, kLanes> sums(aie::zeros<float, kLanes>());
    for (int i = 0; i < width; i += kLanes) {
        aie::accum<accfloat, kLanes> v(aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(x + i)));
        sums = aie::add(sums, v.to_vector<float>());
    }
    aie::store_v(lanes, sums.to_vector<float>());
}

KERNEL_INLINE void centre(const uint16_t *x, float *apart, float *lanes, int width, float mean) {
    aie::accum<accfloat, kLanes> squares(aie::zeros<float, kLanes>());
    const auto down = aie::broadcast<float, kLanes>(-mean);
    for (int i = 0; i < width; i += kLanes) {
        aie::accum<accfloat, kLanes> v(aie::load_v<kLanes>(reinterpret_cast<const bfloat16 *>(x + i)));
        const auto d = aie::add(v, down).to_vector<float>();
        aie::store_v(apart + i, d);
        squares = aie::mac(squares, d, d);
    }
    aie::store_v(lanes, squares.to_vector<float>());
}

KERNEL_INLINE void apply(const float *apart, const float *gain, const float *offset, uint16_t *out, int width,
                         float scale) {
    for (int i = 0; i < width; i += kLanes) {
        const auto normal = aie::mul(aie::load_v<kLanes>(apart + i), scale).to_vector<float>();
        aie::accum<accfloat, kLanes> y(aie::load_v<kLanes>(offset + i));
        y = aie::mac(y, normal, aie::load_v<kLanes>(gain + i));
        aie::store_v(reinterpret_cast<bfloat16 *>(out + i), y.to_vector<bfloat16>());
    }
}

#else

KERNEL_INLINE float widened(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

KERNEL_INLINE void add_up(const uint16_t *x, float *lanes, int width) {
    for (int i = 0; i < kLanes; ++i) lanes[i] = 0;
    for (int i = 0; i < width; ++i) lanes[i % kLanes] += widened(x[i]);
}

KERNEL_INLINE void centre(const uint16_t *x, float *apart, float *lanes, int width, float mean) {
    for (int i = 0; i < kLanes; ++i) lanes[i] = 0;
    for (int i = 0; i < width; ++i) {
        apart[i] = widened(x[i]) - mean;
        lanes[i % kLanes] += apart[i] * apart[i];
    }
}

KERNEL_INLINE void apply(const float *apart, const float *gain, const float *offset, uint16_t *out, int width,
                         float scale) {
    for (int i = 0; i < width; ++i) {
        const float y = offset[i] + apart[i] * scale * gain[i];
        uint32_t wide;
        std::memcpy(&wide, &y, sizeof wide);
        out[i] = static_cast<uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1)) >> 16);
    }
}

#endif

extern "C" {

void layer_norm_bf16(const uint16_t *x, const float *gain, const float *offset, float *scratch, uint16_t *out,
                     int32_t rows, int32_t width) {
#ifdef __AIE__
    set_modes();
#endif
    float *lanes = scratch + width;
    const float share = 1.0f / static_cast<float>(width);
    for (int row = 0; row < rows; ++row, x += width, out += width) {
        add_up(x, lanes, width);
        centre(x, scratch, lanes, width, in_order(lanes) * share);
        apply(scratch, gain, offset, out, width, reciprocal_root(in_order(lanes) * share + kEpsilon));
    }
}
}

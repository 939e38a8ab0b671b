// Log-mel features, as a product with the windowed Fourier matrix and what follows it, 16 frames at a time.
//
//   gemm_i16:  c += a * b / 2^shift over 16 x 64 x 64: 16-bit values, summed in 64 bits, rounded to 32
//     a [4][16][4][4]: frames, samples   b [16][16][4][4]: samples, bins
//     spectrum [4][4][16][4][4]: bins by 64, of which c is number `tile`
//   mel_i16:   log2 of the power in each filter, with 9 fraction bits, at least `floor`
//     real, imaginary: spectra with 22 fraction bits. real is overwritten
//     first, count [mels]: the bins of each filter; weights: theirs in turn, 20 fraction bits
//     table [257]: log2(1 + i / 256), 9 fraction bits; out [16][mels]
// The power of four neighbouring frames is held in 31 bits under their largest: what is lost lies 93 dB below it.
// Shifts round to nearest, halves to even, and saturate; lines between the entries of the table likewise.
#include "fixed.h"

constexpr int kFrames = 16, kSide = 4, kSquare = kSide * kSide;
constexpr int kFrameBlocks = kFrames / kSide, kBinBlocks = kTile / kSide, kBinTiles = 4;
constexpr int kSpectrumBits = 22, kWeightBits = 20, kLogBits = 9, kLogSteps = 8;

#ifdef __AIE__

using Unit = aie::mmul<kSide, kSide, kSide, int16_t, int16_t, acc64>;

KERNEL_INLINE void multiply(const int16_t *a, const int16_t *b, int32_t *c, int shift) {
    for (int i = 0; i < kFrameBlocks; ++i)
        for (int j = 0; j < kBinBlocks; ++j) {
            int32_t *to = c + (i * kBinBlocks + j) * kSquare;
            Unit sums(aie::load_v<kSquare>(to), shift);
            for (int k = 0; k < kBinBlocks; ++k)
                sums.mac(aie::load_v<kSquare>(a + (i * kBinBlocks + k) * kSquare),
                         aie::load_v<kSquare>(b + (k * kBinBlocks + j) * kSquare));
            aie::store_v(to, sums.to_vector<int32_t>(shift));
        }
}

KERNEL_INLINE int64_t widest(const int32_t *x, int64_t before) {
    auto low = aie::load_v<kSquare>(x), high = low;
    for (int i = kSquare; i < kTile * kSide; i += kSquare) {
        const auto v = aie::load_v<kSquare>(x + i);
        low = aie::min(low, v), high = aie::max(high, v);
    }
    const int64_t below = -int64_t{aie::reduce_min(low)}, above = aie::reduce_max(high);
    const int64_t most = below > above ? below : above;
    return most > before ? most : before;
}

KERNEL_INLINE void square(int32_t *real, const int32_t *imaginary, int shift) {
    for (int i = 0; i < kTile * kSide; i += kSquare) {
        const auto re = aie::load_v<kSquare>(real + i), im = aie::load_v<kSquare>(imaginary + i);
        aie::store_v(real + i, aie::mac(aie::mul(re, re), im, im).to_vector<int32_t>(shift));
    }
}

#else

KERNEL_INLINE void multiply(const int16_t *a, const int16_t *b, int32_t *c, int shift) {
    for (int i = 0; i < kFrameBlocks; ++i)
        for (int j = 0; j < kBinBlocks; ++j)
            for (int at = 0; at < kSquare; ++at) {
                const int16_t *row = a + i * kBinBlocks * kSquare + at / kSide * kSide;
                const int16_t *column = b + j * kSquare + at % kSide;
                int32_t &sum = c[(i * kBinBlocks + j) * kSquare + at];
                int64_t total = sum * (int64_t{1} << shift);
                for (int k = 0; k < kBinBlocks; ++k)
                    for (int s = 0; s < kSide; ++s)
                        total += int32_t{row[k * kSquare + s]} * column[k * kBinBlocks * kSquare + s * kSide];
                sum = saturate32(round_even(total, shift));
            }
}

KERNEL_INLINE int64_t widest(const int32_t *x, int64_t before) {
    for (int i = 0; i < kTile * kSide; ++i) {
        const int64_t size = x[i] < 0 ? -int64_t{x[i]} : x[i];
        before = size > before ? size : before;
    }
    return before;
}

KERNEL_INLINE void square(int32_t *real, const int32_t *imaginary, int shift) {
    for (int i = 0; i < kTile * kSide; ++i)
        real[i] = saturate32(
            round_even(int64_t{real[i]} * real[i] + int64_t{imaginary[i]} * imaginary[i], shift));
}

#endif

constexpr int kFrameStep = kBinBlocks * kSquare, kTileStep = kFrameBlocks * kFrameStep;

// log2 of value / 2^down, value >= 0.
KERNEL_INLINE int16_t logarithm(int64_t value, int down, const int16_t *table, int floor) {
    if (value == 0) return static_cast<int16_t>(floor);
    const int top = bits_of(value) - 1;
    const int fraction = static_cast<int>((top > 16 ? value >> (top - 16) : value << (16 - top)) & 0xffff);
    const int i = fraction >> kLogSteps, rest = fraction & ((1 << kLogSteps) - 1);
    const int64_t between = table[i] + round_even((table[i + 1] - table[i]) * rest, kLogSteps);
    const int64_t found = (int64_t{top - down} * (1 << kLogBits)) + between;
    return saturate16(found < floor ? floor : found);
}

extern "C" {

void gemm_i16(const int16_t *a, const int16_t *b, int32_t *spectrum, int32_t tile, int32_t shift) {
#ifdef __AIE__
    set_modes();
#endif
    multiply(a, b, spectrum + tile * kTileStep, shift);
}

void mel_i16(int32_t *real, const int32_t *imaginary, const int32_t *first, const int32_t *count,
             const int32_t *weights, const int16_t *table, int16_t *out, int32_t mels, int32_t floor) {
#ifdef __AIE__
    set_modes();
#endif
    for (int group = 0; group < kFrameBlocks; ++group) {
        int64_t most = 0;
        for (int at = group * kFrameStep; at < kBinTiles * kTileStep; at += kTileStep)
            most = widest(imaginary + at, widest(real + at, most));
        const int spare = 2 * bits_of(most) + 1 - 31, shift = spare > 0 ? spare : 0;
        for (int at = group * kFrameStep; at < kBinTiles * kTileStep; at += kTileStep)
            square(real + at, imaginary + at, shift);
        for (int frame = 0; frame < kSide; ++frame) {
            const int32_t *power = real + group * kFrameStep + frame * kSide, *weight = weights;
            for (int mel = 0; mel < mels; ++mel) {
                int64_t total = 0;
                for (int bin = first[mel], n = count[mel]; n; --n, ++bin, ++weight)
                    total += int64_t{power[bin / kTile * kTileStep + bin % kTile / kSide * kSquare + bin % kSide]} *
                             *weight;
                out[(group * kSide + frame) * mels + mel] =
                    logarithm(total, 2 * kSpectrumBits + kWeightBits - shift, table, floor);
            }
        }
    }
}
}

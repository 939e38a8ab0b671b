// The part of AMD's `aie::` interface that these kernels use, for an ordinary compiler: lane by lane, so that the
// very source that is built for the cores also runs on the host. Nothing beyond that part is here, on purpose.
//
// As on the hardware, narrowing an accumulator follows the modes of the core: after a reset it rounds down and wraps.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#define AIE_INLINE inline __attribute__((always_inline))

struct bfloat16 {
    uint16_t bits;

    bfloat16() = default;
    AIE_INLINE explicit constexpr bfloat16(uint16_t bits) : bits(bits) {}

    // Rounded to nearest, as a compiler does.
    AIE_INLINE explicit bfloat16(float value) {
        uint32_t wide;
        std::memcpy(&wide, &value, sizeof wide);
        bits = static_cast<uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1)) >> 16);
    }

    AIE_INLINE operator float() const {
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        float value;
        std::memcpy(&value, &wide, sizeof value);
        return value;
    }
};

struct acc32 {};
struct acc64 {};
struct accfloat {};

namespace aie {

enum class rounding_mode { floor, conv_even };
enum class saturation_mode { none, saturate };

namespace detail {

inline rounding_mode rounding = rounding_mode::floor;
inline saturation_mode saturation = saturation_mode::none;

template <typename Tag> struct lane;
template <> struct lane<acc32> { using type = int32_t; };
template <> struct lane<acc64> { using type = int64_t; };
template <> struct lane<accfloat> { using type = float; };

// What products of T and U are summed in where nothing else is said.
template <typename T, typename U>
using product = std::conditional_t<std::is_same_v<T, float> || std::is_same_v<T, bfloat16>, accfloat,
                                   std::conditional_t<sizeof(T) + sizeof(U) <= 4, acc32, acc64>>;

AIE_INLINE int64_t shifted(int64_t value, int shift) {
    const int64_t down = value >> shift;
    if (rounding == rounding_mode::floor || shift == 0) return down;
    const int64_t rest = value - down * (int64_t{1} << shift), half = int64_t{1} << (shift - 1);
    return down + ((rest > half || (rest == half && (down & 1))) ? 1 : 0);
}

template <typename T> AIE_INLINE T narrowed(int64_t value) {
    if (saturation == saturation_mode::none) return static_cast<T>(value);
    constexpr bool wraps = std::is_unsigned_v<T>;
    constexpr int64_t high = wraps ? (int64_t{1} << (8 * sizeof(T))) - 1 : (int64_t{1} << (8 * sizeof(T) - 1)) - 1;
    constexpr int64_t low = wraps ? 0 : -high - 1;
    return static_cast<T>(value < low ? low : value > high ? high : value);
}

AIE_INLINE bfloat16 to_bfloat16(float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    if ((wide & 0x7fffffffu) > 0x7f800000u) return bfloat16(static_cast<uint16_t>((wide >> 16) | 0x40));
    if (rounding == rounding_mode::conv_even) wide += 0x7fffu + ((wide >> 16) & 1);
    return bfloat16(static_cast<uint16_t>(wide >> 16));
}

}  // namespace detail

AIE_INLINE void set_rounding(rounding_mode mode) { detail::rounding = mode; }
AIE_INLINE void set_saturation(saturation_mode mode) { detail::saturation = mode; }

template <typename T, unsigned N> struct vector {
    T data[N];

    AIE_INLINE T operator[](unsigned i) const { return data[i]; }

    // The same bits as other values (aie_api/vector.hpp).
    template <typename U> AIE_INLINE vector<U, N * sizeof(T) / sizeof(U)> cast_to() const {
        vector<U, N * sizeof(T) / sizeof(U)> v;
        std::memcpy(v.data, data, sizeof v.data);
        return v;
    }

    // One of the parts of M values.
    template <unsigned M> AIE_INLINE vector<T, M> extract(unsigned part) const {
        vector<T, M> v;
        for (unsigned i = 0; i < M; ++i) v.data[i] = data[part * M + i];
        return v;
    }

    AIE_INLINE auto pack() const {
        static_assert(std::is_same_v<T, int16_t>);
        vector<int8_t, N> v;
        for (unsigned i = 0; i < N; ++i) v.data[i] = static_cast<int8_t>(data[i]);
        return v;
    }
};

template <unsigned N, typename T> AIE_INLINE vector<T, N> load_v(const T *from) {
    vector<T, N> v;
    std::memcpy(v.data, from, sizeof v.data);
    return v;
}

template <typename T, unsigned N> AIE_INLINE void store_v(T *to, const vector<T, N> &v) {
    std::memcpy(to, v.data, sizeof v.data);
}

template <typename T, unsigned N> AIE_INLINE vector<T, N> broadcast(T value) {
    vector<T, N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = value;
    return v;
}

template <typename T, unsigned N> AIE_INLINE vector<T, N> zeros() { return broadcast<T, N>(T{}); }

template <typename T, unsigned N> AIE_INLINE vector<T, 2 * N> concat(const vector<T, N> &a, const vector<T, N> &b) {
    vector<T, 2 * N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = a.data[i], v.data[N + i] = b.data[i];
    return v;
}

// Every second group of `step` values, from the first on.
template <typename T, unsigned N> AIE_INLINE vector<T, N / 2> filter_even(const vector<T, N> &a, unsigned step = 1) {
    vector<T, N / 2> v;
    for (unsigned i = 0; i < N / 2; ++i) v.data[i] = a.data[i / step * 2 * step + i % step];
    return v;
}

template <typename T, unsigned N> AIE_INLINE vector<T, N / 2> filter_odd(const vector<T, N> &a, unsigned step = 1) {
    vector<T, N / 2> v;
    for (unsigned i = 0; i < N / 2; ++i) v.data[i] = a.data[(i / step * 2 + 1) * step + i % step];
    return v;
}

template <typename T, unsigned N>
AIE_INLINE vector<T, N> transpose(const vector<T, N> &a, unsigned rows, unsigned columns) {
    vector<T, N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = a.data[i % rows * columns + i / rows];
    return v;
}

template <typename T, unsigned N> struct halves {
    vector<T, N> first, second;
};

// Groups of `step` values of both in turn.
template <typename T, unsigned N>
AIE_INLINE halves<T, N> interleave_zip(const vector<T, N> &a, const vector<T, N> &b, unsigned step) {
    halves<T, N> v;
    for (unsigned i = 0; i < 2 * N; ++i) {
        const vector<T, N> &from = i / step % 2 ? b : a;
        (i < N ? v.first : v.second).data[i % N] = from.data[i / (2 * step) * step + i % step];
    }
    return v;
}

template <typename T, unsigned N> AIE_INLINE vector<T, N> max(const vector<T, N> &a, const vector<T, N> &b) {
    vector<T, N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = a.data[i] > b.data[i] ? a.data[i] : b.data[i];
    return v;
}

template <typename T, unsigned N> AIE_INLINE vector<T, N> min(const vector<T, N> &a, const vector<T, N> &b) {
    vector<T, N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = a.data[i] < b.data[i] ? a.data[i] : b.data[i];
    return v;
}

// Of integers: floats are added and taken away as accumulators.
template <typename T, unsigned N> AIE_INLINE vector<T, N> add(const vector<T, N> &a, const vector<T, N> &b) {
    static_assert(std::is_integral_v<T>);
    vector<T, N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = static_cast<T>(a.data[i] + b.data[i]);
    return v;
}

template <typename T, unsigned N> AIE_INLINE vector<T, N> sub(const vector<T, N> &a, const vector<T, N> &b) {
    static_assert(std::is_integral_v<T>);
    vector<T, N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = static_cast<T>(a.data[i] - b.data[i]);
    return v;
}

template <typename T, unsigned N> AIE_INLINE vector<T, N> bit_and(T a, const vector<T, N> &b) {
    vector<T, N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = static_cast<T>(a & b.data[i]);
    return v;
}

template <unsigned N> struct mask {
    static_assert(N <= 32);
    uint32_t bits;

    AIE_INLINE bool empty() const { return bits == 0; }
};

// Of integers, which all of AIE2 compares in one instruction; the lowest bit is the first lane's.
template <typename T, unsigned N> AIE_INLINE mask<N> lt(const vector<T, N> &a, const vector<T, N> &b) {
    static_assert(std::is_integral_v<T>);
    mask<N> found{0};
    for (unsigned i = 0; i < N; ++i) found.bits |= static_cast<uint32_t>(a.data[i] < b.data[i]) << i;
    return found;
}

// The second where the mask is set, otherwise the first.
template <typename T, unsigned N>
AIE_INLINE vector<T, N> select(const vector<T, N> &a, const vector<T, N> &b, const mask<N> &m) {
    vector<T, N> v;
    for (unsigned i = 0; i < N; ++i) v.data[i] = m.bits >> i & 1 ? b.data[i] : a.data[i];
    return v;
}

template <typename T, unsigned N> AIE_INLINE T reduce_max(const vector<T, N> &a) {
    T found = a.data[0];
    for (unsigned i = 1; i < N; ++i) found = a.data[i] > found ? a.data[i] : found;
    return found;
}

template <typename T, unsigned N> AIE_INLINE T reduce_min(const vector<T, N> &a) {
    T found = a.data[0];
    for (unsigned i = 1; i < N; ++i) found = a.data[i] < found ? a.data[i] : found;
    return found;
}

template <typename T, unsigned N> AIE_INLINE T reduce_add(const vector<T, N> &a) {
    T total{};
    for (unsigned i = 0; i < N; ++i) total += a.data[i];
    return total;
}

template <typename Tag, unsigned N> struct accum {
    using lane = typename detail::lane<Tag>::type;
    lane data[N];

    accum() = default;

    template <typename T> AIE_INLINE explicit accum(const vector<T, N> &v, int shift = 0) { from_vector(v, shift); }

    template <typename T> AIE_INLINE void from_vector(const vector<T, N> &v, int shift = 0) {
        for (unsigned i = 0; i < N; ++i) {
            if constexpr (std::is_same_v<Tag, accfloat>) data[i] = v.data[i];
            else data[i] = static_cast<lane>(static_cast<lane>(v.data[i]) * (lane{1} << shift));
        }
    }

    template <typename T> AIE_INLINE vector<T, N> to_vector(int shift = 0) const {
        vector<T, N> v;
        for (unsigned i = 0; i < N; ++i) {
            if constexpr (std::is_same_v<T, bfloat16>) v.data[i] = detail::to_bfloat16(data[i]);
            else if constexpr (std::is_same_v<Tag, accfloat>) v.data[i] = data[i];
            else v.data[i] = detail::narrowed<T>(detail::shifted(data[i], shift));
        }
        return v;
    }

    // The same bits as other sums (aie_api/accum.hpp).
    template <typename Other> AIE_INLINE accum<Other, N> cast_to() const {
        accum<Other, N> v;
        static_assert(sizeof v.data == sizeof data);
        std::memcpy(v.data, data, sizeof v.data);
        return v;
    }
};

template <typename T, typename U, unsigned N>
AIE_INLINE auto mul(const vector<T, N> &a, const vector<U, N> &b) -> accum<detail::product<T, U>, N> {
    accum<detail::product<T, U>, N> sum;
    using lane = typename decltype(sum)::lane;
    for (unsigned i = 0; i < N; ++i) sum.data[i] = static_cast<lane>(a.data[i]) * static_cast<lane>(b.data[i]);
    return sum;
}

template <typename T, typename U, unsigned N>
AIE_INLINE auto mul(const vector<T, N> &a, U b) -> accum<detail::product<T, U>, N> {
    return mul(a, broadcast<U, N>(b));
}

template <typename Tag, typename T, typename U, unsigned N>
AIE_INLINE accum<Tag, N> mac(accum<Tag, N> sum, const vector<T, N> &a, const vector<U, N> &b) {
    using lane = typename accum<Tag, N>::lane;
    for (unsigned i = 0; i < N; ++i) sum.data[i] += static_cast<lane>(a.data[i]) * static_cast<lane>(b.data[i]);
    return sum;
}

template <typename Tag, typename T, typename U, unsigned N>
AIE_INLINE accum<Tag, N> mac(accum<Tag, N> sum, const vector<T, N> &a, U b) {
    return mac(sum, a, broadcast<U, N>(b));
}

template <typename Tag, typename T, typename U, unsigned N>
AIE_INLINE accum<Tag, N> msc(accum<Tag, N> sum, const vector<T, N> &a, const vector<U, N> &b) {
    using lane = typename accum<Tag, N>::lane;
    for (unsigned i = 0; i < N; ++i) sum.data[i] -= static_cast<lane>(a.data[i]) * static_cast<lane>(b.data[i]);
    return sum;
}

template <typename Tag, unsigned N, typename T> AIE_INLINE accum<Tag, N> add(accum<Tag, N> sum, const vector<T, N> &a) {
    for (unsigned i = 0; i < N; ++i) sum.data[i] += a.data[i];
    return sum;
}

template <typename Tag, unsigned N, typename T> AIE_INLINE accum<Tag, N> sub(accum<Tag, N> sum, const vector<T, N> &a) {
    for (unsigned i = 0; i < N; ++i) sum.data[i] -= a.data[i];
    return sum;
}

// A product of small matrices: A [M][K] times B [K][N] added to C [M][N], the terms of a sum in the order of k.
template <unsigned M, unsigned K, unsigned N, typename TA, typename TB, typename Tag = detail::product<TA, TB>>
struct mmul {
    static constexpr unsigned size_A = M * K, size_B = K * N, size_C = M * N;
    using lane = typename detail::lane<Tag>::type;
    accum<Tag, size_C> sums;

    template <typename T> AIE_INLINE explicit mmul(const vector<T, size_C> &start) { sums.from_vector(start); }

    AIE_INLINE void mac(const vector<TA, size_A> &a, const vector<TB, size_B> &b) {
        for (unsigned r = 0; r < M; ++r)
            for (unsigned k = 0; k < K; ++k)
                for (unsigned t = 0; t < N; ++t)
                    sums.data[r * N + t] +=
                        static_cast<lane>(a.data[r * K + k]) * static_cast<lane>(b.data[k * N + t]);
    }

    template <typename T> AIE_INLINE vector<T, size_C> to_vector(int shift = 0) const {
        return sums.template to_vector<T>(shift);
    }
};

}  // namespace aie

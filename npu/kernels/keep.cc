// What comes along the way of A and must stay when its object is given back: headers, and tiles that are used for long.
#include "fixed.h"

constexpr int kKept = 128;          // words of a header
constexpr int kHalfTile = kCount / 2;  // values of a tile in bf16: 64 rows, 32 columns

// count: a multiple of what a vector holds.
template <typename T> KERNEL_INLINE void copy(const T *from, T *to, int count) {
#ifdef __AIE__
    constexpr int kLanes = 64 / sizeof(T);
    for (int i = 0; i < count; i += kLanes) aie::store_v(to + i, aie::load_v<kLanes>(from + i));
#else
    for (int i = 0; i < count; ++i) to[i] = from[i];
#endif
}

extern "C" {

void keep_header(const int8_t *header, int32_t *kept) {
    copy(reinterpret_cast<const int32_t *>(header), kept, kKept);
}

// to [2][2048]
void keep_tile_bf16(const uint16_t *tile, uint16_t *to, int32_t which) { copy(tile, to + which * kHalfTile, kHalfTile); }

// to [3][4096]
void keep_tile_i8(const int8_t *tile, int8_t *to, int32_t which) { copy(tile, to + which * kCount, kCount); }
}

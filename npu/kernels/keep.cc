// What comes along the way of A and must stay when its object is given back: headers, and tiles that are used for long.
#include "fixed.h"

constexpr int kKept = 128;          // words of a header
constexpr int kHalfTile = kCount / 2;  // values of a tile in bf16: 64 rows, 32 columns

template <typename T> KERNEL_INLINE void keep(const T *tile, T *to, int count) {
    for (int i = 0; i < count; ++i) to[i] = tile[i];
}

extern "C" {

void keep_header(const int8_t *header, int32_t *kept) {
    const int32_t *words = reinterpret_cast<const int32_t *>(header);
    for (int i = 0; i < kKept; ++i) kept[i] = words[i];
}

// to [2][2048]
void keep_tile_bf16(const uint16_t *tile, uint16_t *to, int32_t which) { keep(tile, to + which * kHalfTile, kHalfTile); }

// to [3][4096]
void keep_tile_i8(const int8_t *tile, int8_t *to, int32_t which) { keep(tile, to + which * kCount, kCount); }
}

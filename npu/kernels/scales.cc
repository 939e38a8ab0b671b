// Scales of rows travel as tiles of their own: the words that a core wrote at the beginning of one. What a memory tile
// does to a tile on its way out it undoes on the way of A; on the way of B eight rows lie side by side instead of four.
//   statistics [8][64]: from row 5 on the scales of three tiles: of rows, or of queries, keys and values
#include "fixed.h"

extern "C" {

void keep_row_scales(const int8_t *tile, int32_t *statistics) {
    copy(reinterpret_cast<const int32_t *>(tile), statistics + kScales * kTile, kTile);
}

// The second and the third of three.
void keep_key_scales(const int8_t *tile, int32_t *statistics) {
    const int32_t *words = reinterpret_cast<const int32_t *>(tile);
    for (int which = 1; which < 3; ++which)
        for (int i = 0; i < kTile; i += kColumns) {
            const int32_t *from = words + which / 2 * 2 * kTile + 2 * i + which % 2 * kColumns;
            int32_t *to = statistics + (kScales + which) * kTile + i;
#ifdef __AIE__
            aie::store_v(to, aie::load_v<kColumns>(from));
#else
            copy(from, to, kColumns);
#endif
        }
}

void scales_out(const int32_t *statistics, int8_t *out) {
    copy(statistics + kScales * kTile, reinterpret_cast<int32_t *>(out), 3 * kTile);
}
}

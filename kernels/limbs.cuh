/* limbs.cuh -- centers in fixed point, as three signed bytes: what integer tensor cores multiply by rows of bytes.
 *
 *   q_jf = z_jf / FIXED_UNIT rounded to a whole number = hi 2^16 + mid 2^8 + lo,     z = c + offset: screen.cuh, scale 1
 *
 * hi, mid and lo are -128 .. 127.  z of centers among the rows is at most 255 in magnitude, and |q| < LARGEST_FIXED; what is
 * beyond is cut, and counts as a rest.  The errors of the scores: certificates/fixed_point.py.
 */
#pragma once
#include "ptx.cuh"

#define LIMB_CENTERS 16                // centers of kernels that read limbs
#define LIMB_TILES 3                   // tiles of 16 operand rows: 3 LIMB_CENTERS of them
#define LIMB_STEP 32                   // columns of a product
#define LIMB_GROUP 64                  // columns of a row's four lanes, 16 bytes of each
#define FIXED_BITS 14
#define FIXED_UNIT 0x1p-14
#define LARGEST_FIXED 8355711.0        // 127 2^16 + 127 2^8 + 127

/* limbs (n_groups, 2, LIMB_TILES, 32, 16) i8: for each group of columns, each of its two steps and each tile, the 16 bytes of
 * each lane, in the order of a product's registers (ptx.cuh: byte_product): of operand rows g and g + 8 in turn, four
 * neighbours each.  Lane t of a row has columns 16 t ... of a group, and takes eight of them for a step.  Of tile 0 and 1
 * rows g and g + 8 are hi and mid of centers g and 8 + g; of tile 2 they are lo of either, so that a lane has all limbs. */
static __device__ __forceinline__ long long limb_place(int tile, int half, int g, int f) {
  const int group = f / LIMB_GROUP, t = f / 16 % 4, step = f / 8 % 2, word = f / 4 % 2;
  return ((((long long)group * 2 + step) * LIMB_TILES + tile) * 32 + 4 * g + t) * 16 + (2 * word + half) * 4 + f % 4;
}

static __device__ __forceinline__ void write_limbs(int q, int center, int f, signed char* limbs) {
  const int lo = (q & 255) - (q & 128) * 2, rest = (q - lo) / 256;
  const int mid = (rest & 255) - (rest & 128) * 2, hi = (rest - mid) / 256;
  limbs[limb_place(center / 8, 0, center % 8, f)] = (signed char)hi;
  limbs[limb_place(center / 8, 1, center % 8, f)] = (signed char)mid;
  limbs[limb_place(2, center / 8, center % 8, f)] = (signed char)lo;
}

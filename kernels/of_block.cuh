/* of_block.cuh -- one value of all threads of a block: their sum, or the largest.
 *
 * The kernel defines N_WARPS, the warps of its blocks.  part (N_WARPS) shared: room, which may be used again at once.
 */
#pragma once
#include "common.cuh"

// The sum or the largest of the block's values, for all of its threads.
template <typename T, typename Combine>
static __device__ __forceinline__ T of_block(T value, T* part, Combine combine) {
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) value = combine(value, __shfl_xor_sync(EVERY_LANE, value, half));
  __syncthreads();  // what was there has been read
  if (lane_index() == 0) part[threadIdx.x / WARP] = value;
  __syncthreads();  // every warp's is there
  T all = part[0];
#pragma unroll
  for (int warp = 1; warp < N_WARPS; ++warp) all = combine(all, part[warp]);
  return all;
}

struct Larger {
  __device__ double operator()(double a, double b) const { return fmax(a, b); }
};
struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const { return a + b; }
};

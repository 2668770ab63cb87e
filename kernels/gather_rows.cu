/* gather_rows.cu -- copies of a few rows, side by side.
 *
 *   target[e, f] = X[rows[start + e], f]             for e < count
 *
 * X (n,d) ROW IN | rows i32 IN | target (count,d) ROW OUT                         all C-contiguous
 * A warp owns a row, its lanes the columns; grid-stride.
 * Launch grid any, block 256.   Traffic: the rows read and written once.
 * Tests: python -m pytest tests/kernels/test_sums.py
 */
#include "common.cuh"

#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
gather_rows(const ROW* __restrict__ X, const int* __restrict__ rows, long long start, long long count, int d,
            ROW* __restrict__ target) {
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  for (long long e = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; e < count; e += stride) {
    const ROW* __restrict__ x = X + (long long)rows[start + e] * d;
    for (int f = lane_index(); f < d; f += WARP) target[e * d + f] = x[f];
  }
}

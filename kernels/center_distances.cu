/* center_distances.cu -- the distance of every row to every center, as `transform` gives it.
 *
 *   distances[i,j] = sqrt(sum_f (x_if - c_jf)^2)     float64, warp order, rounded to CENTER at the end
 *                    but at least distances[i,label] where j > label, and more than that where j < label;
 *                    distances[i,label] is finite where label > 0
 *
 * X (n,d) ROW IN | C (k,d) CENTER IN | labels (n) i32 IN | distances (n,k) CENTER OUT      all C-contiguous
 * A warp owns a row, its lanes the columns, and takes TOGETHER centers per reading of the row; grid-stride over the rows.
 * Launch grid any, block 256.   Traffic: X once, C once for each block of rows (mostly from cache), distances once.
 * Accuracy: the square root, correctly rounded, of row_square_distances (exact/warp_order.py) operation by operation: no x.x - 2 x.c
 * + c.c that cancels.  The label is the true nearest center, so that only rounding can have put another one before it:
 * the first of the lowest distances is always that to the label.
 * Tests: python -m pytest tests/kernels/test_results.py
 */
#include "common.cuh"

#define THREADS 256
#define TOGETHER 4

__device__ __forceinline__ float largest(float) { return __int_as_float(0x7f7fffff); }
__device__ __forceinline__ double largest(double) { return __longlong_as_double(0x7fefffffffffffffLL); }

/* The next number above one that is not negative. */
__device__ __forceinline__ float next_above(float value) { return __int_as_float(__float_as_int(value) + 1); }
__device__ __forceinline__ double next_above(double value) { return __longlong_as_double(__double_as_longlong(value) + 1); }

extern "C" __global__ void __launch_bounds__(THREADS, 4)
center_distances(const ROW* __restrict__ X, const CENTER* __restrict__ C, const int* __restrict__ labels,
                 long long n, int d, int k, CENTER* __restrict__ distances) {
  const int lane = lane_index();
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  for (long long i = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; i < n; i += stride) {
    const ROW* __restrict__ x = X + i * d;
    for (int j0 = 0; j0 < k; j0 += TOGETHER) {
      const CENTER* c[TOGETHER];
      double square[TOGETHER];
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t) {
        c[t] = C + (long long)min(j0 + t, k - 1) * d;
        square[t] = 0.0;
      }
      for (int f = lane; f < d; f += WARP) {
        const double value = widen(x[f]);
#pragma unroll
        for (int t = 0; t < TOGETHER; ++t) square[t] = __dadd_rn(square[t], square_difference(value, widen(c[t][f])));
      }
      double own = 0.0;  // lane t takes the t-th center's
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t) {
        const double sum = __shfl_sync(EVERY_LANE, warp_order_sum(square[t]), 0);
        if (lane == t) own = sum;
      }
      if (lane < TOGETHER && j0 + lane < k) narrow(__dsqrt_rn(own), distances + i * k + j0 + lane);
    }
    __syncwarp();  // the distances of other lanes
    const int label = labels[i];
    CENTER* row = distances + i * k;
    // Where all are beyond CENTER, that to the label is not: it would be behind the first.
    const CENTER own = label == 0 ? row[0] : min(row[label], largest(row[label]));
    __syncwarp();
    for (int j = lane; j < k; j += WARP) row[j] = j == label ? own : max(row[j], j < label ? next_above(own) : own);
  }
}

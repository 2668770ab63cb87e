/* row_distance.cu -- the squared distance of every row to its own center, as results quote it.
 *
 *   distances[i] = w_i * sum_f (x_if - c_label(i),f)^2     float64, warp order; the weight multiplies once, at the end
 *   largest      = max_i distances[i]
 *
 * rows IN: rows.cuh | C (k,d) CENTER IN | labels (n) i32 IN, >= 0 | weights (n) f64 IN or null (w_i = 1) |
 * distances (n) f64 OUT | largest (1) f64 INOUT, 0 before                         all C-contiguous
 * Several runs (blockIdx.y) of several problems (blockIdx.z): X and weights hold one problem after another, all else one run
 * after another.
 * A warp owns a row, its lanes the columns; grid-stride over the rows.
 * Launch grid (any, runs, problems), block 256.   Traffic: one read of X, 12n bytes besides.
 * Accuracy: exact/warp_order.py: row_square_distances operation by operation (no fused multiply-add): the same bits.
 * Tests: python -m pytest tests/kernels/test_results.py
 */
#include "rows.cuh"

#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS, 4)
row_distance(const __grid_constant__ Rows rows, const CENTER* __restrict__ C, int k, const int* __restrict__ labels,
             const double* __restrict__ weights, double* __restrict__ distances, double* __restrict__ largest) {
  const long long problem = problem_index(), run = run_index(), n = rows.n;
  const int d = rows.d;
  const In<ROW> X = rows.X + problem * n * d;
  if (weights) weights += problem * n;
  C += run * k * d;
  labels += run * n;
  distances += run * n;
  largest += run;
  const int lane = lane_index();
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  double most = 0.0;
  for (long long i = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; i < n; i += stride) {
    const In<ROW> x = X + i * d;
    const CENTER* __restrict__ c = C + (long long)labels[i] * d;
    double distance = 0.0;
    for (int f = lane; f < d; f += WARP) distance = __dadd_rn(distance, square_difference(widen(x[f]), widen(c[f])));
    distance = warp_order_sum(distance);
    if (lane == 0) write_distance(distance, i, weights, distances, most);
  }
  if (lane == 0) atomic_max(largest, most);
}

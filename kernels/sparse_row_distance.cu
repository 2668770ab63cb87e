/* sparse_row_distance.cu -- the squared distance of every row in CSR to its own center, as results quote it.
 *
 *   distances[i] = w_i * sum_f (x_if - c_label(i),f)^2     float64, warp order over all columns; the weight multiplies once
 *   largest      = max_i distances[i]
 *
 * rows IN: rows.cuh | C (k,d) CENTER IN | labels (n) i32 IN, >= 0 | weights (n) f64 IN or null (w_i = 1) |
 * distances (n) f64 OUT | largest (1) f64 INOUT, 0 before
 *                                                                                 all C-contiguous
 * A warp owns a row; grid-stride over the rows.  COLUMNS columns of it at a time lie dense in shared memory, where the lanes
 * go through them as row_distance.cu does.
 * Launch grid any, block 256, shared 8 COLUMNS elements (static, 16 or 32 KiB).
 * Traffic: one read of the rows, d center elements a row from the second-level cache.   Work: 3 n d in float64.
 * Accuracy: exact/warp_order.py: row_square_distances operation by operation (no fused multiply-add): the same bits.
 * Tests: python -m pytest tests/kernels/test_sparse_sums.py
 */
#include "rows.cuh"

#define THREADS 256
#define COLUMNS 512

static_assert(COLUMNS % WARP == 0, "a tile must end where a lane's turn begins again");

extern "C" __global__ void __launch_bounds__(THREADS, 4)
sparse_row_distance(const __grid_constant__ SparseRows rows, const CENTER* __restrict__ C, const int* __restrict__ labels,
                    const double* __restrict__ weights, long long n, int d, double* __restrict__ distances,
                    double* __restrict__ largest) {
  const In<long long> indptr = rows.indptr;
  const In<int> indices = rows.indices;
  const In<ROW> data = rows.data;
  __shared__ ROW tiles[THREADS / WARP][COLUMNS];
  const int lane = lane_index();
  ROW* const tile = tiles[threadIdx.x / WARP];
  for (int f = lane; f < COLUMNS; f += WARP) tile[f] = ROW{};
  __syncwarp();  // the tile is empty
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  double most = 0.0;
  for (long long i = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; i < n; i += stride) {
    const CENTER* __restrict__ c = C + (long long)labels[i] * d;
    const long long end = indptr[i + 1];
    long long first = indptr[i];       // entry of the next tile
    double distance = 0.0;
    for (long long f0 = 0; f0 < d; f0 += COLUMNS) {
      const int width = int(min((long long)COLUMNS, d - f0));
      long long last = first;          // entry beyond this tile
      bool more = true;
      while (more) {
        const long long e = last + lane;
        const bool inside = e < end && indices[e] - f0 < width;
        if (inside) tile[indices[e] - f0] = data[e];
        const unsigned lanes = __ballot_sync(EVERY_LANE, inside);
        last += __popc(lanes);
        more = lanes == EVERY_LANE;
      }
      __syncwarp();  // the tile is filled
      for (int f = lane; f < width; f += WARP)
        distance = __dadd_rn(distance, square_difference(widen(tile[f]), widen(c[f0 + f])));
      __syncwarp();  // the tile has been read
      for (long long e = first + lane; e < last; e += WARP) tile[indices[e] - f0] = ROW{};
      __syncwarp();  // the tile is empty
      first = last;
    }
    distance = warp_order_sum(distance);
    if (lane == 0) write_distance(distance, i, weights, distances, most);
  }
  if (lane == 0) atomic_max(largest, most);
}

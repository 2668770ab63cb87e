/* sparse_lookup.cu -- a few rows in CSR as a dense table in which what they have in a column stands side by side.
 *
 *   table[f, e] = X[rows[e], f]             for e < count; only stored entries are written
 *
 * stored IN: rows.cuh | rows (count) i32 IN | table (d,width) ROW OUT, zeros before, count <= width
 *                                                                                 all C-contiguous
 * A warp owns a row, its lanes the entries; grid-stride.
 * Launch grid any, block 256.   Traffic: the rows read, and a sector written for each entry.
 * Tests: python -m pytest tests/kernels/test_sparse_seed.py
 */
#include "rows.cuh"

#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
sparse_lookup(const __grid_constant__ SparseRows stored, const int* __restrict__ rows, int count, int width,
              ROW* __restrict__ table) {
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  for (long long row = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; row < count; row += stride) {
    const long long end = stored.indptr[rows[row] + 1];
    for (long long e = stored.indptr[rows[row]] + lane_index(); e < end; e += WARP)
      table[(long long)stored.indices[e] * width + row] = stored.data[e];
  }
}

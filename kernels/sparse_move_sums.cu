/* sparse_move_sums.cu -- the exact sums and weights follow the rows in CSR whose label changed.
 *
 *   for every listed row i, now with labels[i], before with an old label `from` (or with none, < 0), and every entry (i, f):
 *     sums[l, from, f] -= limb_l(y_if),   sums[l, to, f] += limb_l(y_if),   and the same for the weights, once a row
 *   y_if = x_if * weights[i] (one rounding), limbs as in exact/sums.py: Grid.limbs; those of zero are zero
 *
 * rows IN: rows.cuh | weights (n) f64 IN (WEIGHTED) or null (1) | grid IN, sums INOUT: sums.cuh | moves IN: moves.cuh
 *                                                                                 all C-contiguous
 * A warp owns a listed row, its lanes the entries; grid-stride over the list.  Integer addition is associative: no order of
 * the atomics changes a bit.
 * Launch grid any, block 256.   Traffic: the moved rows once; 8 bytes of atomics per limb, entry and cluster left or joined,
 * which collide where many rows of a cluster share a column.
 * Accuracy: exact on the grid.
 *
 * Constants: ROW, LIMBS, WEIGHTED.
 * Tests: python -m pytest tests/kernels/test_sparse_sums.py
 */
#include "moves.cuh"
#include "rows.cuh"
#include "sums.cuh"

#define THREADS 256

static_assert(LIMBS == 1 || LIMBS == 2, "a value has one limb or two");

static __device__ __forceinline__ void move_limb(long long* __restrict__ sums, long long to, long long from,
                                                 long long limb) {
  if (limb == 0) return;
  atomic_add(sums + to, limb);
  if (from >= 0) atomic_add(sums + from, -limb);
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
sparse_move_sums(const __grid_constant__ SparseRows rows, const double* __restrict__ weights,
                 const __grid_constant__ SumGrid grid, const __grid_constant__ Moves moves,
                 const __grid_constant__ Sums sums) {
  const In<int> control = {moves.control}, moved_rows = {moves.rows}, moved_from = {moves.old}, labels = {moves.labels};
  if (control[STOP] || control[N_OPEN]) return;
  const int lane = lane_index(), n_moved = control[N_MOVED];
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  const int d = sums.d;
  for (long long moved = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; moved < n_moved; moved += stride) {
    const int i = moved_rows[moved], from = moved_from[moved], to = labels[i];
    double weight = 1.0;
#if WEIGHTED
    weight = weights[i];
#endif
    const long long end = rows.indptr[i + 1];
    for (long long e = rows.indptr[i] + lane; e < end; e += WARP) {
      const int f = rows.indices[e];
      const double scaled = __dmul_rn(__dmul_rn(widen(rows.data[e]), weight), grid.scale[f]);
      const long long in = (long long)to * d + f, out = from < 0 ? -1 : (long long)from * d + f;
      move_limb(sums.sums, in, out, first_limb(scaled));
#if LIMBS == 2
      move_limb(sums.sums + (long long)sums.k * d, in, out, second_limb(scaled, grid.limb_size));
#endif
    }
    if (lane == 0) {
      const double scaled = __dmul_rn(weight, grid.scales[WEIGHT_SCALE]);
      move_limb(sums.weights, to, from, first_limb(scaled));
#if LIMBS == 2
      move_limb(sums.weights + sums.k, to, from, second_limb(scaled, grid.weight_limb_size));
#endif
    }
  }
}

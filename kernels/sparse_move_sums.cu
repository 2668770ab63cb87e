/* sparse_move_sums.cu -- the exact sums and weights follow the rows in CSR whose label changed.
 *
 *   for every listed row i, now with labels[i], before with moved_from (or with none, < 0), and every stored entry (i, f):
 *     sums[l, from, f] -= limb_l(y_if),   sums[l, to, f] += limb_l(y_if),   and the same for the weights, once a row
 *   y_if = x_if * weights[i] (one rounding), limbs as in exact/sums.py: Grid.limbs; those of zero are zero
 *
 * indptr (n+1) i64 IN | indices (nnz) i32 IN | data (nnz) ROW IN | weights (n) f64 IN (WEIGHTED) or null (1) | scale (d) f64
 * IN | moved_rows, moved_from (n) i32 IN, of which control[N_MOVED] count | labels (n) i32 IN | sums (LIMBS,k,d) i64 INOUT |
 * weight_sums (LIMBS,k) i64 INOUT | control IN                                    all C-contiguous
 * A warp owns a listed row, its lanes the entries; grid-stride over the list.  Integer addition is associative: no order of
 * the atomics changes a bit.
 * Launch grid any, block 256.   Traffic: the moved rows once; 8 bytes of atomics per limb, entry and cluster left or joined,
 * which collide where many rows of a cluster share a column.
 * Accuracy: exact on the grid.
 *
 * Constants: ROW, LIMBS, WEIGHTED.
 * Tests: python -m pytest tests/kernels/test_sparse_sums.py
 */
#include "common.cuh"
#include "control.cuh"

#define THREADS 256

static_assert(LIMBS == 1 || LIMBS == 2, "a value has one limb or two");

static __device__ __forceinline__ void move_limb(long long* __restrict__ sums, long long to, long long from,
                                                 long long limb) {
  if (limb == 0) return;
  atomic_add(sums + to, limb);
  if (from >= 0) atomic_add(sums + from, -limb);
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
sparse_move_sums(const long long* __restrict__ indptr, const int* __restrict__ indices, const ROW* __restrict__ data,
                 const double* __restrict__ weights, const double* __restrict__ scale, double limb_size,
                 double weight_scale, double weight_limb_size, int k, int d, const int* __restrict__ moved_rows,
                 const int* __restrict__ moved_from, const int* __restrict__ labels, long long* __restrict__ sums,
                 long long* __restrict__ weight_sums, const int* __restrict__ control) {
  if (control[STOP] || control[N_OPEN]) return;
  const int lane = lane_index(), n_moved = control[N_MOVED];
  const long long stride = (long long)gridDim.x * (THREADS / WARP), plane = (long long)k * d;
  for (long long moved = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; moved < n_moved; moved += stride) {
    const int i = moved_rows[moved], from = moved_from[moved], to = labels[i];
    double weight = 1.0;
#if WEIGHTED
    weight = weights[i];
#endif
    const long long end = indptr[i + 1];
    for (long long e = indptr[i] + lane; e < end; e += WARP) {
      const int f = indices[e];
      const double scaled = __dmul_rn(__dmul_rn(widen(data[e]), weight), scale[f]);
      const long long in = (long long)to * d + f, out = from < 0 ? -1 : (long long)from * d + f;
      move_limb(sums, in, out, first_limb(scaled));
#if LIMBS == 2
      move_limb(sums + plane, in, out, second_limb(scaled, limb_size));
#endif
    }
    if (lane == 0) {
      const double scaled = __dmul_rn(weight, weight_scale);
      move_limb(weight_sums, to, from, first_limb(scaled));
#if LIMBS == 2
      move_limb(weight_sums + k, to, from, second_limb(scaled, weight_limb_size));
#endif
    }
  }
}

/* sparse_nearest.cu -- one assignment of rows in CSR: skip, screen and relabel in one pass.
 *
 *   rows with drift_so_far[label] < limits[i] keep their label                                      (control[N_SKIPPED])
 *   for the others   v_ij = scale^2 x_i.c_j - |z_j|^2 / 2   in float64, over the stored entries;  z = scale * c, larger is
 *                    nearer:   |v_ij - true v_ij| <= radius_i = reach_i PER_REST + CONSTANT, reach_i = gamma(m_i + 4) norms[i],
 *                    m_i the entries of row i      (certificates/sparse.py: sparse_score_radius: these are -1/2 of
 *                    the scores there, of scaled rows and centers, on which rows and starts are rounded once less)
 *   labels[i] = argmax_j v_ij where the two best differ by more than twice the radius: limits[i] says how long that holds;
 *               with facts[WHOLE] scores carry no error: equal ones are ties: the lowest index (control[N_UNDECIDED])
 *   else        open_rows lists them for the host                                    (control[N_OPEN], control[N_UNDECIDED])
 *   if `exact` is 0, uncertified rows take the best screened label, provided the scores are not NaN  (control[N_UNCERTAIN])
 *   Rows whose label changes are listed                                                             (control[N_MOVED])
 *
 * rows IN: rows.cuh | norms (n) f64 IN, >= scale |x_i| | centers IN: below | limits: drift_so_far IN, scaled, limits INOUT:
 * limits.cuh | moves: labels INOUT, lists OUT, control INOUT: moves.cuh | open_rows (n) i32 OUT    all C-contiguous
 * A warp owns 32 rows and takes those that are not skipped one by one: LANES of its lanes are centers, which read what a
 * column holds of them side by side, EACH such stretches of centers at a time; where LANES < 32 the entries are dealt out to
 * groups of lanes.  More than LANES EACH centers: the row is read again for the next ones.
 * Launch grid ceil(n/128), block 128.
 * Traffic: 8n bytes, and of rows not skipped 4 + sizeof(ROW) bytes an entry (again, from cache, for every LANES EACH
 * centers) and k elements of a row of columns for each entry, mostly from the second-level cache.   Work: 2 nnz k in float64.
 * Accuracy: products are added in some order with fused operations, m_i roundings at most; the scale is a power of two, and
 * the start is added with the last rounding.
 *
 * Constants: ROW, CENTER, LANES, EACH.
 * Tests: python -m pytest tests/kernels/test_sparse_nearest.py tests/cuda/test_sparse.py
 */
#include "screen.cuh"
#include "rows.cuh"

#define THREADS 128
#define GROUPS (WARP / LANES)

static_assert(LANES <= WARP && WARP % LANES == 0, "a warp is made of whole groups of lanes");

// Centers as their columns, and what scores start from.
struct ColumnCenters {
  In<CENTER> columns;       // (d,n_padded) columns[f,j] = c_jf
  In<double> half_squares;  // (n_padded) -|z_j|^2 / 2, or -infinity for dead centers
  In<float> facts;          // (FACT_WORDS) of all centers
  int k;
  int n_padded;
};

typedef BestOf<double> WideBest;

/* certificates/drift.py: drift_limit of scaled scores, a float32 just below it: roots in float64 within 2^-40, and 2^-22 of all
 * that is added up, which pays for the conversion; 2^-60 for the subnormal drifts that are flushed to zero. */
static __device__ __forceinline__ float wide_drift_limit(const WideBest& best, double radius, double norm,
                                                         double drift_so_far) {
  if (best.second == -INFINITE_64) return INFINITE;  // there is no other center
  const double square = __dmul_rn(norm, norm);
  const double slack = fma(2.0, radius, __dmul_rn(0x1p-40, square + fabs(best.first) + fabs(best.second)));
  const double own = __dmul_rn(sqrt(fmax(fma(-2.0, best.first, square) + slack, 0.0)), 1.0 + 0x1p-40);
  const double other = __dmul_rn(sqrt(fmax(fma(-2.0, best.second, square) - slack, 0.0)), 1.0 - 0x1p-40);
  const double limit = fma(-0x1p-22, own + other + drift_so_far, (other - own) + drift_so_far);
  return double_to_float(limit - 0x1p-60);
}

extern "C" __global__ void __launch_bounds__(THREADS, EACH > 2 ? 6 : 8)
sparse_nearest(const __grid_constant__ SparseRows rows, const double* __restrict__ norms, double scale,
               const __grid_constant__ ColumnCenters of_columns, const __grid_constant__ Limits limits, int exact,
               const __grid_constant__ Moves moves, int* __restrict__ open_rows) {
  int* const control = moves.control;
  if (control[STOP]) return;
  const In<long long> indptr = rows.indptr;
  const In<int> indices = rows.indices;
  const In<ROW> data = rows.data;
  const In<CENTER> columns = of_columns.columns;
  const In<double> half_squares = of_columns.half_squares;
  const In<float> facts = of_columns.facts;
  const In<float> drift_so_far = limits.drift_so_far;
  const int k = of_columns.k, n_padded = of_columns.n_padded;
  __shared__ int active_rows[THREADS];
  const int lane = lane_index(), group = lane / LANES, member = lane % LANES;
  int* const own_rows = active_rows + int(threadIdx.x) - lane;

  // ---- skip
  const long long row = (long long)blockIdx.x * THREADS + threadIdx.x;
  const bool open = is_open(row < limits.n, int(row), moves.labels, limits.limits, drift_so_far, control);
  const int n_active = list_of_warp(open, int(row), own_rows);

  const double square_of_scale = __dmul_rn(scale, scale);
  const bool whole = facts[WHOLE] != 0.0f;
  for (int a = 0; a < n_active; ++a) {
    // ---- screen
    const int i = own_rows[a];
    const long long begin = indptr[i], end = indptr[i + 1];
    WideBest best = {-INFINITE_64, -INFINITE_64, 0x7fffffff};
#pragma unroll 1
    for (int j0 = member; j0 < k + member; j0 += LANES * EACH) {
      double dot[EACH];
#pragma unroll
      for (int t = 0; t < EACH; ++t) dot[t] = 0.0;
#pragma unroll 1
      for (long long e0 = begin; e0 < end; e0 += WARP) {
        const int left = int(min((long long)WARP, end - e0));
        const int column = lane < left ? indices[e0 + lane] : 0;
        const double value = lane < left ? widen(data[e0 + lane]) : 0.0;  // beyond the last: zero times column 0
#pragma unroll 1
        for (int e = group; e < left + group; e += GROUPS) {
          const In<CENTER> centers = columns + (long long)__shfl_sync(EVERY_LANE, column, e) * n_padded;
          const double x = __shfl_sync(EVERY_LANE, value, e);
#pragma unroll
          for (int t = 0; t < EACH; ++t)
            if (j0 + t * LANES < k) dot[t] = fma(x, widen(centers[j0 + t * LANES]), dot[t]);
        }
      }
#pragma unroll
      for (int step = LANES; step < WARP; step *= 2)
#pragma unroll
        for (int t = 0; t < EACH; ++t) dot[t] += __shfl_xor_sync(EVERY_LANE, dot[t], step);
#pragma unroll
      for (int t = 0; t < EACH; ++t) {
        const int j = j0 + t * LANES;
        const double start = j < k ? half_squares[j] : -INFINITE_64;
        if (start > -INFINITE_64) consider(best, fma(dot[t], square_of_scale, start), j);
      }
    }
    best = best_of_lanes(best, LANES);

    // ---- certify
    const int label = min(best.index, k - 1);  // only scores that are no numbers leave none
    const double norm = norms[i], reach = __dmul_rn(__dmul_rn(double(end - begin) + 4.0, 0x1.02p-53), norm);
    const double radius = whole ? 0.0 : fma(reach, double(facts[PER_REST]), double(facts[CONSTANT]));
    Verdict verdict = verdict_of(best, radius, exact);
    const bool tied = whole && !verdict.certain;  // what is not certain without an error is a tie
    verdict.trusted = verdict.trusted && !tied;
    relabel(lane == 0 && (verdict.certain || tied || verdict.trusted), i, label, moves);
    if (lane == 0) {
      limits.limits[i] = verdict.certain ? wide_drift_limit(best, radius, norm, double(drift_so_far[label])) : NOT_A_NUMBER;
      if (verdict.trusted) atomicAdd(control + N_UNCERTAIN, 1);
      if (!verdict.certain && !verdict.trusted) atomicAdd(control + N_UNDECIDED, 1);
      if (!verdict.certain && !verdict.trusted && !tied) open_rows[atomicAdd(control + N_OPEN, 1)] = i;
    }
  }
}

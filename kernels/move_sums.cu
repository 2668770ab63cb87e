/* move_sums.cu -- the exact sums and weights follow the rows whose label changed.
 *
 *   for every listed row i, now with labels[i], before with an old label `from` (or with none, < 0):
 *     sums[l, from, f] -= limb_l(y_if),   sums[l, to, f] += limb_l(y_if),   and the same for the weights, column by column
 *   y_if = x_if * weights[i] (one rounding), limbs as in exact/sums.py: Grid.limbs
 *
 * X (n,d) ROW IN | weights (n) f64 IN (WEIGHTED) or null (1) | grid IN, sums INOUT: sums.cuh | moves IN: moves.cuh
 *                                                                                 all C-contiguous
 * Several runs (blockIdx.z), runs_per_problem of each problem: X, weights, scale and scales hold one problem after another,
 * all else one run after another.  Lists number the rows through all problems.
 * A block takes up to CHUNK listed rows and blockDim.x quads of columns (the last quad of all is the weights).  It sorts the
 * rows by cluster, and a thread adds up a cluster's rows in registers before one atomic per limb: a cluster that takes in
 * every row costs one atomic per CHUNK rows and column, however many clusters there are.  blockDim.y groups of threads share
 * the sorted rows.  Integer addition is associative: no order of blocks or threads changes a bit.
 * OWN_LIMBS: uint8 rows without weights, which are their own limbs.  VECTOR: quads of a row are aligned to their size.
 * Launch grid (any, ceil(quads/blockDim.x), runs), block (F, THREADS/F).   Traffic: the moved rows once or, where they leave a
 * cluster, twice (the second time mostly from the second-level cache); 8 bytes of atomics per limb, column, cluster and chunk.
 * Accuracy: exact on the grid.
 * Tests: python -m pytest tests/kernels/test_move_sums.py tests/kernels/test_sums.py
 */
#include "moves.cuh"
#include "sums.cuh"

#define THREADS 256
#define CHUNK 256                      // listed rows of a block at a time, each an entry or two: one in, one out
#define LEAST 8                        // rows that are worth a block
#define AHEAD 4                        // entries whose values are fetched before the first is added
#define QUAD 4
#define NO_ENTRY 0xffffffffffffffffull

static_assert(LIMBS == 1 || LIMBS == 2, "a value has one limb or two");

#if OWN_LIMBS
typedef int Sum;                       // 2 CHUNK values of 8 bits
#else
typedef long long Sum;
#endif

struct __align__(QUAD * sizeof(ROW) < 16 ? QUAD * sizeof(ROW) : 16) Quad {
  ROW value[QUAD];
};
static __device__ __forceinline__ Quad load_quad(const ROW* __restrict__ row, int f, int d) {
#if VECTOR
  return *reinterpret_cast<const Quad*>(row + f);
#else
  Quad quad;
#pragma unroll
  for (int c = 0; c < QUAD; ++c) quad.value[c] = row[min(f + c, d - 1)];
  return quad;
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
move_sums(const ROW* __restrict__ X, const double* __restrict__ weights, const __grid_constant__ SumGrid grid, int n,
          int runs_per_problem, const __grid_constant__ Moves moves_of_all, const __grid_constant__ Sums sums_of_all) {
  const int run = int(blockIdx.z), problem = run / runs_per_problem;
  const int k = sums_of_all.k, d = sums_of_all.d;
  const Moves moves = moves_of(moves_of_all, run, problem, n);
  const In<int> control = {moves.control}, moved_rows = {moves.rows}, moved_from = {moves.old}, labels = {moves.labels};
  if (control[STOP] || control[N_OPEN]) return;
  const In<double> scale = grid.scale + (long long)problem * d;
  const double weight_scale = grid.scales[problem * SCALE_WORDS + WEIGHT_SCALE];
  long long* const __restrict__ sums = sums_of_all.sums + (long long)run * LIMBS * k * d;
  long long* const __restrict__ weight_sums = sums_of_all.weights + run * LIMBS * k;
  __shared__ unsigned long long entries[2 * CHUNK];  // cluster, then whether the row leaves it, then the row
  const int F = int(blockDim.x), groups = int(blockDim.y), group = int(threadIdx.y);
  const int tid = group * F + int(threadIdx.x), n_quads = (d + QUAD - 1) / QUAD;
  const int quad = int(blockIdx.y) * F + int(threadIdx.x), f = quad * QUAD;
  const bool is_weight = quad == n_quads, has_columns = quad <= n_quads;
  const int n_moved = control[N_MOVED], n_blocks = int(gridDim.x);
  const int rows_at_a_time = min(CHUNK, max(LEAST, (n_moved + n_blocks - 1) / n_blocks));
  const long long plane = is_weight ? k : (long long)k * d;
  [[maybe_unused]] const double second_size = is_weight ? grid.weight_limb_size : grid.limb_size;
  double unit[QUAD];
#pragma unroll
  for (int c = 0; c < QUAD; ++c)
    unit[c] = is_weight ? (c == 0 ? weight_scale : 0.0) : has_columns && f + c < d ? scale[f + c] : 0.0;

  for (long long start = (long long)blockIdx.x * rows_at_a_time; start < n_moved;
       start += (long long)n_blocks * rows_at_a_time) {
    // ---- list and sort
    const int count = int(min((long long)rows_at_a_time, n_moved - start));
    int size = 2;
    while (size < 2 * count) size *= 2;
    for (int e = tid; e < size / 2; e += THREADS) {
      unsigned long long in = NO_ENTRY, out = NO_ENTRY;
      if (e < count) {
        const int row = moved_rows[start + e], from = moved_from[start + e];
        in = (unsigned long long)labels[row] << 33 | unsigned(row);
        if (from >= 0) out = (unsigned long long)from << 33 | 1ull << 32 | unsigned(row);
      }
      entries[e] = in;
      entries[size / 2 + e] = out;
    }
    __syncthreads();  // the entries are complete
    for (int run = 2; run <= size; run *= 2)
      for (int apart = run / 2; apart > 0; apart /= 2) {
        for (int pair = tid; pair < size / 2; pair += THREADS) {
          const int low = pair / apart * 2 * apart + pair % apart, high = low + apart;
          const unsigned long long a = entries[low], b = entries[high];
          if ((a > b) == ((low & run) == 0)) {
            entries[low] = b;
            entries[high] = a;
          }
        }
        __syncthreads();  // this exchange is complete
      }
    int n_entries = 0;
    for (int step = size; step > 0; step /= 2)
      if (n_entries + step <= size && entries[n_entries + step - 1] != NO_ENTRY) n_entries += step;

    // ---- add
    if (has_columns) {
      const int first = int((long long)n_entries * group / groups), last = int((long long)n_entries * (group + 1) / groups);
      Sum sum0[QUAD], sum1[QUAD];
#pragma unroll
      for (int c = 0; c < QUAD; ++c) sum0[c] = sum1[c] = 0;
      int cluster = -1;
      const auto flush = [&]() {
        if (cluster < 0) return;
#pragma unroll
        for (int c = 0; c < QUAD; ++c) {
          long long* const target = is_weight ? weight_sums + cluster : sums + ((long long)cluster * d + f + c);
          if (sum0[c]) atomic_add(target, sum0[c]);
          if (LIMBS == 2 && sum1[c]) atomic_add(target + plane, sum1[c]);
          sum0[c] = sum1[c] = 0;
        }
      };
      for (int e0 = first; e0 < last; e0 += AHEAD) {
        Quad values[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; ++a)
          if (e0 + a < last && !is_weight) values[a] = load_quad(X + (long long)int(unsigned(entries[e0 + a])) * d, f, d);
#pragma unroll
        for (int a = 0; a < AHEAD; ++a) {
          if (e0 + a >= last) break;
          const unsigned long long entry = entries[e0 + a];
          const int here = int(entry >> 33);
          if (here != cluster) {
            flush();
            cluster = here;
          }
          const bool leaves = entry >> 32 & 1;
#if OWN_LIMBS
#pragma unroll
          for (int c = 0; c < QUAD; ++c) {
            const int limb = is_weight ? c == 0 : unit[c] != 0.0 ? int(values[a].value[c]) : 0;
            sum0[c] += leaves ? -limb : limb;
          }
#else
#if WEIGHTED
          const double weight = weights[unsigned(entry)];
#endif
#pragma unroll
          for (int c = 0; c < QUAD; ++c) {
            double y = is_weight ? 1.0 : widen(values[a].value[c]);
#if WEIGHTED
            y = __dmul_rn(y, weight);
#endif
            const double scaled = __dmul_rn(y, unit[c]);
            const long long limb0 = first_limb(scaled);
            sum0[c] += leaves ? -limb0 : limb0;
            if (LIMBS == 2) {
              const long long limb1 = second_limb(scaled, second_size);
              sum1[c] += leaves ? -limb1 : limb1;
            }
          }
#endif
        }
      }
      flush();
    }
    __syncthreads();  // the entries have been read
  }
}

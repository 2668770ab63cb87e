/* sparse_seed.cu -- k-means++ over rows in CSR: squared distances to a few rows, and sums of them.
 *
 *   D_is = |x_i|^2 + |s|^2 - 2 x_i.s                       for the rows s = others.rows[0 .. count)
 *   value_it = min(closest[i], D_it)                       for every t < count; sums of value_t and of their squares' part:
 *     sums[0,t,b] = sum of weights[i] * value_it                       over the rows of block b
 *     sums[1,t,b] = sum of weights[i] * |x_i|^2                        over those with value_it > 0
 *   with KEEP the rows become seeds: one value, value_i = closest[i] = min(closest[i], min_s D_is), takes the place of all
 *
 * stored IN: rows.cuh | squares (n) f64 IN, |x_i|^2 | weights (n) f64 IN or null (1) | others IN: below | closest (n) f64 INOUT
 * (KEEP) or IN, above every distance where there is no seed | sums (2, count, n_blocks) f64 OUT, with KEEP (2, 1, n_blocks)
 *                                                                                 all C-contiguous
 * A block owns 256 rows, a warp 32 of them, one by one: TOGETHER lanes are the rows s, and four groups of them share the
 * entries of a row.
 * Launch grid ceil(n/256), block 256, shared 16.5 KiB (static).
 * Traffic: one reading of the rows, TOGETHER elements of the table an entry from cache, 16n read, 8n written.
 * Work: 2 nnz TOGETHER in float64.
 * Accuracy: with m entries a row at most, D is within gamma(2 m + 8) (|x_i|^2 + |s|^2) of the true distance, the squares
 * given within gamma(m).  Where the two cancel by more than 2^-20, so near it is a row to s, the distance is taken from the
 * differences instead: within gamma(2 m + 4) of itself, lifted to 2^-1000 where squares underflow, and zero for a row equal
 * to s and for no other.  A sum over a block rounds 15 times at most (certificates/seeds.py: SparseSeedRadii).
 * Tests: python -m pytest tests/kernels/test_sparse_seed.py
 */
#include "seeding.cuh"
#include "rows.cuh"

#define TOGETHER 8                     // cuda/tuning.py: SPARSE_TOGETHER
#define GROUPS_OF_ENTRIES (WARP / TOGETHER)
#define LEAST_64 __longlong_as_double(0x0170000000000000LL)  // 2^-1000
#if KEEP
#define VALUES 1
#else
#define VALUES TOGETHER
#endif

// Where a column stands among the rising indices of a row: the first entry that is not below it.
static __device__ __forceinline__ long long find_column(In<int> indices, long long begin, long long end,
                                                        int column) {
  while (begin < end) {
    const long long middle = begin + (end - begin) / 2;
    if (indices[middle] < column)
      begin = middle + 1;
    else
      end = middle;
  }
  return begin;
}

// |x_i - x_s|^2 from the differences; the whole warp calls, the result is the same in every lane.
static __device__ double telling_distance(const SparseRows& stored, int i, int s) {
  const In<long long> indptr = stored.indptr;
  const In<int> indices = stored.indices;
  const In<ROW> data = stored.data;
  const long long begin = indptr[i], end = indptr[i + 1], other_begin = indptr[s], other_end = indptr[s + 1];
  double sum = 0.0;
  bool apart = false;
  for (long long e = begin + lane_index(); e < end; e += WARP) {
    const long long at = find_column(indices, other_begin, other_end, indices[e]);
    const bool both = at < other_end && indices[at] == indices[e];
    const double difference = widen(data[e]) - (both ? widen(data[at]) : 0.0);
    sum = fma(difference, difference, sum);
    apart |= difference != 0.0;
  }
  for (long long e = other_begin + lane_index(); e < other_end; e += WARP) {
    const long long at = find_column(indices, begin, end, indices[e]);
    if (at < end && indices[at] == indices[e]) continue;
    const double value = widen(data[e]);
    sum = fma(value, value, sum);
    apart |= value != 0.0;
  }
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2) sum = __dadd_rn(sum, __shfl_xor_sync(EVERY_LANE, sum, half));
  return __any_sync(EVERY_LANE, apart) ? fmax(sum, LEAST_64) : 0.0;
}

// The rows that distances are taken to.
struct Others {
  In<int> rows;   // (count)
  In<ROW> table;  // (d, TOGETHER) sparse_lookup.cu
  int count;      // 1 to TOGETHER
};

extern "C" __global__ void __launch_bounds__(THREADS, 3)
sparse_seed(const __grid_constant__ SparseRows stored, const double* __restrict__ squares, const double* __restrict__ weights,
            const __grid_constant__ Others others, long long n, double* __restrict__ closest, double* __restrict__ sums) {
  const int count = others.count;
  __shared__ double values[VALUES][THREADS + 1];
  __shared__ double part[WARPS];
  const int tid = int(threadIdx.x), lane = lane_index(), base = tid - lane;
  const int group = lane / TOGETHER, member = lane % TOGETHER;
  const long long from = (long long)blockIdx.x * THREADS;
  const int own = others.rows[min(member, count - 1)];
  const double own_square = squares[own];

  for (int r = 0; r < WARP; ++r) {
    const long long i = from + base + r;
    if (i >= n) break;
    const long long begin = stored.indptr[i], end = stored.indptr[i + 1];
    double dot = 0.0;
    for (long long e0 = begin; e0 < end; e0 += WARP) {
      const int left = int(min((long long)WARP, end - e0));
      const int column = lane < left ? stored.indices[e0 + lane] : 0;
      const double value = lane < left ? widen(stored.data[e0 + lane]) : 0.0;  // beyond the last: zero times column 0
      for (int e = group; e < left + group; e += GROUPS_OF_ENTRIES) {
        const long long f = __shfl_sync(EVERY_LANE, column, e);
        dot = fma(__shfl_sync(EVERY_LANE, value, e), widen(others.table[f * TOGETHER + member]), dot);
      }
    }
#pragma unroll
    for (int step = TOGETHER; step < WARP; step *= 2) dot = __dadd_rn(dot, __shfl_xor_sync(EVERY_LANE, dot, step));
    const double both = squares[i] + own_square;
    double distance = fma(-2.0, dot, both);
    // Few rows are so near to another that this leaves doubt, or are seeds themselves.
    unsigned near = __ballot_sync(EVERY_LANE, group == 0 && member < count && !(distance > __dmul_rn(0x1p-20, both)));
    for (; near != 0u; near &= near - 1u) {
      const int t = __ffs(int(near)) - 1;
      const double told = telling_distance(stored, int(i), __shfl_sync(EVERY_LANE, own, t));
      if (member == t) distance = told;
    }
#if KEEP
    if (member >= count) distance = __longlong_as_double(0x7ff0000000000000LL);
#pragma unroll
    for (int step = TOGETHER / 2; step > 0; step /= 2)
      distance = fmin(distance, __shfl_xor_sync(EVERY_LANE, distance, step));
    if (lane == 0) values[0][base + r] = distance;
#else
    if (group == 0) values[member][base + r] = distance;
#endif
  }
  __syncwarp();  // the values of the warp's rows are there

  const long long i = from + tid;
  const double before = i < n ? closest[i] : 0.0, weight = weights && i < n ? weights[i] : 1.0;
  const double square = i < n ? __dmul_rn(weight, squares[i]) : 0.0;
  const int n_values = KEEP ? 1 : count;
  for (int t = 0; t < n_values; ++t) {
    const double value = i < n ? fmin(before, values[t][tid]) : 0.0;
#if KEEP
    if (value < before) closest[i] = value;
#endif
    const double sum = block_sum(__dmul_rn(weight, value), part);
    if (tid == 0) sums[(long long)t * gridDim.x + blockIdx.x] = sum;
    __syncthreads();  // the parts have been read
    const double squares_sum = block_sum(value > 0.0 ? square : 0.0, part);
    if (tid == 0) sums[(long long)(n_values + t) * gridDim.x + blockIdx.x] = squares_sum;
    __syncthreads();  // the parts have been read
  }
}

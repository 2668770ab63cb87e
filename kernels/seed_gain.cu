/* seed_gain.cu -- k-means++: what the potential would lose, were a candidate the next seed.
 *
 *   near[i]      = bit t: candidate t may be nearer to row i than its closest seed:
 *                  shrink * |x_i - c_t|^2 < closest[i] + margin
 *   sums[0,t,b]  = sum of weights[i] * closest[i]                       over the rows of block b with bit t
 *   sums[1,t,b]  = sum of weights[i] * min(closest[i], |x_i - c_t|^2)   over the same
 *
 * The gain of a candidate is the difference of the two; only rows that it improves, or may improve, add to its error.
 * A row is not read where it equals a seed, or where the candidates are so far from its own seed that the triangle
 * inequality rules them out: reach[owners[i]] >= factor * closest[i] + floor (certificates/seeds.py: separated).
 *
 * rows IN: rows.cuh | weights (n) f64 IN or null (1) | seeds, trials IN, progress: state IN or null (go on), test IN, gains
 * OUT: seeding.cuh | skip IN: below                                               all C-contiguous
 * Several problems (blockIdx.z), n_runs of each: X and weights hold one problem after another, all else one run.
 * A block owns 256 rows of one run, a warp 32 of them.  LANES lanes share a row, TOGETHER candidates at a time, whose
 * rows are read where they lie (from cache).  Nothing is done where the host must settle a draw first.
 * Launch grid (ceil(n/256), n_runs, problems), block 256, shared 6 KiB (static).
 * Traffic: at most one reading of X (again from cache for every TOGETHER candidates), 8n read (12n with reach), 2n
 * written.  Work: at most 3 n d n_trials, in float32 or (WIDE) in float64, which is half rate on data-center GPUs and
 * 1/32 or 1/64 on others.
 * Accuracy: the distances as in seeding.cuh; a sum over a block rounds 21 times at most.
 * Tests: python -m pytest tests/kernels/test_seed_gain.py
 */
#include "seeding.cuh"
#include "rows.cuh"

#define MOST_TRIALS 16                 // cuda/tuning.py: MOST_TRIALS
#define SLOTS ((TOGETHER + LANES - 1) / LANES)  // candidates whose sums a lane keeps
static_assert(TOGETHER <= MOST_TRIALS, "a row has a bit for each candidate");

// Which rows are not read.
struct Skip {
  In<double> reach;  // (n_runs, n_clusters) seed_reach.cu; or null: every row is read
  double factor;
  double floor;
};

extern "C" __global__ void __launch_bounds__(THREADS, TOGETHER > 4 ? 1 : 2)
seed_gain(const __grid_constant__ Rows rows, const double* __restrict__ weights, const __grid_constant__ Closest seeds,
          const __grid_constant__ Trials trials, const __grid_constant__ Progress progress, const __grid_constant__ Skip skip,
          const __grid_constant__ NearTest test, const __grid_constant__ Gains gains) {
  __shared__ int listed[THREADS];
  __shared__ unsigned near_of[THREADS];
  __shared__ double far_part[WARPS][MOST_TRIALS], near_part[WARPS][MOST_TRIALS];
  const int tid = int(threadIdx.x), lane = lane_index(), base = tid - lane, group = lane / LANES, member = lane % LANES;
  const long long problem = problem_index(), run = run_index(), from = (long long)blockIdx.x * THREADS, i = from + tid;
  const In<ROW> X = rows.X;
  const long long n = rows.n;
  const int d = rows.d, n_trials = trials.n_trials;
  const In<double> closest = {seeds.closest};
  const In<int> owners = {seeds.owners}, own = trials.candidates + run * n_trials;
  if (progress.state && !draws_on(progress.state + run * STATE, progress.n_clusters)) return;
  if (!all_located(own, n_trials)) return;
  const long long first = problem * n;  // of the problem's rows

  const double value = i < n ? closest[run * n + i] : 0.0;
  const double weight = weights && i < n ? weights[first + i] : 1.0;
  bool wanted = value > 0.0;
  if (wanted && skip.reach.at)
    wanted = skip.reach[run * progress.n_clusters + owners[run * n + i]] < fma(skip.factor, value, skip.floor);
  near_of[tid] = 0;
  const int n_wanted = list_rows(wanted, listed + base);
  for (int t0 = 0; t0 < n_trials; t0 += TOGETHER) {
    In<ROW> seed[TOGETHER];
    double far_sum[SLOTS], near_sum[SLOTS];
#pragma unroll
    for (int t = 0; t < TOGETHER; ++t) seed[t] = X + (first + own[min(t0 + t, n_trials - 1)]) * d;
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) far_sum[s] = near_sum[s] = 0.0;
    for (int r = 0; r < n_wanted; r += GROUPS) {
      const bool mine = r + group < n_wanted;
      const int place = listed[base + (mine ? r + group : r)];
      double distance[TOGETHER];
      square_distances<Kept>(X + (first + from + base + place) * d, seed, d, distance);
      const double row_value = __shfl_sync(EVERY_LANE, value, place);
      const double row_weight = __shfl_sync(EVERY_LANE, weight, place);
      unsigned bits = 0;
#pragma unroll
      for (int t = 0; t < TOGETHER; ++t) {
        const bool near_it = __dmul_rn(test.shrink, distance[t]) < __dadd_rn(row_value, test.margin);
        const bool may = mine && t0 + t < n_trials && near_it;
        bits |= unsigned(may) << t;
        if (may && t % LANES == member) {
          far_sum[t / LANES] = __dadd_rn(far_sum[t / LANES], __dmul_rn(row_weight, row_value));
          near_sum[t / LANES] = __dadd_rn(near_sum[t / LANES], __dmul_rn(row_weight, fmin(row_value, distance[t])));
        }
      }
      if (mine && member == 0) near_of[base + place] |= bits << t0;
    }
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
#pragma unroll
      for (int step = LANES; step < WARP; step *= 2) {
        far_sum[s] += __shfl_xor_sync(EVERY_LANE, far_sum[s], step);
        near_sum[s] += __shfl_xor_sync(EVERY_LANE, near_sum[s], step);
      }
      const int t = s * LANES + member;
      if (group == 0 && t < TOGETHER && t0 + t < n_trials) {
        far_part[tid / WARP][t0 + t] = far_sum[s];
        near_part[tid / WARP][t0 + t] = near_sum[s];
      }
    }
  }
  __syncthreads();  // all warps are done
  if (i < n) gains.near[run * n + i] = (unsigned short)near_of[tid];
  if (tid < 2 * n_trials) {
    const int t = tid % n_trials;
    double sum = 0.0;
    for (int w = 0; w < WARPS; ++w) sum += tid < n_trials ? far_part[w][t] : near_part[w][t];
    gains.sums[(run * 2 * n_trials + tid) * gridDim.x + blockIdx.x] = sum;
  }
}

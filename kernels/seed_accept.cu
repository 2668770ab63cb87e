/* seed_accept.cu -- k-means++: the candidate chosen last is a seed now.
 *
 *   closest[i] = min(closest[i], |x_i - x_seed|^2)      for the rows with its bit in `near`; owners[i] follows
 *   sums[b]    = sum of weights[i] * closest[i] over the rows i of block b
 *
 * rows IN: rows.cuh | weights (n) f64 IN or null (1) | seeds (n_runs,n_clusters) i32 IN | progress, gains IN, closest INOUT:
 * seeding.cuh | sums (n_runs,n_blocks) f64 INOUT                                  all C-contiguous
 * Several problems (blockIdx.z), n_runs of each: X and weights hold one problem after another, all else one run.
 * A block owns 256 rows of one run; it returns at once where the seed is near to none of them, or no seed is wanted
 * any more.
 * Launch grid (ceil(n/256), n_runs, problems), block 256, shared 3 KiB (static).
 * Traffic: of the blocks with a row near the seed: 10 bytes a row, and the near rows of X.  Work: 3 d a near row, in
 * float64 (bytes in float32, exactly).
 * Accuracy: as seed_add.cu.
 * Tests: python -m pytest tests/kernels/test_seed_gain.py tests/kernels/test_seed_add.py
 */
#include "seeding.cuh"
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 2)
seed_accept(const __grid_constant__ Rows rows, const double* __restrict__ weights, const int* __restrict__ seeds,
            const __grid_constant__ Progress progress, const __grid_constant__ Gains gains, int n_trials,
            const __grid_constant__ Closest so_far, double* __restrict__ sums) {
  __shared__ int listed[THREADS];
  __shared__ double distance_of[THREADS], part[WARPS];
  const int tid = int(threadIdx.x), lane = lane_index(), base = tid - lane, group = lane / LANES;
  const long long problem = problem_index(), run = run_index(), from = (long long)blockIdx.x * THREADS, i = from + tid;
  const long long n = rows.n;
  const int d = rows.d, n_clusters = progress.n_clusters;
  const In<int> own = {progress.state + run * STATE};
  const In<ROW> X = rows.X + problem * n * d;
  const In<double> gain_sums = {gains.sums};
  const In<unsigned short> near = {gains.near};
  double* const closest = so_far.closest;
  if (weights) weights += problem * n;
  if (!draws_on(own.at, n_clusters)) return;  // distances to the last seed are not needed
  if (gain_sums[(run * 2 * n_trials + own[WINNER]) * gridDim.x + blockIdx.x] == 0.0) return;

  double value = i < n ? closest[run * n + i] : 0.0;
  const bool wanted = i < n && (near[run * n + i] >> own[WINNER] & 1);
  const int last = own[N_SEEDS] - 1;
  const In<ROW> seed[1] = {X + (long long)seeds[run * n_clusters + last] * d};
  const int n_wanted = list_rows(wanted, listed + base);
  for (int r = 0; r < n_wanted; r += GROUPS) {
    const int place = base + listed[base + min(r + group, n_wanted - 1)];
    double distance[1];
    telling_distances(X + (from + place) * d, seed, d, distance);
    if (r + group < n_wanted && lane % LANES == 0) distance_of[place] = distance[0];
  }
  __syncwarp();  // what other lanes found
  if (wanted && distance_of[tid] < value) {
    value = distance_of[tid];
    closest[run * n + i] = value;
    so_far.owners[run * n + i] = last;
  }
  const double sum = block_sum(weights && i < n ? __dmul_rn(weights[i], value) : value, part);
  if (tid == 0) sums[run * gridDim.x + blockIdx.x] = sum;
}

/* seed_add.cu -- k-means++: listed rows become seeds.
 *
 *   closest[i] = min(closest[i], min over s = first .. first + count - 1 of |x_i - x_seeds[s]|^2)
 *   owners[i]  = the s of that minimum, where it is a new one (ties: the lowest)
 *   sums[b]    = sum of weights[i] * closest[i] over the rows i of block b
 *
 * Where float32 distances are good for a first look (screened), float64 is taken only where some row of a warp may be
 * nearer to a seed: shrink * (float32 distance) < (distance so far) + margin, as in seed_gain.cu.
 *
 * rows IN: rows.cuh | weights (n) f64 IN or null (1) | listed IN: below | test IN, closest INOUT: seeding.cuh |
 * sums (n_runs,n_blocks) f64 OUT                                                  all C-contiguous
 * Several problems (blockIdx.z), n_runs of each: X and weights hold one problem after another, all else one run.
 * A block owns 256 rows of one run; LANES lanes share a row, TOGETHER seeds at a time, read where they lie.
 * Launch grid (ceil(n/256), n_runs, problems), block 256, shared 4 KiB (static).
 * Traffic: X once (again from cache for every TOGETHER seeds), 12n read and written.  Work: 3 n d count, in float32
 * (bytes, exactly) or float64, which is half rate on data-center GPUs and 1/32 or 1/64 on others.
 * Accuracy: certificates/seeds.py: distance_roundings, besides 2^-1000 for squares that underflow; zero for a row equal to a
 * seed and for no other.
 * Tests: python -m pytest tests/kernels/test_seed_add.py
 */
#include "seeding.cuh"
#include "rows.cuh"

#define TOGETHER 4
#define SCREENS (WIDE && sizeof(ROW) < sizeof(double))

// The rows that become seeds: `count` of the rows listed, from `first` on.
struct Listed {
  In<int> seeds;  // (n_runs, n_listed) row indices
  int n_listed;
  int first;
  int count;
};

extern "C" __global__ void __launch_bounds__(THREADS, 1)
seed_add(const __grid_constant__ Rows rows, const double* __restrict__ weights, const __grid_constant__ Listed seeds,
         int screened, const __grid_constant__ NearTest test, const __grid_constant__ Closest so_far,
         double* __restrict__ sums) {
  __shared__ int listed[THREADS], nearest_of[THREADS];
  __shared__ double smallest_of[THREADS], part[WARPS];
  const int tid = int(threadIdx.x), lane = lane_index(), base = tid - lane, group = lane / LANES;
  const long long problem = problem_index(), run = run_index(), from = (long long)blockIdx.x * THREADS, i = from + tid;
  const long long n = rows.n;
  const int d = rows.d, first = seeds.first, count = seeds.count;
  const In<int> own = seeds.seeds + run * seeds.n_listed + first;
  const In<ROW> X = rows.X + problem * n * d;
  double* const closest = so_far.closest;
  if (weights) weights += problem * n;

  double value = i < n ? closest[run * n + i] : 0.0;
  const bool wanted = value > 0.0;
  const int n_wanted = list_rows(wanted, listed + base);
  for (int r = 0; r < n_wanted; r += GROUPS) {
    const int place = base + listed[base + min(r + group, n_wanted - 1)];
    const In<ROW> x = X + (from + place) * d;
    double smallest = __shfl_sync(EVERY_LANE, value, place - base);
    int nearest = 0;
    for (int s0 = 0; s0 < count; s0 += TOGETHER) {
      unsigned look = 1u;              // bit s: seed s0 + s needs a look of its own; the same in every lane
      if (count - s0 > 1) {
        In<ROW> seed[TOGETHER];
        double distance[TOGETHER];
#pragma unroll
        for (int s = 0; s < TOGETHER; ++s) seed[s] = X + (long long)own[min(s0 + s, count - 1)] * d;
        look = 0u;
        if (SCREENS && screened) {
          square_distances<float>(x, seed, d, distance);
#pragma unroll
          for (int s = 0; s < TOGETHER; ++s) {
            const bool near = __dmul_rn(test.shrink, distance[s]) < __dadd_rn(smallest, test.margin);
            look |= unsigned(__any_sync(EVERY_LANE, s0 + s < count && near) != 0) << s;
          }
        } else {
          telling_distances(x, seed, d, distance);
#pragma unroll
          for (int s = 0; s < TOGETHER; ++s)
            if (s0 + s < count && distance[s] < smallest) {
              smallest = distance[s];
              nearest = s0 + s;
            }
        }
      }
      for (; look != 0u; look &= look - 1u) {
        const int s = s0 + __ffs(int(look)) - 1;
        const In<ROW> seed[1] = {X + (long long)own[s] * d};
        double distance[1];
        telling_distances(x, seed, d, distance);
        if (distance[0] < smallest) {
          smallest = distance[0];
          nearest = s;
        }
      }
    }
    if (r + group < n_wanted && lane % LANES == 0) {
      smallest_of[place] = smallest;
      nearest_of[place] = nearest;
    }
  }
  __syncwarp();  // what other lanes found
  if (wanted && smallest_of[tid] < value) {
    value = smallest_of[tid];
    closest[run * n + i] = value;
    so_far.owners[run * n + i] = first + nearest_of[tid];
  }
  const double sum = block_sum(weights && i < n ? __dmul_rn(weights[i], value) : value, part);
  if (tid == 0) sums[run * gridDim.x + blockIdx.x] = sum;
}

/* nearest_of_few_bytes.cu -- nearest_of_few.cu for rows of bytes and at most 16 centers, on integer tensor cores.
 *
 *   v_ij = FIXED_UNIT (x_i.q_j + start_j),   q_j: limbs.cuh,   start_j = offset.q_j - |z_j|^2 / (2 FIXED_UNIT), a whole number
 *        = z_i.z_j - |z_j|^2 / 2 but for the error of q_j: whole numbers have no other, until v_ij is rounded to float32
 *   What is done with the two best, and what is counted and listed: nearest_of_few.cu.
 *
 * bytes IN: below | centers IN (half_squares (16), of which only -infinity counts), facts of update_centers.cu with FIXED |
 * all else: nearest_of_few.cu                                                                       all C-contiguous
 * Rows start at multiples of 16 bytes, d is a multiple of 16 and at most 65536: so many products of 255 * 128 fit 32 bits.
 * A block owns 128 rows; its warps take those that are not skipped 32 at a time, straight from memory into registers: a
 * lane's 16 bytes are the second operand of two products, as they are.  Centers come from the first-level cache, 32 rows a
 * reading: a copy in each block's shared memory would read them 547 times from the second-level cache (MNIST: 20 MB beside
 * 55 MB of rows), not 132 times.
 * Launch grid (ceil(n/128), runs, problems), block 128.
 * Traffic: 8n bytes, and of rows not skipped their elements once and 12 bytes each; the centers (48 d bytes) from the
 * first-level cache.   Work: 96 n d whole multiply-adds, for any k.
 * Tests: python -m pytest tests/kernels/test_nearest_of_few_bytes.py
 */
#include "few.cuh"
#include "limbs.cuh"

#define THREADS 128
#define ROW_GROUPS 4                   // of 8 rows, that a warp multiplies by the same centers
// Blocks of a multiprocessor: five hold 70,000 rows at once on the 132 of an H100, in 96 registers a thread.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 800 || __CUDA_ARCH__ >= 1000
#define MIN_BLOCKS 4
#else
#define MIN_BLOCKS 5
#endif

struct Bytes {
  In<ROW> X;               // (n,d)
  In<float> norms;         // (n) at least |z_i|
  In<signed char> limbs;   // limbs.cuh
  In<long long> starts;    // (16), of living centers
  int d;
};

// The whole number in units of FIXED_UNIT, rounded once.
static __device__ __forceinline__ float score(bool alive, long long start, int hi, int mid, int lo) {
  return alive ? float(start + (long long)hi * 65536 + (long long)mid * 256 + lo) : -INFINITE;
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
nearest_of_few_bytes(const __grid_constant__ Bytes bytes, const __grid_constant__ Centers centers,
                     const __grid_constant__ StoredCenters stored, const __grid_constant__ Limits limits, int exact,
                     const __grid_constant__ Moves moves_of_all, int* __restrict__ open_rows) {
  const int run = run_index(), problem = problem_index();
  const int n = limits.n, d = bytes.d, n_groups = (d + LIMB_GROUP - 1) / LIMB_GROUP;
  const long long start = (long long)(run - problem) * n;  // of this run's labels and limits
  int* const control = moves_of_all.control + run * CONTROL_WORDS;
  if (control[STOP]) return;
  __shared__ int active_rows[THREADS], counts[THREADS / WARP], waiting[2];

  // ---- skip
  const long long place = (long long)blockIdx.x * THREADS + threadIdx.x;
  const int place_row = problem * n + int(place);
  const bool open = is_open(place < n, place_row, moves_of_all.labels + start, limits.limits + start,
                            limits.drift_so_far + run * centers.k, control);
  if (threadIdx.x == 0) {
    waiting[0] = run;
    waiting[1] = problem;
  }
  const int ahead = int(threadIdx.x) / WARP * WARP;  // the rows that the warps before this one take
  const int n_active = list_of_block<THREADS / WARP>(open, place_row, active_rows, counts) - ahead;
  if (n_active <= 0) return;

  // ---- screen: rows 8 r + g; beyond the last row the first one again
  const int lane = lane_index(), g = lane / 4, t = lane % 4;
  const unsigned width = unsigned(d) / 16;  // of a row, and of a place in X, in 16 bytes
  unsigned place_of[ROW_GROUPS];
#pragma unroll
  for (int r = 0; r < ROW_GROUPS; ++r) {
    const int slot = 8 * r + g;
    place_of[r] = unsigned(active_rows[ahead + (slot < n_active ? slot : 0)]) * width;
  }
  int sum[LIMB_TILES][ROW_GROUPS][4] = {};
  In<signed char> fragment = bytes.limbs + ((long long)run * n_groups * (2 * LIMB_TILES * WARP) + lane) * 16;
#pragma unroll 1
  for (int group = 0; group < n_groups; ++group) {
    // Beyond the end of a row any of its bytes will do: limbs are zeros there.
    const unsigned column = 4 * group + t < width ? 4 * group + t : 0;
    uint4 strip[ROW_GROUPS];
#pragma unroll
    for (int r = 0; r < ROW_GROUPS; ++r)
      strip[r] = load_once(reinterpret_cast<const uint4*>(bytes.X.at) + (place_of[r] + column));
#pragma unroll
    for (int step = 0; step < 2; ++step)
#pragma unroll
      for (int tile = 0; tile < LIMB_TILES; ++tile) {
        const uint4 limbs = fragment.vector<uint4>((step * LIMB_TILES + tile) * WARP);
#pragma unroll
        for (int r = 0; r < ROW_GROUPS; ++r)
          byte_product(sum[tile][r], limbs, step ? strip[r].z : strip[r].x, step ? strip[r].w : strip[r].y);
      }
    fragment = fragment + 2 * LIMB_TILES * WARP * 16;
  }

  // ---- the two best of centers g and 8 + g, for rows 8 r + 2 t + e.  Registers were the sums': all else is found again.
  const int thread = again(int(threadIdx.x)), g_now = (thread & (WARP - 1)) / 4, t_now = thread & 3;
  const int own_run = waiting[0], first_slot = thread & ~(WARP - 1);
  const Screened screened = screened_by(bytes.X, bytes.norms, centers, LIMB_CENTERS, stored, limits, d, own_run);
  const In<long long> starts = bytes.starts + own_run * LIMB_CENTERS;
  const bool alive = screened.half_squares[g_now] != -INFINITE, alive8 = screened.half_squares[8 + g_now] != -INFINITE;
  const long long start_g = alive ? starts[g_now] : 0, start8 = alive8 ? starts[8 + g_now] : 0;
  Best best[2 * ROW_GROUPS];
#pragma unroll
  for (int r = 0; r < ROW_GROUPS; ++r)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float first = score(alive, start_g, sum[0][r][e], sum[0][r][2 + e], sum[2][r][e]);
      const float other = score(alive8, start8, sum[1][r][e], sum[1][r][2 + e], sum[2][r][2 + e]);
      best[2 * r + e] = {fmaxf(first, other), fminf(first, other), other > first ? 8 + g_now : g_now};
    }
  // Lanes that differ in a bit of g exchange half of their rows, until each has one: row 4 (g & 6) + 2 t + (g & 1).
#pragma unroll
  for (int half = ROW_GROUPS; half > 0; half /= 2) {
    const bool upper = g_now & half;
#pragma unroll
    for (int s = 0; s < half; ++s) {
      const Best kept = upper ? best[s + half] : best[s], given = upper ? best[s] : best[s + half];
      const Best taken = {__shfl_xor_sync(EVERY_LANE, given.first, 4 * half),
                          __shfl_xor_sync(EVERY_LANE, given.second, 4 * half),
                          __shfl_xor_sync(EVERY_LANE, given.index, 4 * half)};
      best[s] = better(kept, taken);
    }
  }
  const float unit = float(FIXED_UNIT);
  const Best own_best = {__fmul_rn(best[0].first, unit), __fmul_rn(best[0].second, unit), best[0].index};
  int left = -first_slot;
#pragma unroll
  for (int w = 0; w < THREADS / WARP; ++w) left += counts[w];
  const int own_slot = 4 * (g_now & 6) + 2 * t_now + (g_now & 1);
  const bool own = own_slot < left;
  settle(own_best, own, own ? active_rows[first_slot + own_slot] : 0, 0.0f, screened, exact,
         moves_of(moves_of_all, own_run, waiting[1], n), open_rows + (long long)own_run * n);
}

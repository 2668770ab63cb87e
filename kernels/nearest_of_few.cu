/* nearest_of_few.cu -- one assignment to at most 8 TILES centers: skip, screen, resolve and relabel in one pass.
 *
 *   rows with drift_so_far[label] < limits[i] keep their label                                      (control[N_SKIPPED])
 *   for the others   labels[i] = argmax_j v_ij,   certified where the two best differ by more than twice the radius:
 *                    limits[i] says how long that holds                                             (screen.cuh)
 *   not certified:   labels[i] = argmin_j |x_i - c_j|^2 in float64                                  (control[N_UNDECIDED])
 *   nor decided so:  open_rows lists them for the host                                              (control[N_OPEN])
 *   if `exact` is 0, uncertified rows take the best screened label, provided the scores are not NaN  (control[N_UNCERTAIN])
 *   Rows whose label changes are listed                                                             (control[N_MOVED])
 *
 * operands IN, centers IN (half_squares (8 TILES)): screen.cuh | stored centers IN: float64.cuh | limits: drift_so_far IN,
 * limits INOUT: limits.cuh | moves: labels INOUT, lists OUT, control INOUT: moves.cuh | open_rows (n) i32 OUT
 *                                                                                                 all C-contiguous
 * Several runs (blockIdx.y) of several problems (blockIdx.z): X, norms, rests, scales and offsets hold one problem after
 * another, all else one run after another.  Lists number the rows through all problems.
 * A block owns 128 rows; its warps take those that are not skipped 16 at a time, straight from memory into the registers of the
 * tensor cores; no shared memory but for a list of rows.  AHEAD groups of columns are on their way at a time.
 * Launch grid (ceil(n/128), runs, problems), block 128.
 * Traffic: 8n bytes, and of rows not skipped their elements once (twice where not certified) and 16 bytes each; the centers
 * (2 k d bytes) from the first-level cache, 16 rows a reading.   Work: 2 n d k flop, k rounded up to 8 TILES.
 * Tests: python -m pytest tests/kernels/test_nearest_of_few.py
 */
#include "few.cuh"

#define THREADS 128
#define ROWS 16                        // rows of a tensor product
// Groups of columns on their way at a time; elements that are read one by one take a register each, doubles two.
#if VECTOR
#define AHEAD (sizeof(ROW) == 1 ? (TILES <= 2 ? 4 : 8 / TILES) : sizeof(ROW) == 8 ? (TILES == 8 ? 1 : 2) : 4)
#else
#define AHEAD (sizeof(ROW) == 4 ? 4 : sizeof(ROW) == 8 || (sizeof(ROW) == 2 && TILES < 8) ? 2 : 1)
#endif
// Blocks of a multiprocessor: as many as leave every sum, and the address of every tile of centers, its register.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 800 || __CUDA_ARCH__ >= 1000
#define MIN_BLOCKS ((TILES <= 2 ? 5 : TILES == 4 ? 4 : 3) - (sizeof(ROW) == 1 || (sizeof(ROW) == 2 && TILES == 8)))
#else
#define MIN_BLOCKS (TILES <= 2 ? 5 : TILES == 4 && VECTOR && sizeof(ROW) == 1 ? 3 : 4)
#endif

static_assert(TILES >= 1 && TILES <= 8, "more than 64 centers need more registers than a thread has: nearest_of_many.cu");

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
nearest_of_few(const __grid_constant__ Operands operands, const __grid_constant__ Centers centers,
               const __grid_constant__ StoredCenters stored_of_all, const __grid_constant__ Limits limits_of_all, int exact,
               const __grid_constant__ Moves moves_of_all, int* __restrict__ open_rows) {
  const int run = run_index(), problem = problem_index();
  const int n = limits_of_all.n, d = operands.d, n_steps = operands.n_steps;
  const Moves moves = moves_of(moves_of_all, run, problem, n);
  if (moves.control[STOP]) return;
  const In<ROW> X = operands.X;
  const In<float> rests = operands.rests;
  const In<float> offsets = operands.offsets + (long long)problem * n_steps * (4 * QUAD);
  const double scale = operands.scales[problem * SCALE_WORDS + HALF_SCALE];
  const In<unsigned short> half_centers = operands.half_centers + (long long)run * (TILES * n_steps * WARP * QUAD);
  const Screened screened =
      screened_by(X, operands.norms, centers, 8 * TILES, stored_of_all, limits_of_all, d, run);
  open_rows += (long long)run * n;
  __shared__ int active_rows[THREADS], counts[THREADS / WARP];
  const int lane = lane_index(), g = lane / 4, t = lane % 4;

  // ---- skip
  const long long place = (long long)blockIdx.x * THREADS + threadIdx.x;
  const int place_row = problem * n + int(place);
  const bool open =
      is_open(place < n, place_row, moves.labels, screened.limits, screened.drift_so_far, moves.control);
  const int ahead = int(threadIdx.x) / WARP * ROWS;  // the rows that the warps before this one take first
  const int n_active = list_of_block<THREADS / WARP>(open, place_row, active_rows, counts) - ahead;
  const int* const own_rows = active_rows + ahead;

#pragma unroll 1
  for (int first = 0; first < n_active; first += THREADS / WARP * ROWS) {
    // ---- screen: rows g and g + 8 of this batch; beyond the last row the first one again
    const int slot = first + g, slot8 = slot + 8;
    const In<ROW> x = X + (long long)own_rows[slot < n_active ? slot : first] * d;
    const In<ROW> x8 = X + (long long)own_rows[slot8 < n_active ? slot8 : first] * d;
    float sum[TILES][4];
#pragma unroll
    for (int j = 0; j < TILES; ++j) {
      const float2 start = screened.half_squares.vector<float2>(4 * j + t);
      sum[j][0] = sum[j][2] = start.x;
      sum[j][1] = sum[j][3] = start.y;
    }
#pragma unroll 1
    for (int step0 = 0; step0 < n_steps; step0 += AHEAD * RUN_STEPS) {
      Strip strips[AHEAD], strips8[AHEAD];
#pragma unroll
      for (int a = 0; a < AHEAD; ++a) {
        const int f = (step0 / RUN_STEPS + a) * GROUP + t * RUN;
        strips[a] = load_strip(x, f, d);
        strips8[a] = load_strip(x8, f, d);
      }
      const In<float> offset = offsets + (step0 / RUN_STEPS * GROUP + t * RUN);
      const In<unsigned short> fragment = half_centers + (unsigned(step0) * WARP + lane) * QUAD;
#pragma unroll
      for (int a = 0; a < AHEAD; ++a) {
        if (step0 + a * RUN_STEPS >= n_steps) break;
#pragma unroll
        for (int s = 0; s < RUN_STEPS; ++s) {
          const float4 shift = (offset + (a * GROUP + s * QUAD)).vector<float4>(0);
          unsigned halves[2], halves8[2];
          to_halves(strips[a], s, scale, shift, halves);
          to_halves(strips8[a], s, scale, shift, halves8);
#pragma unroll
          for (int j = 0; j < TILES; ++j) {
            const uint2 words = (fragment + unsigned(j) * n_steps * (WARP * QUAD)).vector<uint2>((a * RUN_STEPS + s) * WARP);
            const unsigned column[2] = {words.x, words.y};
            tensor_product(sum[j], halves, halves8, column);
          }
        }
      }
    }

    // ---- the two best; lane 4 g holds those of row g, lane 4 g + 1 those of row g + 8
    Best best = no_score(), best8 = no_score();
#pragma unroll
    for (int j = 0; j < TILES; ++j) {
      const int center = 8 * j + 2 * t;
      consider(best, sum[j][0], center);
      consider(best, sum[j][1], center + 1);
      consider(best8, sum[j][2], center);
      consider(best8, sum[j][3], center + 1);
    }
    best = best_of_lanes(best, 4);
    best8 = best_of_lanes(best8, 4);
    if (t == 1) best = best8;
    const int own_slot = t == 1 ? slot8 : slot;
    const bool own = t < 2 && own_slot < n_active;
    const int own_row = own ? own_rows[own_slot] : 0;
    settle(best, own, own_row, own ? rests[own_row] : 0.0f, screened, exact, moves, open_rows);
  }
}

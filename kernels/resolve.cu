/* resolve.cu -- the rows that the screen left open: float64 distances, and which rows these decide.
 *
 *   labels[i] = argmin_j |x_i - c_j|^2 in float64, of the row's candidates, or of every living center   (float64.cuh)
 *   not decided: listed in open_rows for the host                                                   (control[N_OPEN])
 *   Rows whose label changes are listed                                                             (control[N_MOVED])
 *
 * X (n,d) ROW IN | centers IN (half_squares (k)), undecided IN: screen.cuh | stored centers IN: float64.cuh | candidates
 * (n_slots, SLOTS) i32 IN: candidates.cu; of other rows, of more than SLOTS candidates and of none, every living center is one |
 * moves: labels INOUT, lists OUT, control INOUT: moves.cuh | open_rows (n) i32 OUT                all C-contiguous
 * A warp owns an undecided row and puts its candidates in order; grid-stride over a count that is read on the device, so the
 * host need not wait for it.
 * Launch grid any, block 128.   Traffic: d row elements an undecided row, and d center elements a candidate from the
 * second-level cache.   Work: 3 d operations in float64 a candidate.
 * Tests: python -m pytest tests/kernels/test_nearest_of_many.py
 */
#include "screen.cuh"
#include "float64.cuh"

#define THREADS 128

static_assert(SLOTS <= WARP, "each lane of a warp puts one candidate in order");

extern "C" __global__ void __launch_bounds__(THREADS, 8)
resolve(const ROW* __restrict__ X, int d, const __grid_constant__ Centers centers,
        const __grid_constant__ StoredCenters stored, const __grid_constant__ Undecided undecided,
        const int* __restrict__ candidates, const __grid_constant__ Moves moves, int* __restrict__ open_rows) {
  int* const control = moves.control;
  if (control[STOP]) return;
  const In<float> half_squares = centers.half_squares;
  const In<float> facts = centers.facts;
  const In<int> undecided_rows = {undecided.rows};
  const In<int> candidate_counts = {undecided.counts};
  __shared__ int sorted[THREADS / WARP * SLOTS];
  const int lane = lane_index(), n_undecided = control[N_UNDECIDED];
  int* const own = sorted + int(threadIdx.x) / WARP * SLOTS;
  const long long stride = (long long)gridDim.x * (THREADS / WARP);
  for (long long e = (long long)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; e < n_undecided; e += stride) {
    const int i = undecided_rows[e], count = e < undecided.n_slots ? candidate_counts[e] : 0;
    const bool few = count > 0 && count <= SLOTS;
    if (few) {
      const int candidate = lane < count ? candidates[e * SLOTS + lane] : 0x7fffffff;
      int rank = 0;
#pragma unroll
      for (int other = 0; other < SLOTS; ++other) rank += __shfl_sync(EVERY_LANE, candidate, other) < candidate;
      if (lane < count) own[rank] = candidate;
      __syncwarp();
    }
    const Nearest nearest = nearest_in_float64(In<ROW>{X + (long long)i * d}, stored, half_squares, few ? own : nullptr,
                                               few ? count : centers.k, d, facts[WHOLE] != 0.0f);
    relabel(lane == 0 && nearest.decided, i, nearest.index, moves);
    if (lane == 0 && !nearest.decided) open_rows[atomicAdd(control + N_OPEN, 1)] = i;
    __syncwarp();  // the candidates have been read
  }
}

/* candidates.cu -- which centers may be nearest to the rows that the screen did not certify.
 *
 *   v_ij >= best_i - 2 radius_i:  j is a candidate of undecided row i                                (screen.cuh)
 *
 * The true nearest center is among them: let t be the true scores, |v - t| <= radius, and let best be the score that
 * nearest_of_many.cu found for some center b.  Then t_j >= t_b for the true nearest j, and v_j >= t_j - radius >= t_b -
 * radius >= best - 2 radius.  Nothing here depends on v_b being the same number in both launches.  The threshold is
 * rounded down; flushing subnormals keeps the order of what is compared.
 *
 * operands IN, centers IN (half_squares (k rounded up to BN)), undecided: rows IN, counts INOUT, 0 before: more than SLOTS, or
 * none, say that every center may be: screen.cuh | undecided_best (n) f32 IN | candidates (n_slots, SLOTS) i32 OUT, in no
 * particular order | control IN                                                                   all C-contiguous
 * Undecided rows from n_slots on are not looked at: they have every center for a candidate.
 * The block and its shared memory are those of nearest_of_many.cu: score_tiles.cuh.  A row's counter is a global one; a row
 * that has too many takes no more of them.  Rows too few for all blocks are shared: each block takes some tiles of centers.
 * Launch grid any, block 32 WARPS_M WARPS_N, shared STAGES STAGE_BYTES + 16 BM + 32 BM n_steps (or 64 BM PANEL_STEPS).
 * Traffic and work: those of nearest_of_many.cu for as many rows.
 * Tests: python -m pytest tests/kernels/test_nearest_of_many.py
 */
#include "score_tiles.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
candidates(const __grid_constant__ Operands operands, const __grid_constant__ Centers centers,
           const __grid_constant__ Undecided undecided, const float* __restrict__ undecided_best, int* __restrict__ candidates,
           const int* __restrict__ control) {
  if (control[STOP]) return;
  const In<float> norms = operands.norms;
  const In<float> rests = operands.rests;
  const In<float> facts = centers.facts;
  const In<int> undecided_rows = {undecided.rows};
  const int n_rows = min(control[N_UNDECIDED], undecided.n_slots), lane = lane_index();
  const int warp_m = int(threadIdx.x) / WARP % WARPS_M;
  int* const rows = row_memory();
  float* const thresholds = reinterpret_cast<float*>(rows + BM);

  // Where rows are too few for all blocks, a block takes part of the centers only.
  const int n_row_tiles = (n_rows + BM - 1) / BM, n_center_tiles = CENTER_TILES(centers.k);
  const int n_parts = max(1, min(n_center_tiles, int(gridDim.x) / max(1, n_row_tiles)));
#pragma unroll 1
  for (long long unit = blockIdx.x; unit < (long long)n_row_tiles * n_parts; unit += gridDim.x) {
    const long long row0 = unit / n_parts * BM;
    const int part = int(unit % n_parts);
    const Walk of = walk_of(operands, centers, part, n_parts);
    Ring ring = start_ring(of);
    for (int i = int(threadIdx.x); i < BM; i += THREADS) {
      const long long place = min(row0 + i, n_rows - 1LL);
      const int row = rows[i] = undecided_rows[place];
      const float radius = score_radius(facts, norms[row], rests[row]);
      const float threshold = __fmaf_rd(-2.0f, radius, undecided_best[place]);
      thresholds[i] = row0 + i < n_rows && radius < INFINITE ? threshold : NOT_A_NUMBER;  // nothing reaches what is no number
    }
    __syncthreads();  // the rows are listed

    walk_centers(of, rows, ring, [&](const float (&sum)[MT][NT][4], int center) {
#pragma unroll
      for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int i = (warp_m * MT + m) * 16 + 8 * h + lane / 4;
          volatile float* const shared_threshold = thresholds + i;
          const float threshold = *shared_threshold;
          unsigned found = 0;
#pragma unroll
          for (int j = 0; j < NT; ++j) {
            if (sum[m][j][2 * h] >= threshold) found |= 1u << 2 * j;
            if (sum[m][j][2 * h + 1] >= threshold) found |= 2u << 2 * j;
          }
          while (found) {
            const int bit = __ffs(int(found)) - 1;
            found &= found - 1;
            const int place = atomicAdd(undecided.counts + row0 + i, 1);
            if (place < SLOTS) {
              candidates[(row0 + i) * SLOTS + place] = center + 8 * WARPS_N * (bit / 2) + bit % 2;
            } else {
              *shared_threshold = NOT_A_NUMBER;
              found = 0;
            }
          }
        }
      }
    }, [] {});
    await_copies<0>();
    __syncthreads();  // every warp is done with the rows
  }
}

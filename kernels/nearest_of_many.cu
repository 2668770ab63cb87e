/* nearest_of_many.cu -- the screen of many centers: the nearest center of every listed row, and which rows that is certain of.
 *
 *   labels[i] = argmax_j v_ij, certified where the two best differ by more than twice the radius:
 *               uppers[i] and lowers[i] say how long that holds: NaN in uppers for all others        (screen.cuh)
 *   not certified: listed in undecided_rows with the best score, candidate_counts cleared           (control[N_UNDECIDED])
 *   with `exact` 0 rows that are not certified keep the screen's word, where scores are numbers     (control[N_UNCERTAIN])
 *   Rows whose label changes are listed in moved_rows and moved_from                                (control[N_MOVED])
 *
 * A lane meets the same centers of each of its rows, j % (8 WARPS_N) / 2 being the same for all of them.  So it keeps the
 * largest of their scores, and these are groups of centers with a bound each, for the price of some registers:
 *   group(j) = j % (2 N_GROUPS) / 2,  N_GROUPS = 4 WARPS_N LANE_GROUPS
 *   lowers[i, g]  the bound of the centers of group g; in the group of the label that of all centers but the label
 *
 * X (n,d) ROW IN | norms, rests (n) f32 IN | offsets (16 n_steps) f32 IN | half_centers u16 IN | half_squares (k rounded up
 * to BN) f32 IN, -infinity beyond k | drift_so_far (k + N_GROUPS) f32 IN: of each center, then the largest of each group |
 * facts IN | active_rows (n) i32 IN: control[N_ACTIVE] of them | labels (n) i32 INOUT | uppers (n) f32 OUT | lowers (n,
 * N_GROUPS) f32 OUT, of certified rows | moved_rows, moved_from, undecided_rows (n) i32 OUT | undecided_best (n) f32 OUT |
 * candidate_counts (n_slot_rows) i32 OUT, of so many undecided rows | control INOUT               all C-contiguous
 * A block owns BM listed rows at a time and walks all centers: score_tiles.cuh.  Only the two best scores of a row are shared.
 * Launch grid any, block 32 WARPS_M WARPS_N, shared STAGES STAGE_BYTES + 16 BM + 32 BM n_steps (or 64 BM PANEL_STEPS).
 * Traffic: a listed row once (with PANEL_STEPS once for every BN centers) and 16 + 4 N_GROUPS bytes, 4 to 12 more if its label
 * changes or is not certain; 2 k 16 n_steps bytes of centers for every BM rows, from the second-level cache.
 * Work: 2 k 16 n_steps operations a listed row.
 */
#include "score_tiles.cuh"

/* A float as an unsigned number, ordered alike; 0 is none. */
static __device__ __forceinline__ unsigned ordered(float value) {
  const unsigned bits = __float_as_uint(__fadd_rn(value, 0.0f));  // -0 is equal to 0
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
static __device__ __forceinline__ float unordered(unsigned word) {
  return __uint_as_float(word >> 31 ? word & 0x7fffffffu : ~word);
}

/* The two best of a row, in shared memory: the best with its center, value above and ~center below, and the second's value.
 * Any number of threads may put values in, in any order: each leaves either its own value or the one that it displaces to
 * compete for the second place, so that the two largest of all are found. */
static __device__ __forceinline__ void put(unsigned long long* first, unsigned* second, float value, int center) {
  const unsigned long long key = (unsigned long long)ordered(value) << 32 | ~unsigned(center);
  const unsigned long long before = atomicMax(first, key);
  atomicMax(second, unsigned(min(before, key) >> 32));
}

static __device__ __forceinline__ Best best_in(unsigned long long first, unsigned second) {
  return {unordered(unsigned(first >> 32)), unordered(second), first ? int(~unsigned(first)) : 0x7fffffff};
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
nearest_of_many(const ROW* __restrict__ X, const float* __restrict__ norms, const float* __restrict__ rests, double scale,
                const float* __restrict__ offsets, const unsigned short* __restrict__ half_centers,
                const float* __restrict__ half_squares, const float* __restrict__ drift_so_far,
                const float* __restrict__ facts, const int* __restrict__ active_rows, int k, int d, int n_steps, int exact,
                int* __restrict__ labels, float* __restrict__ uppers, float* __restrict__ lowers,
                int* __restrict__ moved_rows, int* __restrict__ moved_from, int* __restrict__ undecided_rows, float* __restrict__ undecided_best,
                int n_slot_rows, int* __restrict__ candidate_counts, int* control) {
  if (control[STOP]) return;
  const int n_active = control[N_ACTIVE], lane = lane_index(), warp_m = int(threadIdx.x) / WARP % WARPS_M;
  if ((long long)blockIdx.x * BM >= n_active) return;
  const Operands of = {X, scale, offsets, half_centers, half_squares, k, d, n_steps, 0, CENTER_TILES(k)};
  unsigned long long* const firsts = reinterpret_cast<unsigned long long*>(row_memory());
  unsigned* const seconds = reinterpret_cast<unsigned*>(firsts + BM);
  int* const rows = reinterpret_cast<int*>(seconds + BM);

  Ring ring = start_ring(of);
#pragma unroll 1
  for (long long row0 = (long long)blockIdx.x * BM; row0 < n_active; row0 += (long long)gridDim.x * BM) {
    for (int i = int(threadIdx.x); i < BM; i += THREADS) {
      rows[i] = active_rows[min(row0 + i, n_active - 1LL)];
      firsts[i] = 0;
      seconds[i] = ordered(-INFINITE);
    }
    __syncthreads();  // the rows are listed

    float largest[MT][2][LANE_GROUPS];  // scores of the lane's groups
#pragma unroll
    for (int m = 0; m < MT; ++m)
#pragma unroll
      for (int g = 0; g < LANE_GROUPS; ++g) largest[m][0][g] = largest[m][1][g] = -INFINITE;
    walk_centers(of, rows, ring, [&](const float (&sum)[MT][NT][4], int center) {
      __syncwarp();  // the compiler moves nothing from here up among the products, where registers are short
#pragma unroll
      for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float most = -INFINITE;
#pragma unroll
          for (int g = 0; g < LANE_GROUPS; ++g) {
            float of_group = -INFINITE;
#pragma unroll
            for (int j = g; j < NT; j += LANE_GROUPS) of_group = fmaxf(of_group, fmaxf(sum[m][j][2 * h], sum[m][j][2 * h + 1]));
            largest[m][h][g] = fmaxf(largest[m][h][g], of_group);
            most = fmaxf(most, of_group);
          }
          const int i = (warp_m * MT + m) * 16 + 8 * h + lane / 4;
          const float bar = unordered(*const_cast<volatile unsigned*>(seconds + i));  // what is below cannot come second
          if (!__any_sync(EVERY_LANE, most >= bar)) continue;
          Best best = no_score();
#pragma unroll
          for (int j = 0; j < NT; ++j) {
            consider(best, sum[m][j][2 * h], center + 8 * WARPS_N * j);
            consider(best, sum[m][j][2 * h + 1], center + 8 * WARPS_N * j + 1);
          }
          best = best_of_lanes(best, 4);
          const float value = lane % 4 == 0 ? best.first : best.second;
          if (lane % 4 < 2 && value >= bar) put(firsts + i, seconds + i, value, lane % 4 == 0 ? best.index : 0x7fffffff);
        }
      }
    });

    __syncthreads();  // every warp has put in its best
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int i = (warp_m * MT + m) * 16 + 8 * h + lane / 4, row = rows[i];
        const Best best = best_in(firsts[i], seconds[i]);
        const float norm = norms[row], radius = score_radius(facts, norm, rests[row]);
        if (row0 + i >= n_active || !is_certain(best, radius)) continue;
#pragma unroll
        for (int g = 0; g < LANE_GROUPS; ++g) {
          const int group = (g * WARPS_N + int(threadIdx.x) / WARP / WARPS_M) * 4 + lane % 4;
          const float most = largest[m][h][g] == best.first ? best.second : largest[m][h][g];
          lowers[(long long)row * N_GROUPS + group] = lower_limit(most, radius, norm, drift_so_far[k + group]);
        }
      }
    }
    for (int i = int(threadIdx.x); i < BM; i += THREADS) {
      const bool own = row0 + i < n_active;
      const int row = rows[i];
      const Best best = best_in(firsts[i], seconds[i]);
      const int label = min(best.index, k - 1);  // only scores that are no numbers leave none
      bool certain = false, trusted = false;
      if (own) {
        const float norm = norms[row], radius = score_radius(facts, norm, rests[row]);
        certain = is_certain(best, radius);
        trusted = !certain && !exact && radius < INFINITE;
        uppers[row] = certain ? upper_limit(best.first, radius, norm, drift_so_far[label]) : NOT_A_NUMBER;
      }
      relabel(certain || trusted, row, label, labels, moved_rows, moved_from, control);
      const unsigned trusting = __ballot_sync(EVERY_LANE, trusted);
      if (lane == 0 && trusting) atomicAdd(control + N_UNCERTAIN, __popc(trusting));
      const bool undecided = own && !certain && !trusted;
      const int place = place_in_list(control + N_UNDECIDED, undecided);
      if (undecided) {
        undecided_rows[place] = row;
        undecided_best[place] = best.first;
        if (place < n_slot_rows) candidate_counts[place] = 0;
      }
    }
    __syncthreads();  // the bests have been read
  }
  await_copies<0>();
}

/* nearest_of_many.cu -- the screen of many centers: the nearest center of every listed row, and which rows that is certain of.
 *
 *   labels[i] = argmax_j v_ij, certified where the two best differ by more than twice the radius:
 *               uppers[i] and lowers[i] say how long that holds: NaN in uppers for all others        (screen.cuh)
 *   not certified: listed as undecided with the best score, its count of candidates cleared         (control[N_UNDECIDED])
 *   if `exact` is 0, uncertified rows take the best screened label, provided the scores are not NaN  (control[N_UNCERTAIN])
 *   Rows whose label changes are listed                                                             (control[N_MOVED])
 *
 * A lane meets the same centers of each of its rows, j % (8 WARPS_N) / 2 being the same for all of them.  So it keeps the
 * largest of their scores, and these are groups of centers with a bound each, for the price of some registers:
 *   group(j) = j % (2 N_GROUPS) / 2,  N_GROUPS = 4 WARPS_N LANE_GROUPS
 *   lowers[i, g]  the bound of the centers of group g; in the group of the label that of all centers but the label
 *
 * operands IN, centers IN (half_squares (k rounded up to BN)), undecided OUT (counts 0): screen.cuh | limits: drift_so_far,
 * active_rows IN, uppers, lowers OUT: limits.cuh | moves: labels INOUT, lists OUT, control INOUT: moves.cuh |
 * undecided_best (n) f32 OUT, of the rows listed | parts INOUT: below                                  all C-contiguous
 * A block owns BM listed rows and walks all centers BN at a time (score_tiles.cuh); what it keeps of a row's scores are the
 * two best, in shared memory.  A score is compared with the second best so far, and looked at again only where it is not
 * below.  Blocks stay and take every grid-th tile of rows; where there are fewer tiles than half the blocks, blocks share a
 * tile's centers, and the one that finishes last puts their findings together.
 * Launch grid any (as many blocks as run at a time), block 32 WARPS_M WARPS_N, shared 3 (32 BN CHUNK + 4 BN) + 16 BM + 32 BM
 * n_steps bytes, or 64 BM PANEL_STEPS for the last (dynamic).
 * Traffic, a tile of rows: 24 BM bytes and the rows' elements, 12 BM written; from the second-level cache ceil(k/8) (256
 * n_steps + 32) bytes of centers, with PANEL_STEPS the rows' elements ceil(k/BN) times.
 * Work, a tile of rows: BM/16 ceil(k/8) n_steps products of 16 x 8 x 16 (4096 flop each), each with (512 / NT + 256 / MT)
 * bytes read from shared memory; of other operations one maximum a score, and about 8 a score where a row's second best changes
 * in the tile: of the t-th BN centers in no particular order about 2 / t of the rows.
 * Accuracy: certificates/halves.py: half_score_radius.
 * Tests: python -m pytest tests/kernels/test_nearest_of_many.py tests/kernels/test_screen_tiles.py tests/cuda/test_group_limits.py
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

/* The same for all the values that two numbers in shared memory stand for; those are global ones. */
static __device__ __forceinline__ void put_all(unsigned long long* first, unsigned* second, unsigned long long own_first,
                                               unsigned own_second) {
  const unsigned long long before = atomicMax(first, own_first);
  atomicMax(second, max(own_second, unsigned(min(before, own_first) >> 32)));
}

static __device__ __forceinline__ Best best_in(unsigned long long first, unsigned second) {
  return {unordered(unsigned(first >> 32)), unordered(second), first ? int(~unsigned(first)) : 0x7fffffff};
}

// Prefetch the rows that this block will work on next.
static __device__ __forceinline__ void expect_rows(In<ROW> X, In<int> list, long long row0,
                                                   int n_rows, int d) {
  const int n_lines = int((d * (long long)sizeof(ROW) + 127) / 128);
  for (int piece = int(threadIdx.x); piece < BM * n_lines; piece += THREADS) {
    const long long place = row0 + piece / n_lines;
    if (place >= n_rows) break;
    expect_line(reinterpret_cast<const char*>(X.at + (long long)list[place] * d) + piece % n_lines * 128);
  }
}

// What blocks that share a tile of rows find in their parts of the centers; all 0 before and after a launch.
struct Parts {
  unsigned long long* firsts;  // (BM floor(grid/2)) the best of a row: `put`
  unsigned* seconds;           // (BM floor(grid/2)) its second best
  unsigned* groups;            // (BM floor(grid/2), N_GROUPS) the largest score of each group
  int* tickets;                // (floor(grid/2)) the parts of a tile that are done
};

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
nearest_of_many(const __grid_constant__ Operands operands, const __grid_constant__ Centers centers,
                const __grid_constant__ GroupLimits limits, int exact, const __grid_constant__ Moves moves,
                const __grid_constant__ Undecided undecided, float* __restrict__ undecided_best,
                const __grid_constant__ Parts parts) {
  int* const control = moves.control;
  if (control[STOP]) return;
  const In<ROW> X = operands.X;
  const In<float> norms = operands.norms;
  const In<float> rests = operands.rests;
  const In<float> facts = centers.facts;
  const In<float> drift_so_far = limits.drift_so_far;
  const In<int> active_rows = {limits.active_rows};
  const int k = centers.k, d = operands.d;
  const int n_active = control[N_ACTIVE], lane = lane_index(), warp_m = int(threadIdx.x) / WARP % WARPS_M;
  // Where rows are too few for all blocks, a block takes part of the centers only, and one tile of rows at most.
  const int n_row_tiles = int((n_active + (BM - 1LL)) / BM), n_center_tiles = CENTER_TILES(k);
  const int n_parts = max(1, min(n_center_tiles, int(gridDim.x) / max(1, n_row_tiles))), part = int(blockIdx.x) % n_parts;
  const int row_tile0 = int(blockIdx.x) / n_parts;
  if (row_tile0 >= n_row_tiles) return;
  const Walk of = walk_of(operands, centers, part, n_parts);
  unsigned long long* const firsts = reinterpret_cast<unsigned long long*>(row_memory());
  unsigned* const seconds = reinterpret_cast<unsigned*>(firsts + BM);
  int* const rows = reinterpret_cast<int*>(seconds + BM);

  Ring ring = start_ring(of);
#pragma unroll 1
  for (long long row0 = (long long)row_tile0 * BM; row0 < n_active; row0 += (long long)gridDim.x * BM) {
    for (int i = int(threadIdx.x); i < BM; i += THREADS) {
      rows[i] = active_rows[min(row0 + i, n_active - 1LL)];
      firsts[i] = 0;
      seconds[i] = ordered(-INFINITE);
    }
    __syncthreads();  // the rows are listed

    float largest[MT][2][LANE_GROUPS];  // scores of the lane's groups
    const auto group_of = [&](int g) { return (g * WARPS_N + int(threadIdx.x) / WARP / WARPS_M) * 4 + lane % 4; };
    const auto place_of = [&](int m, int h) { return (warp_m * MT + m) * 16 + 8 * h + lane / 4; };
    const auto for_each_group = [&](auto use) {  // of each of this lane's rows
#pragma unroll
      for (int m = 0; m < MT; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int g = 0; g < LANE_GROUPS; ++g) use(place_of(m, h), group_of(g), largest[m][h][g]);
    };
    for_each_group([](int, int, float& most) { most = -INFINITE; });
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
          const int i = place_of(m, h);
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
    }, [&] {
      if (PANEL_STEPS == 0) expect_rows(X, active_rows, row0 + (long long)gridDim.x * BM, n_active, d);
    });

    __syncthreads();  // every warp has put in its best
    if (n_parts > 1) {
      for (int i = int(threadIdx.x); i < BM; i += THREADS)
        put_all(parts.firsts + row0 + i, parts.seconds + row0 + i, firsts[i], seconds[i]);
      for_each_group([&](int i, int group, float& most) {
        atomicMax(parts.groups + (row0 + i) * N_GROUPS + group, ordered(most));
      });
      __threadfence();
      __syncthreads();  // all have put theirs
      // The block that comes last finishes the rows, and leaves everything as it was found.
      if (__syncthreads_or(threadIdx.x == 0 && atomicAdd(parts.tickets + row_tile0, 1) < n_parts - 1)) break;
      __threadfence();
      for (int i = int(threadIdx.x); i < BM; i += THREADS) {
        firsts[i] = atomicExch(parts.firsts + row0 + i, 0ULL);
        seconds[i] = atomicExch(parts.seconds + row0 + i, 0u);
      }
      for_each_group([&](int i, int group, float& most) {
        most = unordered(atomicExch(parts.groups + (row0 + i) * N_GROUPS + group, 0u));
      });
      if (threadIdx.x == 0) parts.tickets[row_tile0] = 0;
      __syncthreads();  // the bests of all parts are there
    }
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int i = place_of(m, h), row = rows[i];
        const Best best = best_in(firsts[i], seconds[i]);
        const float norm = norms[row], radius = score_radius(facts, norm, rests[row]);
        if (row0 + i >= n_active || !is_certain(best, radius)) continue;
#pragma unroll
        for (int g = 0; g < LANE_GROUPS; ++g) {
          const int group = group_of(g);
          const float most = largest[m][h][g] == best.first ? best.second : largest[m][h][g];
          limits.lowers[(long long)row * N_GROUPS + group] = lower_limit(most, radius, norm, drift_so_far[k + group]);
        }
      }
    }
    for (int i = int(threadIdx.x); i < BM; i += THREADS) {
      const bool own = row0 + i < n_active;
      const int row = rows[i];
      const Best best = best_in(firsts[i], seconds[i]);
      const int label = min(best.index, k - 1);  // only scores that are no numbers leave none
      Verdict verdict = {false, false};
      if (own) {
        const float norm = norms[row], radius = score_radius(facts, norm, rests[row]);
        verdict = verdict_of(best, radius, exact);
        limits.uppers[row] = verdict.certain ? upper_limit(best.first, radius, norm, drift_so_far[label]) : NOT_A_NUMBER;
      }
      relabel_by(verdict, row, label, moves);
      const bool open = own && !verdict.certain && !verdict.trusted;
      const int place = place_in_list(control + N_UNDECIDED, open);
      if (open) {
        undecided.rows[place] = row;
        undecided_best[place] = best.first;
        if (place < undecided.n_slots) undecided.counts[place] = 0;
      }
    }
    __syncthreads();  // the bests have been read
  }
  await_copies<0>();
}

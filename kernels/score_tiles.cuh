/* score_tiles.cuh -- the scores of a tile of rows with all centers, on tensor cores; they stay in registers.
 *
 *   v_ij = h_i.h_j - |z_j|^2 / 2          for BM listed rows i and BN centers j at a time: screen.cuh
 *
 * Constants: BM, BN; WARPS_M, WARPS_N: how warps share a tile; CHUNK: steps (of 16 columns) of centers that arrive together;
 * LANE_GROUPS: of how many groups of centers a lane keeps bounds (nearest_of_many.cu);
 * PANEL_STEPS: 0 where the rows stay in shared memory as halves, else how many steps of them are made halves at a time, again
 * for every tile of centers.
 *
 * Centers come by asynchronous copies in a ring of STAGES chunks, which runs on across tiles of centers and of rows.  A stage
 * also holds where the sums of its centers start, -|z_j|^2/2.  Rows lie as fragments: for 16 rows and a step 16 bytes of each
 * lane 4 g + t, two halves of row g, two of row g + 8, and again: the order of a product's registers, else each product moves
 * them.  Of the tiles of 8 centers, a warp takes every WARPS_N-th, so that a last tile with few centers is shared out; the
 * empty ones are left out.
 */
#pragma once
#include "screen.cuh"

#define MT (BM / WARPS_M / 16)         // products of 16 rows by 8 centers that a warp owns: MT x NT
#define NT (BN / WARPS_N / 8)
#define N_GROUPS (4 * WARPS_N * LANE_GROUPS)
#define THREADS (WARP * WARPS_M * WARPS_N)
#define MIN_BLOCKS (256 / THREADS)     // that the registers of a multiprocessor must hold
#define STAGES 3
#define FRAGMENT_BYTES (WARP * QUAD * 2)                     // of 8 centers and one step
#define STAGE_BYTES (BN / 8 * CHUNK * FRAGMENT_BYTES + 4 * BN)
#define COPIES (BN / 8 * CHUNK * FRAGMENT_BYTES / 16)        // of 16 bytes, a stage
#define ROW_BYTES 16                   // of shared memory that a row's index and state may take
#define PANEL_GROUPS (PANEL_STEPS / RUN_STEPS)
#define PAIRS (PANEL_GROUPS * (BM / 16) * WARP / THREADS)    // pairs of runs that a thread brings in, of a panel

static_assert(BM % (16 * WARPS_M) == 0 && BN % (8 * WARPS_N) == 0, "a tile must divide into the warps' products of 16 by 8");
static_assert(BM % WARP == 0, "a warp finishes 32 rows at a time");
static_assert(MT * NT <= 32, "more than 128 sums do not fit a thread's registers");
static_assert(NT % LANE_GROUPS == 0, "a lane's centers must divide into its groups");
static_assert(COPIES % THREADS == 0 && BN / 4 <= THREADS, "the block must bring in a chunk in equal steps");
static_assert(PANEL_STEPS % CHUNK == 0 && PANEL_STEPS % RUN_STEPS == 0, "a panel must hold whole chunks, and whole runs");
static_assert(PANEL_GROUPS * (BM / 16) * WARP % THREADS == 0, "the block must bring in a panel in equal steps");

// What a walk through centers reads: those of the tiles first .. end - 1 of BN; k rounded up to BN has so many squares.
struct Walk {
  In<ROW> X;
  double scale;
  In<float> offsets;
  In<unsigned short> half_centers;
  In<float> half_squares;
  int k, d, n_steps, first, end;
};

#define CENTER_TILES(k) (((k) + BN - 1) / BN)

// Through the part-th of n_parts parts of the centers.
static __device__ __forceinline__ Walk walk_of(const Operands& operands, const Centers& centers, int part, int n_parts) {
  const long long n_tiles = CENTER_TILES(centers.k);
  return {operands.X, operands.scales[HALF_SCALE], operands.offsets, operands.half_centers, centers.half_squares, centers.k,
          operands.d, operands.n_steps, int(n_tiles * part / n_parts), int(n_tiles * (part + 1) / n_parts)};
}

/* The shared memory of a block: STAGES stages, ROW_BYTES BM, and the rows as fragments (32 BM n_steps bytes, or two panels). */
static __device__ __forceinline__ unsigned char* block_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}
static __device__ __forceinline__ int* row_memory() { return reinterpret_cast<int*>(block_memory() + STAGES * STAGE_BYTES); }
static __device__ __forceinline__ uint4* fragment_memory() {
  return reinterpret_cast<uint4*>(block_memory() + STAGES * STAGE_BYTES + ROW_BYTES * BM);
}

// ---- centers ----------------------------------------------------------------------------------------------------------

struct Ring {
  int stage;        // that is worked on next
  int tile, chunk;  // to be loaded next
};

static __device__ __forceinline__ void ask(Ring& ring, int stage, const Walk& of) {
  unsigned char* const to = block_memory() + stage * STAGE_BYTES;
  const int last = (of.k + 7) / 8 - 1;
#pragma unroll
  for (int c = 0; c < COPIES / THREADS; ++c) {
    const int piece = c * THREADS + int(threadIdx.x), fragment = piece / (FRAGMENT_BYTES / 16);
    const int center8 = min(ring.tile * (BN / 8) + fragment / CHUNK, last), step = ring.chunk * CHUNK + fragment % CHUNK;
    const unsigned short* from = of.half_centers.at + ((long long)center8 * of.n_steps + step) * (FRAGMENT_BYTES / 2);
    if (step < of.n_steps) copy_16_bytes(to + piece * 16, from + piece % (FRAGMENT_BYTES / 16) * 8);
  }
  if (ring.chunk == 0 && threadIdx.x < BN / 4)
    copy_16_bytes(to + COPIES * 16 + threadIdx.x * 16, of.half_squares.at + ring.tile * BN + threadIdx.x * 4);
  close_copies();
  if (++ring.chunk * CHUNK < of.n_steps) return;
  ring.chunk = 0;
  if (++ring.tile == of.end) ring.tile = of.first;
}
static __device__ __forceinline__ Ring start_ring(const Walk& of) {
  Ring ring = {0, of.first, 0};
  for (int stage = 0; stage + 1 < STAGES; ++stage) ask(ring, stage, of);
  return ring;
}

// ---- rows -------------------------------------------------------------------------------------------------------------

/* The runs of rows g and g + 8 of 16 rows, and their fragments.  fragments: those of the 16 rows at the group's first step. */
struct StripPair {
  Strip row_g, row_g8;
};
static __device__ __forceinline__ StripPair load_pair(const Walk& of, const int* rows, int group) {
  const int lane = lane_index(), f = group * GROUP + lane % 4 * RUN;
  const In<ROW> row_g = of.X + (long long)rows[lane / 4] * of.d;
  const In<ROW> row_g8 = of.X + (long long)rows[lane / 4 + 8] * of.d;
  return {load_strip(row_g, f, of.d), load_strip(row_g8, f, of.d)};
}
static __device__ __forceinline__ void store_pair(const Walk& of, const StripPair& pair, int group, uint4* fragments) {
  const int lane = lane_index();
#pragma unroll
  for (int s = 0; s < RUN_STEPS; ++s) {
    const int step = group * RUN_STEPS + s;
    if (step >= of.n_steps) break;
    const float4 offset = (of.offsets + fragment_column(step, lane % 4, 0)).vector<float4>(0);
    unsigned halves[2], halves8[2];
    to_halves(pair.row_g, s, of.scale, offset, halves);
    to_halves(pair.row_g8, s, of.scale, offset, halves8);
    fragments[s * WARP + lane] = make_uint4(halves[0], halves8[0], halves[1], halves8[1]);
  }
}

#if PANEL_STEPS
static __device__ __forceinline__ void load_panel(const Walk& of, const int* rows, int panel, StripPair (&pairs)[PAIRS]) {
#pragma unroll
  for (int p = 0; p < PAIRS; ++p) {
    const int unit = p * (THREADS / WARP) + int(threadIdx.x) / WARP;
    pairs[p] = load_pair(of, rows + unit / PANEL_GROUPS * 16, panel * PANEL_GROUPS + unit % PANEL_GROUPS);
  }
}
static __device__ __forceinline__ void store_panel(const Walk& of, const StripPair (&pairs)[PAIRS], int panel,
                                                   uint4* fragments) {
#pragma unroll
  for (int p = 0; p < PAIRS; ++p) {
    const int unit = p * (THREADS / WARP) + int(threadIdx.x) / WARP, group = unit % PANEL_GROUPS;
    store_pair(of, pairs[p], panel * PANEL_GROUPS + group,
               fragments + (unit / PANEL_GROUPS * PANEL_STEPS + group * RUN_STEPS) * WARP);
  }
}
#else
// Pairs on their way at a time; single elements take a register each.
#define AHEAD (VECTOR && sizeof(ROW) < 8 ? 2 : 1)

static __device__ __forceinline__ void convert_rows(const Walk& of, const int* rows, uint4* fragments) {
  const int n_groups = (of.n_steps + RUN_STEPS - 1) / RUN_STEPS, n_units = BM / 16 * n_groups, warp = int(threadIdx.x) / WARP;
#pragma unroll 1
  for (int unit0 = warp; unit0 < n_units; unit0 += AHEAD * (THREADS / WARP)) {
    StripPair pairs[AHEAD];
#pragma unroll
    for (int a = 0; a < AHEAD; ++a) {
      const int unit = min(unit0 + a * (THREADS / WARP), n_units - 1);
      pairs[a] = load_pair(of, rows + unit / n_groups * 16, unit % n_groups);
    }
#pragma unroll
    for (int a = 0; a < AHEAD; ++a) {
      const int unit = unit0 + a * (THREADS / WARP), group = unit % n_groups;
      if (unit >= n_units) break;
      store_pair(of, pairs[a], group, fragments + (unit / n_groups * of.n_steps + group * RUN_STEPS) * WARP);
    }
  }
}
#endif

// ---- products ---------------------------------------------------------------------------------------------------------

/* sum += products of one step.  rows: the step's fragments of this warp's first 16 rows, `pitch` from 16 rows to the next 16;
 * centers: of this warp's first 8 centers.  n_live of the tiles of 8 centers hold any; with ALL it is NT. */
template <bool ALL>
static __device__ __forceinline__ void multiply(float (&sum)[MT][NT][4], const uint4* rows, int pitch, const uint2* centers,
                                                int n_live) {
  const int lane = lane_index();
  unsigned row_g[MT][2], row_g8[MT][2];
#pragma unroll
  for (int m = 0; m < MT; ++m) {
    const uint4 words = rows[m * pitch + lane];
    row_g[m][0] = words.x;
    row_g8[m][0] = words.y;
    row_g[m][1] = words.z;
    row_g8[m][1] = words.w;
  }
#pragma unroll
  for (int j = 0; j < NT; ++j) {
    if (!ALL && j >= n_live) break;
    const uint2 words = centers[j * (WARPS_N * CHUNK * WARP) + lane];
    const unsigned column[2] = {words.x, words.y};
#pragma unroll
    for (int m = 0; m < MT; ++m) tensor_product(sum[m][j], row_g[m], row_g8[m], column);
  }
}

/* For every tile of centers, in rising order: consume(sum, first), where sum[m][j][2 h + e] is the score of this warp's row
 * 16 m + 8 h + g with center first + 8 WARPS_N j + e, -infinity for centers beyond the last.  look_ahead() is called once, when
 * the last tile begins.  rows (BM): in shared memory, and complete.  The whole block calls; a barrier must follow before `rows`
 * or the fragments change. */
template <typename Consume, typename LookAhead>
static __device__ __forceinline__ void walk_centers(const Walk& of, const int* rows, Ring& ring, const Consume& consume,
                                                    const LookAhead& look_ahead) {
  const int lane = lane_index(), warp = int(threadIdx.x) / WARP, warp_m = warp % WARPS_M, warp_n = warp / WARPS_M;
  uint4* const fragments = fragment_memory();
  float sum[MT][NT][4];
#if PANEL_STEPS
  const int pitch = PANEL_STEPS * WARP;
  StripPair pairs[PAIRS];
  int buffer = 0;
  load_panel(of, rows, 0, pairs);
  store_panel(of, pairs, 0, fragments);
#else
  const int pitch = of.n_steps * WARP;
  convert_rows(of, rows, fragments);
#endif
#pragma unroll 1
  for (int tile = of.first; tile < of.end; ++tile) {
    const int center0 = tile * BN;
    if (tile + 1 == of.end) look_ahead();
    const int n_live = min(NT, ((of.k - center0 + 7) / 8 - warp_n + WARPS_N - 1) / WARPS_N);  // 0 or less: none
#pragma unroll 1
    for (int step0 = 0; step0 < of.n_steps; step0 += CHUNK) {
      await_copies<STAGES - 2>();
      __syncthreads();  // the chunk is complete, and the one before is done with
      ask(ring, (ring.stage + STAGES - 1) % STAGES, of);
      const unsigned char* const stage = block_memory() + ring.stage * STAGE_BYTES;
      ring.stage = (ring.stage + 1) % STAGES;
      if (step0 == 0) {
        const float2* const starts = reinterpret_cast<const float2*>(stage + COPIES * 16);
#pragma unroll
        for (int j = 0; j < NT; ++j) {
          const float2 start = starts[(j * WARPS_N + warp_n) * 4 + lane % 4];
#pragma unroll
          for (int m = 0; m < MT; ++m) {
            sum[m][j][0] = sum[m][j][2] = start.x;
            sum[m][j][1] = sum[m][j][3] = start.y;
          }
        }
      }
#if PANEL_STEPS
      const int panel = step0 / PANEL_STEPS, n_panels = (of.n_steps + PANEL_STEPS - 1) / PANEL_STEPS;
      const bool more = panel + 1 < n_panels || tile + 1 < of.end;
      const int next_panel = panel + 1 < n_panels ? panel + 1 : 0;
      if (step0 % PANEL_STEPS == 0 && more) load_panel(of, rows, next_panel, pairs);
      const uint4* const x = fragments + (buffer * (BM / 16) + warp_m * MT) * pitch + step0 % PANEL_STEPS * WARP;
#else
      const uint4* const x = fragments + warp_m * MT * pitch + step0 * WARP;
#endif
      const uint2* const c = reinterpret_cast<const uint2*>(stage) + warp_n * (CHUNK * WARP);
      if (n_live == NT && step0 + CHUNK <= of.n_steps) {
#pragma unroll
        for (int s = 0; s < CHUNK; ++s) multiply<true>(sum, x + s * WARP, pitch, c + s * WARP, NT);
      } else {
#pragma unroll 1
        for (int s = 0; s < CHUNK; ++s)
          if (step0 + s < of.n_steps) multiply<false>(sum, x + s * WARP, pitch, c + s * WARP, n_live);
      }
#if PANEL_STEPS
      if ((step0 + CHUNK) % PANEL_STEPS == 0 || step0 + CHUNK >= of.n_steps) {
        buffer ^= 1;
        if (more) store_panel(of, pairs, next_panel, fragments + buffer * (BM / 16) * pitch);
      }
#endif
    }
    consume(sum, center0 + 8 * warp_n + 2 * (lane % 4));
  }
}

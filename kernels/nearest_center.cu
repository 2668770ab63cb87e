/* nearest_center.cu -- the screen: the nearest center of every row by float32 scores, and which rows these certify.
 *
 *   s_ij       = c_sq[j] - 2 x_i.c_j                 (|x_i|^2 cannot change j)
 *   labels[i]  = argmin_j s_ij                       (ties: lowest j, and then the row is not certified)
 *   certified  : second best - best > 2 (per_norm * norms[i] + constant)   and   norms[i] <= norm_limit
 *
 * The radius is certificates.score_radius; norm_limit is where |x||c| comes near the end of float32.  Rows not certified
 * are appended to `undecided`, in no particular order, and counted in counters[0].  c_sq is +infinity for a center that an
 * equal one stands before: it never wins and never comes second.
 *
 * X (n,d) ROW IN | norms (n) f32 IN | C (k,d) f32 IN | c_sq (k) f32 IN | labels (n) i32 OUT | undecided (n) i32 OUT |
 * counters (3) i32 INOUT                                                          all C-contiguous
 * A block owns BM rows and walks all centers BN at a time, features BK at a time, through shared memory; rows become
 * float32 on the way in.  A thread owns TM rows by TN centers of the tile, reads four features at a time, and keeps its
 * rows' two best scores in registers; lanes that share rows compare notes once, at the end.  While a tile is worked on,
 * the next one is on its way into registers.  VECTOR: rows start at multiples of four elements (d % 4 == 0).
 * Launch grid ceil(n/BM), block (BM/TM)*(BN/TN), shared 4*(BM+BN)*(BK+4) bytes (static).
 * Traffic: ceil(k/BN) reads of X, ceil(n/BM) of C (mostly L2), 4n written.   Work: 2ndk flop, k rounded up to BN.
 * Accuracy: float32 dot products with fused multiply-add, one rounding for the score: what score_radius covers.
 */
#include "common.cuh"

#define TY (BM / TM)
#define TX (BN / TN)
#define THREADS (TY * TX)
#define QUADS (BK / 4)                 // groups of four features in a tile
#define PITCH (BK + 4)                 // floats from row to row: neighbours start four banks apart, so float4 reads do not collide
#define STEP (THREADS / QUADS)         // rows that the block brings in at a time
#define X_LOADS (BM / STEP)
#define C_LOADS ((BN + STEP - 1) / STEP)
#define MIN_BLOCKS (512 / THREADS)     // 128 registers a thread leave room for 16 warps on a multiprocessor
#define INFINITE __int_as_float(0x7f800000)

static_assert(BM % TM == 0 && BN % TN == 0, "a tile must divide into the threads' parts");
static_assert(BK % 4 == 0, "features are read four at a time");
static_assert(THREADS % QUADS == 0 && BM % STEP == 0, "the block must bring in whole rows of the tile, BM of them in equal steps");
static_assert(TX <= 32 && (TX & (TX - 1)) == 0, "the lanes that share a row must be a power of two within one warp");
static_assert(THREADS % 32 == 0 && THREADS <= 1024, "a block must be whole warps, 1024 threads at most");
static_assert(4 * (BM + BN) * PITCH <= 48 * 1024, "the tiles must fit 48 KiB of static shared memory");

template <typename T>
struct Quad {
  T a, b, c, d;
};

// Four features, of which `left` are inside the row; zeros beyond its end.
template <typename T>
static __device__ __forceinline__ Quad<T> load_scalars(const T* __restrict__ p, int left) {
  return {p[0], left > 1 ? p[1] : T(0), left > 2 ? p[2] : T(0), left > 3 ? p[3] : T(0)};
}
static __device__ __forceinline__ Quad<unsigned char> load_vector(const unsigned char* __restrict__ p) {
  const uchar4 v = *reinterpret_cast<const uchar4*>(p);
  return {v.x, v.y, v.z, v.w};
}
static __device__ __forceinline__ Quad<float> load_vector(const float* __restrict__ p) {
  const float4 v = *reinterpret_cast<const float4*>(p);
  return {v.x, v.y, v.z, v.w};
}
static __device__ __forceinline__ Quad<double> load_vector(const double* __restrict__ p) {
  const double2 v = *reinterpret_cast<const double2*>(p);
  const double2 w = *reinterpret_cast<const double2*>(p + 2);
  return {v.x, v.y, w.x, w.y};
}
template <typename T>
static __device__ __forceinline__ Quad<T> load_quad(const T* __restrict__ p, int left) {
  if (left <= 0) return {T(0), T(0), T(0), T(0)};
#if VECTOR
  return load_vector(p);
#else
  return load_scalars(p, left);
#endif
}
template <typename T>
static __device__ __forceinline__ float4 to_float4(const Quad<T>& q) {
  return make_float4(float(q.a), float(q.b), float(q.c), float(q.d));
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
nearest_center(const ROW* __restrict__ X, const float* __restrict__ norms, const float* __restrict__ C,
               const float* __restrict__ c_sq, long long n, int k, int d, float per_norm, float constant,
               float norm_limit, int* __restrict__ labels, int* __restrict__ undecided, int* __restrict__ counters) {
  __shared__ __align__(16) float x_tile[BM * PITCH];
  __shared__ __align__(16) float c_tile[BN * PITCH];
  const int tid = int(threadIdx.x), tx = tid % TX, ty = tid / TX;
  const long long first_row = (long long)blockIdx.x * BM;

  // What this thread brings in: every STEP-th row of a tile, the same four features of each.
  const int column = tid % QUADS * 4, line = tid / QUADS;
  const int n_rows = int(min((long long)BM, n - first_row));
  const ROW* const x_from = X + (first_row + line) * d + column;
  const float* const c_from = C + (long long)line * d + column;
  Quad<ROW> x_next[X_LOADS];
  Quad<float> c_next[C_LOADS];
  const auto fetch = [&](int j0, int f0) {
    const int left = d - f0 - column;
#pragma unroll
    for (int l = 0; l < X_LOADS; ++l)
      x_next[l] = load_quad(x_from + (f0 + (long long)l * STEP * d), line + l * STEP < n_rows ? left : 0);
#pragma unroll
    for (int l = 0; l < C_LOADS; ++l) {
      const int j = line + l * STEP;
      c_next[l] = load_quad(c_from + (f0 + (long long)(j0 + l * STEP) * d), j < BN && j0 + j < k ? left : 0);
    }
  };

  float best[TM], second[TM];
  int index[TM];
#pragma unroll
  for (int i = 0; i < TM; ++i) {
    best[i] = INFINITE;
    second[i] = INFINITE;
    index[i] = k;
  }
  fetch(0, 0);
  for (int j0 = 0; j0 < k; j0 += BN) {
    float dot[TM][TN];
#pragma unroll
    for (int i = 0; i < TM; ++i)
#pragma unroll
      for (int j = 0; j < TN; ++j) dot[i][j] = 0.0f;

    for (int f0 = 0; f0 < d; f0 += BK) {
      __syncthreads();  // everyone is done with the tiles
#pragma unroll
      for (int l = 0; l < X_LOADS; ++l)
        *reinterpret_cast<float4*>(x_tile + (line + l * STEP) * PITCH + column) = to_float4(x_next[l]);
#pragma unroll
      for (int l = 0; l < C_LOADS; ++l)
        if (line + l * STEP < BN)
          *reinterpret_cast<float4*>(c_tile + (line + l * STEP) * PITCH + column) = to_float4(c_next[l]);
      __syncthreads();  // the tiles are complete
      if (f0 + BK < d)
        fetch(j0, f0 + BK);
      else if (j0 + BN < k)
        fetch(j0 + BN, 0);

#pragma unroll 1
      for (int f = 0; f < BK; f += 4) {
        float4 c[TN];
#pragma unroll
        for (int j = 0; j < TN; ++j) c[j] = *reinterpret_cast<const float4*>(c_tile + (tx + j * TX) * PITCH + f);
#pragma unroll
        for (int i = 0; i < TM; ++i) {
          const float4 x = *reinterpret_cast<const float4*>(x_tile + (ty + i * TY) * PITCH + f);
#pragma unroll
          for (int j = 0; j < TN; ++j) {
            dot[i][j] = fmaf(x.x, c[j].x, dot[i][j]);
            dot[i][j] = fmaf(x.y, c[j].y, dot[i][j]);
            dot[i][j] = fmaf(x.z, c[j].z, dot[i][j]);
            dot[i][j] = fmaf(x.w, c[j].w, dot[i][j]);
          }
        }
      }
    }

#pragma unroll
    for (int j = 0; j < TN; ++j) {
      const int center = j0 + tx + j * TX;
      const float square = center < k ? c_sq[center] : INFINITE;
#pragma unroll
      for (int i = 0; i < TM; ++i) {
        const float score = fmaf(-2.0f, dot[i][j], square);
        if (score < best[i]) {
          second[i] = best[i];
          best[i] = score;
          index[i] = center;
        } else {
          second[i] = fminf(second[i], score);
        }
      }
    }
  }

#pragma unroll
  for (int i = 0; i < TM; ++i) {
#pragma unroll
    for (int half = TX / 2; half > 0; half /= 2) {
      const float their_best = __shfl_xor_sync(EVERY_LANE, best[i], half);
      const float their_second = __shfl_xor_sync(EVERY_LANE, second[i], half);
      const int their_index = __shfl_xor_sync(EVERY_LANE, index[i], half);
      second[i] = fminf(fmaxf(best[i], their_best), fminf(second[i], their_second));
      if (their_best < best[i] || (their_best == best[i] && their_index < index[i])) {
        best[i] = their_best;
        index[i] = their_index;
      }
    }
    const long long row = first_row + ty + i * TY;
    bool open = false;
    if (tx == 0 && row < n) {
      const float norm = norms[row];
      const float needed = 2.0f * fmaf(per_norm, norm, constant);
      open = !(second[i] - best[i] > needed && norm <= norm_limit);  // so that NaN stays open
      labels[row] = index[i] < k ? index[i] : 0;                      // only overflow leaves no index at all
    }
    const unsigned open_lanes = __ballot_sync(EVERY_LANE, open);
    if (open_lanes) {
      const int lane = lane_index(), leader = __ffs(int(open_lanes)) - 1;
      int place = 0;
      if (lane == leader) place = atomicAdd(counters, __popc(open_lanes));
      place = __shfl_sync(EVERY_LANE, place, leader) + __popc(open_lanes & ((1u << lane) - 1));
      if (open) undecided[place] = int(row);
    }
  }
}

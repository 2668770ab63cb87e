/* cooperation.cu -- what the threads of a warp, a block and a grid do together.
 *
 * warp_collectives   x (64) i32 IN | out (n_functions, 64) i32 OUT        one block of 64
 * warp_reductions    the same; sm_80 and later
 * atomics            x (n) i32 IN | words u64, sum f64, counters OUT      any grid
 * last_block_sum     x (n) f64 IN | partial (grid) f64, ticket u32 | total (1) f64 OUT; FENCE 0 plants a fault
 */
#ifndef FENCE
#define FENCE 1
#endif
#define OUT(expression) out[(row++) * 64 + t] = (int)(expression)

extern "C" __global__ void __launch_bounds__(64) warp_collectives(const int* x, int* out) {
  const unsigned all = 0xffffffffu;
  const int t = threadIdx.x, lane = t & 31, v = x[t];
  int row = 0;
  OUT(__shfl_up_sync(all, v, 3)); OUT(__shfl_down_sync(all, v, 5, 16)); OUT(__shfl_xor_sync(all, v, 9));
  OUT(__shfl_sync(all, v, 7, 8)); OUT(__double2ll_rn(__shfl_xor_sync(all, (double)v, 1)));
  OUT(__ballot_sync(all, v & 1)); OUT(__any_sync(all, v > 900)); OUT(__all_sync(all, v >= 0));
  OUT(__all_sync(all, v < 500));
  OUT(__syncthreads_count(v & 1)); OUT(__syncthreads_or(v > 990)); OUT(__syncthreads_and(v < 1000));
  int half;                                        // two halves of a warp do different things at one time
  if (lane < 16) half = __shfl_xor_sync(0x0000ffffu, v, 2);
  else half = __shfl_xor_sync(0xffff0000u, v, 1);
  OUT(half);
  int sum = v;                                     // a butterfly
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_xor_sync(all, sum, offset);
  OUT(sum);
}

#if __CUDA_ARCH__ >= 800
extern "C" __global__ void __launch_bounds__(64) warp_reductions(const int* x, int* out) {
  const unsigned all = 0xffffffffu;
  const int t = threadIdx.x, v = x[t];
  int row = 0;
  OUT(__reduce_add_sync(all, v)); OUT(__reduce_min_sync(all, v)); OUT(__reduce_max_sync(all, v));
  OUT(__reduce_and_sync(all, (unsigned)v)); OUT(__reduce_or_sync(all, (unsigned)v));
  OUT(__reduce_xor_sync(all, (unsigned)v)); OUT(__match_any_sync(all, v & 3));
}
#endif

extern "C" __global__ void atomics(const int* x, int n, unsigned long long* words, double* sum, int* counters) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int v = x[i];
  const unsigned long long key = (unsigned long long)(unsigned)v << 32 | (unsigned)i;
  atomicMin(words, key);
  atomicMax(words + 1, key);
  atomicAdd(words + 2, (unsigned long long)(long long)(v - 500));   // int64 by wrapping
  atomicMin(reinterpret_cast<long long*>(words + 3), (long long)(v - 500));
  atomicAdd(sum, 0.5);
  unsigned long long* bits = reinterpret_cast<unsigned long long*>(sum + 1);
  unsigned long long old = *(volatile unsigned long long*)bits, assumed;
  do {
    assumed = old;
    const double next = __longlong_as_double((long long)assumed) + 0.25;
    old = atomicCAS(bits, assumed, (unsigned long long)__double_as_longlong(next));
  } while (old != assumed);
  atomicAdd(counters + (v & 3), 1);
  atomicOr(counters + 4, v);
  atomicAnd(counters + 5, v | 1024);
  atomicXor(counters + 6, v);
  atomicSub(counters + 7, v);
  atomicInc(reinterpret_cast<unsigned*>(counters + 8), 6u);
  atomicDec(reinterpret_cast<unsigned*>(counters + 9), 6u);
  atomicExch(counters + 10, 77);
}

extern "C" __global__ void __launch_bounds__(128) last_block_sum(const double* x, int n, double* partial,
                                                                 unsigned* ticket, double* total) {
  __shared__ double s[128];
  __shared__ bool last;
  const int t = threadIdx.x, i = blockIdx.x * 128 + t;
  s[t] = i < n ? x[i] : 0.0;
  __syncthreads();
  for (int half = 64; half > 0; half >>= 1) {
    if (t < half) s[t] += s[t + half];
    __syncthreads();
  }
  if (t == 0) {
    partial[blockIdx.x] = s[0];
#if FENCE
    __threadfence();
#endif
    last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && t == 0) {
    double sum = 0.0;
    for (unsigned b = 0; b < gridDim.x; ++b) sum += partial[b];
    *total = sum;
  }
}

extern "C" __global__ void indices(int* out) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 1000 + thread;
}

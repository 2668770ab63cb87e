/* faults.cu -- small kernels, each with one fault that `fault` switches on; tests/emulator/test_faults.py.
 *
 * All have the form (x f32 IN, n i32, fault i32, y f32 OUT); blocks of 64 unless stated at the kernel.
 */
#define PARAMETERS const float* x, int n, int fault, float* y
#define KERNEL extern "C" __global__ void

KERNEL missing_barrier(PARAMETERS) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  if (!fault) __syncthreads();
  y[threadIdx.x] = s[63 - threadIdx.x];
}

KERNEL missing_barrier_before_reuse(PARAMETERS) {
  __shared__ float s[64];
  for (int round = 0; round < 2; ++round) {
    s[threadIdx.x] = x[threadIdx.x] + round;
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
    if (!fault) __syncthreads();
  }
}

KERNEL missing_syncwarp(PARAMETERS) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  if (!fault) __syncwarp();
  y[threadIdx.x] = s[threadIdx.x ^ 1];
}

KERNEL missing_barrier_after_atomics(PARAMETERS) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 1);
  if (!fault) __syncthreads();
  y[threadIdx.x] = (float)count;
}

KERNEL uninitialised_shared(PARAMETERS) {
  __shared__ float s[64];
  if (!fault || threadIdx.x != 40) s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[63 - threadIdx.x];
}

KERNEL uninitialised_byte(PARAMETERS) {
  __shared__ unsigned char s[64];
  if (!fault || threadIdx.x != 41) s[threadIdx.x] = (unsigned char)threadIdx.x;
  __syncthreads();
  y[threadIdx.x] = s[63 - threadIdx.x];
}

KERNEL uninitialised_dynamic_shared(PARAMETERS) {
  extern __shared__ float dynamic[];
  if (!fault || threadIdx.x < 60) dynamic[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = dynamic[63 - threadIdx.x];
}

KERNEL read_out_of_bounds(PARAMETERS) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i + fault];
}

KERNEL read_before_the_start(PARAMETERS) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i - fault];
}

KERNEL write_out_of_bounds(PARAMETERS) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n + fault) y[i] = 1.f;
}

KERNEL misaligned_vector(PARAMETERS) {
  if (threadIdx.x < 4) {
    const float4 v = reinterpret_cast<const float4*>(x + fault)[threadIdx.x];
    y[threadIdx.x] = (v.x + v.y) + (v.z + v.w);
  }
}

KERNEL static_shared_overrun(PARAMETERS) {
  __shared__ float s[64], beside[64];
  beside[threadIdx.x] = 0.f;
  s[threadIdx.x + fault] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[63 - threadIdx.x] + beside[threadIdx.x];
}

KERNEL dynamic_shared_overrun(PARAMETERS) {
  extern __shared__ float dynamic[];
  dynamic[threadIdx.x + fault] = x[threadIdx.x];
  __syncthreads();
  if (threadIdx.x) y[threadIdx.x] = dynamic[threadIdx.x];
}

KERNEL sum_across_blocks(PARAMETERS) {
  if (threadIdx.x == 0) {
    if (fault) *y += x[blockIdx.x];
    else atomicAdd(y, x[blockIdx.x]);
  }
}

KERNEL read_what_another_block_writes(PARAMETERS) {
  if (fault) y[(blockIdx.x + 1) % gridDim.x * blockDim.x + threadIdx.x] = y[blockIdx.x * blockDim.x + threadIdx.x];
  else y[blockIdx.x * blockDim.x + threadIdx.x] = x[threadIdx.x];
}

KERNEL sum_in_shared(PARAMETERS) {
  __shared__ float s;
  if (threadIdx.x == 0) s = 0.f;
  __syncthreads();
  if (fault) s += 1.f;
  else atomicAdd(&s, 1.f);
  __syncthreads();
  y[threadIdx.x] = s;
}

KERNEL divergent_barrier(PARAMETERS) {
  if (fault && threadIdx.x < 32) __syncthreads();
  else __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

KERNEL deadlock(PARAMETERS) {
  const bool stray = fault && threadIdx.x == 63;   // waits at the barrier while its warp waits for it
  if (!stray) __syncwarp();
  __syncthreads();
  if (stray) __syncwarp();
  y[threadIdx.x] = x[threadIdx.x];
}

KERNEL full_mask_in_half_a_warp(PARAMETERS) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 16) v += __shfl_xor_sync(fault ? 0xffffffffu : 0xffffu, v, 1);
  y[threadIdx.x] = v;
}

KERNEL lane_outside_its_mask(PARAMETERS) {
  y[threadIdx.x] = __shfl_sync(fault ? 0xfffffffeu : 0xffffffffu, x[threadIdx.x], 1);
}

KERNEL shuffle_from_outside_the_mask(PARAMETERS) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 16) v = __shfl_sync(0xffffu, v, fault ? 20 : 3);
  y[threadIdx.x] = v;
}

KERNEL collective_after_exit(PARAMETERS) {
  if (fault && threadIdx.x >= 50) return;
  y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}

KERNEL different_collectives(PARAMETERS) {
  float v = x[threadIdx.x];
  if (fault && threadIdx.x % 2) v = __shfl_up_sync(0xffffffffu, v, 1);
  else v = __shfl_xor_sync(0xffffffffu, v, 1);
  y[threadIdx.x] = v;
}

KERNEL index_overflow(PARAMETERS) {
  const int rows = fault ? 1 << 20 : 4, columns = 4096;
  const long long last = rows * columns - 1;      // wraps at 2^31
  y[threadIdx.x] = last > 0 ? x[threadIdx.x] : 0.f;
}

KERNEL shift_too_far(PARAMETERS) {
  y[threadIdx.x] = (float)(1u << (fault ? 32 + threadIdx.x : threadIdx.x % 32));
}

KERNEL cast_out_of_range(PARAMETERS) {
  y[threadIdx.x] = (float)(int)(x[threadIdx.x] * (fault ? 1e20f : 1.f));
}

KERNEL failed_assertion(PARAMETERS) {
  assert(!fault || threadIdx.x != 5);
  y[threadIdx.x] = x[threadIdx.x];
}

/* tensor.cu -- D = A B + C of one warp by mma.sync, operands loaded by fragments; ldmatrix; cp.async.
 *
 * A (16, K), B (K, 8), C (16, 8) f32 IN | D (16, 8) f32 OUT.  Values must be exact in the operand type.
 * Calls the emulator's names, as a PTX wrapper does where __CUDA_HOST_EMU__ is defined.
 */
static __device__ unsigned pack(int type, const float* p, int stride) {   // one fragment register
  if (type == cuemu::TF32) return __float_as_uint(p[0]);
  if (type == cuemu::BF16) return cuemu::float_to_bfloat16(p[0]) | (unsigned)cuemu::float_to_bfloat16(p[stride]) << 16;
  return cuemu::float_to_half(p[0]) | (unsigned)cuemu::float_to_half(p[stride]) << 16;
}

template <int TYPE, int K>
static __device__ void multiply(const float* A, const float* B, const float* C, float* D) {
  const int packed = TYPE == cuemu::TF32 ? 1 : 2, group = threadIdx.x >> 2, member = threadIdx.x & 3;
  unsigned a[4], b[2];
  for (int block = 0; block < K / (4 * packed); ++block) {
    const int k = block * 4 * packed + member * packed;
    a[2 * block] = pack(TYPE, A + group * K + k, 1);
    a[2 * block + 1] = pack(TYPE, A + (group + 8) * K + k, 1);
    b[block] = pack(TYPE, B + k * 8 + group, 8);
  }
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = C[(group + 8 * (i >> 1)) * 8 + 2 * member + (i & 1)];
  cuemu::mma<TYPE, K>(d, a, b, d);
  for (int i = 0; i < 4; ++i) D[(group + 8 * (i >> 1)) * 8 + 2 * member + (i & 1)] = d[i];
}

#define MULTIPLY(name, TYPE, K)                                                                    \
  extern "C" __global__ void name(const float* A, const float* B, const float* C, float* D) {      \
    multiply<cuemu::TYPE, K>(A, B, C, D);                                                          \
  }
MULTIPLY(multiply_tf32, TF32, 8)
MULTIPLY(multiply_bf16, BF16, 16)
MULTIPLY(multiply_f16, F16, 16)
MULTIPLY(multiply_f16_k8, F16, 8)

/* A (16, 32) i8, B (32, 8) u8, C (16, 8) i32 IN | D (16, 8) i32 OUT */
extern "C" __global__ void multiply_bytes(const signed char* A, const unsigned char* B, const int* C, int* D) {
  const int group = threadIdx.x >> 2, member = threadIdx.x & 3;
  unsigned a[4] = {}, b[2] = {};
  for (int i = 0; i < 4; ++i)
    for (int block = 0; block < 2; ++block) {
      const int k = 16 * block + 4 * member + i;
      a[2 * block] |= unsigned(A[group * 32 + k] & 255) << 8 * i;
      a[2 * block + 1] |= unsigned(A[(group + 8) * 32 + k] & 255) << 8 * i;
      b[block] |= unsigned(B[k * 8 + group]) << 8 * i;
    }
  int d[4];
  for (int i = 0; i < 4; ++i) d[i] = C[(group + 8 * (i >> 1)) * 8 + 2 * member + (i & 1)];
  cuemu::byte_mma<16, 32>(d, a, b, d);
  for (int i = 0; i < 4; ++i) D[(group + 8 * (i >> 1)) * 8 + 2 * member + (i & 1)] = d[i];
}

/* matrices (4, 8, 8) u16 IN | plain, transposed (4, 32) u32 OUT: the register of each lane */
extern "C" __global__ void load_matrices(const unsigned short* matrices, unsigned* plain, unsigned* transposed) {
  __shared__ __align__(16) unsigned short s[32][8];
  for (int i = 0; i < 8; ++i) s[threadIdx.x][i] = matrices[threadIdx.x * 8 + i];
  __syncwarp();
  unsigned d[4];
  cuemu::ldmatrix<4, false>(d, s[threadIdx.x]);
  for (int i = 0; i < 4; ++i) plain[i * 32 + threadIdx.x] = d[i];
  cuemu::ldmatrix<4, true>(d, s[threadIdx.x]);
  for (int i = 0; i < 4; ++i) transposed[i * 32 + threadIdx.x] = d[i];
}

/* x (steps, 32, 4) f32 IN | y (steps, 32, 4) OUT = 2 x, through two stages of cp.async; FAULT waits for too little */
#ifndef FAULT
#define FAULT 0
#endif
extern "C" __global__ void double_by_stages(const float* x, int steps, float* y) {
  __shared__ __align__(16) float stage[2][32][4];
  const int t = threadIdx.x;
  cuemu::cp_async(stage[0][t], x + t * 4, 16, 16);
  cuemu::cp_async_commit();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) cuemu::cp_async(stage[(step + 1) & 1][t], x + ((step + 1) * 32 + t) * 4, 16, 16);
    cuemu::cp_async_commit();
    cuemu::cp_async_wait(FAULT ? 2 : 1);
    __syncthreads();
    const int other = 31 - t;
    for (int i = 0; i < 4; ++i) y[(step * 32 + other) * 4 + i] = 2.f * stage[step & 1][other][i];
    __syncthreads();
  }
  cuemu::cp_async_wait(0);
}

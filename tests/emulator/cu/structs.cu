/* structs.cu -- kernels that take structs by value; tests/emulator/test_structs.py. */
template <typename T>
struct Wrapped {
  const T* at;
};
struct Vector {
  Wrapped<float> x;
  int n;
};
struct Mixed {  // padded in three places
  float factor;
  const double* terms;
  int n;
  long long offset;
  unsigned short* halves;
  bool twice;
};

extern "C" __global__ void scale(const Vector from, const Mixed mixed, const __grid_constant__ Vector unused, float* y) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= from.n) return;
  y[i] = from.x.at[i] * mixed.factor * (mixed.twice ? 2 : 1) + float(mixed.terms[i % mixed.n]) + float(mixed.offset);
  mixed.halves[i] = (unsigned short)(unused.n + i);
}

extern "C" __global__ void beyond_the_end(const Vector from, float* y) {
  y[threadIdx.x] = from.x.at[threadIdx.x + from.n];
}

extern "C" __global__ void race(const Vector from, float* y) {
  y[threadIdx.x % 2] = from.x.at[threadIdx.x];
}

/* common.cuh -- what the kernels share: conversions, the warp order of sums, the limbs of exact sums.
 *
 * Constants set in front of the source: ROW (unsigned char | Half | BFloat16 | float | double) and CENTER (float | double),
 * the element types of X and of the centers, where a kernel reads them.
 */
#pragma once
#include "ptx.cuh"

#define WARP 32
#define EVERY_LANE 0xffffffffu
#define INFINITE __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fffffff)
#define INFINITE_64 __longlong_as_double(0x7ff0000000000000LL)
#define NOT_A_NUMBER_64 __longlong_as_double(0x7fffffffffffffffLL)

// Storage only: arithmetic is done in wider types.
struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};

// A load of what no thread writes during the launch.
template <typename T>
static __device__ __forceinline__ T read_only(const T* address) { return __ldg(address); }
static __device__ __forceinline__ Half read_only(const Half* address) { return {__ldg(&address->bits)}; }
static __device__ __forceinline__ BFloat16 read_only(const BFloat16* address) { return {__ldg(&address->bits)}; }

/* An array that a launch only reads, as a field of a struct that kernels take by value.  The compiler finds the read-only path
 * by itself for `const __restrict__` parameters, but not for fields.  `vector` takes the ordinary one: the intrinsic for
 * vectors is inline assembly, which leaves no offsets to the load. */
template <typename T>
struct In {
  const T* at;
  __device__ __forceinline__ T operator[](long long i) const { return read_only(at + i); }
  __device__ __forceinline__ In operator+(long long i) const { return {at + i}; }
  template <typename V>
  __device__ __forceinline__ V vector(long long i) const { return reinterpret_cast<const V*>(at)[i]; }
};

// An element as float64, exactly.
static __device__ __forceinline__ double widen(unsigned char value) { return double(int(value)); }
static __device__ __forceinline__ double widen(Half value) { return double(half_to_float(value.bits)); }
static __device__ __forceinline__ double widen(BFloat16 value) {
  return float_to_double(__uint_as_float(unsigned(value.bits) << 16));
}
static __device__ __forceinline__ double widen(float value) { return float_to_double(value); }
static __device__ __forceinline__ double widen(double value) { return value; }

// A float64 rounded to nearest in the type of the target.
static __device__ __forceinline__ void narrow(double value, float* target) { *target = double_to_float(value); }
static __device__ __forceinline__ void narrow(double value, double* target) { *target = value; }

/* Launches that several runs share: blockIdx.z is the problem, whose rows are the same for all of its runs, and blockIdx.y
 * counts the runs of a problem.  Arrays hold the runs of the first problem, then those of the second, ... */
static __device__ __forceinline__ int problem_index() { return int(blockIdx.z); }
static __device__ __forceinline__ int run_index() { return int(blockIdx.z * gridDim.y + blockIdx.y); }

static __device__ __forceinline__ int lane_index() { return int(threadIdx.x) & (WARP - 1); }

/* The same number, by an instruction that the compiler cannot foresee: what is computed of it is computed here, not kept in
 * registers since it was computed before.  The whole warp calls. */
static __device__ __forceinline__ int again(int value) { return __shfl_xor_sync(EVERY_LANE, value, 0); }

/* The last half of the warp order (exact/warp_order.py): lanes are added in halves, l and l + 16, then l and l + 8,
 * ...  The first half is each lane's own sum of columns l, l + 32, ... from the left.  The sum is lane 0's result. */
static __device__ __forceinline__ double warp_order_sum(double lane_sum) {
#pragma unroll
  for (int half = WARP / 2; half > 0; half /= 2)
    lane_sum = __dadd_rn(lane_sum, __shfl_down_sync(EVERY_LANE, lane_sum, half));
  return lane_sum;
}

// The square of a difference as the warp order adds it: two rounded operations, never fused.
static __device__ __forceinline__ double square_difference(double a, double b) {
  const double difference = __dsub_rn(a, b);
  return __dmul_rn(difference, difference);
}

/* Write the squared distance of a row, times its weight where there are weights, and keep the largest.  Called by one lane. */
static __device__ __forceinline__ void write_distance(double distance, long long row, const double* __restrict__ weights,
                                                      double* __restrict__ distances, double& largest) {
  if (weights) distance = __dmul_rn(distance, weights[row]);
  distances[row] = distance;
  largest = fmax(largest, distance);
}

/* The limbs of a value on its grid (exact/sums.py: Grid.limbs): the value in units of the first limb, rounded to the nearest
 * integer, ties to even; then what is left, in units 2^bits finer.  All but the roundings are exact. */
static __device__ __forceinline__ long long first_limb(double scaled) { return (long long)rint(scaled); }
static __device__ __forceinline__ long long second_limb(double scaled, double limb_size) {
  return (long long)rint(__dmul_rn(__dsub_rn(scaled, rint(scaled)), limb_size));
}

/* Sums of limbs in units of the first limb, as double(sum0) and what that leaves: exact/sums.py: Grid.parts and .value,
 * operation by operation. */
static __device__ __forceinline__ double low_part(long long sum0, long long sum1, bool two, double limb_unit) {
  double low = double(sum0 - (long long)double(sum0));
  if (two) low = __dadd_rn(low, __dmul_rn(double(sum1), limb_unit));
  return low;
}
static __device__ __forceinline__ double scaled_value(long long sum0, long long sum1, bool two, double limb_unit) {
  return __dadd_rn(double(sum0), low_part(sum0, sum1, two, limb_unit));
}

// The scale of exact/sums.py: Grid.for_largest, which has `bits` bits in a limb.
static __device__ __forceinline__ double scale_for(double largest, int bits) {
  int exponent;
  frexp(largest, &exponent);
  return ldexp(1.0, bits - max(exponent, -900));
}

static __device__ __forceinline__ void atomic_add(long long* target, long long value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(target), (unsigned long long)value);
}

// The larger of a magnitude and |value|; infinity is larger than any number, NaN larger than infinity, as their bits are.
static __device__ __forceinline__ double larger_magnitude(double magnitude, double value) {
  const long long bits = __double_as_longlong(value) & 0x7fffffffffffffffLL;
  return __longlong_as_double(max(__double_as_longlong(magnitude), bits));
}

// Maximum of magnitudes (infinity and NaN included), whose bits are ordered as they are.
static __device__ __forceinline__ void atomic_max(double* target, double value) {
  atomicMax(reinterpret_cast<unsigned long long*>(target), (unsigned long long)__double_as_longlong(value));
}

/* arithmetic.cu -- one output row per intrinsic, for tests/emulator/test_emulator.py to compare with NumPy and fractions.
 *
 * a, b, c (n) IN | out (n_functions, n) OUT.  One thread per element.
 */
#define ELEMENT                                              \
  const int i = blockIdx.x * blockDim.x + threadIdx.x;       \
  if (i >= n) return;                                        \
  int row = 0
#define OUT(expression) out[(row++) * n + i] = (expression)

#define DIRECTED_FLOAT(mode)                                                                       \
  OUT(__fadd_##mode(x, y)); OUT(__fsub_##mode(x, y)); OUT(__fmul_##mode(x, y));                    \
  OUT(__fdiv_##mode(x, y)); OUT(__fsqrt_##mode(fabsf(x))); OUT(__fmaf_##mode(x, y, z))

#define DIRECTED_DOUBLE(mode)                                                                      \
  OUT(__dadd_##mode(x, y)); OUT(__dsub_##mode(x, y)); OUT(__dmul_##mode(x, y));                    \
  OUT(__ddiv_##mode(x, y)); OUT(__dsqrt_##mode(fabs(x))); OUT(__fma_##mode(x, y, z))

extern "C" __global__ void float_rounding(const float* a, const float* b, const float* c, int n, float* out) {
  ELEMENT;
  const float x = a[i], y = b[i], z = c[i];
  DIRECTED_FLOAT(rn); DIRECTED_FLOAT(ru); DIRECTED_FLOAT(rd); DIRECTED_FLOAT(rz);
}

extern "C" __global__ void double_rounding(const double* a, const double* b, const double* c, int n, double* out) {
  ELEMENT;
  const double x = a[i], y = b[i], z = c[i];
  DIRECTED_DOUBLE(rn); DIRECTED_DOUBLE(ru); DIRECTED_DOUBLE(rd); DIRECTED_DOUBLE(rz);
}

extern "C" __global__ void plain(const double* a, const double* b, const double* c, int n, double* out) {
  ELEMENT;
  const double x = a[i], y = b[i], z = c[i];
  OUT(x * y + z);                        // two roundings: never contracted
  OUT(fma(x, y, z));
  OUT(min(x, y)); OUT(max(x, y));
  OUT(sqrt(fabs(x)));
  OUT(abs(x));                           // the double overload, not stdlib's int abs
}

extern "C" __global__ void narrowing(const double* a, int n, float* out) {
  ELEMENT;
  const double x = a[i];
  OUT(__double2float_rn(x)); OUT(__double2float_ru(x)); OUT(__double2float_rd(x)); OUT(__double2float_rz(x));
}

#define TO_INTEGERS(From, To) OUT(__##From##2##To##_rn(x)); OUT(__##From##2##To##_rz(x)); \
  OUT(__##From##2##To##_rd(x)); OUT(__##From##2##To##_ru(x))

extern "C" __global__ void double_to_integers(const double* a, int n, long long* out) {
  ELEMENT;
  const double x = a[i];
  TO_INTEGERS(double, int); TO_INTEGERS(double, uint); TO_INTEGERS(double, ll);
}

extern "C" __global__ void double_to_unsigned(const double* a, int n, unsigned long long* out) {
  ELEMENT;
  const double x = a[i];
  TO_INTEGERS(double, ull);
}

extern "C" __global__ void float_to_integers(const float* a, int n, long long* out) {
  ELEMENT;
  const float x = a[i];
  TO_INTEGERS(float, int); TO_INTEGERS(float, uint); TO_INTEGERS(float, ll);
}

extern "C" __global__ void integers_to_floating(const long long* a, int n, double* out) {
  ELEMENT;
  const long long x = a[i];
  OUT(__ll2double_rn(x)); OUT(__ull2double_rn((unsigned long long)x)); OUT(__int2double_rn((int)x));
  OUT(__ll2float_rn(x)); OUT(__ull2float_rn((unsigned long long)x)); OUT(__int2float_rn((int)x));
}

extern "C" __global__ void reinterpreting(const double* a, int n, long long* out) {
  ELEMENT;
  const double x = a[i];
  OUT(__double_as_longlong(x));
  OUT(__double_as_longlong(__longlong_as_double(__double_as_longlong(x) + 1)));
  OUT(__double2hiint(x)); OUT(__double2loint(x));
  OUT(__double_as_longlong(__hiloint2double(__double2hiint(x), __double2loint(x))));
  OUT(__float_as_int((float)x)); OUT(__float_as_uint((float)x)); OUT(__float_as_int(__int_as_float(i + 1)));
}

extern "C" __global__ void bit_tricks(const unsigned* a, const unsigned* b, int n, unsigned* out) {
  ELEMENT;
  const unsigned x = a[i], y = b[i];
  const unsigned long long wide = (unsigned long long)x << 32 | y;
  OUT(__popc(x)); OUT(__clz((int)x)); OUT(__ffs((int)x)); OUT(__brev(x)); OUT(__umulhi(x, y));
  OUT((unsigned)__mulhi((int)x, (int)y)); OUT(__funnelshift_l(x, y, i)); OUT(__funnelshift_r(x, y, i));
  OUT(__byte_perm(x, y, 0x5140)); OUT(__byte_perm(x, y, 0xb720)); OUT(__dp4a(x, y, 7u));
  OUT((unsigned)__dp4a((int)x, (int)y, -3)); OUT(__popcll(wide)); OUT(__clzll((long long)wide));
  OUT(__ffsll((long long)wide)); OUT((unsigned)(__umul64hi(wide, ~wide) >> 32));
  OUT((unsigned)(__mul64hi((long long)wide, (long long)~wide) >> 32)); OUT(min(x, y)); OUT(max((int)x, (int)y));
}

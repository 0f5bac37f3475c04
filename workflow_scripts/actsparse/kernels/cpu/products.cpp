// Products of few rows that leave weights unread, for float32, bfloat16 and int8 weights.
//
//   dense         y = x W^T + b                      W (out, in)
//   skip_inputs   the same with some inputs alone    W (in, out): the weights of one input lie together
//   skip_outputs  the same at some outputs alone     W (out, in)
//
// What bounds them is reading W, so each reads what it needs of it once, however many rows x has. Threads share
// the outputs. skip_inputs takes eight kept inputs at a time over all outputs of its thread: eight streams of
// weights are added up before the sums are loaded and stored once.
//
// Sums are float32. bfloat16 weights are multiplied in pairs by the processor's dot products where it has them
// (AVX512_BF16), else widened. int8 weights are multiplied with inputs of 16 bits, whose scale is that of 256
// inputs at most, in pairs as well (AVX512_VNNI), else widened. This file is compiled on the machine that runs
// it, so what the processor has is known to the compiler.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__AVX512F__) && defined(__AVX512BW__)
#include <immintrin.h>
#endif

namespace {

using at::Tensor;
using std::optional;
using std::vector;

constexpr int64_t STREAMS = 8;   // kept inputs at a time
constexpr int64_t BLOCK = 32;    // outputs that a thread's share is a multiple of
constexpr int64_t CHUNK = 256;   // products of 127 * 32767 whose sum an int32 holds

struct bf16 { uint16_t bits; };

float widen(bf16 v) {
  uint32_t bits = uint32_t(v.bits) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
uint16_t narrow(float f) {  // to the nearest bfloat16, ties to even; numbers that are one keep their bits
  uint32_t bits;
  std::memcpy(&bits, &f, 4);
  if (std::isnan(f)) return 0x7fc0;
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#if defined(__AVX512BF16__) || (defined(__AVX512VNNI__) && defined(__AVX512BW__))
int32_t pair(uint16_t low, uint16_t high) { return int32_t(uint32_t(low) | uint32_t(high) << 16); }
#endif

// ---- which inputs a row keeps -------------------------------------------------------------------------------

enum Mode { NONZERO = 0, THRESHOLD = 1, N_OF_M = 2, TOP_K = 3 };

// Scores are not negative, so that their bits, taken as integers, have their order.

// keep[i] = 1 for the n best of each m scores; of equal ones the earlier.
void best_of_groups(const int32_t* score, uint8_t* keep, int64_t size, int64_t n, int64_t m) {
  int32_t better[CHUNK];
  for (int64_t g = 0; g < size; g += m) {
    const int32_t* s = score + g;
    std::fill(better, better + m, 0);
    for (int64_t j = 0; j < m; j++) {
      int32_t other = s[j];
      for (int64_t i = 0; i <= j; i++) better[i] += other > s[i];
      for (int64_t i = j + 1; i < m; i++) better[i] += other >= s[i];
    }
    for (int64_t i = 0; i < m; i++) keep[g + i] = better[i] < n;
  }
}

#if defined(__AVX512F__)
// The same for groups of 16, one register each.
void best_of_16(const int32_t* score, uint8_t* keep, int64_t size, int64_t n) {
  const __m512i step = _mm512_set_epi32(0, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1);  // rotate by one
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i one = _mm512_set1_epi32(1);
  for (int64_t g = 0; g < size; g += 16) {
    __m512i own = _mm512_loadu_si512(score + g), other = own, from = lane, better = _mm512_setzero_si512();
    for (int turn = 1; turn < 16; turn++) {
      other = _mm512_permutexvar_epi32(step, other);
      from = _mm512_permutexvar_epi32(step, from);
      __mmask16 more = _mm512_cmpgt_epi32_mask(other, own);
      __mmask16 earlier = _mm512_mask_cmpeq_epi32_mask(_mm512_cmplt_epi32_mask(from, lane), other, own);
      better = _mm512_mask_add_epi32(better, more | earlier, better, one);
    }
    __mmask16 kept = _mm512_cmplt_epi32_mask(better, _mm512_set1_epi32(int(n)));
    _mm_storeu_si128((__m128i*)(keep + g), _mm_maskz_set1_epi8(kept, 1));
  }
}
#endif

// The largest bound that at least n scores reach is found bit by bit; ties go to the earlier.
void best_of_all(const int32_t* score, uint8_t* keep, int64_t size, int64_t n) {
  int32_t bound = 0;
  for (int bit = 30; bit >= 0; bit--) {
    int32_t higher = bound | int32_t(1) << bit, count = 0;
    for (int64_t i = 0; i < size; i++) count += score[i] >= higher;
    if (count >= n) bound = higher;
    if (count == n) break;
  }
  int64_t room = n;
  for (int64_t i = 0; i < size; i++) room -= score[i] > bound;
  for (int64_t i = 0; i < size; i++) {
    bool tied = score[i] == bound;
    keep[i] = score[i] > bound || (tied && room > 0);
    room -= tied;
  }
}

void select(const float* x, const float* factor, uint8_t* keep, int64_t size, int64_t mode, int64_t n, int64_t m,
            float level) {
  if (mode == NONZERO) {
    for (int64_t i = 0; i < size; i++) keep[i] = x[i] != 0;
    return;
  }
  vector<int32_t> score(size);
  vector<float> value(size);
  if (factor) {
    for (int64_t i = 0; i < size; i++) value[i] = std::fabs(x[i]) * factor[i];
  } else {
    for (int64_t i = 0; i < size; i++) value[i] = std::fabs(x[i]);
  }
  if (mode == THRESHOLD) {
    for (int64_t i = 0; i < size; i++) keep[i] = value[i] >= level;
    return;
  }
  std::memcpy(score.data(), value.data(), size * 4);
  if (mode == TOP_K) return best_of_all(score.data(), keep, size, n);
#if defined(__AVX512F__)
  if (m == 16) return best_of_16(score.data(), keep, size, n);
#endif
  best_of_groups(score.data(), keep, size, n, m);
}

// ---- inputs in the form that weights of a type are multiplied with ------------------------------------------
//
// Inputs<W> holds rows of inputs; their number is padded with zeros to a multiple of `Inputs<W>::multiple`.
// Sums<W> holds a row's sums over some outputs while eight kept inputs after the other are added to them.

template <class W> struct Inputs;
template <class W> struct Sums;

// Eight at a time, so that what is left is added as zeros.
int64_t padded(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }

template <> struct Inputs<float> {
  static constexpr int64_t multiple = STREAMS;
  int64_t size;
  vector<float> values;
  Inputs(const vector<float>& x, int64_t rows, int64_t n) : size(padded(n, multiple)), values(rows * size) {
    for (int64_t r = 0; r < rows; r++) std::copy(&x[r * n], &x[r * n] + n, &values[r * size]);
  }
};

template <> struct Sums<float> {
  vector<float> sums;
  int64_t size;
  explicit Sums(int64_t size) : sums(size), size(size) {}
  void add(const Inputs<float>& x, int64_t row, int64_t at, const float* const* w) {
    const float* c = &x.values[row * x.size + at];
    const float c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3], c4 = c[4], c5 = c[5], c6 = c[6], c7 = c[7];
    const float *a0 = w[0], *a1 = w[1], *a2 = w[2], *a3 = w[3], *a4 = w[4], *a5 = w[5], *a6 = w[6], *a7 = w[7];
    float* s = sums.data();
#pragma omp simd
    for (int64_t j = 0; j < size; j++) {
      s[j] += ((c0 * a0[j] + c1 * a1[j]) + (c2 * a2[j] + c3 * a3[j])) +
              ((c4 * a4[j] + c5 * a5[j]) + (c6 * a6[j] + c7 * a7[j]));
    }
  }
  void finish(float* y, const Inputs<float>&, int64_t) { std::copy(sums.begin(), sums.end(), y); }
};

float dot(const Inputs<float>& x, int64_t row, const float* w, int64_t size) {
  const float* v = &x.values[row * x.size];
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; i++) sum += v[i] * w[i];
  return sum;
}

#if defined(__AVX512BF16__) && defined(__AVX512BW__)

__m512bh as_bh(__m512i v) { return (__m512bh)v; }

// Two rows of 32 weights as 32 pairs: low has those of outputs 0-3, 8-11, ..., high those of 4-7, 12-15, ...
// This is undone when the sums are complete.
void in_order(const float* low_high, float* y) {
  __m512 low = _mm512_loadu_ps(low_high), high = _mm512_loadu_ps(low_high + 16);
  const __m512i first = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
  const __m512i second = _mm512_set_epi32(31, 30, 29, 28, 15, 14, 13, 12, 27, 26, 25, 24, 11, 10, 9, 8);
  _mm512_storeu_ps(y, _mm512_permutex2var_ps(low, first, high));
  _mm512_storeu_ps(y + 16, _mm512_permutex2var_ps(low, second, high));
}

template <> struct Inputs<bf16> {
  static constexpr int64_t multiple = 32;
  int64_t size;
  vector<uint16_t> values;
  Inputs(const vector<float>& x, int64_t rows, int64_t n) : size(padded(n, multiple)), values(rows * size) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < n; i++) values[r * size + i] = narrow(x[r * n + i]);
  }
};

template <> struct Sums<bf16> {
  vector<float> sums;
  int64_t size;
  explicit Sums(int64_t size) : sums(size), size(size) {}
  void add(const Inputs<bf16>& x, int64_t row, int64_t at, const bf16* const* w) {
    const uint16_t* c = &x.values[row * x.size + at];
    __m512bh pairs[4];
    for (int q = 0; q < 4; q++) pairs[q] = as_bh(_mm512_set1_epi32(pair(c[2 * q], c[2 * q + 1])));
    int64_t j = 0;
    for (; j + 32 <= size; j += 32) {
      __m512 low = _mm512_loadu_ps(&sums[j]), high = _mm512_loadu_ps(&sums[j + 16]);
      for (int q = 0; q < 4; q++) {
        __m512i one = _mm512_loadu_si512(w[2 * q] + j), other = _mm512_loadu_si512(w[2 * q + 1] + j);
        low = _mm512_dpbf16_ps(low, as_bh(_mm512_unpacklo_epi16(one, other)), pairs[q]);
        high = _mm512_dpbf16_ps(high, as_bh(_mm512_unpackhi_epi16(one, other)), pairs[q]);
      }
      _mm512_storeu_ps(&sums[j], low);
      _mm512_storeu_ps(&sums[j + 16], high);
    }
    for (; j < size; j++)
      for (int q = 0; q < STREAMS; q++) sums[j] += widen(bf16{c[q]}) * widen(w[q][j]);
  }
  void finish(float* y, const Inputs<bf16>&, int64_t) {
    int64_t j = 0;
    for (; j + 32 <= size; j += 32) in_order(&sums[j], y + j);
    for (; j < size; j++) y[j] = sums[j];
  }
};

float dot(const Inputs<bf16>& x, int64_t row, const bf16* w, int64_t size) {
  const uint16_t* v = &x.values[row * x.size];
  __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + 128 <= size; i += 128)
    for (int q = 0; q < 4; q++)
      sum[q] = _mm512_dpbf16_ps(sum[q], as_bh(_mm512_loadu_si512(w + i + 32 * q)),
                                as_bh(_mm512_loadu_si512(v + i + 32 * q)));
  for (; i + 32 <= size; i += 32)
    sum[0] = _mm512_dpbf16_ps(sum[0], as_bh(_mm512_loadu_si512(w + i)), as_bh(_mm512_loadu_si512(v + i)));
  float rest = 0;
  for (; i < size; i++) rest += widen(bf16{v[i]}) * widen(w[i]);
  return rest + _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

#else

template <> struct Inputs<bf16> : Inputs<float> { using Inputs<float>::Inputs; };

template <> struct Sums<bf16> {
  vector<float> sums;
  int64_t size;
  explicit Sums(int64_t size) : sums(size), size(size) {}
  void add(const Inputs<bf16>& x, int64_t row, int64_t at, const bf16* const* w) {
    const float* c = &x.values[row * x.size + at];
    float* s = sums.data();
    const bf16 *a0 = w[0], *a1 = w[1], *a2 = w[2], *a3 = w[3], *a4 = w[4], *a5 = w[5], *a6 = w[6], *a7 = w[7];
#pragma omp simd
    for (int64_t j = 0; j < size; j++) {
      s[j] += ((c[0] * widen(a0[j]) + c[1] * widen(a1[j])) + (c[2] * widen(a2[j]) + c[3] * widen(a3[j]))) +
              ((c[4] * widen(a4[j]) + c[5] * widen(a5[j])) + (c[6] * widen(a6[j]) + c[7] * widen(a7[j])));
    }
  }
  void finish(float* y, const Inputs<bf16>&, int64_t) { std::copy(sums.begin(), sums.end(), y); }
};

float dot(const Inputs<bf16>& x, int64_t row, const bf16* w, int64_t size) {
  const float* v = &x.values[row * x.size];
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; i++) sum += v[i] * widen(w[i]);
  return sum;
}

#endif

// Inputs of 16 bits: values[i] * scales[i / CHUNK] is input i, to 1 / 65534 of the largest of its chunk.
template <> struct Inputs<int8_t> {
  static constexpr int64_t multiple = CHUNK;
  int64_t size;
  vector<int16_t> values;
  vector<float> scales;
  Inputs(const vector<float>& x, int64_t rows, int64_t n)
      : size(padded(n, multiple)), values(rows * size), scales(rows * size / CHUNK) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t start = 0; start < n; start += CHUNK) {
        const int64_t stop = std::min(n, start + CHUNK);
        float largest = 0, poison = 0;  // a NaN or an infinity must not turn into a number
        for (int64_t i = start; i < stop; i++) {
          largest = std::max(largest, std::fabs(x[r * n + i]));
          poison += x[r * n + i] * 0;
        }
        const float inverse = largest > 0 && poison == 0 ? 32767 / largest : 0;
        for (int64_t i = start; i < stop; i++) {
          float v = x[r * n + i] * inverse;
          values[r * size + i] = int16_t(int32_t(v + (v < 0 ? -0.5f : 0.5f)));
        }
        scales[(r * size + start) / CHUNK] = largest / 32767 + poison;
      }
  }
  const float* scales_of(int64_t row) const { return &scales[row * size / CHUNK]; }
};

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

template <> struct Sums<int8_t> {
  vector<int32_t> chunk;  // in the order of unpacked pairs, as for bfloat16
  vector<float> sums;
  int64_t size;
  explicit Sums(int64_t size) : chunk(size), sums(size), size(size) {}
  void add(const Inputs<int8_t>& x, int64_t row, int64_t at, const int8_t* const* w) {
    const int16_t* c = &x.values[row * x.size + at];
    __m512i pairs[4];
    for (int q = 0; q < 4; q++) pairs[q] = _mm512_set1_epi32(pair(uint16_t(c[2 * q]), uint16_t(c[2 * q + 1])));
    int64_t j = 0;
    for (; j + 32 <= size; j += 32) {
      __m512i low = _mm512_loadu_si512(&chunk[j]), high = _mm512_loadu_si512(&chunk[j + 16]);
      for (int q = 0; q < 4; q++) {
        __m512i one = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(w[2 * q] + j)));
        __m512i other = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(w[2 * q + 1] + j)));
        low = _mm512_dpwssd_epi32(low, _mm512_unpacklo_epi16(one, other), pairs[q]);
        high = _mm512_dpwssd_epi32(high, _mm512_unpackhi_epi16(one, other), pairs[q]);
      }
      _mm512_storeu_si512(&chunk[j], low);
      _mm512_storeu_si512(&chunk[j + 16], high);
    }
    for (; j < size; j++)
      for (int q = 0; q < STREAMS; q++) chunk[j] += int32_t(c[q]) * w[q][j];
    if ((at + STREAMS) % CHUNK == 0) take(x.scales_of(row)[at / CHUNK]);
  }
  void take(float scale) {
    for (int64_t j = 0; j < size; j++) sums[j] += scale * float(chunk[j]);
    std::fill(chunk.begin(), chunk.end(), 0);
  }
  void finish(float* y, const Inputs<int8_t>& x, int64_t row) {
    take(x.scales_of(row)[(x.size - 1) / CHUNK]);
    int64_t j = 0;
    for (; j + 32 <= size; j += 32) in_order(&sums[j], y + j);
    for (; j < size; j++) y[j] = sums[j];
  }
};

float dot(const Inputs<int8_t>& x, int64_t row, const int8_t* w, int64_t size) {
  const int16_t* v = &x.values[row * x.size];
  const float* scales = x.scales_of(row);
  __m512 sum = _mm512_setzero_ps();
  float rest = 0;
  for (int64_t start = 0; start < size; start += CHUNK) {
    const int64_t stop = std::min(size, start + CHUNK);
    __m512i one = _mm512_setzero_si512(), other = one;
    int64_t i = start;
    for (; i + 64 <= stop; i += 64) {
      one = _mm512_dpwssd_epi32(one, _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(w + i))),
                                _mm512_loadu_si512(v + i));
      other = _mm512_dpwssd_epi32(other, _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(w + i + 32))),
                                  _mm512_loadu_si512(v + i + 32));
    }
    int32_t left = 0;
    for (; i < stop; i++) left += int32_t(v[i]) * w[i];
    const float scale = scales[start / CHUNK];
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(one, other)), _mm512_set1_ps(scale), sum);
    rest += scale * float(left);
  }
  return rest + _mm512_reduce_add_ps(sum);
}

#else

template <> struct Sums<int8_t> {
  vector<int32_t> chunk;
  vector<float> sums;
  int64_t size;
  explicit Sums(int64_t size) : chunk(size), sums(size), size(size) {}
  void add(const Inputs<int8_t>& x, int64_t row, int64_t at, const int8_t* const* w) {
    const int16_t* c = &x.values[row * x.size + at];
    int32_t* s = chunk.data();
    for (int q = 0; q < STREAMS; q += 2) {
      const int32_t one = c[q], other = c[q + 1];
      const int8_t *a = w[q], *b = w[q + 1];
#pragma omp simd
      for (int64_t j = 0; j < size; j++) s[j] += one * a[j] + other * b[j];
    }
    if ((at + STREAMS) % CHUNK == 0) take(x.scales_of(row)[at / CHUNK]);
  }
  void take(float scale) {
    for (int64_t j = 0; j < size; j++) sums[j] += scale * float(chunk[j]);
    std::fill(chunk.begin(), chunk.end(), 0);
  }
  void finish(float* y, const Inputs<int8_t>& x, int64_t row) {
    take(x.scales_of(row)[(x.size - 1) / CHUNK]);
    std::copy(sums.begin(), sums.end(), y);
  }
};

float dot(const Inputs<int8_t>& x, int64_t row, const int8_t* w, int64_t size) {
  const int16_t* v = &x.values[row * x.size];
  float sum = 0;
  for (int64_t start = 0; start < size; start += CHUNK) {
    int32_t part = 0;
    const int64_t stop = std::min(size, start + CHUNK);
#pragma omp simd reduction(+ : part)
    for (int64_t i = start; i < stop; i++) part += int32_t(v[i]) * w[i];
    sum += x.scales_of(row)[start / CHUNK] * float(part);
  }
  return sum;
}

#endif

// ---- products -----------------------------------------------------------------------------------------------

vector<float> as_floats(const Tensor& x) {
  const int64_t count = x.numel();
  vector<float> values(count);
  if (x.scalar_type() == at::kFloat) {
    std::memcpy(values.data(), x.const_data_ptr<float>(), count * 4);
  } else {
    const bf16* source = (const bf16*)x.const_data_ptr();
    for (int64_t i = 0; i < count; i++) values[i] = widen(source[i]);
  }
  return values;
}

// Scale and bias are applied, and what they give is written in the type of the result.
struct Result {
  Tensor y;
  int64_t outputs;
  vector<float> bias;
  const float* scale;
  Result(const Tensor& x, int64_t outputs, const optional<Tensor>& scale, const optional<Tensor>& bias)
      : outputs(outputs), scale(scale ? scale->const_data_ptr<float>() : nullptr) {
    auto sizes = x.sizes().vec();
    sizes.back() = outputs;
    y = at::empty(sizes, x.options());
    if (bias) this->bias = as_floats(*bias);
  }
  void write(int64_t row, int64_t output, float sum) {
    if (scale) sum *= scale[output];
    if (!bias.empty()) sum += bias[output];
    put(row, output, sum);
  }
  void put(int64_t row, int64_t output, float value) {
    if (y.scalar_type() == at::kFloat) ((float*)data())[row * outputs + output] = value;
    else ((uint16_t*)data())[row * outputs + output] = narrow(value);
  }
  void* data() { return y.data_ptr(); }
};

template <class Share> void share_outputs(int64_t outputs, const Share& share) {
  at::parallel_for(0, (outputs + BLOCK - 1) / BLOCK, 1, [&](int64_t start, int64_t stop) {
    share(start * BLOCK, std::min(outputs, stop * BLOCK));
  });
}

void check(const Tensor& x, const Tensor& w, int64_t inputs) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "x: float32 or bfloat16, not ",
              x.scalar_type());
  TORCH_CHECK(w.scalar_type() == at::kChar || w.scalar_type() == x.scalar_type(), "w: int8 or of x's type, not ",
              w.scalar_type());
  TORCH_CHECK(w.dim() == 2 && w.is_contiguous() && x.size(-1) == inputs, "x (..., in), w contiguous");
}

void count(Tensor& counts, int64_t read, const Tensor& w) {
  int64_t* c = counts.data_ptr<int64_t>();
  c[0] += read * w.element_size();
  c[1] += w.numel() * w.element_size();
}

// Calls work with a value of the weights' type.
template <class Work> auto of_type(const Tensor& w, const Work& work) {
  if (w.scalar_type() == at::kFloat) return work(float());
  if (w.scalar_type() == at::kBFloat16) return work(bf16());
  return work(int8_t());
}

// Outputs `list[a]` to `list[b - 1]`, or a to b - 1 without a list; where wanted[row * out + output], if given.
template <class W>
void outputs_of(const Inputs<W>& x, int64_t rows, const W* w, int64_t in, const int32_t* list,
                const uint8_t* wanted, int64_t a, int64_t b, Result& result) {
  for (int64_t i = a; i < b; i++) {
    const int64_t output = list ? list[i] : i;
    for (int64_t r = 0; r < rows; r++) {
      if (!wanted || wanted[r * result.outputs + output])
        result.write(r, output, dot(x, r, w + output * in, in));
    }
  }
}

Tensor dense(const Tensor& x_, const Tensor& w, const optional<Tensor>& scale, const optional<Tensor>& bias,
             Tensor& counts) {
  const int64_t out = w.size(0), in = w.size(1), rows = x_.numel() / in;
  check(x_, w, in);
  const Tensor x = x_.contiguous();
  Result result(x, out, scale, bias);
  of_type(w, [&](auto type) {
    using W = decltype(type);
    const Inputs<W> inputs(as_floats(x), rows, in);
    share_outputs(out, [&](int64_t a, int64_t b) {
      outputs_of<W>(inputs, rows, (const W*)w.const_data_ptr(), in, nullptr, nullptr, a, b, result);
    });
  });
  count(counts, w.numel(), w);
  return result.y;
}

Tensor skip_outputs(const Tensor& x_, const Tensor& w, const optional<Tensor>& scale, const optional<Tensor>& bias,
                    const Tensor& keep_, Tensor& counts) {
  const int64_t out = w.size(0), in = w.size(1), rows = x_.numel() / in;
  check(x_, w, in);
  const Tensor x = x_.contiguous(), keep = keep_.contiguous();
  TORCH_CHECK(keep.scalar_type() == at::kBool && keep.numel() == rows * out, "keep: bool (..., out)");
  const uint8_t* wanted = (const uint8_t*)keep.const_data_ptr();
  Result result(x, out, scale, bias);
  std::memset(result.data(), 0, result.y.nbytes());
  vector<int32_t> list;
  for (int64_t o = 0; o < out; o++) {
    bool any = false;
    for (int64_t r = 0; r < rows; r++) any |= wanted[r * out + o];
    if (any) list.push_back(int32_t(o));
  }
  of_type(w, [&](auto type) {
    using W = decltype(type);
    const Inputs<W> inputs(as_floats(x), rows, in);
    share_outputs(int64_t(list.size()), [&](int64_t a, int64_t b) {
      outputs_of<W>(inputs, rows, (const W*)w.const_data_ptr(), in, list.data(), wanted, a, b, result);
    });
  });
  count(counts, int64_t(list.size()) * in, w);
  return result.y;
}

Tensor skip_inputs(const Tensor& x_, const Tensor& w, const optional<Tensor>& scale, const optional<Tensor>& bias,
                   int64_t mode, int64_t n, int64_t m, double level, const optional<Tensor>& factor,
                   Tensor& counts) {
  const int64_t in = w.size(0), out = w.size(1), rows = x_.numel() / in;
  check(x_, w, in);
  TORCH_CHECK(mode != N_OF_M || (m > 0 && m <= CHUNK && in % m == 0), "m divides the inputs and is at most ", CHUNK);
  const Tensor x = x_.contiguous();
  const vector<float> values = as_floats(x);
  vector<uint8_t> keep(rows * in);
  for (int64_t r = 0; r < rows; r++)
    select(&values[r * in], factor ? factor->const_data_ptr<float>() : nullptr, &keep[r * in], in, mode, n, m,
           float(level));
  // The inputs that any row keeps, and what each row has of them.
  vector<int32_t> list(in + CHUNK);
  int64_t kept = 0;
  for (int64_t i = 0; i < in; i++) {
    uint8_t any = keep[i];
    for (int64_t r = 1; r < rows; r++) any |= keep[r * in + i];
    list[kept] = int32_t(i);
    kept += any;
  }
  std::fill(list.begin() + kept, list.end(), kept ? list[kept - 1] : 0);
  vector<float> gathered(rows * kept);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < kept; k++) gathered[r * kept + k] = keep[r * in + list[k]] ? values[r * in + list[k]] : 0;
  Result result(x, out, scale, bias);
  of_type(w, [&](auto type) {
    using W = decltype(type);
    const W* weights = (const W*)w.const_data_ptr();
    const Inputs<W> inputs(gathered, rows, kept);
    share_outputs(out, [&](int64_t a, int64_t b) {
      const int64_t size = b - a;
      vector<Sums<W>> sums(rows, Sums<W>(size));
      for (int64_t k = 0; k < kept; k += STREAMS) {
        const W* stream[STREAMS];
        for (int64_t q = 0; q < STREAMS; q++) stream[q] = weights + int64_t(list[k + q]) * out + a;
        for (int64_t r = 0; r < rows; r++) sums[r].add(inputs, r, k, stream);
      }
      vector<float> y(size);
      for (int64_t r = 0; r < rows; r++) {
        if (kept) sums[r].finish(y.data(), inputs, r);
        for (int64_t j = 0; j < size; j++) result.write(r, a + j, y[j]);
      }
    });
  });
  count(counts, kept * out, w);
  return result.y;
}

}  // namespace

TORCH_LIBRARY(actsparse, library) {
  library.def("dense(Tensor x, Tensor w, Tensor? scale, Tensor? bias, Tensor(a!) counts) -> Tensor");
  library.def(
      "skip_inputs(Tensor x, Tensor w, Tensor? scale, Tensor? bias, int mode, int n, int m, float level, "
      "Tensor? factor, Tensor(a!) counts) -> Tensor");
  library.def(
      "skip_outputs(Tensor x, Tensor w, Tensor? scale, Tensor? bias, Tensor keep, Tensor(a!) counts) -> Tensor");
}

TORCH_LIBRARY_IMPL(actsparse, CPU, library) {
  library.impl("dense", &dense);
  library.impl("skip_inputs", &skip_inputs);
  library.impl("skip_outputs", &skip_outputs);
}

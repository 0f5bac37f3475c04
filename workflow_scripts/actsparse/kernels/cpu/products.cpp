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

constexpr int64_t STREAMS = 8;    // kept inputs at a time
constexpr int64_t BLOCK = 64;     // outputs that a thread's share is a multiple of
constexpr int64_t CHUNK = 32;     // inputs that are multiplied with int8 weights and share a scale
constexpr int64_t WIDEST = 256;   // largest group of an N:M pattern
constexpr int64_t NARROW = 4096;  // bytes of an input's weights below which threads share inputs, not outputs

struct bf16 { uint16_t bits; };

float widen(float v) { return v; }
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

// ---- which inputs a row keeps -------------------------------------------------------------------------------

enum Mode { NONZERO = 0, THRESHOLD = 1, N_OF_M = 2, TOP_K = 3 };

// Scores are not negative, so that their bits, taken as integers, have their order.

// keep[i] = 1 for the n best of each m scores; of equal ones the earlier.
void best_of_groups(const int32_t* score, uint8_t* keep, int64_t size, int64_t n, int64_t m) {
  int32_t better[WIDEST];
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

// Writes the places that `keep` marks; room for 16 more is needed. Returns how many they are.
int64_t list_of(const uint8_t* keep, int64_t size, int32_t* list) {
  int64_t count = 0, i = 0;
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  for (; i + 16 <= size; i += 16) {
    const __m128i marks = _mm_loadu_si128((const __m128i*)(keep + i));
    const __mmask16 mask = _mm_test_epi8_mask(marks, marks);
    const __m512i places = _mm512_add_epi32(lane, _mm512_set1_epi32(int(i)));
    _mm512_storeu_si512(list + count, _mm512_maskz_compress_epi32(mask, places));
    count += __builtin_popcount(mask);
  }
#endif
  for (; i < size; i++) {
    list[count] = int32_t(i);
    count += keep[i] != 0;
  }
  return count;
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
// Inputs<W> holds rows of inputs, zeros behind each, so that eight can always be taken. Sums<W> holds one row's
// sums over some outputs while eight kept inputs after the other are added: from `at` on, whose weights `w`
// points to; those of `next` are asked for meanwhile, for which weights come next the processor cannot guess.
// They are asked for line by line and into the second-level cache, which more requests can be under way to.

template <class W> struct Inputs;
template <class W> struct Sums;

int64_t padded(int64_t size) { return (size + CHUNK - 1) / CHUNK * CHUNK + STREAMS; }

template <class W> struct Streams {  // copies, which stores of sums cannot change
  const W *a, *b, *c, *d, *e, *f, *g, *h;
  explicit Streams(const W* const* w)
      : a(w[0]), b(w[1]), c(w[2]), d(w[3]), e(w[4]), f(w[5]), g(w[6]), h(w[7]) {}
  // Always inlined, for gcc takes a function that only asks for memory to do nothing, and drops its calls.
  __attribute__((always_inline)) void ask_for(int64_t output) const {
    for (const W* stream : {a, b, c, d, e, f, g, h}) __builtin_prefetch(stream + output, 0, 2);
  }
};

struct FloatInputs {
  int64_t size;
  vector<float> values;
  FloatInputs(const float* x, int64_t rows, int64_t n) : size(padded(n)), values(rows * size) {
    for (int64_t r = 0; r < rows; r++) std::copy(x + r * n, x + (r + 1) * n, &values[r * size]);
  }
};

template <class W> struct FloatSums {
  static constexpr int64_t line = 64 / sizeof(W);
  vector<float> sums;
  int64_t size;
  explicit FloatSums(int64_t size) : sums(size), size(size) {}
  void add(const FloatInputs& x, int64_t row, int64_t at, const W* const* w, const W* const* next) {
    const float* v = &x.values[row * x.size + at];
    const float v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3], v4 = v[4], v5 = v[5], v6 = v[6], v7 = v[7];
    const Streams<W> s(w), coming(next);
    float* y = sums.data();
    const int64_t whole = size / line * line;
    for (int64_t start = 0; start < whole; start += line) {
      coming.ask_for(start);
#pragma omp simd
      for (int64_t j = start; j < start + line; j++)
        y[j] += ((v0 * widen(s.a[j]) + v1 * widen(s.b[j])) + (v2 * widen(s.c[j]) + v3 * widen(s.d[j]))) +
                ((v4 * widen(s.e[j]) + v5 * widen(s.f[j])) + (v6 * widen(s.g[j]) + v7 * widen(s.h[j])));
    }
    for (int64_t j = whole; j < size; j++)
      for (int64_t q = 0; q < STREAMS; q++) y[j] += v[q] * widen(w[q][j]);
  }
  void add_to(float* y) const {
    for (int64_t j = 0; j < size; j++) y[j] += sums[j];
  }
};

template <class W> float float_dot(const FloatInputs& x, int64_t row, const W* w, int64_t size) {
  const float* v = &x.values[row * x.size];
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; i++) sum += v[i] * widen(w[i]);
  return sum;
}

template <> struct Inputs<float> : FloatInputs { using FloatInputs::FloatInputs; };
template <> struct Sums<float> : FloatSums<float> { using FloatSums::FloatSums; };
float dot(const Inputs<float>& x, int64_t row, const float* w, int64_t size) { return float_dot(x, row, w, size); }

#if defined(__AVX512BF16__) && defined(__AVX512BW__)

__m512bh as_bh(__m512i v) { return (__m512bh)v; }

template <> struct Inputs<bf16> {
  int64_t size;
  vector<uint16_t> values;
  Inputs(const float* x, int64_t rows, int64_t n) : size(padded(n)), values(rows * size) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < n; i++) values[r * size + i] = narrow(x[r * n + i]);
  }
};

// The weights of two inputs and 32 outputs are unpacked to pairs: low has those of outputs 0-3, 8-11, 16-19 and
// 24-27, high the others. Sums stay in that order until they are complete.
template <> struct Sums<bf16> {
  vector<float> sums;
  int64_t size;
  explicit Sums(int64_t size) : sums(size), size(size) {}
  void add(const Inputs<bf16>& x, int64_t row, int64_t at, const bf16* const* w, const bf16* const* next) {
    const uint16_t* v = &x.values[row * x.size + at];
    const __m512bh ab = pair(v), cd = pair(v + 2), ef = pair(v + 4), gh = pair(v + 6);
    const Streams<bf16> s(w), coming(next);
    float* y = sums.data();
    const int64_t whole = size / 32 * 32;
    for (int64_t j = 0; j < whole; j += 32) {
      coming.ask_for(j);
      __m512 low = _mm512_loadu_ps(y + j), high = _mm512_loadu_ps(y + j + 16);
      multiply(low, high, s.a + j, s.b + j, ab);
      multiply(low, high, s.c + j, s.d + j, cd);
      multiply(low, high, s.e + j, s.f + j, ef);
      multiply(low, high, s.g + j, s.h + j, gh);
      _mm512_storeu_ps(y + j, low);
      _mm512_storeu_ps(y + j + 16, high);
    }
    for (int64_t j = whole; j < size; j++)
      for (int64_t q = 0; q < STREAMS; q++) y[j] += widen(bf16{v[q]}) * widen(w[q][j]);
  }
  void add_to(float* y) const {
    const __m512i first = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
    const __m512i second = _mm512_set_epi32(31, 30, 29, 28, 15, 14, 13, 12, 27, 26, 25, 24, 11, 10, 9, 8);
    const int64_t whole = size / 32 * 32;
    for (int64_t j = 0; j < whole; j += 32) {
      __m512 low = _mm512_loadu_ps(&sums[j]), high = _mm512_loadu_ps(&sums[j + 16]);
      __m512 one = _mm512_permutex2var_ps(low, first, high), other = _mm512_permutex2var_ps(low, second, high);
      _mm512_storeu_ps(y + j, _mm512_add_ps(_mm512_loadu_ps(y + j), one));
      _mm512_storeu_ps(y + j + 16, _mm512_add_ps(_mm512_loadu_ps(y + j + 16), other));
    }
    for (int64_t j = whole; j < size; j++) y[j] += sums[j];
  }

 private:
  static __m512bh pair(const uint16_t* v) {
    return as_bh(_mm512_set1_epi32(int32_t(uint32_t(v[0]) | uint32_t(v[1]) << 16)));
  }
  static void multiply(__m512& low, __m512& high, const bf16* a, const bf16* b, __m512bh pair) {
    const __m512i one = _mm512_loadu_si512(a), other = _mm512_loadu_si512(b);
    low = _mm512_dpbf16_ps(low, as_bh(_mm512_unpacklo_epi16(one, other)), pair);
    high = _mm512_dpbf16_ps(high, as_bh(_mm512_unpackhi_epi16(one, other)), pair);
  }
};

float dot(const Inputs<bf16>& x, int64_t row, const bf16* w, int64_t size) {
  const uint16_t* v = &x.values[row * x.size];
  __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + 128 <= size; i += 128)
    for (int64_t q = 0; q < 4; q++)
      sum[q] = _mm512_dpbf16_ps(sum[q], as_bh(_mm512_loadu_si512(w + i + 32 * q)),
                                as_bh(_mm512_loadu_si512(v + i + 32 * q)));
  for (; i + 32 <= size; i += 32)
    sum[0] = _mm512_dpbf16_ps(sum[0], as_bh(_mm512_loadu_si512(w + i)), as_bh(_mm512_loadu_si512(v + i)));
  float rest = 0;
  for (; i < size; i++) rest += widen(bf16{v[i]}) * widen(w[i]);
  return rest + _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

#else

template <> struct Inputs<bf16> : FloatInputs { using FloatInputs::FloatInputs; };
template <> struct Sums<bf16> : FloatSums<bf16> { using FloatSums::FloatSums; };
float dot(const Inputs<bf16>& x, int64_t row, const bf16* w, int64_t size) { return float_dot(x, row, w, size); }

#endif

// Integers of 16 bits, values[i] * scales[i / CHUNK], exact to 1 / 65278 of the largest input of a chunk. Each is
// 256 * high + low, both of 8 bits. `starts` is what a chunk's sum starts from, see below.
template <> struct Inputs<int8_t> {
  static constexpr float LARGEST = 127 * 256 + 127;
  int64_t size;
  vector<int16_t> values;
  vector<int8_t> high, low;
  vector<float> scales;
  vector<int32_t> starts;
  vector<float> offsets;  // of each row: the sum of all starts times their scales, but for what is left of 64
  Inputs(const float* x, int64_t rows, int64_t n)
      : size(padded(n)), values(rows * size), high(rows * size), low(rows * size), scales(rows * chunks()),
        starts(rows * chunks()), offsets(rows) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t start = 0; start < n; start += CHUNK) {
        const int64_t chunk = r * chunks() + start / CHUNK;
        round(x + r * n + start, std::min(CHUNK, n - start), r * size + start, chunk);
        if (start < n / 64 * 64) offsets[r] += scales[chunk] * float(starts[chunk]);
      }
  }
  int64_t chunks() const { return (size + CHUNK - 1) / CHUNK; }

 private:
  void round(const float* x, int64_t count, int64_t to, int64_t chunk) {
    float largest = 0, poison = 0;  // a NaN or an infinity must not turn into a number
    for (int64_t i = 0; i < count; i++) {
      largest = std::max(largest, std::fabs(x[i]));
      poison += x[i] * 0;
    }
    const float inverse = largest > 0 && poison == 0 ? LARGEST / largest : 0;
    int32_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
      const float v = poison == 0 ? x[i] * inverse : 0;
      const int32_t value = int32_t(v + (v < 0 ? -0.5f : 0.5f));
      values[to + i] = int16_t(value);
      high[to + i] = int8_t((value + 128) >> 8);
      low[to + i] = int8_t(value - ((value + 128) >> 8) * 256);
      sum += value;
    }
    scales[chunk] = largest / LARGEST + poison;
    starts[chunk] = -128 * sum;
  }
};

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

// The processor adds up four products of an unsigned and a signed byte. Weights become unsigned as 128 + w, and
// 128 times the sum of a chunk's inputs is what its sum starts below zero.
__m512i unsigned_bytes(const int8_t* w) {
  return _mm512_xor_si512(_mm512_loadu_si512(w), _mm512_set1_epi8(int8_t(0x80)));
}

// The weights of four inputs and 64 outputs are unpacked to fours. Of each 16 outputs the first register has
// outputs 0-3, the second 4-7 and so on. Sums stay in that order until they are complete.
template <> struct Sums<int8_t> {
  vector<int32_t> chunk;
  vector<float> sums;
  int64_t size;
  explicit Sums(int64_t size) : chunk(size), sums(size), size(size) {}
  void add(const Inputs<int8_t>& x, int64_t row, int64_t at, const int8_t* const* w, const int8_t* const* next) {
    const int64_t which = row * x.chunks() + at / CHUNK;
    if (at % CHUNK == 0) std::fill(chunk.begin(), chunk.end(), x.starts[which]);
    const int64_t first = row * x.size + at;
    const __m512i high[2] = {four(&x.high[first]), four(&x.high[first + 4])};
    const __m512i low[2] = {four(&x.low[first]), four(&x.low[first + 4])};
    const Streams<int8_t> s(w), coming(next);
    int32_t* y = chunk.data();
    const int64_t whole = size / 64 * 64;
    for (int64_t j = 0; j < whole; j += 64) {
      coming.ask_for(j);
      __m512i one[4], other[4];
      unpack(s.a + j, s.b + j, s.c + j, s.d + j, one);
      unpack(s.e + j, s.f + j, s.g + j, s.h + j, other);
      for (int64_t q = 0; q < 4; q++) {
        __m512i big = _mm512_dpbusd_epi32(_mm512_setzero_si512(), one[q], high[0]);
        big = _mm512_slli_epi32(_mm512_dpbusd_epi32(big, other[q], high[1]), 8);
        __m512i sum = _mm512_add_epi32(_mm512_loadu_si512(y + j + 16 * q), big);
        sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, one[q], low[0]), other[q], low[1]);
        _mm512_storeu_si512(y + j + 16 * q, sum);
      }
    }
    for (int64_t j = whole; j < size; j++)
      for (int64_t q = 0; q < STREAMS; q++) y[j] += int32_t(x.values[first + q]) * (w[q][j] + 128);
    if ((at + STREAMS) % CHUNK == 0) take(x.scales[which]);
    left = (at + STREAMS) % CHUNK == 0 ? 0 : x.scales[which];
  }
  void add_to(float* y) {
    if (left != 0) take(left);
    const int64_t whole = size / 64 * 64;
    for (int64_t j = 0; j < whole; j += 64)
      for (int64_t lane = 0; lane < 4; lane++)
        for (int64_t q = 0; q < 4; q++)
          for (int64_t i = 0; i < 4; i++) y[j + 16 * lane + 4 * q + i] += sums[j + 16 * q + 4 * lane + i];
    for (int64_t j = whole; j < size; j++) y[j] += sums[j];
  }

 private:
  float left = 0;  // the scale of a chunk that has begun and not been taken
  void take(float scale) {
    for (int64_t j = 0; j < size; j++) sums[j] += scale * float(chunk[j]);
  }
  static __m512i four(const int8_t* v) {
    int32_t bits;
    std::memcpy(&bits, v, 4);
    return _mm512_set1_epi32(bits);
  }
  static void unpack(const int8_t* a, const int8_t* b, const int8_t* c, const int8_t* d, __m512i* fours) {
    const __m512i one = unsigned_bytes(a), two = unsigned_bytes(b), three = unsigned_bytes(c), four = unsigned_bytes(d);
    const __m512i ab = _mm512_unpacklo_epi8(one, two), AB = _mm512_unpackhi_epi8(one, two);
    const __m512i cd = _mm512_unpacklo_epi8(three, four), CD = _mm512_unpackhi_epi8(three, four);
    fours[0] = _mm512_unpacklo_epi16(ab, cd);
    fours[1] = _mm512_unpackhi_epi16(ab, cd);
    fours[2] = _mm512_unpacklo_epi16(AB, CD);
    fours[3] = _mm512_unpackhi_epi16(AB, CD);
  }
};

float dot(const Inputs<int8_t>& x, int64_t row, const int8_t* w, int64_t size) {
  const int64_t first = row * x.size, whole = size / 64 * 64;
  const float* scales = &x.scales[row * x.chunks()];
  const __m512i zero = _mm512_setzero_si512();
  __m512 sum = _mm512_setzero_ps();
  float rest = x.offsets[row];
#pragma GCC unroll 4
  for (int64_t i = 0; i < whole; i += 64) {  // two chunks: the lower and the upper half of a register
    const __m512i weights = unsigned_bytes(w + i);
    const __m512i high = _mm512_dpbusd_epi32(zero, weights, _mm512_loadu_si512(&x.high[first + i]));
    const __m512i low = _mm512_dpbusd_epi32(zero, weights, _mm512_loadu_si512(&x.low[first + i]));
    const __m512 scale = _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(scales[i / CHUNK]),
                                              _mm512_set1_ps(scales[i / CHUNK + 1]));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 8), low)), scale, sum);
  }
  for (int64_t i = whole; i < size; i++) rest += scales[i / CHUNK] * float(int32_t(x.values[first + i]) * w[i]);
  return rest + _mm512_reduce_add_ps(sum);
}

#else

template <> struct Sums<int8_t> {
  vector<float> sums;
  int64_t size;
  explicit Sums(int64_t size) : sums(size), size(size) {}
  void add(const Inputs<int8_t>& x, int64_t row, int64_t at, const int8_t* const* w, const int8_t* const* next) {
    const int16_t* v = &x.values[row * x.size + at];
    const float scale = x.scales[row * x.chunks() + at / CHUNK];
    const Streams<int8_t> s(w), coming(next);
    float* y = sums.data();
    for (int64_t start = 0; start < size; start += 64) {
      const int64_t stop = std::min(size, start + 64);
      coming.ask_for(start);
#pragma omp simd
      for (int64_t j = start; j < stop; j++)
        y[j] += scale * float(v[0] * s.a[j] + v[1] * s.b[j] + v[2] * s.c[j] + v[3] * s.d[j] + v[4] * s.e[j] +
                              v[5] * s.f[j] + v[6] * s.g[j] + v[7] * s.h[j]);
    }
  }
  void add_to(float* y) const {
    for (int64_t j = 0; j < size; j++) y[j] += sums[j];
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
    sum += x.scales[row * x.chunks() + start / CHUNK] * float(part);
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
  void write_all(const float* sums, int64_t rows, int64_t a, int64_t b) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = a; j < b; j++) write(r, j, sums[r * (b - a) + j - a]);
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
    const Inputs<W> inputs(as_floats(x).data(), rows, in);
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
  vector<uint8_t> any(wanted, wanted + out);
  for (int64_t r = 1; r < rows; r++)
    for (int64_t o = 0; o < out; o++) any[o] |= wanted[r * out + o];
  vector<int32_t> list(out + 2 * STREAMS);
  const int64_t kept = list_of(any.data(), out, list.data());
  of_type(w, [&](auto type) {
    using W = decltype(type);
    const Inputs<W> inputs(as_floats(x).data(), rows, in);
    share_outputs(kept, [&](int64_t a, int64_t b) {
      outputs_of<W>(inputs, rows, (const W*)w.const_data_ptr(), in, list.data(), wanted, a, b, result);
    });
  });
  count(counts, kept * in, w);
  return result.y;
}

// Adds to y (rows, b - a) the products of the kept inputs start to stop - 1 at outputs a to b - 1.
template <class W>
void add_kept(const Inputs<W>& x, int64_t rows, const W* w, const int32_t* list, int64_t out, int64_t start,
              int64_t stop, int64_t a, int64_t b, float* y) {
  vector<Sums<W>> sums(rows, Sums<W>(b - a));
  const W *now[STREAMS], *next[STREAMS];
  for (int64_t k = start; k < stop; k += STREAMS) {
    for (int64_t q = 0; q < STREAMS; q++) {
      now[q] = w + int64_t(list[k + q]) * out + a;
      next[q] = w + int64_t(list[k + STREAMS + q]) * out + a;
    }
    for (int64_t r = 0; r < rows; r++) sums[r].add(x, r, k, now, r ? now : next);
  }
  for (int64_t r = 0; r < rows; r++) sums[r].add_to(y + r * (b - a));
}

Tensor skip_inputs(const Tensor& x_, const Tensor& w, const optional<Tensor>& scale, const optional<Tensor>& bias,
                   int64_t mode, int64_t n, int64_t m, double level, const optional<Tensor>& factor,
                   Tensor& counts) {
  const int64_t in = w.size(0), out = w.size(1), rows = x_.numel() / in;
  check(x_, w, in);
  TORCH_CHECK(mode != N_OF_M || (m > 0 && m <= WIDEST && in % m == 0), "m divides the inputs and is at most ", WIDEST);
  const Tensor x = x_.contiguous();
  const vector<float> values = as_floats(x);
  vector<uint8_t> keep(rows * in);
  for (int64_t r = 0; r < rows; r++)
    select(&values[r * in], factor ? factor->const_data_ptr<float>() : nullptr, &keep[r * in], in, mode, n, m,
           float(level));
  vector<uint8_t> any(keep.begin(), keep.begin() + in);
  for (int64_t r = 1; r < rows; r++)
    for (int64_t i = 0; i < in; i++) any[i] |= keep[r * in + i];
  vector<int32_t> list(in + 2 * STREAMS);
  const int64_t kept = list_of(any.data(), in, list.data());
  std::fill(list.begin() + kept, list.begin() + kept + 2 * STREAMS, kept ? list[kept - 1] : 0);
  vector<float> gathered(rows * kept);  // what each row has of the inputs that any row keeps
  for (int64_t r = 0; r < rows; r++)
    for (int64_t k = 0; k < kept; k++) gathered[r * kept + k] = keep[r * in + list[k]] ? values[r * in + list[k]] : 0;
  Result result(x, out, scale, bias);
  of_type(w, [&](auto type) {
    using W = decltype(type);
    const W* weights = (const W*)w.const_data_ptr();
    const Inputs<W> inputs(gathered.data(), rows, kept);
    if (out * int64_t(sizeof(W)) >= NARROW) {
      share_outputs(out, [&](int64_t a, int64_t b) {
        vector<float> y(rows * (b - a));
        add_kept<W>(inputs, rows, weights, list.data(), out, 0, kept, a, b, y.data());
        result.write_all(y.data(), rows, a, b);
      });
    } else {
      const int64_t chunks = (kept + CHUNK - 1) / CHUNK, threads = std::max<int64_t>(1, at::get_num_threads());
      vector<float> y(threads * rows * out);
      at::parallel_for(0, chunks, 1, [&](int64_t start, int64_t stop) {
        add_kept<W>(inputs, rows, weights, list.data(), out, start * CHUNK, std::min(kept, stop * CHUNK), 0, out,
                    &y[at::get_thread_num() * rows * out]);
      });
      for (int64_t t = 1; t < threads; t++)
        for (int64_t j = 0; j < rows * out; j++) y[j] += y[t * rows * out + j];
      result.write_all(y.data(), rows, 0, out);
    }
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

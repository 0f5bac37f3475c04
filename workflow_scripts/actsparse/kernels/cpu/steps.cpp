// What a decoder does for one token between its products: residual and norm, rotation, attention over a cache.
//
// Each is a few microseconds of work, for which calls of several operators would cost more than the work.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

using at::Tensor;
using std::optional;
using std::vector;

// Calls work with a value of the tensor's type, float32 or bfloat16.
template <class Work> void of_type(const Tensor& x, const Work& work) {
  if (x.scalar_type() == at::kFloat) return work(float());
  TORCH_CHECK(x.scalar_type() == at::kBFloat16, "float32 or bfloat16, not ", x.scalar_type());
  work(at::BFloat16());
}

// hidden (..., d) += delta; returns weight * hidden / rms(hidden), rounded where transformers' norms round.
Tensor add_norm(Tensor& hidden, const optional<Tensor>& delta, const Tensor& weight, double epsilon) {
  TORCH_CHECK(hidden.is_contiguous() && (!delta || delta->is_contiguous()), "hidden and delta are contiguous");
  Tensor result = at::empty_like(hidden);
  const int64_t size = hidden.size(-1), rows = hidden.numel() / size;
  of_type(hidden, [&](auto type) {
    using T = decltype(type);
    const T* w = weight.const_data_ptr<T>();
    vector<float> x(size);
    for (int64_t r = 0; r < rows; r++) {
      T *h = hidden.data_ptr<T>() + r * size, *y = result.data_ptr<T>() + r * size;
      if (delta) {
        const T* more = delta->const_data_ptr<T>() + r * size;
        for (int64_t i = 0; i < size; i++) h[i] = T(float(h[i]) + float(more[i]));
      }
      float squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < size; i++) {
        x[i] = float(h[i]);
        squares += x[i] * x[i];
      }
      const float factor = 1 / std::sqrt(squares / float(size) + float(epsilon));
      for (int64_t i = 0; i < size; i++) y[i] = T(float(w[i]) * float(T(x[i] * factor)));
    }
  });
  return result;
}

// Rotates a head (size) by the angles of its position, as Llama does: halves are paired.
template <class T> void rotate(const T* x, const float* cos, const float* sin, int64_t size, float* y) {
  const int64_t half = size / 2;
  for (int64_t i = 0; i < half; i++) {
    y[i] = float(x[i]) * cos[i] - float(x[i + half]) * sin[i];
    y[i + half] = float(x[i + half]) * cos[i + half] + float(x[i]) * sin[i + half];
  }
}

// Attention of one token of each sequence. query (B, 1, H d), key and value (B, 1, G d), not rotated; cos and
// sin, float32 (d), of its position; keys and values (B, G, length, d) gain a row there. Returns (B, 1, H d).
Tensor attend(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& cos, const Tensor& sin,
              Tensor& keys, Tensor& values, int64_t position, double scale) {
  const int64_t batch = keys.size(0), groups = keys.size(1), length = keys.size(2), size = keys.size(3);
  const int64_t heads = query.size(-1) / size, shared = heads / groups, tokens = position + 1;
  TORCH_CHECK(position < length, "position ", position, " is beyond the cache of ", length);
  TORCH_CHECK(query.stride(-1) == 1 && key.stride(-1) == 1 && value.stride(-1) == 1, "rows are contiguous");
  Tensor result = at::empty({batch, 1, heads * size}, query.options());
  const float *c = cos.const_data_ptr<float>(), *s = sin.const_data_ptr<float>();
  of_type(query, [&](auto type) {
    using T = decltype(type);
    const T *q = query.const_data_ptr<T>(), *k = key.const_data_ptr<T>(), *v = value.const_data_ptr<T>();
    T *all_keys = keys.data_ptr<T>(), *all_values = values.data_ptr<T>(), *out = result.data_ptr<T>();
    at::parallel_for(0, batch * groups, std::max<int64_t>(1, 4096 / tokens), [&](int64_t start, int64_t stop) {
      vector<float> turned(size), score(tokens), sum(size);
      for (int64_t pair = start; pair < stop; pair++) {
        const int64_t b = pair / groups, g = pair % groups;
        T *K = all_keys + pair * length * size, *V = all_values + pair * length * size;
        rotate(k + b * key.stride(0) + g * size, c, s, size, turned.data());
        for (int64_t i = 0; i < size; i++) {
          K[position * size + i] = T(turned[i]);
          V[position * size + i] = v[b * value.stride(0) + g * size + i];
        }
        for (int64_t h = g * shared; h < (g + 1) * shared; h++) {
          rotate(q + b * query.stride(0) + h * size, c, s, size, turned.data());
          float largest = -INFINITY, total = 0;
          for (int64_t t = 0; t < tokens; t++) {
            float product = 0;
#pragma omp simd reduction(+ : product)
            for (int64_t i = 0; i < size; i++) product += turned[i] * float(K[t * size + i]);
            score[t] = product * float(scale);
            largest = std::max(largest, score[t]);
          }
          std::fill(sum.begin(), sum.end(), 0);
          for (int64_t t = 0; t < tokens; t++) {
            const float weight = std::exp(score[t] - largest);
            total += weight;
#pragma omp simd
            for (int64_t i = 0; i < size; i++) sum[i] += weight * float(V[t * size + i]);
          }
          for (int64_t i = 0; i < size; i++) out[(b * heads + h) * size + i] = T(sum[i] / total);
        }
      }
    });
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(actsparse, library) {
  library.def("add_norm(Tensor(a!) hidden, Tensor? delta, Tensor weight, float epsilon) -> Tensor");
  library.def(
      "attend(Tensor query, Tensor key, Tensor value, Tensor cos, Tensor sin, Tensor(a!) keys, Tensor(b!) values, "
      "int position, float scale) -> Tensor");
}

TORCH_LIBRARY_IMPL(actsparse, CPU, library) {
  library.impl("add_norm", &add_norm);
  library.impl("attend", &attend);
}

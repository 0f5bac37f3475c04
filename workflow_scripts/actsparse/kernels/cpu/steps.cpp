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

// Attention of one token of each sequence. projected (B, 1, (H + 2 G) d): query, key and value, not rotated; cos
// and sin, float32 (length, d); keys and values (B, G, length, d) gain a row at the token's position. Returns
// (B, 1, H d).
Tensor attend(const Tensor& projected, const Tensor& cos, const Tensor& sin, Tensor& keys, Tensor& values,
              int64_t position, double scale) {
  const int64_t batch = keys.size(0), groups = keys.size(1), length = keys.size(2), size = keys.size(3);
  const int64_t width = projected.size(-1), heads = width / size - 2 * groups, shared = heads / groups;
  const int64_t tokens = position + 1;
  TORCH_CHECK(position < length, "position ", position, " is beyond the cache of ", length);
  TORCH_CHECK(projected.is_contiguous() && heads > 0, "projected is contiguous and has queries");
  Tensor result = at::empty({batch, 1, heads * size}, projected.options());
  const float* c = cos.const_data_ptr<float>() + position * size;
  const float* s = sin.const_data_ptr<float>() + position * size;
  of_type(projected, [&](auto type) {
    using T = decltype(type);
    const T* q = projected.const_data_ptr<T>();
    const T *k = q + heads * size, *v = k + groups * size;
    T *all_keys = keys.data_ptr<T>(), *all_values = values.data_ptr<T>(), *out = result.data_ptr<T>();
    at::parallel_for(0, batch * groups, std::max<int64_t>(1, 4096 / tokens), [&](int64_t start, int64_t stop) {
      vector<float> turned(size), score(tokens), sum(size);
      for (int64_t pair = start; pair < stop; pair++) {
        const int64_t b = pair / groups, g = pair % groups;
        T *K = all_keys + pair * length * size, *V = all_values + pair * length * size;
        rotate(k + b * width + g * size, c, s, size, turned.data());
        for (int64_t i = 0; i < size; i++) {
          K[position * size + i] = T(turned[i]);
          V[position * size + i] = v[b * width + g * size + i];
        }
        for (int64_t h = g * shared; h < (g + 1) * shared; h++) {
          rotate(q + b * width + h * size, c, s, size, turned.data());
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

// silu(gate) * up of both in one, (..., 2 D), rounded where two operators would round.
Tensor gated(const Tensor& both) {
  TORCH_CHECK(both.is_contiguous(), "gate and up are contiguous");
  auto sizes = both.sizes().vec();
  const int64_t width = sizes.back() /= 2, rows = both.numel() / (2 * width);
  Tensor result = at::empty(sizes, both.options());
  of_type(both, [&](auto type) {
    using T = decltype(type);
    for (int64_t r = 0; r < rows; r++) {
      const T *gate = both.const_data_ptr<T>() + 2 * r * width, *up = gate + width;
      T* y = result.data_ptr<T>() + r * width;
      for (int64_t i = 0; i < width; i++) {
        const float g = float(gate[i]);
        y[i] = T(float(T(g / (1 + std::exp(-g)))) * float(up[i]));
      }
    }
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(actsparse, library) {
  library.def("gated(Tensor both) -> Tensor");
  library.def("add_norm(Tensor(a!) hidden, Tensor? delta, Tensor weight, float epsilon) -> Tensor");
  library.def(
      "attend(Tensor projected, Tensor cos, Tensor sin, Tensor(a!) keys, Tensor(b!) values, int position, "
      "float scale) -> Tensor");
}

TORCH_LIBRARY_IMPL(actsparse, CPU, library) {
  library.impl("gated", &gated);
  library.impl("add_norm", &add_norm);
  library.impl("attend", &attend);
}

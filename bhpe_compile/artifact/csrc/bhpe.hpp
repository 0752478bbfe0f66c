// bhpe.hpp - bhpe.h for C++11 and later: a model that releases itself, and exceptions instead of status codes.
//
//     bhpe::Model model("weights.bin");
//     std::memcpy(model.input(0).floats(), picture, model.input(0).nbytes());
//     model.run();
//     const float *pose = model.output("pose").floats();
#ifndef BHPE_HPP
#define BHPE_HPP

#include <cstdint>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bhpe.h"

namespace bhpe {

class Error : public std::runtime_error {
 public:
  Error(std::int32_t status, const std::string &what) : std::runtime_error(what), status_(status) {}
  std::int32_t status() const { return status_; } // a bhpe_status

 private:
  std::int32_t status_;
};

inline void check(std::int32_t status) {
  if (status != BHPE_OK) throw Error(status, bhpe_last_error());
}

// A tensor of a model, valid as long as the model is.
class Tensor {
 public:
  explicit Tensor(const bhpe_tensor &tensor) : tensor_(tensor) {}
  std::string name() const { return tensor_.name; }
  std::size_t nbytes() const { return static_cast<std::size_t>(tensor_.nbytes); }
  std::vector<std::int64_t> shape() const { return {tensor_.shape, tensor_.shape + tensor_.ndim}; }
  void *data() const { return tensor_.data; }
  float *floats() const {
    if (tensor_.type != BHPE_FLOAT || tensor_.bits != 32) throw Error(BHPE_BAD_ARGUMENT, name() + ": holds no floats");
    return static_cast<float *>(tensor_.data);
  }

 private:
  bhpe_tensor tensor_;
};

class Model {
 public:
  // From the file; from the weights in the library with no argument.
  explicit Model(const std::string &path) { check(bhpe_create_from_path(path.c_str(), take())); }
  Model() { check(bhpe_create_embedded(take())); }
  // From weights in memory that outlive the model, in memory of the caller's.
  Model(const void *weights, std::uint64_t nbytes, void *memory, std::uint64_t memory_bytes) {
    check(bhpe_create_in(weights, nbytes, memory, memory_bytes, take()));
  }

  Model(Model &&other) noexcept : model_(other.model_) { other.model_ = nullptr; }
  Model &operator=(Model &&other) noexcept {
    std::swap(model_, other.model_);
    return *this;
  }
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;
  ~Model() { bhpe_destroy(model_); }

  std::int32_t inputs() const { return bhpe_input_count(model_); }
  std::int32_t outputs() const { return bhpe_output_count(model_); }
  Tensor input(std::int32_t index) const { return get(bhpe_get_input, index); }
  Tensor output(std::int32_t index) const { return get(bhpe_get_output, index); }
  Tensor output(const std::string &name) const {
    for (std::int32_t i = 0; i < outputs(); i++)
      if (output(i).name() == name) return output(i);
    throw Error(BHPE_BAD_ARGUMENT, name + ": no such output");
  }

  // Names of the joints, and after run their places in the frame, x and y of each.
  std::vector<std::string> joint_names() const {
    std::vector<std::string> names;
    for (std::int32_t i = 0; i < bhpe_joint_count(model_); i++) names.push_back(bhpe_joint_name(model_, i));
    return names;
  }
  std::vector<double> joints(const bhpe_frame &frame) const {
    std::vector<double> xy(2 * static_cast<std::size_t>(bhpe_joint_count(model_)));
    check(bhpe_joints(model_, &frame, xy.data()));
    return xy;
  }

  void set_focal(double focal) { check(bhpe_set_focal(model_, focal)); }
  void set_checks(std::int32_t checks) { check(bhpe_set_checks(model_, checks)); }
  void set_threads(std::int32_t threads) { check(bhpe_set_threads(model_, threads)); }
  void run() { check(bhpe_run(model_)); }
  bhpe_model *get() const { return model_; }

 private:
  bhpe_model **take() { return &model_; }
  Tensor get(std::int32_t (*function)(const bhpe_model *, std::int32_t, bhpe_tensor *), std::int32_t index) const {
    bhpe_tensor tensor;
    check(function(model_, index, &tensor));
    return Tensor(tensor);
  }
  bhpe_model *model_ = nullptr;
};

} // namespace bhpe

#endif // BHPE_HPP

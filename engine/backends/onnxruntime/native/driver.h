// What an operator needs of CUDA's driver: kernels from machine code, and their launches.
//
// A library's kernels belong to no context; a launch takes that of its stream.
// Source: NVIDIA, CUDA Driver API 12 and 13, "Library Management", "Execution Control".
#pragma once

#include <dlfcn.h>

#include <stdexcept>
#include <string>

namespace cuda {

// Another one stands in its place where there is no GPU.
#ifndef CUDA_DRIVER
#define CUDA_DRIVER "libcuda.so.1"
#endif

struct Library;
struct Kernel;

constexpr unsigned THREADS = 256;  // of a block, as all our kernels have

class Driver {
 public:
  // Throws: there is no driver.
  Driver() : handle_(dlopen(CUDA_DRIVER, RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) throw std::runtime_error(dlerror());
  }

  Library* load(const void* machine_code) const {
    using F = int(Library**, const void*, void*, void*, unsigned, void*, void*, unsigned);
    Library* library = nullptr;
    call<F>("cuLibraryLoadData", &library, machine_code, nullptr, nullptr, 0, nullptr, nullptr, 0);
    return library;
  }

  Kernel* kernel(Library* library, const std::string& name) const {
    Kernel* kernel = nullptr;
    call<int(Kernel**, Library*, const char*)>("cuLibraryGetKernel", &kernel, library,
                                               name.c_str());
    return kernel;
  }

  // Puts a kernel into a stream. The arguments are of the kernel's own types.
  template <typename... Arguments>
  void launch(Kernel* kernel, unsigned columns, unsigned rows, void* stream,
              Arguments... arguments) const {
    void* addresses[] = {&arguments...};
    using F = int(Kernel*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                  void*, void**, void**);
    call<F>("cuLaunchKernel", kernel, columns, rows, 1, THREADS, 1, 1, 0, stream, addresses,
            nullptr);
  }

 private:
  template <typename F, typename... Arguments>
  void call(const char* name, Arguments... arguments) const {
    const int status = find<F>(name)(arguments...);
    if (status == 0) return;
    const char* said = nullptr;
    find<int(int, const char**)>("cuGetErrorName")(status, &said);
    const std::string error = said == nullptr ? std::to_string(status) : said;
    throw std::runtime_error(std::string(name) + " failed: " + error);
  }

  template <typename F>
  F* find(const char* name) const {
    void* found = dlsym(handle_, name);
    if (found == nullptr)
      throw std::runtime_error(std::string("NVIDIA's driver has no ") + name +
                               "; install one for CUDA 12 or later");
    return reinterpret_cast<F*>(found);
  }

  void* handle_;
};

}  // namespace cuda

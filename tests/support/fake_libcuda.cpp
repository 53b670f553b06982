// CUDA's driver where there is no GPU: what is launched runs on the CPU, at once, and is noted.
//
// A kernel is one that cuda_on_cpu.h exports; "machine code" is the path of a library of such.

#include <dlfcn.h>

#include <cstdio>
#include <string>

namespace {

enum Status { SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, NOT_FOUND = 500 };

struct Kernel {
    std::string name;
    void (*run)(unsigned, unsigned, unsigned, void**);
    unsigned count;
    const unsigned* sizes;
};

std::string noted, failing;

void note(const void* bytes, unsigned count) {
    noted += ' ';
    for (unsigned i = 0; i < count; ++i) {
        char hex[3];
        std::snprintf(hex, sizeof hex, "%02x", static_cast<const unsigned char*>(bytes)[i]);
        noted += hex;
    }
}

template <class F> F* find(void* library, const std::string& name) {
    return reinterpret_cast<F*>(dlsym(library, name.c_str()));
}

}  // namespace

extern "C" int cuLibraryLoadData(
    void** library, const char* code, void*, void*, unsigned, void*, void*, unsigned
) {
    *library = dlopen(code, RTLD_NOW | RTLD_LOCAL);
    return *library ? SUCCESS : INVALID_IMAGE;
}

extern "C" int cuLibraryGetKernel(Kernel** kernel, void* library, const char* name) {
    auto* run = find<void(unsigned, unsigned, unsigned, void**)>(library, "launch_" + std::string(name));
    if (!run) return NOT_FOUND;
    unsigned count = find<unsigned()>(library, "count_" + std::string(name))();
    auto* sizes = find<const unsigned*()>(library, "sizes_" + std::string(name))();
    *kernel = new Kernel{name, run, count, sizes};
    return SUCCESS;
}

extern "C" int cuLaunchKernel(
    Kernel* kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
    unsigned shared, void* stream, void** arguments, void** extra
) {
    if (failing == "cuLaunchKernel") return OUT_OF_MEMORY;
    noted += kernel->name;
    for (unsigned number : {gx, gy, gz, bx, by, bz, shared}) noted += ' ' + std::to_string(number);
    noted += stream || extra ? " stream" : " none";
    for (unsigned i = 0; i < kernel->count; ++i) note(arguments[i], kernel->sizes[i]);
    noted += '\n';
    kernel->run(gx, gy, bx, arguments);
    return SUCCESS;
}

extern "C" int cuGetErrorName(int status, const char** name) {
    *name = status == OUT_OF_MEMORY   ? "CUDA_ERROR_OUT_OF_MEMORY"
            : status == INVALID_IMAGE ? "CUDA_ERROR_INVALID_IMAGE"
                                      : "CUDA_ERROR_NOT_FOUND";
    return SUCCESS;
}

// What was launched: a line for each kernel.
extern "C" const char* fake_noted() { return noted.c_str(); }

// Forget it; calls of that name fail from now on.
extern "C" void fake_reset(const char* call) {
    noted.clear();
    failing = call;
}

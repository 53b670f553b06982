// Enough of CUDA for a C++ compiler to build our kernels and for a CPU to run them.
//
// A block's threads are fibers that take turns at __syncthreads, blocks run one after another. The
// arithmetic is the kernels' own; compile with -ffp-contract=off.

#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __host__
#define __device__
#define __global__
#define __constant__
#define __shared__ static
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;

inline float __uint_as_float(unsigned bits) { float v; std::memcpy(&v, &bits, 4); return v; }
inline unsigned __float_as_uint(float value) { unsigned b; std::memcpy(&b, &value, 4); return b; }
inline float host_widen(unsigned short bits) { _Float16 v; std::memcpy(&v, &bits, 2); return v; }
inline unsigned short host_narrow(float value) {
    _Float16 narrowed = value;
    unsigned short bits;
    std::memcpy(&bits, &narrowed, 2);
    return bits;
}
using std::copysign, std::fabs, std::frexp, std::sqrt;

namespace fibers {
constexpr int STACK = 1 << 16;
static ucontext_t scheduler;
static std::vector<ucontext_t> threads;
static std::vector<char> stacks;
static std::vector<bool> done;
static unsigned current;
static void (*body)(void**);
static void** arguments;

static void enter() {
    body(arguments);
    done[current] = true;
}

// All threads of a block as far as the next barrier, again and again until all have ended; that
// some end while others wait is an error, as it is on a GPU.
static void run_block(unsigned count) {
    threads.resize(count);
    stacks.resize(static_cast<size_t>(count) * STACK);
    done.assign(count, false);
    for (unsigned i = 0; i < count; ++i) {
        getcontext(&threads[i]);
        threads[i].uc_stack.ss_sp = &stacks[static_cast<size_t>(i) * STACK];
        threads[i].uc_stack.ss_size = STACK;
        threads[i].uc_link = &scheduler;
        makecontext(&threads[i], enter, 0);
    }
    for (unsigned ended = 0; ended < count;) {
        ended = 0;
        for (current = 0; current < count; ++current) {
            threadIdx = {current, 0, 0};
            swapcontext(&scheduler, &threads[current]);
            ended += done[current];
        }
        if (ended != 0 && ended != count) {
            std::fprintf(stderr, "%u of %u threads ended before a barrier\n", ended, count);
            std::abort();
        }
    }
}
}  // namespace fibers

inline void __syncthreads() {
    unsigned self = fibers::current;
    swapcontext(&fibers::threads[self], &fibers::scheduler);
    threadIdx = {self, 0, 0};
}

// One value of each lane of the calling thread's warp, to be read before the next barrier. All
// threads of a block call it, equally often.
template <class T> const T* host_lanes(const T& mine) {
    static T held[2][1024];
    static bool turns[1024];
    unsigned self = fibers::current;
    bool turn = turns[self] = !turns[self];
    held[turn][self] = mine;
    __syncthreads();
    return held[turn] + self / 32 * 32;
}

inline float __shfl_xor_sync(unsigned, float value, unsigned mask) {
    return host_lanes(value)[(fibers::current ^ mask) % 32];
}

template <auto Kernel> struct Launcher;
template <class... A, void (*Kernel)(A...)> struct Launcher<Kernel> {
    static void call(void** arguments) {
        call_with(arguments, std::index_sequence_for<A...>{});
    }
    template <size_t... I> static void call_with(void** arguments, std::index_sequence<I...>) {
        Kernel(*static_cast<A*>(arguments[I])...);
    }
    static void launch(unsigned gx, unsigned gy, unsigned block, void** arguments) {
        gridDim = {gx, gy, 1};
        blockDim = {block, 1, 1};
        fibers::body = call;
        fibers::arguments = arguments;
        for (unsigned y = 0; y < gy; ++y)
            for (unsigned x = 0; x < gx; ++x) {
                blockIdx = {x, y, 0};
                fibers::run_block(block);
            }
    }
};

template <class F> struct Arguments;
template <class... A> struct Arguments<void(A...)> {
    static constexpr unsigned count = sizeof...(A);
    static constexpr unsigned sizes[] = {sizeof(A)...};
};

// Makes a kernel callable from outside: arguments by address, how many there are, and their bytes.
#define EXPORT(name)                                                                               \
    extern "C" void launch_##name(unsigned gx, unsigned gy, unsigned block, void** arguments) {    \
        Launcher<name>::launch(gx, gy, block, arguments);                                          \
    }                                                                                              \
    extern "C" unsigned count_##name() { return Arguments<decltype(name)>::count; }               \
    extern "C" const unsigned* sizes_##name() { return Arguments<decltype(name)>::sizes; }

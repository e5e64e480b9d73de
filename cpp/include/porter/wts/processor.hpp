#pragma once

/// What the processor that this runs on can do beyond what the program was compiled for.

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "porter/wts.hpp needs a little-endian machine, and GCC or Clang"
#endif

#if defined(__x86_64__) && !defined(PORTER_WTS_PORTABLE)
/// Defined where x86 instructions are chosen when the program runs; define PORTER_WTS_PORTABLE to do without.
#define PORTER_WTS_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace porter::detail {

struct Processor {
    bool avx2 = false, f16c = false, pclmul = false, sha = false;
};

#ifdef PORTER_WTS_X86
inline Processor ask_processor() {
    Processor found;
    __builtin_cpu_init();
    found.avx2 = __builtin_cpu_supports("avx2");
    // Compilers differ in the names of the others that they know.
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        found.pclmul = (c & bit_PCLMUL) != 0 && (c & bit_SSE4_1) != 0;
        found.f16c = found.avx2 && (c & bit_F16C) != 0;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        found.sha = found.pclmul && (b & bit_SHA) != 0;
    }
    return found;
}
#endif

inline const Processor& processor() noexcept {
#ifdef PORTER_WTS_X86
    static const Processor found = ask_processor();
#else
    static const Processor found;
#endif
    return found;
}

} // namespace porter::detail

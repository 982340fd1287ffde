# LLAMA3_REQUIRE(VARIABLE, MODULE, DEBIAN-PACKAGE)
# A pkg-config module without which nothing works; its absence names the package that holds it.
AC_DEFUN([LLAMA3_REQUIRE],
  [AC_REQUIRE([PKG_PROG_PKG_CONFIG])
   AS_IF([test -z "$PKG_CONFIG"],
     [AC_MSG_ERROR([pkg-config is missing (Debian package: pkg-config)])])
   PKG_CHECK_MODULES([$1], [$2], [],
     [AC_MSG_ERROR([$2 is missing (Debian package: $3)])])])

# LLAMA3_FLAG(FLAG, VARIABLE): adds FLAG to VARIABLE if the compiler takes it without a warning.
AC_DEFUN([LLAMA3_FLAG],
  [AS_VAR_PUSHDEF([cached], [llama3_cv_flag_$1])
   AC_CACHE_CHECK([whether $CC takes $1], [cached],
     [llama3_save_CFLAGS=$CFLAGS
      CFLAGS="$CFLAGS -Werror $1"
      AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])], [AS_VAR_SET([cached], [yes])],
        [AS_VAR_SET([cached], [no])])
      CFLAGS=$llama3_save_CFLAGS])
   AS_VAR_IF([cached], [yes], [AS_VAR_APPEND([$2], [" $1"])])
   AS_VAR_POPDEF([cached])])

# What every file is compiled with. Contraction is off so that a result does not depend on where a
# compiler finds a multiply beside an add: kernels spell out their FMAs.
AC_DEFUN([LLAMA3_WARNINGS],
  [LLAMA3_CFLAGS="-std=gnu11 -fvisibility=hidden -ffp-contract=off"
   for flag in -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
               -Wvla -Wformat=2; do
     LLAMA3_CFLAGS="$LLAMA3_CFLAGS $flag"
   done
   AC_ARG_ENABLE([werror],
     [AS_HELP_STRING([--enable-werror], [treat warnings as errors])],
     [AS_IF([test "x$enableval" = xyes], [LLAMA3_CFLAGS="$LLAMA3_CFLAGS -Werror"])])
   AC_ARG_ENABLE([sanitizers],
     [AS_HELP_STRING([--enable-sanitizers],
       [build with address and undefined-behaviour sanitizers])],
     [], [enable_sanitizers=no])
   AS_IF([test "x$enable_sanitizers" = xyes],
     [LLAMA3_CFLAGS="$LLAMA3_CFLAGS -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"])
   AM_CONDITIONAL([SANITIZERS], [test "x$enable_sanitizers" = xyes])
   AC_SUBST([LLAMA3_CFLAGS])])

# LLAMA3_HARDENING: what turns an overrun into the end of the program, wherever the compiler has it.
# _FORTIFY_SOURCE is left to who defines it already (CPPFLAGS, CFLAGS, a distribution's compiler) and
# to sanitizers, which see more. It is 0 without optimization, where glibc would warn: CFLAGS may
# change at make.
AC_DEFUN([LLAMA3_HARDENING],
  [LLAMA3_FLAG([-fstack-protector-strong], [LLAMA3_CFLAGS])
   AC_CACHE_CHECK([whether _FORTIFY_SOURCE is ours to define], [llama3_cv_fortify],
     [llama3_save_CFLAGS=$CFLAGS
      CFLAGS="$CFLAGS $LLAMA3_CFLAGS -O2"
      AC_COMPILE_IFELSE([AC_LANG_SOURCE([[
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined _FORTIFY_SOURCE || defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#error
#endif]])], [llama3_cv_fortify=yes], [llama3_cv_fortify=no])
      CFLAGS=$llama3_save_CFLAGS])
   AS_IF([test "x$llama3_cv_fortify" = xyes],
     [LLAMA3_CFLAGS="$LLAMA3_CFLAGS -D_FORTIFY_SOURCE=3*__OPTIMIZE__"])
   LLAMA3_LDFLAGS=
   AC_CACHE_CHECK([whether $CC links with -z relro -z now], [llama3_cv_relro],
     [llama3_save_LDFLAGS=$LDFLAGS
      LDFLAGS="$LDFLAGS -Wl,-z,relro -Wl,-z,now"
      AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [llama3_cv_relro=yes], [llama3_cv_relro=no])
      LDFLAGS=$llama3_save_LDFLAGS])
   AS_IF([test "x$llama3_cv_relro" = xyes], [LLAMA3_LDFLAGS="-Wl,-z,relro -Wl,-z,now"])
   AC_SUBST([LLAMA3_LDFLAGS])])

# The instruction sets that kernels are built for, each its own library with its own flags.
dnl LLAMA3_TABLE(NAME, FLAGS): a table of kernels, built with these flags if the compiler has them.
AC_DEFUN([LLAMA3_TABLE],
  [LLAMA3_FLAG([$2], [$1_CFLAGS])
   AS_IF([test -n "$$1_CFLAGS"],
     [llama3_kernels="$llama3_kernels m4_tolower([$1])"
      KERNEL_OBJECTS="$KERNEL_OBJECTS src/backend/cpu/kernels_[]m4_tolower([$1]).lo"
      AC_DEFINE([HAVE_$1], [1], [Define if the kernels for $1 are built.])])])

m4_define([LLAMA3_TABLES],
  [[AVX2], [AVXVNNI], [AVX512VL], [AVX512], [AVX512BF16], [NEON], [DOTPROD]])

AC_DEFUN([LLAMA3_SIMD],
  [AVX2_CFLAGS= AVXVNNI_CFLAGS= AVX512VL_CFLAGS= AVX512_CFLAGS= AVX512BF16_CFLAGS= NEON_CFLAGS= DOTPROD_CFLAGS=
   llama3_kernels=scalar KERNEL_OBJECTS=
   AS_CASE([$host_cpu],
     [x86_64],
       [LLAMA3_TABLE([AVX2], [-mavx2 -mfma -mf16c])
        LLAMA3_TABLE([AVXVNNI], [-mavx2 -mfma -mf16c -mavxvnni])
        LLAMA3_TABLE([AVX512VL], [-mavx2 -mfma -mf16c -mavx512vl -mavx512vnni])
        LLAMA3_TABLE([AVX512],
          [-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c])
        LLAMA3_TABLE([AVX512BF16],
          [-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 -mfma -mf16c])],
     [aarch64*],
       [LLAMA3_TABLE([NEON], [-march=armv8-a])
        LLAMA3_TABLE([DOTPROD], [-march=armv8.2-a+dotprod])])
   m4_foreach([llama3_table], [LLAMA3_TABLES], [AC_SUBST(llama3_table[_CFLAGS])])
   AC_SUBST([KERNEL_OBJECTS])
   dnl The meter has such files too; its AVX-512 one does bf16 as well.
   METER_OBJECTS=`AS_ECHO(["$KERNEL_OBJECTS"]) |
     $SED 's|src/backend/cpu/kernels_avx512bf16.lo||; s|src/backend/cpu/kernels_|src/meter/cpu_|g'`
   AC_SUBST([METER_OBJECTS])])

# The fuzz targets with clang's libFuzzer: every file is instrumented, and the targets get its main().
AC_DEFUN([LLAMA3_FUZZING],
  [AC_ARG_ENABLE([fuzzing],
     [AS_HELP_STRING([--enable-fuzzing],
       [link tests/fuzz with libFuzzer and instrument everything for it; see scripts/fuzz])],
     [], [enable_fuzzing=no])
   FUZZER_LDFLAGS=
   AS_IF([test "x$enable_fuzzing" = xyes],
     [llama3_save_CFLAGS=$CFLAGS
      CFLAGS="$CFLAGS -fsanitize=fuzzer"
      AC_LINK_IFELSE(
        [AC_LANG_SOURCE([[#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) { return data && size > 1; }]])],
        [],
        [AC_MSG_ERROR([--enable-fuzzing needs clang with libFuzzer, which $CC lacks (Debian packages: clang, libclang-rt-dev; then CC=clang)])])
      CFLAGS=$llama3_save_CFLAGS
      LLAMA3_CFLAGS="$LLAMA3_CFLAGS -fsanitize=fuzzer-no-link"
      FUZZER_LDFLAGS=-fsanitize=fuzzer
      dnl A file of kernels takes clang 510 s with all of it, and 40 s with AddressSanitizer alone.
      m4_foreach([llama3_table], [LLAMA3_TABLES],
        [AS_IF([test -n "$llama3_table[]_CFLAGS"],
           [llama3_table[]_CFLAGS="$llama3_table[]_CFLAGS -fno-sanitize=undefined,fuzzer-no-link"])
])])
   AC_SUBST([FUZZER_LDFLAGS])
   AM_CONDITIONAL([FUZZING], [test "x$enable_fuzzing" = xyes])])

AC_DEFUN([LLAMA3_THREADS],
  [AC_SEARCH_LIBS([pthread_create], [pthread], [],
     [AC_MSG_ERROR([POSIX threads are missing])])
   AC_SEARCH_LIBS([expf], [m])])

# SPIN_HINT(): tells the processor that a thread waits in a loop.
AC_DEFUN([LLAMA3_SPIN_HINT],
  [llama3_spin_hint='((void)0)'
   AC_MSG_CHECKING([how to wait in a loop])
   for hint in '__builtin_ia32_pause()' '__asm__ volatile("isb" ::: "memory")'; do
     AC_LINK_IFELSE([AC_LANG_PROGRAM([], [$hint;])], [llama3_spin_hint=$hint; break])
   done
   AC_MSG_RESULT([$llama3_spin_hint])
   AC_DEFINE_UNQUOTED([SPIN_HINT()], [$llama3_spin_hint],
     [Define to tell the processor that a thread waits in a loop.])])

dnl OpenBLAS is loaded when a model needs it, by the name that the linker would have noted.
AC_DEFUN([LLAMA3_OPENBLAS],
  [AC_ARG_WITH([openblas],
     [AS_HELP_STRING([--without-openblas],
       [do without OpenBLAS, which reads prompts with f32 and f16 weights])],
     [], [with_openblas=yes])
   llama3_openblas="no (--without-openblas)"
   AS_IF([test "x$with_openblas" != xno],
     [LLAMA3_REQUIRE([OPENBLAS], [openblas], [libopenblas-dev])
      AC_SEARCH_LIBS([dlopen], [dl], [],
        [AC_MSG_ERROR([dlopen is missing, which loads OpenBLAS: --without-openblas does without])])
      AC_CHECK_TOOL([READELF], [readelf], [:])
      AC_CACHE_CHECK([which library OpenBLAS is], [llama3_cv_openblas_library],
        [llama3_save_CFLAGS=$CFLAGS llama3_save_LIBS=$LIBS
         CFLAGS="$CFLAGS $OPENBLAS_CFLAGS" LIBS="$OPENBLAS_LIBS $LIBS"
         llama3_cv_openblas_library=
         AC_LINK_IFELSE(
           [AC_LANG_PROGRAM([[#include <cblas.h>]], [[openblas_set_num_threads(1);]])],
           [llama3_cv_openblas_library=`$READELF -d conftest$ac_exeext |
              $SED -n 's/.*(NEEDED).*\@<:@\(.*blas.*\)\@:>@.*/\1/p' | $SED 1q`])
         CFLAGS=$llama3_save_CFLAGS LIBS=$llama3_save_LIBS
         : "${llama3_cv_openblas_library:=libopenblas.so.0}"])
      AC_DEFINE_UNQUOTED([OPENBLAS_LIBRARY], ["$llama3_cv_openblas_library"],
        [OpenBLAS, as dlopen() finds it.])
      llama3_openblas="$llama3_cv_openblas_library, loaded when it is needed"])
   AM_CONDITIONAL([HAVE_OPENBLAS], [test "x$with_openblas" != xno])])

AC_DEFUN([LLAMA3_LIBEDIT],
  [AC_ARG_WITH([libedit],
     [AS_HELP_STRING([--without-libedit],
       [do without libedit, which edits lines of the chat])],
     [], [with_libedit=yes])
   llama3_libedit="no (--without-libedit): lines can't be edited, and have 4,095 bytes at most"
   AS_IF([test "x$with_libedit" != xno],
     [LLAMA3_REQUIRE([LIBEDIT], [libedit >= 3.1], [libedit-dev])
      llama3_libedit=yes])
   AM_CONDITIONAL([HAVE_LIBEDIT], [test "x$with_libedit" != xno])])

AC_DEFUN([LLAMA3_SERVER],
  [AC_ARG_ENABLE([server],
     [AS_HELP_STRING([--disable-server],
       [do without llama3-server, which needs libmicrohttpd])],
     [], [enable_server=yes])
   llama3_server="no (--disable-server)"
   AS_IF([test "x$enable_server" != xno],
     [LLAMA3_REQUIRE([MICROHTTPD], [libmicrohttpd >= 0.9.75], [libmicrohttpd-dev])
      llama3_server=yes])
   AM_CONDITIONAL([HAVE_SERVER], [test "x$enable_server" != xno])
   AC_ARG_WITH([systemdsystemunitdir],
     [AS_HELP_STRING([--with-systemdsystemunitdir=DIR],
       [where systemd's units go (PREFIX/lib/systemd/system)])],
     [], [with_systemdsystemunitdir='${prefix}/lib/systemd/system'])
   AC_SUBST([systemdsystemunitdir], [$with_systemdsystemunitdir])])

AC_DEFUN([LLAMA3_PULL],
  [AC_ARG_ENABLE([pull],
     [AS_HELP_STRING([--disable-pull],
       [do without llama3-pull, which needs libcurl])],
     [], [enable_pull=yes])
   llama3_pull="no (--disable-pull)"
   AS_IF([test "x$enable_pull" != xno],
     [LLAMA3_REQUIRE([CURL], [libcurl >= 7.85], [libcurl4-gnutls-dev])
      llama3_pull=yes])
   AM_CONDITIONAL([HAVE_PULL], [test "x$enable_pull" != xno])])

AC_DEFUN([LLAMA3_CHECK],
  [PKG_CHECK_MODULES([CHECK], [check >= 0.15], [llama3_check=yes],
     [llama3_check="no: make check needs it (Debian package: check)"])
   AM_CONDITIONAL([HAVE_CHECK], [test "x$llama3_check" = xyes])])

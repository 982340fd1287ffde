# LLAMA3_CUDA: --with-cuda[=DIR], --with-cuda-arch=LIST. Sets NVCC, NVCCFLAGS, CUDA_CPPFLAGS and
# CUDA_LIBS. The runtime is linked statically and looks for the driver when a program asks for it.
AC_DEFUN([LLAMA3_CUDA],
  [AC_ARG_WITH([cuda],
     [AS_HELP_STRING([--with-cuda@<:@=DIR@:>@],
       [build the CUDA backend with the toolkit in DIR (default: where nvcc is, or /usr/local/cuda)])],
     [], [with_cuda=no])
   AC_ARG_WITH([cuda-arch],
     [AS_HELP_STRING([--with-cuda-arch=LIST],
       [compute capabilities to compile for, such as 80,90 (default: 80,86,89,90,100,120 as far as nvcc knows them, and PTX of the last)])])
   AC_ARG_VAR([NVCC], [CUDA compiler])
   llama3_cuda="no (--with-cuda)"
   AS_IF([test "x$with_cuda" != xno], [LLAMA3_CUDA_TOOLKIT],
     [test -n "$with_cuda_arch"],
     [AC_MSG_ERROR([--with-cuda-arch has no meaning without --with-cuda])])
   AC_SUBST([NVCCFLAGS])
   AC_SUBST([CUDA_CPPFLAGS])
   AC_SUBST([CUDA_LIBS])
   AM_CONDITIONAL([HAVE_CUDA], [test "x$with_cuda" != xno])])

AC_DEFUN([LLAMA3_CUDA_TOOLKIT],
  [AS_IF([test "x$with_cuda" != xyes],
     [AC_PATH_PROG([NVCC], [nvcc], [], [$with_cuda/bin])],
     [AC_PATH_PROG([NVCC], [nvcc], [], [$PATH$PATH_SEPARATOR/usr/local/cuda/bin])])
   AS_IF([test -z "$NVCC"],
     [AC_MSG_ERROR([no nvcc: --with-cuda=DIR says where the CUDA toolkit is])])
   AC_MSG_CHECKING([the version of $NVCC])
   llama3_cuda_version=`"$NVCC" --version | $SED -n 's/.*release \(@<:@0-9@:>@*\.@<:@0-9@:>@*\).*/\1/p'`
   AC_MSG_RESULT([${llama3_cuda_version:-unknown}])
   AS_CASE([${llama3_cuda_version%%.*}], [1@<:@2-9@:>@|@<:@2-9@:>@@<:@0-9@:>@], [],
     [AC_MSG_ERROR([expected CUDA 12 or later, found ${llama3_cuda_version:-an unknown version}])])
   llama3_cuda_dir=`AS_DIRNAME(["$NVCC"])`/..
   llama3_cuda_dir=`cd "$llama3_cuda_dir" && pwd`
   CUDA_CPPFLAGS="-isystem $llama3_cuda_dir/include"
   CUDA_LIBS="-L$llama3_cuda_dir/lib64 -lcudart_static -lrt -ldl -lpthread"

   AC_MSG_CHECKING([what GPUs to compile for])
   llama3_archs=
   llama3_known=`"$NVCC" --list-gpu-arch`
   for arch in `AS_ECHO(["${with_cuda_arch:-80,86,89,90,100,120}"]) | tr , ' '`; do
     AS_IF([AS_ECHO(["$llama3_known"]) | grep -x "compute_$arch" >/dev/null && test "$arch" -ge 80],
       [AS_VAR_APPEND([llama3_archs], [" $arch"])],
       [test -n "$with_cuda_arch"],
       [AC_MSG_ERROR([--with-cuda-arch: numbers from 80 that nvcc knows expected, such as 80,90; found "$arch"])])
   done
   NVCCFLAGS="-std=c++17 -O3 --fmad=false --threads 2"
   for arch in $llama3_archs; do
     AS_VAR_APPEND([NVCCFLAGS], [" -gencode arch=compute_$arch,code=sm_$arch"])
   done
   AS_VAR_APPEND([NVCCFLAGS], [" -gencode arch=compute_$arch,code=compute_$arch"])
   AC_MSG_RESULT([$llama3_archs])
   NVCCFLAGS="$NVCCFLAGS --forward-unknown-to-host-compiler -Wall -fvisibility=hidden -fno-exceptions -fno-rtti -fno-threadsafe-statics"
   AS_IF([test "x$enable_werror" = xyes], [NVCCFLAGS="$NVCCFLAGS -Werror all-warnings"])
   AC_DEFINE([HAVE_CUDA], [1], [Define to build the CUDA backend.])
   llama3_cuda="$llama3_cuda_version, compute capability$llama3_archs"])

# LLAMA3_CXX: a compiler for the tests that emulate a GPU; nothing else is C++ but kernels.
AC_DEFUN([LLAMA3_CXX],
  [AC_REQUIRE([AC_PROG_CXX])
   AC_LANG_PUSH([C++])
   llama3_save_CXXFLAGS=$CXXFLAGS
   CXXFLAGS="$CXXFLAGS -std=c++17"
   AC_CACHE_CHECK([whether $CXX compiles C++17], [llama3_cv_cxx],
     [AC_COMPILE_IFELSE([AC_LANG_PROGRAM([#include <functional>], [std::function<void()> f; if (bool b = !f; b) return 1;])],
       [llama3_cv_cxx=yes], [llama3_cv_cxx=no])])
   CXXFLAGS="$CXXFLAGS -fsanitize=thread -Werror"
   AC_CACHE_CHECK([whether $CXX calls a function for each load], [llama3_cv_cxx_races],
     [AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
        [llama3_cv_cxx_races=yes], [llama3_cv_cxx_races=no])])
   CXXFLAGS=$llama3_save_CXXFLAGS
   AC_LANG_POP([C++])
   LLAMA3_CXXFLAGS="-std=c++17 -fvisibility=hidden -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas -Wno-pass-failed"
   AS_IF([test "x$enable_werror" = xyes], [LLAMA3_CXXFLAGS="$LLAMA3_CXXFLAGS -Werror"])
   AS_IF([test "x$enable_sanitizers" = xyes],
     [LLAMA3_CXXFLAGS="$LLAMA3_CXXFLAGS -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"])
   AC_SUBST([LLAMA3_CXXFLAGS])
   # The calls go to the emulator, which with other sanitizers also has them look at bounds.
   AS_IF([test "x$llama3_cv_cxx_races" = xyes],
     [RACES_CXXFLAGS="-fno-sanitize=address -fsanitize=thread -DFINDS_RACES"])
   AC_SUBST([RACES_CXXFLAGS])
   AM_CONDITIONAL([HAVE_CXX], [test "x$llama3_cv_cxx" = xyes])])

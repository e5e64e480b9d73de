#[[
Finds TensorRT: an installed one, or headers and a library that are told apart.

    -DTensorRT_ROOT=DIR           an unpacked TensorRT, with include/ and lib/
    -DTensorRT_INCLUDE_DIR=DIR    the folder of NvInfer.h
    -DTensorRT_LIBRARY=FILE       libnvinfer.so, or libtensorrt_rtx.so.1 of the wheel tensorrt-rtx, which builds networks without a GPU
    -DCUDA_INCLUDE_DIR=DIR        the folder of cuda_runtime_api.h, where it is not under /usr/local/cuda or a CUDAToolkit

With the library of TensorRT-RTX, headers of TensorRT 11 are adapted to it in the build tree: see TensorRTRtxHeaders.cmake.

It sets TensorRT_FOUND, TensorRT_VERSION (of the headers), TensorRT_LIBRARY, TensorRT_WHY_NOT (one line) and makes the target
TensorRT::nvinfer. With headers and no library the target can be compiled with and not linked; TensorRT_FOUND is then false,
and TensorRT_HEADERS_FOUND true. TensorRT_CUDART_LIBRARY is the CUDA runtime, where there is one.
]]

find_path(TensorRT_INCLUDE_DIR NvInfer.h HINTS ${TensorRT_ROOT} ENV TensorRT_ROOT PATHS /usr/local/tensorrt /opt/tensorrt
    PATH_SUFFIXES include DOC "Folder of NvInfer.h")
find_library(TensorRT_LIBRARY NAMES nvinfer nvinfer_11 nvinfer_10 tensorrt_rtx HINTS ${TensorRT_ROOT} ENV TensorRT_ROOT
    PATHS /usr/local/tensorrt /opt/tensorrt PATH_SUFFIXES lib lib64 DOC "libnvinfer, or libtensorrt_rtx")
find_path(CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_ROOT} ENV CUDA_PATH
    PATHS /usr/local/cuda PATH_SUFFIXES include targets/x86_64-linux/include targets/aarch64-linux/include
    DOC "Folder of cuda_runtime_api.h")
find_library(TensorRT_CUDART_LIBRARY NAMES cudart HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_ROOT} ENV CUDA_PATH
    PATHS /usr/local/cuda PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib targets/aarch64-linux/lib DOC "The CUDA runtime")
mark_as_advanced(TensorRT_INCLUDE_DIR TensorRT_LIBRARY CUDA_INCLUDE_DIR TensorRT_CUDART_LIBRARY)

# Since 10.13 the numbers are TRT_MAJOR_ENTERPRISE …, and NV_TENSORRT_MAJOR is the name of one.
set(TensorRT_VERSION "")
if(TensorRT_INCLUDE_DIR AND EXISTS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h")
    foreach(part MAJOR MINOR PATCH)
        file(STRINGS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" line REGEX "define (NV_TENSORRT_${part}|TRT_${part}_ENTERPRISE) +[0-9]+")
        string(REGEX MATCH "(NV_TENSORRT_${part}|TRT_${part}_ENTERPRISE) +([0-9]+)" line "${line}")
        list(APPEND TensorRT_VERSION "${CMAKE_MATCH_2}")
    endforeach()
    list(JOIN TensorRT_VERSION "." TensorRT_VERSION)
endif()

set(TensorRT_WHY_NOT "")
set(TensorRT_HEADERS_FOUND FALSE)
if(NOT TensorRT_VERSION)
    set(TensorRT_WHY_NOT "no NvInfer.h found: give -DTensorRT_INCLUDE_DIR=…/include and -DTensorRT_LIBRARY=…/libnvinfer.so")
elseif(NOT CUDA_INCLUDE_DIR)
    set(TensorRT_WHY_NOT "TensorRT's headers need CUDA's: give -DCUDA_INCLUDE_DIR, the folder of cuda_runtime_api.h")
else()
    set(TensorRT_HEADERS_FOUND TRUE)
    if(NOT TensorRT_LIBRARY)
        set(TensorRT_WHY_NOT "headers of TensorRT ${TensorRT_VERSION} found and no library: give -DTensorRT_LIBRARY=…/libnvinfer.so or …/libtensorrt_rtx.so.1")
    elseif(NOT EXISTS "${TensorRT_LIBRARY}")
        set(TensorRT_WHY_NOT "TensorRT_LIBRARY is '${TensorRT_LIBRARY}', which does not exist")
    endif()
endif()

set(porter_tensorrt_headers "${TensorRT_INCLUDE_DIR}")
set(porter_tensorrt_rtx FALSE)
if(TensorRT_HEADERS_FOUND AND NOT TensorRT_WHY_NOT AND TensorRT_LIBRARY MATCHES "tensorrt_rtx[^/]*$")
    include("${CMAKE_CURRENT_LIST_DIR}/TensorRTRtxHeaders.cmake")
    porter_rtx_headers("${TensorRT_INCLUDE_DIR}" porter_tensorrt_headers)
    set(porter_tensorrt_rtx TRUE)
    if(NOT porter_tensorrt_headers OR NOT TensorRT_VERSION MATCHES "^11[.]")
        set(TensorRT_WHY_NOT "libtensorrt_rtx needs headers of TensorRT 11, and these are ${TensorRT_VERSION}")
    endif()
endif()

include(FindPackageHandleStandardArgs)
set(TensorRT_READY TRUE)
if(TensorRT_WHY_NOT)
    set(TensorRT_READY FALSE)
endif()
find_package_handle_standard_args(TensorRT REQUIRED_VARS TensorRT_READY TensorRT_INCLUDE_DIR TensorRT_LIBRARY CUDA_INCLUDE_DIR
    VERSION_VAR TensorRT_VERSION REASON_FAILURE_MESSAGE "${TensorRT_WHY_NOT}")

if(TensorRT_HEADERS_FOUND AND NOT TARGET TensorRT::nvinfer)
    if(TensorRT_FOUND)
        add_library(TensorRT::nvinfer UNKNOWN IMPORTED GLOBAL)
        set_target_properties(TensorRT::nvinfer PROPERTIES IMPORTED_LOCATION "${TensorRT_LIBRARY}")
    else()
        add_library(TensorRT::nvinfer INTERFACE IMPORTED GLOBAL)
    endif()
    # As system headers: their warnings are NVIDIA's.
    set_target_properties(TensorRT::nvinfer PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${porter_tensorrt_headers};${CUDA_INCLUDE_DIR}")
    if(porter_tensorrt_rtx)
        set_target_properties(TensorRT::nvinfer PROPERTIES INTERFACE_COMPILE_DEFINITIONS PORTER_TENSORRT_RTX=1)
    endif()
endif()

#[[
TensorRT-RTX has TensorRT's interface without plugins and without where a tensor lies, so that its tables of virtual functions are
shorter: with TensorRT's headers as they are, `addConvolutionNd` calls what is `addDeconvolutionNd` there.

porter_rtx_headers(DIR RESULT) copies the headers of DIR into the build tree, and beside them an NvInferImpl.h in which the
functions that RTX lacks are no virtual ones, so that they take no place. RESULT is that folder, or empty where the headers are of a kind
that is not known here. Nothing is written anywhere else.

Source: the tables of libtensorrt_rtx 1.7.1 beside the classes of NvInferImpl.h, TensorRT 11.1: VNetworkDefinition has 89 places in the
header and getBuilder in place 60, the library has it in 58; VTensor has 17 functions in the header, and 13 in the library.
]]
function(porter_rtx_headers from result)
    set(${result} "" PARENT_SCOPE)
    file(READ "${from}/NvInferImpl.h" text)
    # Semicolons divide lists in CMake.
    string(REPLACE ";" "<semicolon>" text "${text}")
    foreach(name addPluginV2 addPluginV3 setBroadcastAcrossBatch getBroadcastAcrossBatch getLocation setLocation)
        set(before "${text}")
        string(REGEX REPLACE "virtual (void ${name}\\([^<]*noexcept) = 0<semicolon>" "\\1 {}" text "${text}")
        string(REGEX REPLACE "virtual ([A-Za-z0-9_]+[*]? ${name}\\([^<]*noexcept) = 0<semicolon>" "\\1 { return {}<semicolon> }" text "${text}")
        if(text STREQUAL before)
            return()
        endif()
    endforeach()
    string(REPLACE "<semicolon>" ";" text "${text}")

    set(to "${CMAKE_BINARY_DIR}/porter_tensorrt_rtx")
    # No links: compilers look beside what a link points to.
    file(GLOB_RECURSE headers RELATIVE "${from}" "${from}/*.h")
    list(REMOVE_ITEM headers NvInferImpl.h)
    foreach(header IN LISTS headers)
        configure_file("${from}/${header}" "${to}/${header}" COPYONLY)
    endforeach()
    # By way of a second file, so that the first keeps its date while it stays the same.
    file(WRITE "${to}.h" "${text}")
    configure_file("${to}.h" "${to}/NvInferImpl.h" COPYONLY)
    set(${result} "${to}" PARENT_SCOPE)
endfunction()

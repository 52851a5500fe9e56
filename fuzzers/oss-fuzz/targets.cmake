# The targets of a fuzzing service: one program for each configuration, as the service's compiler, flags and engine
# make it. A divergence aborts there, in a frame of its class.

set(TWINWALK_FUZZING_ENGINE "" CACHE STRING "What brings main(): a linker option, or a library")

# The mutator of most engines is part of the target; AFL++ loads it, and takes the MMU states as edges.
if(TWINWALK_SERVICE STREQUAL "afl")
  set(engine_sources mmu_states_afl.cc)
else()
  set(engine_sources mmu_states_libfuzzer.cc mutator_libfuzzer.cc)
endif()
add_library(service_objects OBJECT shadow_fuzzer.cc session.cc diverged.cc ${engine_sources})
target_link_libraries(service_objects PRIVATE twinwalk_flags twinwalk_mutator twinwalk_harness twinwalk_fuzzing_worker)
target_compile_definitions(service_objects PRIVATE TWINWALK_ABORT_ON_FINDING)

# Feedback is about the core alone, where we can say so: AFL++ takes a list of its sources (afl_allowlist.txt).
if(TWINWALK_SERVICE STREQUAL "libfuzzer")
  foreach(target service_objects twinwalk_mutator twinwalk_harness twinwalk_processor twinwalk_core_adapter
      twinwalk_trace twinwalk_oracle twinwalk_unicorn_client twinwalk_fuzzing_worker)
    target_compile_options(${target} PRIVATE
      -fno-sanitize-coverage=inline-8bit-counters,pc-table,trace-cmp,indirect-calls,stack-depth,edge)
  endforeach()
endif()

add_custom_target(service_targets)
# service_target(NAME SOURCES... LIBS...)
function(service_target name)
  cmake_parse_arguments(T "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE twinwalk_flags ${T_LIBS} ${TWINWALK_FUZZING_ENGINE})
  add_dependencies(service_targets ${name})
endfunction()

# Those of harness/fuzzing/config.cc, which can be fuzzed here; a test compares.
set(configs all shadow-32 shadow-pae shadow-64 shadow-la57 shadow-any smp ept ept-noad npt tdp-smp)
foreach(config ${configs})
  string(REPLACE "-" "_" stem ${config})
  service_target(${stem}_fuzzer SOURCES default_config.cc $<TARGET_OBJECTS:service_objects>
    LIBS twinwalk_mutator twinwalk_harness twinwalk_fuzzing_worker)
  target_compile_definitions(${stem}_fuzzer PRIVATE TWINWALK_DEFAULT_CONFIG="${config}")
endforeach()
# Here it is the parser and the decoder that count.
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
get_target_property(trace_sources twinwalk_trace SOURCES)
list(TRANSFORM trace_sources PREPEND ${CMAKE_SOURCE_DIR}/harness/trace/)
service_target(decode_fuzzer SOURCES decode_fuzzer.cc ${trace_sources} LIBS fmt::fmt nlohmann_json::nlohmann_json)
# What is left out for AFL++ elsewhere (build.sh) is what this one is about.
set_property(TARGET decode_fuzzer PROPERTY CXX_COMPILER_LAUNCHER
  ${CMAKE_COMMAND} -E env --unset=AFL_LLVM_ALLOWLIST ${CMAKE_CXX_COMPILER_LAUNCHER})

# Seeds as these targets read them.
add_executable(service_seeds oss-fuzz/service_seeds.cc)
target_link_libraries(service_seeds PRIVATE twinwalk_flags twinwalk_fuzzing_worker)
add_dependencies(service_targets service_seeds)

if(TWINWALK_SERVICE STREQUAL "afl")
  # Loaded by afl-fuzz itself, which knows nothing of this compiler's run-time.
  add_library(twinwalk_mutator_afl MODULE mutator_afl.cc)
  target_link_libraries(twinwalk_mutator_afl PRIVATE twinwalk_flags twinwalk_mutator)
  set_target_properties(twinwalk_mutator_afl PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endif()

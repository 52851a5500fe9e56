#!/bin/bash -eu
# OSS-Fuzz and ClusterFuzzLite call this: fuzz targets, their seeds and options into $OUT, made with the service's
# compiler, flags and engine. What it uses of the image: cmake, ninja-build, zip, libfmt-dev, nlohmann-json3-dev.
#
# $CC $CXX $CFLAGS $CXXFLAGS $LIB_FUZZING_ENGINE $OUT as the service sets them; $FUZZING_ENGINE (libfuzzer) and
# $WORK (/tmp) too. $TWINWALK_CORE_DIR: a folder with another mmu_core/.
source=$(cd "$(dirname "$0")/../.." && pwd)
build=${WORK:-/tmp}/twinwalk
engine=${FUZZING_ENGINE:-libfuzzer}
corpus=$source/corpus

# AFL++ counts the edges of the core alone.
[[ $engine != afl ]] || export AFL_LLVM_ALLOWLIST=$source/fuzzers/afl_allowlist.txt

cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O2 -g1" \
  -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_C_FLAGS="$CFLAGS" -DCMAKE_CXX_FLAGS="$CXXFLAGS" \
  -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DTWINWALK_WERROR=OFF -DTWINWALK_TESTS=OFF -DTWINWALK_FUZZ=ON -DTWINWALK_CORE_DIR="${TWINWALK_CORE_DIR:-$source}" \
  -DTWINWALK_SERVICE="$engine" -DTWINWALK_FUZZING_ENGINE="$LIB_FUZZING_ENGINE"
cmake --build "$build" --target service_targets

seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
for program in "$build"/bin/*_fuzzer; do
  target=${program##*/}
  cp "$program" "$OUT/"
  printf '[libfuzzer]\nmax_len = 4096\nlen_control = 0\nentropic = 0\n' >"$OUT/$target.options"
  rm -f "$OUT/${target}_seed_corpus.zip"
  if [[ $target == decode_fuzzer ]]; then
    (cd "$corpus" && find seed -name '*.walk' | LC_ALL=C sort | zip -q -X -@ "$OUT/${target}_seed_corpus.zip")
    continue
  fi
  config=${target%_fuzzer}
  # Of a coverage build nothing is to be counted yet.
  ASAN_OPTIONS=detect_leaks=0 LLVM_PROFILE_FILE=/dev/null "$build/bin/service_seeds" "${config//_/-}" "$corpus" "$seeds/$target"
  (cd "$seeds/$target" && find . -type f | LC_ALL=C sort | zip -q -X -@ "$OUT/${target}_seed_corpus.zip")
done
if [[ $engine == afl ]]; then
  cmake --build "$build" --target twinwalk_mutator_afl
  cp "$build/bin/twinwalk_mutator_afl.so" "$OUT/"
fi

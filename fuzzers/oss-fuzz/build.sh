#!/bin/bash -eu
# OSS-Fuzz and ClusterFuzzLite: builds the fuzz targets with the service's compiler and flags. A divergence aborts
# here, in a frame of its class. The image needs cmake, ninja-build, libfmt-dev, nlohmann-json3-dev, libcli11-dev.
source=$(cd "$(dirname "$0")/../.." && pwd)
build=${WORK:-/tmp}/twinwalk

# The service instruments everything through CXXFLAGS and links LIB_FUZZING_ENGINE by itself.
cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" -DCMAKE_C_FLAGS="$CFLAGS" -DCMAKE_CXX_FLAGS="$CXXFLAGS" \
  -DTWINWALK_WERROR=OFF -DTWINWALK_TESTS=OFF -DTWINWALK_FUZZ=ON -DTWINWALK_ABORT_ON_FINDING=ON \
  -DTWINWALK_FUZZING_ENGINE="$LIB_FUZZING_ENGINE"
cmake --build "$build" --target shadow_fuzzer decode_fuzzer

for target in shadow_fuzzer decode_fuzzer; do
  cp "$build/bin/$target" "$OUT/"
  printf '[libfuzzer]\nmax_len = 4096\nlen_control = 0\n' >"$OUT/$target.options"
done
# Text seeds serve the parser; the shadow target generates its own from an empty corpus.
(cd "$source/corpus/seed" && find . -name '*.walk' -print0 | xargs -0 -r zip -q "$OUT/decode_fuzzer_seed_corpus.zip")

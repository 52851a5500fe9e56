# shellcheck shell=bash
# Sourced by test.sh: which lines of the core fuzzing and the corpus reach. Uses $source, $build, pass and fail.

# Ten minutes of fuzzing, half of them on shadow paging; then what that found, the traces of the project and, for a
# twentieth of that time, programs with real threads once more through a build that counts lines. What is not reached
# stands in $build/uncovered.txt, and why in the README of the folder: shadow paging with what both have in common, and
# two dimensions. With TWINWALK_COVERAGE_CORPUS, a folder with one of inputs for each configuration, those are counted
# in place of fuzzing.
step_coverage() {
  local seconds=${TWINWALK_COVERAGE_SECONDS:-600} log=$build/coverage.log out=$build/coverage-fuzz
  local kept=${TWINWALK_COVERAGE_CORPUS-} tools bin=$build/coverage/bin counts=$build/coverage/counts config share
  local configs=(shadow-any ept ept-noad npt tdp-smp)
  tools=$(sed -nE 's/^CMAKE_CXX_COMPILER:[^=]*=.*clang\+\+(-[0-9]+)$/\1/p' "$build/asan/CMakeCache.txt")
  rm -rf "$out" "$counts" && mkdir -p "$counts"
  : >"$log"
  for config in "${configs[@]}"; do
    [[ -z $kept ]] || break
    share=$((seconds / 8))
    [[ $config == shadow-any ]] && share=$((seconds / 2))
    # Findings do not end it: they are the smoke's affair.
    "$source/twinwalk" fuzz --config "$config" --seconds "$share" --out "$out/$config" >>"$log" 2>&1
  done
  if ! {
    cmake -S "$source" --preset coverage -B "$build/coverage" "${compiler[@]}" -DTWINWALK_FUZZ=ON &&
      cmake --build "$build/coverage" --target twinwalk shadow_fuzzer thread_soak &&
      LLVM_PROFILE_FILE=$counts/run.profraw "$bin/twinwalk" run "$source/corpus/seed" "$source/corpus/regress" &&
      replay_found &&
      LLVM_PROFILE_FILE=$counts/threads.profraw "$bin/thread_soak" --config tdp-smp --seconds $((seconds / 20)) \
        --out "$out/threads" "$source"/corpus/seed/tdp-*.walk &&
      "llvm-profdata$tools" merge -o "$counts/all" "$counts"/*.profraw
  } >>"$log" 2>&1; then
    fail "coverage of the core" "$log"
    return
  fi
  local show=(-object "$bin/twinwalk" "$bin/shadow_fuzzer" "$bin/thread_soak" "-instr-profile=$counts/all")
  : >"$build/uncovered.txt"
  covers 95 "the core's lines" "$source/mmu_core"
  covers 95 "its lines for two dimensions" "$source/mmu_core/tdp"
}

# What fuzzing found, each configuration by itself. Uses $configs, $counts, $bin, $kept and $out.
replay_found() {
  local config inputs
  for config in "${configs[@]}"; do
    inputs=$out/$config/corpus
    [[ -z $kept ]] || inputs=$kept/$config
    LLVM_PROFILE_FILE=$counts/$config.profraw TWINWALK_FUZZ_CONFIG=$config TWINWALK_FUZZ_CANDIDATES=$counts \
      "$bin/shadow_fuzzer" -runs=0 -max_len=4096 "$inputs" || return 1
  done
}

# covers LEAST WHAT FOLDER: the lines of its own sources, tests apart. Uses ${show[@]}, $tools, $build and $source.
covers() {
  local percent files
  mapfile -t files < <(find "$3" -maxdepth 1 \( -name '*.cc' -o -name '*.h' \) ! -name '*_test.cc' | sort)
  "llvm-cov$tools" show "${show[@]}" "${files[@]}" 2>/dev/null |
    awk -v at="$source/" '/^\// { file = substr($0, length(at) + 1) } /^ +[0-9]+\| +0\|/ { print file $0 }' >>"$build/uncovered.txt"
  percent=$("llvm-cov$tools" report "${show[@]}" "${files[@]}" 2>/dev/null | awk '$1 == "TOTAL" { print $10 + 0 }')
  if awk -v a="${percent:-0}" -v b="$1" 'BEGIN { exit !(a >= b) }'; then
    pass "coverage: $percent % of $2 ($build/uncovered.txt)"
  else
    fail "coverage: ${percent:-0} % of $2, less than $1" "$build/uncovered.txt"
  fi
}

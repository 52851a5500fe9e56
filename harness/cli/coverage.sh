# shellcheck shell=bash
# Sourced by test.sh: which lines of the core fuzzing and the corpus reach. Uses $source, $build, pass and fail.

# Ten minutes of fuzzing on every core, then its corpus and the traces of the project once more through a build that
# counts lines. What is not reached stands in $build/uncovered.txt, and why in mmu_core/README.md.
step_coverage() {
  local least=95 seconds=${TWINWALK_COVERAGE_SECONDS:-600} log=$build/coverage.log out=$build/coverage-fuzz
  local tools bin=$build/coverage/bin counts=$build/coverage/counts percent files
  tools=$(sed -nE 's/^CMAKE_CXX_COMPILER:[^=]*=.*clang\+\+(-[0-9]+)$/\1/p' "$build/asan/CMakeCache.txt")
  mapfile -t files < <(find "$source/mmu_core" -maxdepth 1 \( -name '*.cc' -o -name '*.h' \) ! -name '*_test.cc' | sort)
  rm -rf "$out" "$counts" && mkdir -p "$counts"
  # Findings do not end it: they are the smoke's affair.
  "$source/twinwalk" fuzz --config shadow-any --seconds "$seconds" --out "$out" >"$log" 2>&1
  if ! {
    cmake -S "$source" --preset coverage -B "$build/coverage" "${compiler[@]}" -DTWINWALK_FUZZ=ON &&
      cmake --build "$build/coverage" --target twinwalk shadow_fuzzer &&
      LLVM_PROFILE_FILE=$counts/run.profraw "$bin/twinwalk" run "$source/corpus/seed" "$source/corpus/regress" &&
      LLVM_PROFILE_FILE=$counts/fuzz.profraw TWINWALK_FUZZ_CANDIDATES=$counts "$bin/shadow_fuzzer" -runs=0 -max_len=4096 "$out/corpus" &&
      "llvm-profdata$tools" merge -o "$counts/all" "$counts"/*.profraw
  } >>"$log" 2>&1; then
    fail "coverage of the core" "$log"
    return
  fi
  local show=(-object "$bin/twinwalk" "$bin/shadow_fuzzer" "-instr-profile=$counts/all")
  "llvm-cov$tools" show "${show[@]}" "${files[@]}" 2>/dev/null |
    awk -v at="$source/" '/^\// { file = substr($0, length(at) + 1) } /^ +[0-9]+\| +0\|/ { print file $0 }' >"$build/uncovered.txt"
  percent=$("llvm-cov$tools" report "${show[@]}" "${files[@]}" 2>/dev/null | awk '$1 == "TOTAL" { print $10 + 0 }')
  if awk -v a="${percent:-0}" -v b="$least" 'BEGIN { exit !(a >= b) }'; then
    pass "coverage: $percent % of the core's lines ($build/uncovered.txt)"
  else
    fail "coverage: ${percent:-0} % of the core's lines, less than $least" "$build/uncovered.txt"
  fi
}

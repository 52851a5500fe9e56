# shellcheck shell=bash
# Sourced by the launcher: the `test` verb, after the asan preset is built. Uses $source, $build, say and die.
# Every step adds to three counts; a step that cannot run here is counted as skipped and says why.

passed=0 failed=0 skipped=0

# pass NAME / fail NAME LOG / skip NAME WHY: counts one check and says what came of it.
pass() {
  passed=$((passed + 1))
  printf 'ok    %s\n' "$1"
}
fail() {
  failed=$((failed + 1))
  printf 'FAIL  %s\n' "$1"
  [[ -s ${2-} ]] && sed 's/^/      /' "$2"
}
skip() {
  skipped=$((skipped + 1))
  printf 'skip  %s: %s\n' "$1" "$2"
}

# The unit and property tests. gtest programs are counted case by case, other tests as one each.
step_ctest() {
  local results=$build/asan/results log=$build/asan/ctest.log line name
  local include=(-LE long)
  [[ $all == 1 ]] && include=()
  rm -rf "$results" && mkdir -p "$results"
  GTEST_OUTPUT="xml:$results/" TWINWALK_TEST_ALL=$all ctest --test-dir "$build/asan" -j2 -Q --output-on-failure \
    --no-tests=error --output-junit "$build/asan/junit.xml" -O "$log" "${include[@]}" >&2 2>"$log.err"
  local good=0 bad=0 left_out=0
  while read -r line name; do
    local xml=$results/$name.xml
    if [[ $line == Failed ]]; then
      bad=$((bad + 1))
      printf 'FAIL  %s\n' "$name"
    elif [[ $line == Skipped ]]; then
      left_out=$((left_out + 1))
      printf 'skip  %s\n' "$name"
    elif [[ -f $xml ]]; then
      local cases without
      cases=$(grep -c '<testcase ' "$xml")
      without=$(grep -c 'result="skipped"' "$xml")
      good=$((good + cases - without)) left_out=$((left_out + without))
      [[ $without == 0 ]] || grep -o '<testcase name="[^"]*"[^>]*result="skipped"[^>]*' "$xml" |
        sed -E 's/.*name="([^"]*)".*classname="([^"]*)".*/skip  \2.\1/'
    else
      good=$((good + 1))
    fi
  done < <(awk '/^ *[0-9]+\/[0-9]+ +Test +#/ {
      state = "Passed"
      if ($0 ~ /\*\*\*Skipped|Not Run \(Disabled\)/) state = "Skipped"
      else if ($0 !~ / Passed +[0-9.]+ sec/) state = "Failed"
      sub(/^ *[0-9]+\/[0-9]+ +Test +#[0-9]+: /, ""); print state, $1 }' "$log")
  if [[ $((good + bad + left_out)) == 0 ]]; then
    fail "ctest ran nothing" "$log.err"
    return
  fi
  [[ $bad == 0 ]] || sed -n '/Test *#.*\*\*\*/,/^ *[0-9]*\/[0-9]* Test/p' "$log" | grep -vE '^\[ +(RUN|OK) +\]|^\[-+\]'
  passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left_out))
  [[ $bad == 0 ]] && printf 'ok    %d test cases (ctest, ASan+UBSan; JUnit: %s)\n' "$good" "$build/asan/junit.xml"
}

# The core alone, without libc. What its objects may ask for is checked by a test of mmu_core; this is the build.
step_freestanding() {
  local log=$build/freestanding.log object
  if ! { cd "$source" && cmake --preset freestanding -B "$build/freestanding" "${compiler[@]}" &&
    cmake --build "$build/freestanding" --target mmu_core_freestanding; } >"$log" 2>&1; then
    fail "freestanding build of the core" "$log"
    return
  fi
  object=$(find "$build/freestanding" -name 'libmmu_core_freestanding.a' -print -quit)
  {
    nm -u "$object" | awk 'NF == 2 && $1 == "U" { print $2 }' | sort -u >"$log.undefined"
    # What one object of the core takes from another is not foreign.
    nm --defined-only "$object" | awk 'NF == 3 { print $3 }' | sort -u | comm -23 "$log.undefined" - |
      grep -vxE 'memcpy|memmove|memset|memcmp'
    readelf -SW "$object" | grep -oE '\.(init_array|ctors)[^ ]*'
  } >"$log" 2>&1
  if [[ -z $object || -s $log ]]; then
    fail "freestanding core: foreign symbols or static constructors" "$log"
  else
    pass "freestanding core: nothing undefined but memcpy, memmove, memset, memcmp; no .init_array"
  fi
}

# Half a minute of fuzzing under ASan+UBSan from the seeds: any divergence, crash or leak is a failure.
step_fuzz_smoke() {
  local out=$build/smoke seconds=30 config=all
  [[ $all == 1 ]] && seconds=300
  rm -rf "$out"
  if "$build/asan/bin/twinwalk" fuzz --config "$config" --seconds "$seconds" --jobs 2 --out "$out" >"$build/smoke.log" 2>&1; then
    pass "fuzz smoke, $seconds s under ASan+UBSan ($(sed -nE 's/.*"execs":([0-9]+).*/\1/p' "$out/summary.json") executions)"
  else
    fail "fuzz smoke, $seconds s under ASan+UBSan" "$build/smoke.log"
  fi
}

# Files that differ from what the project has: against origin/main where there is one that differs, else the last commit's.
changed_files() {
  cd "$source" || return
  git rev-parse --git-dir >/dev/null 2>&1 || return
  local base
  base=$(git merge-base HEAD origin/main 2>/dev/null)
  [[ -n $base && $base != $(git rev-parse HEAD) ]] || base=$(git rev-parse -q --verify HEAD^ || true)
  [[ -n $base ]] || return
  git diff --name-only --diff-filter=d "$base" -- '*.cc'
}

step_tidy() {
  local files log=$build/tidy.log tidy most=24
  tidy=$(command -v "clang-tidy-$clang" || command -v clang-tidy) || {
    skip "clang-tidy" "not installed"
    return
  }
  if [[ $all == 1 ]]; then
    mapfile -t files < <(cd "$source" && find harness mmu_core oracle fuzzers kvm_runner reports -name '*.cc' | sort)
  else
    mapfile -t files < <(changed_files)
  fi
  # Only what this build compiles: nothing else has compile commands.
  mapfile -t files < <(for f in "${files[@]}"; do
    grep -qF "\"file\": \"$source/$f\"" "$build/asan/compile_commands.json" && echo "$f"
  done)
  if [[ ${#files[@]} == 0 ]]; then
    skip "clang-tidy" "no changed source file"
    return
  fi
  local of=${#files[@]}
  [[ $all == 1 || $of -le $most ]] || files=("${files[@]:0:most}")
  if (cd "$source" && printf '%s\0' "${files[@]}" | xargs -0 -P2 -n2 "$tidy" --quiet -p "$build/asan") >"$log" 2>/dev/null; then
    pass "clang-tidy on ${#files[@]} of $of changed files"
  else
    fail "clang-tidy" "$log"
  fi
}

step_format() {
  local log=$build/format.log format
  format=$(command -v clang-format-16 || command -v "clang-format-$clang" || command -v clang-format) || {
    skip "clang-format" "not installed"
    return
  }
  if "$format" --version | grep -q 'version 16\.'; then
    if (cd "$source" && find harness mmu_core oracle fuzzers kvm_runner reports -name '*.h' -o -name '*.cc' | sort |
      xargs "$format" --dry-run --Werror) >"$log" 2>&1; then
      pass "clang-format"
    else
      grep -oE '^[^:]+:[0-9]+' "$log" | sort -u -t: -k1,1 >"$log.short"
      fail "clang-format (first place in each file)" "$log.short"
    fi
  else
    skip "clang-format" "formatting is pinned to clang-format 16"
  fi
}

# The core with real threads under ThreadSanitizer, for ten minutes.
step_threads() {
  local log=$build/threads.log seeds=("$source"/corpus/seed/tdp-*.walk)
  if ! { cmake -S "$source" --preset tsan -B "$build/tsan" "${compiler[@]}" -DTWINWALK_TESTS=OFF &&
    cmake --build "$build/tsan" --target thread_soak; } >"$log" 2>&1; then
    fail "build of the core with threads" "$log"
  elif TSAN_OPTIONS="halt_on_error=1 history_size=4" "$build/tsan/bin/thread_soak" --config tdp-smp --seconds 600 \
    --out "$build/threads" "${seeds[@]}" >"$log" 2>&1; then
    pass "ten minutes of tdp-smp with real threads under TSan ($(tail -1 "$log" | sed 's/ *[0-9]* s *//'))"
  else
    fail "ten minutes of tdp-smp with real threads under TSan" "$log"
  fi
}

# The long ones: sweeps in full, every seeded bug found by fuzzing and no neutral change, the benchmark.
step_long() {
  local verb
  for verb in sweep zoo bench; do
    if "$source/twinwalk" "$verb" >"$build/$verb.log" 2>&1; then
      pass "$verb"
    else
      fail "$verb" "$build/$verb.log"
    fi
  done
}

# Small mistakes in the core and in the reference: how many of them the suite notices.
step_mutation() {
  local side log
  for side in core oracle; do
    log=$build/mutate-$side.log
    if "$source/twinwalk" mutate "$side" --sample 20 --seconds 10 --out "$build/mutate-$side" >"$log" 2>&1; then
      pass "mutants of the $side: $(grep 'killed, ' "$log")"
    else
      fail "mutants of the $side" "$log"
    fi
  done
}

# `bisect` over a repository made for it.
step_bisect() {
  local log=$build/bisect.log
  if "$source/harness/fuzzing/bisect_test.sh" "$build/asan/bin/twinwalk" "$source" "$build/bisect-test" >"$log" 2>&1; then
    pass "bisect finds the revision that seeds a bug"
  else
    fail "bisect" "$log"
  fi
}

# The pull request's job over a repository made for it.
step_pull_request() {
  local log=$build/pull-request.log
  if "$source/.ci/pull_request_test.sh" "$source" "$build/pull-request-test" >"$log" 2>&1; then
    pass "the pull request's job tells new from known"
  else
    fail "the pull request's job" "$log"
  fi
}

# Two libFuzzer and two AFL++ workers on one folder.
step_fleet() {
  local log=$build/fleet.log
  if ! "$source/twinwalk" fuzz --engine afl --help >"$log" 2>&1; then # builds its target
    if command -v afl-clang-fast++ >/dev/null; then
      fail "build of the AFL++ target" "$log"
    else
      skip "fleet" "AFL++ is not installed"
    fi
  elif "$source/harness/fuzzing/fleet_test.sh" "$build/release/bin/twinwalk" "$build/fleet-test" >"$log" 2>&1; then
    pass "two libFuzzer and two AFL++ workers take over from each other ($(sed -nE 's/.*fleet: (.*)/\1/p' "$log" | paste -sd';' | sed 's/;/; /g'))"
    grep -h '^new: ' "$log"
  else
    fail "fleet" "$log"
  fi
}

run_tests() {
  all=0
  local only=""
  case ${1-} in
    '') ;;
    --all) all=1 ;;
    --coverage) only=coverage ;;
    --help | -h)
      echo "usage: twinwalk test [--all | --coverage]"
      echo "Builds and runs the tests under ASan and UBSan, a fuzz smoke, the freestanding build, clang-tidy on changed"
      echo "files and the format check; --all adds the long ones (full sweeps, every seeded bug, mutants, the benchmark, a fleet, threads under TSan, coverage, whole suites"
      echo "in emulated hosts, KVM with one line broken, the pull request's job on changes whose verdict is known)."
      echo "--coverage counts lines alone: of what ten minutes of fuzzing reach, or the inputs in TWINWALK_COVERAGE_CORPUS."
      return 0
      ;;
    *) die "test: no option '$1'; there are --all and --coverage" ;;
  esac
  compiler=()
  clang=$(sed -nE 's/^CMAKE_CXX_COMPILER:[^=]*=.*clang\+\+-([0-9]+)$/\1/p' "$build/asan/CMakeCache.txt")
  compiler=("-DCMAKE_C_COMPILER=clang-$clang" "-DCMAKE_CXX_COMPILER=clang++-$clang")
  # shellcheck source=kvm_runner/hosts/test.sh
  . "$source/kvm_runner/hosts/test.sh"
  # shellcheck source=harness/cli/build.sh
  . "$source/harness/cli/build.sh"
  # shellcheck source=harness/cli/coverage.sh
  . "$source/harness/cli/coverage.sh"
  if [[ $only == coverage ]]; then
    step_coverage
  else
    step_hosts # before the unit tests, which find the hosts ready
    step_ctest
    step_freestanding
    step_fuzz_smoke
    step_tidy
    step_format
  fi
  if [[ $all == 1 ]]; then
    step_bisect
    step_pull_request
    step_fleet
    step_long
    step_mutation
    step_threads
    step_coverage
  fi
  printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [[ $failed == 0 ]]
}

# shellcheck shell=bash
# Sourced: which configurations of `twinwalk fuzz` a changed file asks for. This is the only place that knows.
# configurations_test.sh holds it against the tree and against the program.

# What the nightly batch fuzzes, so that a pull request finds a corpus of each: all that need no emulated host.
# shellcheck disable=SC2034 # by nightly and by the test
nightly_configurations=(all shadow-32 shadow-pae shadow-64 shadow-la57 shadow-any smp ept ept-noad npt tdp-smp)

# configurations_of FILE: prints the configurations that a change of FILE (a path in the tree) asks for, in one line;
# "none" where fuzzing here would show nothing of it. The first row that fits counts. Fails if no row fits.
configurations_of() {
  case $1 in
    # Words, and what other jobs run: the tests, the zoo, the real KVMs (`conform`).
    *.md | LICENSE | .gitignore | .clang-format | .clang-tidy) echo none ;;
    *_test.cc | *_test.sh | */testing/*) echo none ;;
    corpus/zoo/* | corpus/*.cc | corpus/CMakeLists.txt) echo none ;;
    kvm_runner/* | reports/* | harness/cli/* | harness/bench/* | harness/sweep/* | harness/mutation/*) echo none ;;
    harness/threads/* | harness/engineering/* | fuzzers/thread_soak.cc) echo none ;;
    fuzzers/oss-fuzz/* | fuzzers/afl_* | fuzzers/*_afl.cc | .clusterfuzzlite/*) echo none ;;
    .ci/* | .github/*) echo none ;;

    # The core. Two dimensions, by kind of hardware; then what only shadow paging runs.
    mmu_core/tdp/pml.*) echo ept tdp-smp ;;
    mmu_core/tdp/private_ranges.* | mmu_core/tdp/external.*) echo ept npt tdp-smp ;;
    mmu_core/tdp/*) echo ept ept-noad npt tdp-smp ;;
    mmu_core/quadrant.h) echo shadow-32 shadow-pae ;;
    mmu_core/pdptes.*) echo shadow-pae shadow-any ept npt ;;
    mmu_core/host_tables.*) echo shadow-32 shadow-pae shadow-64 shadow-la57 ;;
    mmu_core/entries.* | mmu_core/fault.* | mmu_core/fetch.* | mmu_core/page_cache.* | mmu_core/page_hash.* | \
      mmu_core/prefetch.* | mmu_core/pt_write.* | mmu_core/reclaim.* | mmu_core/rmap*.* | mmu_core/role.h | \
      mmu_core/shadow_*.h | mmu_core/spte.h | mmu_core/sync.* | mmu_core/unsync.* | mmu_core/zap.* | \
      mmu_core/audit_*.cc) echo shadow-any smp ;;
    mmu_core/*) echo all ;;

    # Who judges, what runs the core, and what makes traces: everything.
    oracle/nested_* | oracle/second_dimension.*) echo ept ept-noad npt tdp-smp ;;
    oracle/*) echo all ;;
    harness/processor/nested_format.* | harness/processor/second_dimension.* | \
      harness/processor/combined_cache.* | harness/processor/private_module.*) echo ept ept-noad npt tdp-smp ;;
    harness/core/interleaver.* | harness/core/fiber*) echo smp tdp-smp ;;
    harness/*) echo all ;;
    fuzzers/tdp_idioms.cc) echo ept ept-noad npt tdp-smp ;;
    fuzzers/overlap_idioms.cc) echo smp tdp-smp ;;
    fuzzers/*) echo all ;;
    corpus/seed/tdp-* | corpus/regress/tdp-*) echo ept ept-noad npt tdp-smp ;;
    corpus/*) echo all ;; # a known deviation changes what counts as new
    twinwalk | CMakeLists.txt | CMakePresets.json) echo all ;;
    *) return 1 ;;
  esac
}

# configurations_of_all: reads paths, one a line; prints the configurations that they ask for together, one a line,
# each once. A file that the table does not know asks for all of them.
configurations_of_all() {
  local file words word
  while IFS= read -r file; do
    words=$(configurations_of "$file") || words=all
    for word in $words; do
      [[ $word == none ]] || echo "$word"
    done
  done | sort -u
}

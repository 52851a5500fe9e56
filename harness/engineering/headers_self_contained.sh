#!/usr/bin/env bash
# headers_self_contained.sh COMPILER SOURCE: compiles every header alone, twice included, as C++20.
set -u

compiler=$1
cd "$2" || exit 1

check() {
  printf '#include "%s"\n#include "%s"\n' "$2" "$2" |
    "$1" -std=c++20 -fsyntax-only -Wall -Wextra -I. -x c++ - || {
    echo "$2 does not stand alone"
    return 1
  }
}
export -f check

find mmu_core oracle harness fuzzers kvm_runner reports -name '*.h' 2>/dev/null | sort |
  xargs -P2 -I{} bash -c 'check "$@"' _ "$compiler" {}

#!/usr/bin/env bash
# configurations_test.sh PROGRAM SOURCE: the table of configurations.sh against the tree (every file has a row), and
# against the program (every configuration that it names is there, and every one that is there is named).
set -euo pipefail

program=$1 source=$2 bad=0
# shellcheck source=.ci/configurations.sh
. "$source/.ci/configurations.sh"

wrong() {
  echo "$*"
  bad=1
}

mapfile -t offered < <("$program" fuzz --help | sed -nE 's/.*machines to try: ([^;]*);.*/\1/p' | tr -d ' ' | tr ',' '\n')
[[ ${#offered[@]} -ge 5 ]] || wrong "\`fuzz --help\` lists ${#offered[@]} configurations: ${offered[*]}"

# Every file below the folders of code; not by git, for a file that is not added yet counts as well.
named=("${nightly_configurations[@]}") files=0
while IFS= read -r file; do
  files=$((files + 1))
  if ! words=$(configurations_of "$file"); then
    wrong "$file has no row in .ci/configurations.sh"
    continue
  fi
  read -ra words <<<"$words"
  named+=("${words[@]}")
done < <(cd "$source" && find mmu_core oracle harness fuzzers kvm_runner reports corpus .ci -type f &&
  cd "$source" && find . -maxdepth 1 -type f -printf '%f\n' | grep -v '^\.git$')
[[ $files -ge 500 ]] || wrong "only $files files were looked at"

for word in "${named[@]}"; do
  [[ $word == none || " ${offered[*]} " == *" $word "* ]] || wrong "the table names $word, which the program has not"
done
for word in "${offered[@]}"; do
  [[ $word == nested-npt ]] && continue # for hosts of KVM alone
  [[ " ${nightly_configurations[*]} " == *" $word "* ]] || wrong "the nightly batch leaves out $word"
done

# What must not slip into `none`, and what a few files ask for.
asks() {
  local got
  got=$(printf '%s\n' "${@:2}" | configurations_of_all | paste -sd' ')
  [[ $got == "$1" ]] || wrong "${*:2}: got '$got', wanted '$1'"
}
asks "ept ept-noad npt tdp-smp" mmu_core/tdp/map.cc
asks "shadow-any smp" mmu_core/sync.cc mmu_core/unsync.h
asks "all" mmu_core/vcpu.cc
asks "all" oracle/judge.cc README.md
asks "" README.md mmu_core/tdp/README.md mmu_core/sync_test.cc
asks "all" a/new/folder/file.cc
while IFS= read -r file; do
  [[ $(configurations_of "$file") != none ]] || wrong "$file is linked into what is fuzzed, and asks for nothing"
done < <(cd "$source" && find mmu_core oracle harness/core harness/processor harness/trace \
  \( -name '*.cc' -o -name '*.h' \) ! -name '*_test.cc' ! -path '*/testing/*')

exit $bad

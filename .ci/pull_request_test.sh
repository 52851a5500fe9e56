#!/usr/bin/env bash
# pull_request_test.sh SOURCE SCRATCH: the pull request's job in a repository made for it, on changes whose verdict is
# known. SCRATCH is kept, for the builds in it.
set -euo pipefail

[[ $# == 2 ]] || { echo "usage: pull_request_test.sh SOURCE SCRATCH" >&2; exit 2; }
source=$1 scratch=$2 repository=$2/repository bad=0
unset TWINWALK_BUILD_DIR GITHUB_STEP_SUMMARY # its builds are its own
export GIT_CONFIG_GLOBAL=/dev/null

mkdir -p "$scratch"
rm -rf "$scratch/build"
[[ ! -d $repository/build ]] || mv "$repository/build" "$scratch/build"
rm -rf "$repository" && mkdir "$repository"
tar -C "$source" --exclude=./build --exclude=./.git --exclude=./twinwalk-out -cf - . | tar -C "$repository" -xf -
[[ ! -d $scratch/build ]] || mv "$scratch/build" "$repository/build"
# What was fetched for this tree need not be fetched again.
if [[ -d $source/build/unicorn && ! -d $repository/build/unicorn ]]; then
  mkdir -p "$repository/build" && cp -r "$source/build/unicorn" "$repository/build/"
fi

in_repository() { git -C "$repository" -c user.name=test -c user.email=test@localhost "$@"; }
commit() { in_repository add -A && in_repository commit -q -m "$1" && in_repository tag "$1"; }
seed() { patch -s -p1 --no-backup-if-mismatch -d "$repository" <"$source/corpus/zoo/$1.patch"; }

in_repository init -q
commit clean
seed last-level-role && commit seeded
echo "// one" >>"$repository/mmu_core/sync.cc" && commit elsewhere
seed invlpg-no-flush && commit second-bug
in_repository checkout -q seeded && echo "More." >>"$repository/README.md" && commit words
in_repository checkout -q clean && echo "#error" >>"$repository/mmu_core/zap.cc" && commit broken
in_repository checkout -q broken && in_repository checkout -q seeded -- mmu_core && commit seeded-after-broken

# try NAME BASE CODE: the job at tag NAME, against BASE; its exit code.
try() {
  local code=0
  out=$scratch/out-$1
  rm -rf "$out"
  in_repository checkout -q "$1"
  "$repository/.ci/pull-request" --base "$2" --minutes 0.5 --no-tests --out "$out" >"$scratch/$1.said" 2>"$scratch/$1.log" || code=$?
  [[ $code == "$3" ]] || wrong "$1: exit code $code, wanted $3"
}
wrong() {
  echo "$*"
  tail -20 "$out/summary.md" "$scratch/${out##*/out-}.log" 2>/dev/null || :
  bad=1
}
# has TEXT / lacks TEXT: in the summary of the last try.
has() { grep -qF -- "$1" "$out/summary.md" || wrong "${out##*/}: the summary lacks '$1'"; }
lacks() { ! grep -qF -- "$1" "$out/summary.md" || wrong "${out##*/}: the summary has '$1'"; }
states() { grep -c "\"baselineState\": \"$1\"" "$out/report.sarif" || :; }

try seeded clean 1
has "| **new** | audit-role |"
has "the base agrees"
lacks "| known | audit-role |"
[[ $(states new) -ge 1 ]] || wrong "seeded: SARIF says otherwise"
grep -q '<failure ' "$out/report.xml" || wrong "seeded: JUnit has no failure"

try elsewhere seeded 0
has "## Twinwalk: 0 new, "
has "| known | audit-role |"
has "the base shows it"
lacks "**new**" # whatever else is found: the core is the same
[[ $(states new) == 0 && $(states unchanged) -ge 1 ]] || wrong "elsewhere: SARIF says otherwise"
! grep -q '<failure ' "$out/report.xml" || wrong "elsewhere: JUnit has a failure"

# What is old does not hide what is new.
try second-bug seeded 1
has "| known |"
has "| **new** |"

try words seeded 0
has "**no fuzzing**"
[[ ! -e $out/fuzz ]] || wrong "words: something was fuzzed"

try seeded-after-broken broken 1
has "the base was not asked: it cannot be built"

exit $bad

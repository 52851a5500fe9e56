#!/usr/bin/env bash
# bisect_test.sh PROGRAM SOURCE SCRATCH: `bisect` on a repository whose third revision seeds a bug of the zoo. SCRATCH
# is kept, for the builds in it.
set -euo pipefail

[[ $# == 3 ]] || { echo "usage: bisect_test.sh PROGRAM SOURCE SCRATCH" >&2; exit 2; }
program=$1 source=$2 scratch=$3 bug=last-level-role repository=$3/repository

rm -rf "$repository" && mkdir -p "$repository"
cp -r "$source/mmu_core" "$repository/"
in_repository() { git -C "$repository" -c user.name=test -c user.email=test@localhost "$@"; }
commit() { in_repository add -A && in_repository commit -q -m "$1"; }
in_repository init -q
commit first
echo "// one" >>"$repository/mmu_core/zap.cc" && commit second
patch -s -p1 --no-backup-if-mismatch -d "$repository" <"$source/corpus/zoo/$bug.patch" && commit seeded
in_repository mv mmu_core/sync.cc mmu_core/synchronise.cc && commit "a file goes by another name"
echo "#error" >>"$repository/mmu_core/zap.cc" && commit "does not build"
in_repository revert --no-edit HEAD >/dev/null

TWINWALK_BUILD_DIR=$scratch "$program" bisect "$source/corpus/zoo/$bug.walk" --repository "$repository" --json >"$scratch/said"
wanted=$(in_repository log --format=%H --grep=seeded)
if ! grep -q "\"first_bad\":\"$wanted\"" "$scratch/said"; then
  echo "wanted $wanted; got"
  cat "$scratch/said"
  exit 1
fi

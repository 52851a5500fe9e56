#!/usr/bin/env bash
# check.sh [-o FOLDER] [ENGINE:SANITIZER...]: what a fuzzing service's build check asks of a build, asked here, without
# its containers. Each build is made by build.sh in a folder of its own, with the variables as the service sets them;
# libfuzzer:address, libfuzzer:undefined, libfuzzer:coverage and afl:address if none is named.
#
# Of each target: it starts within 25 s and 2.5 GB, from a folder that it may not write to, as a user who owns nothing,
# under another name; the engine counts at least 100 edges; the sanitizer is in it, and no other; all seeds load; it
# needs nothing but the C and C++ libraries. Of a build: at most one target in ten fails. Last, that a service tells
# classes apart by their stacks: of a core with two seeded bugs, by three traces; and that the testcase which ended a
# target is of use: the program with the same bug replays it ten times of ten, converts, minimises and explains it.
#
# Exit 0: all good. 1: something is not. 2: bad usage. 77: a compiler or a tool is not here.
set -uo pipefail

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=""
builds=()
while [[ $# -gt 0 ]]; do
  case $1 in
    -o) work=${2-} && shift 2 || shift ;;
    libfuzzer:address | libfuzzer:undefined | libfuzzer:coverage | afl:address) builds+=("$1") && shift ;;
    *) echo "usage: check.sh [-o FOLDER] [libfuzzer:address|libfuzzer:undefined|libfuzzer:coverage|afl:address...]" >&2 && exit 2 ;;
  esac
done
[[ ${#builds[@]} != 0 ]] || builds=(libfuzzer:address libfuzzer:undefined libfuzzer:coverage afl:address)
if [[ -z $work ]]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
work=$(mkdir -p "$work" && cd "$work" && pwd) || exit 2

clang=$(compgen -c | grep -xE 'clang\+\+-(1[6-9]|2[0-9])' | sort -Vr | head -1)
clang=${clang#clang++}
for need in "clang++$clang" "llvm-symbolizer$clang" cmake ninja zip unzip objdump setpriv; do
  command -v "$need" >/dev/null || { echo "$need is not installed"; exit 77; }
done
symbolizer=$(command -v "llvm-symbolizer$clang")

# What the service's containers set.
basic="-O1 -fno-omit-frame-pointer -gline-tables-only -Wno-error -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION"
declare -A flags_of=(
  [address]="-fsanitize=address -fsanitize-address-use-after-scope"
  [undefined]="-fsanitize=array-bounds,bool,builtin,enum,function,integer-divide-by-zero,null,object-size,return,returns-nonnull-attribute,shift,signed-integer-overflow,unreachable,vla-bound,vptr -fno-sanitize-recover=array-bounds,bool,builtin,enum,function,integer-divide-by-zero,null,object-size,return,returns-nonnull-attribute,shift,signed-integer-overflow,unreachable,vla-bound,vptr"
  [coverage]="-fprofile-instr-generate -fcoverage-mapping"
)

bad=0
tell() { printf '%-5s %s\n' "$1" "$2"; }
fail() {
  tell FAIL "$1"
  [[ -s ${2-} ]] && tail -n 12 "$2" | sed 's/^/      /'
  bad=1
}

# build ENGINE SANITIZER FOLDER: $FOLDER/out, over what is in $FOLDER/work. The rest of the environment is the service's,
# not the user's.
build() {
  local engine=$1 sanitizer=$2 folder=$3 cc=clang$clang cxx=clang++$clang flags library=-fsanitize=fuzzer
  flags="$basic ${flags_of[$sanitizer]}"
  rm -rf "$folder/out" && mkdir -p "$folder/out" "$folder/work"
  if [[ $engine == afl ]]; then
    cc=afl-clang-fast cxx=afl-clang-fast++ library=$(find /usr/lib /usr/local/lib -name libAFLDriver.a -print -quit 2>/dev/null)
    command -v $cxx >/dev/null && [[ -n $library ]] || { echo "afl++ is not installed"; exit 77; }
  elif [[ $sanitizer != coverage ]]; then
    flags+=" -fsanitize=fuzzer-no-link"
  fi
  env -i PATH="$PATH" HOME="$folder" LANG=C CC="$cc" CXX="$cxx" CFLAGS="$flags" CXXFLAGS="$flags" \
    LIB_FUZZING_ENGINE="$library" FUZZING_ENGINE="$engine" SANITIZER="$sanitizer" ARCHITECTURE=x86_64 SRC="$source/.." \
    OUT="$folder/out" WORK="$folder/work" AFL_QUIET=1 ${TWINWALK_CORE_DIR+TWINWALK_CORE_DIR="$TWINWALK_CORE_DIR"} \
    ${CCACHE_DIR+CCACHE_DIR="$CCACHE_DIR"} "$source/fuzzers/oss-fuzz/build.sh" >"$folder/log" 2>&1
}

# calls PROGRAM WORD: calls of functions of that name in it.
calls() { objdump -d --no-show-raw-insn "$1" | grep -cE "call.*<$2"; }

# alone TARGET LOG WORD...: as a service runs it, within its limits.
alone() {
  local target=$1 log=$2
  shift 2
  (cd "$nowhere" && ulimit -v unlimited &&
    env -i PATH=/usr/bin:/bin TMPDIR="$nowhere/tmp" ASAN_OPTIONS="detect_leaks=0:symbolize=1:external_symbolizer_path=$symbolizer" \
      LLVM_PROFILE_FILE=/dev/null AFL_DRIVER_DONT_DEFER=1 timeout 25 "${as_nobody[@]}" "$target" "$@") >"$log" 2>&1
}

# check_target ENGINE SANITIZER TARGET SEEDS LOG: the first thing that is wrong with it; nothing if it is good.
check_target() {
  local engine=$1 sanitizer=$2 target=$3 seeds=$4 log=$5 edges count asan ubsan library
  if [[ $engine == libfuzzer ]]; then
    alone "$target" "$log" -rss_limit_mb=2560 -seed=1337 -runs=4 || { echo "does not start"; return; }
    if [[ $sanitizer != coverage ]]; then
      edges=$(grep -oE 'Loaded [0-9]+ modules? +\([0-9]+ ' "$log" | grep -oE '[0-9]+ $')
      [[ ${edges:-0} -ge 100 ]] || { echo "counts ${edges:-0} edges"; return; }
    fi
    alone "$target" "$log" -rss_limit_mb=2560 -runs=0 "$seeds" || { echo "a seed ends it"; return; }
    count=$(find "$seeds" -type f | wc -l)
    grep -qE "(seed corpus: files: +$count |INITED exec/s|#$count[[:space:]]|INITED)" "$log" || { echo "does not load its seeds"; return; }
  else
    # One for each of the seeds, and what afl-showmap sees of it.
    edges=$(cd "$nowhere" && AFL_QUIET=1 ASAN_OPTIONS=abort_on_error=1:symbolize=0:detect_leaks=0 timeout 60 \
      afl-showmap -m none -t 25000 -i "$seeds" -o "$nowhere/tmp/map" -C -- "$target" >"$log" 2>&1 && wc -l <"$nowhere/tmp/map")
    [[ ${edges:-0} -ge 100 ]] || { echo "afl-showmap sees ${edges:-0} edges of its seeds"; return; }
  fi
  asan=$(calls "$target" __asan_) ubsan=$(calls "$target" __ubsan_handle)
  case $sanitizer in
    address) [[ $asan -ge 6 && $ubsan -le 168 ]] || { echo "has $asan calls of ASan, $ubsan of UBSan"; return; } ;;
    undefined) [[ $asan == 0 && $ubsan -ge 169 ]] || { echo "has $asan calls of ASan, $ubsan of UBSan"; return; } ;;
    coverage)
      [[ $asan == 0 && $ubsan -le 168 ]] || { echo "has $asan calls of ASan, $ubsan of UBSan"; return; }
      objdump -h "$target" | grep -q __llvm_covmap || { echo "has no map of its coverage"; return; }
      ;;
  esac
  for library in $(ldd "$target" | grep -oE '^[[:space:]]*[^ ]+' | sed 's/.*\///'); do
    case $library in
      linux-vdso.so.* | libc.so.* | libm.so.* | libpthread.so.* | libdl.so.* | librt.so.* | libresolv.so.* | ld-linux-x86-64.so.*) ;;
      libstdc++.so.* | libgcc_s.so.* | libc++.so.* | libc++abi.so.* | libunwind.so.*) ;; # static in the service's image
      *) echo "needs $library" && return ;;
    esac
  done
}

# A folder that a target may not write to, and one in it for its temporary files.
nowhere=$(mktemp -d) && mkdir "$nowhere/tmp" && chmod 777 "$nowhere/tmp" && chmod 755 "$nowhere"
as_nobody=()
[[ $(id -u) != 0 ]] || as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
chmod 755 "$work"

check_build() {
  local engine=${1%:*} sanitizer=${1#*:} folder=$work/$1 target name wrong broken=0 all=0
  rm -rf "$folder"
  if ! build "$engine" "$sanitizer" "$folder"; then
    fail "$1: does not build" "$folder/log"
    return
  fi
  chmod -R a+rX "$folder"
  for target in "$folder"/out/*_fuzzer; do
    name=${target##*/} all=$((all + 1))
    mkdir -p "$nowhere/$1/$name"
    cp "$target" "$nowhere/$1/$name/renamed" # it must not matter what it is called
    wrong=""
    [[ -f $target.options ]] || wrong="has no options"
    unzip -q -o "${target}_seed_corpus.zip" -d "$nowhere/$1/$name/seeds" || wrong="has no seeds"
    [[ -n $wrong ]] || wrong=$(check_target "$engine" "$sanitizer" "$nowhere/$1/$name/renamed" "$nowhere/$1/$name/seeds" "$work/$1/$name.log")
    [[ -z $(find "$nowhere/$1/$name" -maxdepth 1 -type f ! -name renamed) ]] || wrong="writes where it is"
    [[ -z $wrong ]] || { broken=$((broken + 1)) && tell "-" "$1: $name $wrong" && tail -n 4 "$work/$1/$name.log" | sed 's/^/      /'; }
    rm -rf "${nowhere:?}/$1/$name"
  done
  if [[ $all == 0 || $((broken * 10)) -gt $all ]]; then
    fail "$1: $broken of $all targets fail"
  else
    tell ok "$1: $((all - broken)) of $all targets pass"
  fi
}

# stack BUG WALK: leaves what ended it in $work/stacks/BUG.testcase, and says the names of our own frames below abort(), the innermost first, when a core with that bug of the zoo meets
# the trace. Services take the first three for the crash's state.
stack() {
  local bug=$1 walk=$2 folder=$work/stacks core=$work/stacks/core inputs
  rm -rf "$core" && mkdir -p "$core" && cp -r "$source/mmu_core" "$core/"
  patch -s -p1 --no-backup-if-mismatch -d "$core" <"$source/corpus/zoo/$bug.patch" || return
  TWINWALK_CORE_DIR=$core build libfuzzer address "$folder" || return
  inputs=$(mktemp -d) && mkdir "$inputs/walks" && cp "$walk" "$inputs/walks/x.walk"
  ASAN_OPTIONS=detect_leaks=0 "$folder/work/twinwalk/bin/service_seeds" all "$inputs/walks" "$inputs/made"
  chmod -R a+rX "$folder" "$inputs"
  alone "$folder/out/all_fuzzer" "$work/stack.log" -rss_limit_mb=2560 "$inputs/made/"*
  cp "$(sed -n 's/^Running: //p' "$work/stack.log" | tail -1)" "$work/stacks/$bug.testcase" || return
  rm -rf "$inputs"
  sed -nE 's/^ *#[0-9]+ 0x[0-9a-f]+ in (.*)\(.*$/\1/p' "$work/stack.log" | sed -n '/::diverged_/,/::Session::run/p'
}

check_stacks() {
  local a again b walk=$source/corpus/zoo/last-level-role.walk
  mkdir -p "$work/stacks"
  # The same bug by other addresses.
  sed -e 's/0x40400000/0x40600000/; s/0x400000/0x600000/' "$walk" >"$work/stacks/again.walk"
  a=$(stack last-level-role "$walk")
  again=$(stack last-level-role "$work/stacks/again.walk")
  b=$(stack narrowed-without-flush "$source/corpus/zoo/narrowed-without-flush.walk")
  if [[ -z $a || -z $b || $a != "$again" || $(head -1 <<<"$a") == "$(head -1 <<<"$b")" ]]; then
    fail "stacks: of one class '${a//$'\n'/ }' and '${again//$'\n'/ }', of another '${b//$'\n'/ }'" "$work/stack.log"
  else
    tell ok "stacks: two traces of one class end in $(head -1 <<<"$a"), one of another in $(head -1 <<<"$b")"
  fi
}

# class_in FILE: of the first divergence that `run --json` told.
class_in() { sed -nE 's/.*"verdict":"diverge","class":"([^"]+)".*/\1/p' "$1" | head -1; }

# check_testcase BUG: the stack of this bug was the last one.
check_testcase() {
  local build=$work/stacks/work/twinwalk here=$work/stacks/replay raw=(--raw --config all) i class wrong="" before after
  local program=$build/bin/twinwalk testcase=$work/stacks/$1.testcase
  rm -rf "$here" && mkdir -p "$here"
  cmake --build "$build" --target twinwalk >"$here/log" 2>&1 || { fail "testcase: the program does not build" "$here/log"; return; }
  export ASAN_OPTIONS=detect_leaks=0
  for i in {1..10}; do
    "$program" run "${raw[@]}" --json "$testcase" >"$here/$i.jsonl" 2>>"$here/log"
    [[ $? == 1 ]] && cmp -s "$here/1.jsonl" "$here/$i.jsonl" || wrong+=" replay $i"
  done
  class=$(class_in "$here/1.jsonl")
  [[ -n $class ]] || wrong+=" class"
  { "$program" decode "${raw[@]}" -o "$here/testcase.walk" "$testcase" && "$program" minimise "${raw[@]}" -o "$here/small.walk" "$testcase"; } \
    2>>"$here/log" || wrong+=" decode or minimise"
  for i in testcase small; do
    "$program" run --json "$here/$i.walk" >"$here/$i.jsonl" 2>>"$here/log"
    [[ $? == 1 && $(class_in "$here/$i.jsonl") == "$class" ]] || wrong+=" $i.walk"
  done
  before=$(grep -cvE '^(walk|machine|#|  =)' "$here/testcase.walk") after=$(grep -cvE '^(walk|machine|#|  =)' "$here/small.walk")
  [[ $after -ge 1 && $after -le $before ]] || wrong+=" size"
  "$program" explain "$here/small.walk" 2>>"$here/log" | grep -q "DIVERGENCE $class" || wrong+=" explain"
  if [[ -n $wrong ]]; then
    fail "testcase:$wrong" "$here/log"
  else
    tell ok "testcase: $class, replayed 10 times of 10, $before operations, $after after minimise, explained"
  fi
}

for one in "${builds[@]}"; do check_build "$one"; done
if [[ " ${builds[*]} " == *" libfuzzer:address "* ]]; then
  check_stacks
  check_testcase narrowed-without-flush
fi
rm -rf "$nowhere"
exit $bad

# shellcheck shell=bash
# Sourced by the launcher when a build is not up to date: packages, compiler, Unicorn, configure, build.
# Uses the launcher's $source, $build, say and die.

# What must be there, and the Debian and Ubuntu package that brings it. A probe is a file (with /) or a command.
# The compiler's own rows are added by pick_compiler, by its version.
needs=(
  "cmake cmake"
  "ninja ninja-build"
  "flock util-linux"
  "/usr/include/fmt/core.h libfmt-dev"
  "/usr/include/nlohmann/json.hpp nlohmann-json3-dev"
  "/usr/include/CLI/CLI.hpp libcli11-dev"
  "/usr/include/unicorn/unicorn.h libunicorn-dev"
)
needs_of_tests=(
  "/usr/include/gtest/gtest.h libgtest-dev"
  "/usr/include/gmock/gmock.h libgmock-dev"
  "git git"
)

needs_of_afl=("afl-clang-fast++ afl++")

has() {
  case $1 in
    */*) [[ -e $1 ]] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# The versions of clang in the order in which they are wanted: the distribution's own first, then newest first.
clang_order() {
  local id="" VERSION_ID=""
  [[ -r /etc/os-release ]] && id=$(. /etc/os-release && echo "$ID-${VERSION_ID-}")
  case $id in
    debian-12) echo 16 19 18 17 20 21 22 ;;
    ubuntu-24.04) echo 18 20 19 17 16 ;;
    *) echo 19 20 21 22 18 17 16 ;;
  esac
}

# Whether clang N is here with libFuzzer's and the sanitizers' runtime.
clang_complete() {
  local clang=clang++-$1 resources
  command -v "$clang" >/dev/null || return 1
  resources=$("$clang" -print-resource-dir) || return 1
  compgen -G "$resources/lib/*/libclang_rt.fuzzer*.a" >/dev/null
}

# Sets $clang to the version to build with: one that is complete here, else the first that apt can bring.
pick_compiler() {
  clang=""
  local n
  for n in $(clang_order); do
    if clang_complete "$n"; then
      clang=$n
      return
    fi
  done
  for n in $(clang_order); do
    if [[ -n $(apt-cache madison "clang-$n" 2>/dev/null) ]]; then
      clang=$n
      return
    fi
  done
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

# install_packages PACKAGE...: names them, installs them, or says what to type and ends.
install_packages() {
  local command="apt-get install -y --no-install-recommends $*"
  say "these packages are missing: $*"
  command -v apt-get >/dev/null || die "there is no apt-get here; install what corresponds to: $*"
  if [[ $(id -u) != 0 ]] && ! sudo -n true 2>/dev/null; then
    die "not root, and sudo wants a password; type: sudo $command"
  fi
  say "installing them: $command"
  as_root env DEBIAN_FRONTEND=noninteractive $command >&2 ||
    { as_root apt-get update >&2 && as_root env DEBIAN_FRONTEND=noninteractive $command >&2; } ||
    die "the installation failed; type: sudo apt-get update && sudo $command"
}

install_missing() {
  local rows=("${needs[@]}") row missing=()
  [[ $1 == asan || $1 == mutate ]] && rows+=("${needs_of_tests[@]}")
  [[ $1 == afl ]] && rows+=("${needs_of_afl[@]}")
  pick_compiler
  if [[ -z $clang ]] && command -v apt-get >/dev/null && { [[ $(id -u) == 0 ]] || sudo -n true 2>/dev/null; }; then
    say "apt knows no clang; reading the package lists: apt-get update"
    as_root apt-get update >&2 || die "apt-get update failed"
    pick_compiler
  fi
  [[ -n $clang ]] || die "no clang 16 or newer here, and apt knows none; type: sudo apt-get update && sudo apt-get install clang-16 libclang-rt-16-dev"
  rows+=("clang++-$clang clang-$clang" "llvm-symbolizer-$clang llvm-$clang" "ld.lld-$clang lld-$clang")
  clang_complete "$clang" || rows+=("/nowhere libclang-rt-$clang-dev")
  [[ $1 == asan ]] && rows+=("clang-tidy-$clang clang-tidy-$clang" "clang-format-$clang clang-format-$clang")
  for row in "${rows[@]}"; do
    has "${row% *}" || missing+=("${row#* }")
  done
  [[ ${#missing[@]} == 0 ]] || install_packages "${missing[@]}"
}

# Unicorn 2.0 executes data accesses at PA = VA; a newer one is unpacked into the build folder where it can be had.
fetch_unicorn() {
  unicorn_options=()
  local fetch=$source/oracle/unicorn/fetch_unicorn.sh said
  [[ -x $fetch ]] || return 0
  if said=$("$fetch" "$build/unicorn" 2>&1); then
    say "$said"
    [[ -d $build/unicorn/usr ]] && unicorn_options=("-DTWINWALK_UNICORN_ROOT=$build/unicorn")
  else
    say "$said"
  fi
  return 0
}

# build_preset PRESET TARGET...
build_preset() {
  local preset=$1 folder=$build/$1
  shift
  local options=("-DCMAKE_C_COMPILER=clang-$clang" "-DCMAKE_CXX_COMPILER=clang++-$clang")
  # Another compiler may warn about more; only the one that is tested makes warnings errors.
  [[ $clang == 16 ]] || options+=(-DTWINWALK_WERROR=OFF)
  command -v ccache >/dev/null && options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  say "building ($preset)"
  (cd "$source" && cmake --preset "$preset" -B "$folder" "${options[@]}" "${unicorn_options[@]}") >&2 ||
    die "cmake cannot configure the $preset build (see above)"
  cmake --build "$folder" --target "$@" >&2 || die "the $preset build failed (see above)"
}

# AFL++ drives the clang that it was built with, so its preset names the compiler itself.
build_afl() {
  say "building (afl)"
  (cd "$source" && cmake --preset afl -B "$build/afl" "${unicorn_options[@]}") >&2 ||
    die "cmake cannot configure the afl preset (see above)"
  cmake --build "$build/afl" --target twinwalk_fuzz_targets >&2 || die "the afl build failed (see above)"
}

# build_kind KIND: what the launcher's kind_of names, under a lock.
build_kind() {
  mkdir -p "$build" 2>/dev/null && : 2>/dev/null >"$build/.lock" || die "cannot write to $build; set TWINWALK_BUILD_DIR"
  command -v flock >/dev/null || die "flock is missing; type: sudo apt-get install util-linux"
  exec 9>"$build/.lock"
  flock -n 9 || {
    say "another build is running in $build; waiting for it"
    flock 9
  }
  if ! up_to_date "$1"; then
    # The stamp carries the time at which the build began: what is edited meanwhile is newer.
    : >"$build/.building-$1"
    install_missing "$1"
    fetch_unicorn
    case $1 in
      release | mutate) build_preset release twinwalk_program ;;
      fuzz | afl)
        build_preset release twinwalk_program twinwalk_fuzz_targets
        build_preset asan twinwalk_fuzz_targets
        [[ $1 == fuzz ]] || build_afl
        ;;
      asan) build_preset asan all ;;
    esac
    mv "$build/.building-$1" "$build/.built-$1"
    [[ $1 == afl ]] && touch -r "$build/.built-afl" "$build/.built-fuzz"
    [[ $1 == mutate ]] && touch -r "$build/.built-mutate" "$build/.built-release"
    [[ $1 == fuzz || $1 == afl ]] && touch -r "$build/.built-$1" "$build/.built-release"
  fi
  exec 9>&-
}

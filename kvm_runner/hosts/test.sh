# shellcheck shell=bash
# Sourced by the `test` verb: real MMUs in emulated hosts. Uses its pass, fail, skip, $source, $build and $all.

# ready NAME: the host can be started here; if not it is skipped, with the reason.
ready() {
  local log=$build/hosts-$1.log
  (prepare_host "$1" "$build/asan/bin") >"$log" 2>&1 && return 0
  skip "host $1" "$(tail -1 "$log")"
  return 1
}

# conforms WHAT OPTION...: `conform` exits 0, and its rows are not all skipped.
conforms() {
  local what=$1 log=$build/conform.log
  shift
  if ! "$build/asan/bin/twinwalk" conform "$@" >"$log" 2>&1; then
    fail "$what" "$log"
  elif ! grep -q ' pass [1-9]' "$log"; then
    skip "$what" "$(tail -2 "$log" | head -1)"
  else
    pass "$what ($(grep -oE ' (pass|known) [0-9]+' "$log" | awk '{ sum += $2 } END { print sum }') checks)"
  fi
}

# A few cases a feature: the core under VMX in Bochs and below this machine's KVM, stock KVM in QEMU's SVM.
step_hosts() {
  # shellcheck source=kvm_runner/hosts/prepare.sh
  . "$source/kvm_runner/hosts/prepare.sh"
  local few=(--quick --no-corpus) model
  [[ $all == 1 ]] && few=()
  if ready bochs-vmx; then
    conforms "core-vmx in Bochs, shadow paging" --subject core-vmx --host bochs-vmx:shadow "${few[@]}"
    conforms "core-vmx in Bochs, EPT" --subject core-vmx --host bochs-vmx:ept "${few[@]}"
    if [[ $all == 1 ]]; then
      for model in haswell skylake sandy-bridge; do
        conforms "core-vmx in Bochs, $model" --subject core-vmx --host "bochs-vmx:ept-$model"
      done
      conforms "stock KVM in Bochs, ept=1 and ept=0" --subject kvm --host bochs-vmx
    fi
  fi
  if ready vmx-kvm; then
    conforms "core-vmx below KVM with nested VMX" --subject core-vmx --host vmx-kvm "${few[@]}"
  fi
  if ready qemu-svm; then
    conforms "stock KVM in QEMU's SVM, npt=0" --subject kvm --host qemu-svm:npt=0 "${few[@]}"
    conforms "stock KVM in QEMU's SVM, npt=1" --subject kvm --host qemu-svm:npt=1 "${few[@]}"
    if [[ $all == 1 ]]; then
      step_reload
      step_power
    fi
  fi
}

# `conform --reload-module`, in a machine that has a module to load anew.
step_reload() {
  local log=$build/reload.log code=0
  "$source/kvm_runner/hosts/reload_test.sh" "$build/asan/bin/twinwalk" "$build/hosts/linux" "$build/reload" >"$log" 2>&1 || code=$?
  case $code in
    0) pass "conform --reload-module in an emulated machine" ;;
    77) skip "conform --reload-module in an emulated machine" "$(tail -1 "$log")" ;;
    *) fail "conform --reload-module in an emulated machine" "$log" ;;
  esac
}

# Proof of power: KVM with one line of its shadow MMU broken is found to be so, and the same source, unbroken, is not.
step_power() {
  local headers log=$build/power.log id code variant variants folder=$build/broken
  headers=$(sed 's/^linux-image-/linux-headers-/' "$build/hosts/linux/package-name")
  if ! (install_needs "/usr/src/linux-source-6.1.tar.xz linux-source-6.1" "/usr/src/$headers/Makefile $headers" \
    "gcc-12 gcc-12" "make make" "xz xz-utils") >"$log" 2>&1; then
    skip "KVM with one line broken" "$(tail -1 "$log")"
    return
  fi
  if ! "$source/kvm_runner/hosts/broken_kvm.sh" "$folder" >"$log" 2>&1; then
    fail "build of KVM with one line broken" "$log"
    return
  fi
  while read -r id; do
    # A build folder of its own, with these modules in its initrd.
    local own=$folder/$id/build
    mkdir -p "$own/hosts/linux" && cp -r "$build/hosts/linux"/{vmlinuz,modules} "$own/hosts/linux/"
    cp "$folder/$id"/*.ko "$own/hosts/linux/modules/"
    make_initrd "$build/asan/bin/twinwalk-agent" "$own/hosts/linux/modules" "$own/hosts/linux/initrd"
    variants=(npt=0)
    [[ $id != nested-* && $id != tdp-* ]] || variants=(npt=1)
    [[ $id != whole ]] || variants=(npt=0 npt=1)
    for variant in "${variants[@]}"; do
      TWINWALK_BUILD_DIR=$own "$build/asan/bin/twinwalk" conform --subject kvm --host "qemu-svm:$variant" --mode 4-level --no-corpus >"$log.$id" 2>&1
      code=$?
      if [[ $id == whole && $code == 0 ]] || [[ $id != whole && $code == 1 ]]; then
        pass "KVM $id, $variant: $(grep -cE ' fail [0-9]' "$log.$id") features fail"
      else
        fail "KVM $id, $variant: exit $code" "$log.$id"
      fi
    done
  done <"$log"
}

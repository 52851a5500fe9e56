#!/usr/bin/env bash
# broken_kvm.sh FOLDER [ID...]: builds the distribution's KVM modules with one line of its shadow MMU broken, one set a
# mistake, into FOLDER/ID/{kvm,kvm-amd}.ko. Without IDs all of them, and `whole`, which is not broken.
#
# For the proof of power (broken_kvm_test.sh): the harness has to see each of these through the real thing. The source comes
# from the package linux-source-6.1, the headers from that of the kernel that the emulated host boots. The mistakes are
# edits by name, so that nothing of the kernel's text is kept here.
set -euo pipefail

die() {
  printf 'broken_kvm.sh: %s\n' "$*" >&2
  exit 2
}
[[ $# -ge 1 ]] || die "usage: broken_kvm.sh FOLDER [ID...]"
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
# `linux` is a macro of the compiler's, and the path ends up in an #include.
[[ $out != *linux* ]] || die "the folder's path must not have the word 'linux' in it"

source_package=/usr/src/linux-source-6.1.tar.xz
headers=$(compgen -G '/usr/src/linux-headers-*-cloud-amd64' | sort -V | tail -1)
[[ -s $source_package ]] || die "linux-source-6.1 is missing"
[[ -d $headers ]] || die "the headers of the cloud kernel are missing"

# ID, file below arch/x86/kvm, sed expression. Those called nested-* are of hypervisors as guests.
mistakes=(
  'invlpg-keeps-entry|mmu/paging_tmpl.h|/^static void FNAME(invlpg)/,/^}/ s/mmu_page_zap_pte(.*);/;/'
  'role-without-wp|mmu/mmu.c|s/\(role\.base\.cr0_wp = \)____is_cr0_wp(regs);/\11;/'
  'cr3-load-without-sync|x86.c|/^static void kvm_invalidate_pcid(/,/^}/ s/kvm_make_request(KVM_REQ_MMU_SYNC, vcpu);/;/'
  'cr3-load-without-sync|mmu/mmu.c|/^void kvm_mmu_new_pgd(/,/^}/ s/kvm_make_request(KVM_REQ_MMU_SYNC, vcpu);/;/'
  'shared-table-any-access|mmu/mmu.c|/kvm_mmu_child_role(/,/^}/ s/\(role\.access = \)access;/\1ACC_ALL;/'
  'links-unsynced-tables|mmu/paging_tmpl.h|/FNAME(fetch)(/,/^}/ s/if (sp->unsync_children &&/if (0 \&\&/'
  'invlpg-keeps-device|mmu/paging_tmpl.h|/FNAME(invlpg)(/,/^}/ s/vcpu_clear_mmio_info(vcpu, gva);/;/'
  'large-page-over-table|mmu/mmu.c|/^static void account_shadowed(/,/^}/ s/kvm_mmu_gfn_disallow_lpage(slot, gfn);/;/'
  'large-page-over-table|mmu/mmu.c|/^static void unaccount_shadowed(/,/^}/ s/kvm_mmu_gfn_allow_lpage(slot, gfn);/;/'
  'tdp-large-page-logged-as-one|mmu/mmu.c|/^static int fast_page_fault(/,/^}/ s/if (sp->role.level > PG_LEVEL_4K &&/if (0 \&\&/'
  'nested-vmrun-without-sync|svm/nested.c|/^static void nested_svm_transition_tlb_flush(/,/^}/ s/kvm_make_request(KVM_REQ_MMU_SYNC, vcpu);/;/'
  'nested-sync-keeps-rights|mmu/paging_tmpl.h|/FNAME(sync_page)(/,/^}/ s/pte_access &= FNAME(gpte_access)(gpte);/;/'
)

unpack() {
  local folder=$1
  rm -rf "$folder" && mkdir -p "$folder"
  tar -C "$folder" -xf "$source_package" --wildcards --strip-components=1 'linux-source-6.1/arch/x86/kvm' 'linux-source-6.1/virt/kvm'
  local kvm=$folder/arch/x86/kvm
  # Out of the kernel's own tree: what it includes by its place there is named by its place here.
  sed -i "s|\$(srctree)/virt/kvm/Makefile.kvm|$folder/virt/kvm/Makefile.kvm|; s|-I \$(srctree)/arch/x86/kvm|-I $kvm -I $folder/virt/kvm|" "$kvm/Makefile"
  sed -i '/CONFIG_KVM_INTEL)/d; /-Werror$/d' "$kvm/Makefile"
  sed -i "s|^\(#define TRACE_INCLUDE_PATH\).*|\1 $kvm|" "$kvm/trace.h"
  sed -i "s|^\(#define TRACE_INCLUDE_PATH\).*|\1 $kvm/mmu|" "$kvm/mmu/mmutrace.h"
}

apply() {
  local id=$1 folder=$2 row name file edit found=0
  for row in "${mistakes[@]}"; do
    IFS='|' read -r name file edit <<<"$row"
    [[ $name == "$id" ]] || continue
    found=1
    cp "$folder/arch/x86/kvm/$file" "$folder/before"
    sed -i "$edit" "$folder/arch/x86/kvm/$file"
    ! cmp -s "$folder/before" "$folder/arch/x86/kvm/$file" || die "$id: nothing to edit in $file of this kernel"
  done
  [[ $found == 1 || $id == whole ]] || die "no mistake is called $id"
}

build() {
  make -C "$headers" M="$1/arch/x86/kvm" -j"$(nproc)" modules >"$1/log" 2>&1 || die "the build failed; see $1/log"
}

ids=("$@")
[[ $# -gt 0 ]] || ids=(whole $(printf '%s\n' "${mistakes[@]}" | cut -d'|' -f1 | uniq))
# One tree is built over and over, so that an edit costs what depends on it.
work=$out/tree
unpack "$work"
rm -rf "$out/clean" && cp -a "$work/arch" "$out/clean"
for id in "${ids[@]}"; do
  # Back to the text as it was, touching only what differs.
  (cd "$out/clean" && find . -name '*.[chS]' | while read -r file; do
    cmp -s "$file" "$work/arch/$file" || cp "$file" "$work/arch/$file"
  done)
  apply "$id" "$work"
  build "$work"
  mkdir -p "$out/$id"
  for module in kvm kvm-amd; do strip -g "$work/arch/x86/kvm/$module.ko" -o "$out/$id/$module.ko"; done
  printf '%s\n' "$id"
done

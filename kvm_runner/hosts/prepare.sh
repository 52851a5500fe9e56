# shellcheck shell=bash
# Sourced by the launcher: what an emulated host boots from, under $build/hosts. Uses the launcher's $source, $build, say,
# die, and build.sh's has and install_packages.
#
#   hosts/linux/vmlinuz, modules/   the distribution's newest cloud kernel, downloaded and unpacked, not installed
#   hosts/linux/initrd              the agent and the kernel's KVM modules

# needs_of HOST: the rows of the table `needs` that name it, without the names.
needs_of() {
  local what package hosts
  while read -r what package hosts; do
    [[ $what == "#" || ,$hosts, != *",$1,"* ]] || printf '%s\n' "$what $package"
  done <"$source/kvm_runner/hosts/needs"
}

# install_needs ROW...: what of it is missing.
install_needs() {
  local row missing=()
  for row in "$@"; do
    has "${row% *}" || missing+=("${row#* }")
  done
  [[ ${#missing[@]} == 0 ]] || install_packages "${missing[@]}"
}

# KVM's, and those of the port to the agent: in an emulator a UART costs more than all else that the agent does.
modules_of_hosts=(irqbypass kvm kvm-amd kvm-intel ccp rng-core
  virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console)

# The package that linux-image-cloud-amd64 stands for today.
newest_kernel_package() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -1
}

# fetch_kernel: $build/hosts/linux, unless it is there.
fetch_kernel() {
  local folder=$build/hosts/linux package new
  [[ -f $folder/vmlinuz && -f $folder/module-names && $(<"$folder/module-names") == "${modules_of_hosts[*]}" ]] && return 0
  command -v apt-get >/dev/null || die "an emulated host needs a Linux kernel; there is no apt-get here to fetch one with"
  package=$(newest_kernel_package)
  if [[ -z $package ]]; then
    say "apt knows no linux-image-cloud-amd64; reading the package lists: apt-get update"
    as_root apt-get update >&2 || die "apt-get update failed"
    package=$(newest_kernel_package)
  fi
  [[ -n $package ]] || die "apt knows no linux-image-cloud-amd64"
  say "fetching $package for the emulated host (unpacked into the build folder, not installed)"
  new=$build/hosts/linux.new
  rm -rf "$new" && mkdir -p "$new/package" "$new/modules" || die "cannot write to $build/hosts"
  (cd "$new/package" && apt-get download "$package" >&2 2>&1 && dpkg-deb -x ./*.deb unpacked) >&2 || die "cannot fetch $package"
  cp "$new"/package/unpacked/boot/vmlinuz-* "$new/vmlinuz" || die "$package holds no kernel"
  local module file
  for module in "${modules_of_hosts[@]}"; do
    file=$(find "$new/package/unpacked/" -name "$module.ko*" -print -quit)
    case $file in
      '') ;; # built in, or not in this kernel
      *.xz) xz -dc "$file" >"$new/modules/$module.ko" ;;
      *.zst) zstd -qdc "$file" >"$new/modules/$module.ko" ;;
      *) cp "$file" "$new/modules/$module.ko" ;;
    esac || die "cannot unpack $module of $package"
  done
  printf '%s\n' "$package" >"$new/package-name"
  printf '%s\n' "${modules_of_hosts[*]}" >"$new/module-names"
  rm -rf "$new/package" "$folder" && mv "$new" "$folder" || die "cannot write to $build/hosts"
}

# make_initrd AGENT MODULES OUT: one program and its modules. The same input gives the same bytes, and a file that would not
# change is left alone.
make_initrd() {
  local agent=$1 modules=$2 out=$3 root=$3.root
  rm -rf "$root" && mkdir -p "$root"/{modules,dev,proc,sys} || die "cannot write to ${out%/*}"
  cp "$agent" "$root/init" && cp "$modules"/*.ko "$root/modules/" || die "cannot write to $root"
  (cd "$root" && find . -print | LC_ALL=C sort | xargs touch -h -d @0 && find . -print | LC_ALL=C sort |
    cpio -o -H newc --quiet --reproducible -R 0:0) | gzip -1n >"$out.new" || die "cannot pack $out"
  rm -rf "$root"
  if cmp -s "$out.new" "$out"; then rm "$out.new"; else mv "$out.new" "$out"; fi
}

# make_linux_iso: the kernel and the initrd, booted by GRUB. The kernel is spared what costs an interpreter much time.
make_linux_iso() {
  local root=$build/hosts/linux.iso.root out=$build/hosts/linux.iso
  local fast="nopti mitigations=off tsc=reliable lpj=100000 random.trust_cpu=on acpi=off noapic nosmp"
  local skipped="initcall_blacklist=load_system_certificate_list,trace_eval_init,crypto_kdf108_init,init_kprobe_trace"
  rm -rf "$root" && mkdir -p "$root/boot/grub" && cp "$build/hosts/linux/vmlinuz" "$build/hosts/linux/initrd" "$root/boot/" ||
    die "cannot write to $build/hosts"
  cat >"$root/boot/grub/grub.cfg" <<END
serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
linux /boot/vmlinuz console=ttyS0,115200 nokaslr panic=1 oops=panic loglevel=4 $fast $skipped twinwalk.port=/dev/ttyS1
initrd /boot/initrd
boot
END
  grub-mkrescue -o "$out.new" "$root" >"$out.log" 2>&1 || die "cannot make $out: $(tail -1 "$out.log")"
  rm -rf "$root" && mv "$out.new" "$out"
}

# prepare_host NAME BIN: what the host of that name needs; BIN is the folder of the built programs. A name that is none is
# left to the program to refuse.
prepare_host() {
  local rows=()
  mkdir -p "$build/hosts" || die "cannot write to $build"
  mapfile -t rows < <(needs_of "$1")
  [[ ${#rows[@]} != 0 ]] || return 0
  install_needs "${rows[@]}"
  case $1 in
    qemu-svm)
      fetch_kernel
      make_initrd "$2/twinwalk-agent" "$build/hosts/linux/modules" "$build/hosts/linux/initrd"
      ;;
    bochs-vmx)
      fetch_kernel
      make_initrd "$2/twinwalk-agent" "$build/hosts/linux/modules" "$build/hosts/linux/initrd"
      make_linux_iso
      ;;
  esac
  : >"$build/hosts/.prepared-$1"
}

#include "kvm_runner/hosts/vmx_iso.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "harness/trace/binary.h"
#include "harness/trace/reply.h"
#include "harness/trace/serial_log.h"
#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/hosts/host_files.h"

namespace twinwalk::hosts {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGrub =
    "multiboot2 /boot/twinwalk-vmx.elf\nmodule2 /boot/traces traces\nboot\n";
// Nothing but what these three commands need: emulators read slowly.
constexpr const char* kModules = "--install-modules=multiboot2 normal iso9660 part_msdos part_gpt";
constexpr std::chrono::seconds kMostTime{120};

bool write_tree(const std::string& tree, const std::string& elf, const std::string& module,
                std::string& why) {
  std::error_code error;
  fs::create_directories(tree + "/boot/grub", error);
  if (!error) fs::copy_file(elf, tree + "/boot/twinwalk-vmx.elf", error);
  std::ofstream(tree + "/boot/grub/grub.cfg") << kGrub;
  std::ofstream traces(tree + "/boot/traces", std::ios::binary);
  traces << module << std::flush;
  if (error || !traces) why = tree + ": " + (error ? error.message() : "cannot be written");
  return !error && traces.good();
}

}  // namespace

std::string module_of(std::span<const Program> programs) {
  std::string text;
  Trace trace;
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i < programs.size(); ++i) {
    trace_of(programs[i], trace);
    encode(trace, bytes);
    text += to_log_line(LogWord::kTrace, i, bytes);
  }
  return text;
}

bool write_vmx_iso(const std::string& elf, const std::string& module, const std::string& out,
                   std::string& why) {
  ScratchFolder scratch;
  const std::string tree = scratch.file("tree"), log = scratch.file("log");
  if (!write_tree(tree, elf, module, why)) return false;
  Emulator grub;
  const bool done = grub.start({"grub-mkrescue", "-o", out, tree,
                                "--locales=", "--fonts=", "--themes=", kModules},
                               log, "", why) &&
                    grub.wait(kMostTime);
  std::error_code error;
  if (done && fs::exists(out, error)) return true;
  if (why.empty()) why = out + " cannot be made: " + (error ? error.message() : tail_of(log, 2));
  fs::remove(out, error);
  return false;
}

std::string vmx_image_file(std::string& why) { return program_file("twinwalk-vmx.elf", why); }

}  // namespace twinwalk::hosts

#include "harness/cli/doctor.h"

#include <fmt/ranges.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>

#include "harness/cli/machine_facts.h"
#include "harness/cli/output.h"
#include "harness/cli/subjects.h"
#include "kvm_runner/hosts/host_files.h"
#include "kvm_runner/hosts/hosts.h"
#include "kvm_runner/hosts/needs.h"
#include "kvm_runner/hosts/nested_vmx.h"
#include "kvm_runner/hosts/qemu_svm.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::cli {
namespace {

enum class State { kYes, kNo, kPart };

void row(State state, std::string_view what, std::string_view found, std::string_view advice = "") {
  static constexpr std::string_view kMark[] = {"yes", "no", "part"};
  static constexpr Tone kTone[] = {Tone::kGood, Tone::kBad, Tone::kNote};
  const auto i = static_cast<unsigned>(state);
  print("  {} {:<22} {}\n", paint(kTone[i], fmt::format("{:<4}", kMark[i])), what, found);
  if (!advice.empty()) print("       {:<22} {}\n", "", paint(Tone::kDim, advice));
}

void processor(const CpuFacts& cpu) {
  print("{}\n", paint(Tone::kBold, "Processor"));
  utsname system{};
  uname(&system);
  row(State::kYes, "model", cpu.model.empty() ? "not named" : cpu.model);
  row(State::kYes, "kernel", fmt::format("{} {}", system.sysname, system.release));
  if (cpu.has("vmx")) {
    row(State::kYes, "VT-x", "vmx");
    row(cpu.has("ept") ? State::kYes : State::kNo, "EPT",
        cpu.has("ept") ? "ept" : "not listed among the flags");
  } else if (cpu.has("svm")) {
    row(State::kYes, "SVM", "svm");
    row(cpu.has("npt") ? State::kYes : State::kNo, "NPT",
        cpu.has("npt") ? "npt" : "not listed among the flags");
  } else {
    row(State::kNo, "VT-x or SVM", "the processor offers neither",
        "switch virtualization on in the firmware, or use a host with nested virtualization");
  }
}

// How the runner drives guests here.
void pace() {
  const std::optional<KvmPace> measured = measure_kvm_pace();
  if (!measured) return;
  row(State::kYes, "driving",
      fmt::format("{}: a step takes {:.1f} us alone, {:.1f} us in a batch",
                  measured->faster() == Driving::kBatched ? "batches that the guest interprets"
                                                          : "one operation an exit",
                  measured->alone_us, measured->batched_us));
}

void kvm(const KvmFacts& facts) {
  print("{}\n", paint(Tone::kBold, "Real MMUs (subjects kvm and core-kvm)"));
  switch (facts.state) {
    case KvmFacts::State::kAbsent:
      row(State::kNo, "/dev/kvm", "there is none: these subjects are skipped",
          "load kvm_intel or kvm_amd; in a container, pass the device in");
      return;
    case KvmFacts::State::kNotOpenable:
      row(State::kNo, "/dev/kvm", "cannot be opened: " + facts.why,
          "add yourself to the group that owns it (usually kvm), then log in again");
      return;
    case KvmFacts::State::kOpen:
      break;
  }
  row(facts.api_version == 12 ? State::kYes : State::kPart, "/dev/kvm",
      fmt::format("opens, API version {}", facts.api_version));
  if (facts.without_hardware) {
    row(State::kPart, "kind",
        "a KVM without hardware virtualization: guest CPL 0 is emulated, CPL 3 runs on its tables",
        "runs are bounded and features few (no PCID, SMEP, SMAP, PKU, 1G pages)");
    return;
  }
  row(State::kYes, "kind", facts.module.empty() ? "built in, or not told" : facts.module);
  if (!facts.two_dimensional.empty()) {
    const bool on = facts.two_dimensional == "Y" || facts.two_dimensional == "1";
    row(State::kYes, "its MMU", on ? "two-dimensional (EPT or NPT)" : "shadow paging");
  }
  const bool nested = facts.nested == "Y" || facts.nested == "1";
  row(nested ? State::kYes : State::kNo, "nested virtualization", nested ? "on" : "off",
      nested ? "" : "not needed by this version; module parameter nested=1 switches it on");
}

bool is_there(const std::string& what) {
  return what[0] == '/' ? access(what.c_str(), F_OK) == 0 : !find_program(what).empty();
}

// "kvm: npt=0, npt=1"
std::string variants_on(std::string_view host) {
  std::string text;
  std::string_view subject;
  for (const hosts::HostVariant& variant : hosts::host_variants()) {
    if (variant.host != host) continue;
    text += variant.subject == subject
                ? ", "
                : fmt::format("{}{}: ", text.empty() ? "" : "; ", variant.subject);
    subject = variant.subject;
    text += variant.name;
  }
  return text;
}

// What the launcher has made for it, under `hosts` of the build folder; empty if that is still to
// be done.
std::string prepared_for(std::string_view host) {
  if (host == "vmx-kvm") return "KVM offers its guests VMX";  // nothing is made for it
  const std::string folder = hosts::host_folder();
  if (access(fmt::format("{}/.prepared-{}", folder, host).c_str(), F_OK) != 0) return "";
  std::string text = "prepared";
  std::string package = read_text(folder + "/linux/package-name");
  package.erase(package.find_last_not_of('\n') + 1);
  if (!package.empty()) text += " with " + package;
  if (host == "qemu-svm")
    text += hosts::qemu_svm_is_saved() ? ", a saved state is there" : ", no saved state yet";
  return text;
}

void one_host(std::string_view host) {
  const std::string first_use = fmt::format("./twinwalk conform --host {}", host);
  const std::string missing =
      fmt::format("{}", fmt::join(hosts::missing_packages(host, is_there), " "));
  const std::string no_vmx =
      host == "vmx-kvm" ? hosts::why_no_nested_vmx(hosts::look_at_nested_vmx()) : "";
  const std::string prepared = prepared_for(host);
  if (!no_vmx.empty()) {
    row(State::kNo, host, no_vmx, variants_on(host));
  } else if (!missing.empty()) {
    row(State::kNo, host, "packages are missing: " + missing, first_use + " installs them");
  } else if (prepared.empty()) {
    row(State::kPart, host, "not prepared yet", first_use + " does it");
  } else {
    row(State::kYes, host, prepared, variants_on(host));
  }
}

void hosts_to_run_on() {
  print("{}\n", paint(Tone::kBold, "Hosts with a hypervisor of their own (--host)"));
  std::set<std::string_view> told;
  for (const hosts::HostVariant& variant : hosts::host_variants()) {
    if (told.insert(variant.host).second) one_host(variant.host);
  }
}

void program(std::string_view what, const std::string& name, const std::string& arguments,
             std::string_view advice) {
  const std::string path = find_program(name);
  if (path.empty()) {
    row(State::kNo, what, name + " is not in PATH", advice);
  } else {
    row(State::kYes, what, first_line_of(path + " " + arguments));
  }
}

void unicorn() {
  std::string why;
  const auto client = make_unicorn();
  if (!client->available(why)) {
    row(State::kNo, "Unicorn", why, "apt-get install libunicorn-dev, then build again");
    return;
  }
  const oracle::UnicornVersion version = client->version();
  const std::string number = fmt::format("{}.{}.{}", version.major, version.minor, version.patch);
  if (version.translates) {
    row(State::kYes, "Unicorn", number + ", data follow the translation");
  } else {
    row(State::kPart, "Unicorn",
        number +
            ", data do not follow the translation: faults, error codes, CR2 and A/D are checked",
        "2.1 or newer checks data too; the launcher fetches one where the mirror has it");
  }
}

void engines() {
  print("{}\n", paint(Tone::kBold, "Compilers, engines, tools"));
  row(State::kYes, "this program",
      fmt::format("twinwalk {}, built by {}", TWINWALK_VERSION,
#ifdef __clang__
                  "clang " __clang_version__
#else
                  "gcc " __VERSION__
#endif
                  ));
  std::string newest;
  for (int n = 25; n >= 16 && newest.empty(); --n) {
    const std::string name = "clang++-" + std::to_string(n);
    if (!find_program(name).empty()) newest = name;
  }
  program("libFuzzer's compiler", newest.empty() ? "clang++-16" : newest, "--version",
          "apt-get install clang-16 libclang-rt-16-dev");
  program("AFL++", "afl-fuzz", "-h", "apt-get install afl++ (for fuzz --engine afl)");
  unicorn();
  const bool gtest = access("/usr/include/gtest/gtest.h", R_OK) == 0;
  row(gtest ? State::kYes : State::kNo, "GoogleTest", gtest ? "installed" : "not installed",
      gtest ? "" : "apt-get install libgtest-dev libgmock-dev (twinwalk test does it)");
}

}  // namespace

int doctor() {
  const CpuFacts cpu = parse_cpuinfo(read_text("/proc/cpuinfo"));
  processor(cpu);
  const KvmFacts facts = look_at_kvm(cpu);
  kvm(facts);
  if (facts.state == KvmFacts::State::kOpen) pace();
  hosts_to_run_on();
  engines();
  return kExitGood;
}

}  // namespace twinwalk::cli

#include "kvm_runner/hosts/bochs_machine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "kvm_runner/hosts/host_files.h"

namespace twinwalk::hosts {
namespace {

// Debian's is a debugger build under this name; it has to be told to go on.
constexpr const char* kBochs = "bochs-bin";
constexpr std::chrono::seconds kStartTime{20};

constexpr const char* kConfiguration = R"(config_interface: textconfig
display_library: rfb, options="timeout=0"
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, e1000=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/vgabios/vgabios.bin
megs: {megabytes}
cpu: model={model}, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none, time0=1
ata0-master: type=cdrom, path="{iso}", status=inserted
boot: cdrom
port_e9_hack: enabled=1
com1: enabled=1, mode=file, dev="{console}"
{port}log: "{log}"
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
sound: driver=dummy
)";

}  // namespace

BochsMachine::~BochsMachine() {
  if (port_ >= 0) close(port_);
}

std::string BochsMachine::configuration(const BochsPlan& plan, unsigned tcp_port) const {
  const std::string port =
      tcp_port == 0
          ? ""
          : fmt::format("com2: enabled=1, mode=socket-client, dev=localhost:{}\n", tcp_port);
  return fmt::format(kConfiguration, fmt::arg("megabytes", plan.megabytes),
                     fmt::arg("model", plan.model), fmt::arg("iso", plan.iso),
                     fmt::arg("console", console_), fmt::arg("port", port),
                     fmt::arg("log", scratch_.file("log")));
}

bool BochsMachine::start(const BochsPlan& plan, std::string& why) {
  Listener listener;
  const unsigned tcp_port = plan.port ? listener.open_tcp(why) : 0;
  if (plan.port && tcp_port == 0) return false;
  std::ofstream(scratch_.file("configuration")) << configuration(plan, tcp_port);
  std::ofstream(scratch_.file("commands")) << "c\n";
  const std::vector<std::string> words = {
      kBochs, "-q", "-f", scratch_.file("configuration"), "-rc", scratch_.file("commands")};
  if (!emulator_.start(words, output_, "", why)) return false;
  if (!plan.port) return true;
  port_ = listener.accept(emulator_, kStartTime);
  if (port_ >= 0) return true;
  why = "Bochs does not start: " + tail_of(output_, 3);
  return false;
}

std::string BochsMachine::last_words() const {
  const std::string console = tail_of(console_, 6);
  return console.empty() ? tail_of(output_, 3) : console;
}

std::string bochs_version() {
  const std::string text = output_of(std::string(kBochs) + " --help");
  const std::size_t at = text.find("Bochs x86 Emulator ");
  if (at == text.npos) return {};
  const std::size_t number = at + std::string("Bochs x86 Emulator ").size();
  return "Bochs " + text.substr(number, text.find_first_of(" \n", number) - number);
}

}  // namespace twinwalk::hosts

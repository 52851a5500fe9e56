#include "harness/cli/image_verb.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "harness/cli/input.h"
#include "harness/cli/output.h"
#include "harness/cli/trace_run.h"
#include "kvm_runner/conform.h"
#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/hosts/vmx_iso.h"

namespace twinwalk::cli {
namespace {

// Processors for clients have 39 bits: a machine that says nothing of its width has no more.
constexpr unsigned kUsualWidth = 39;

std::vector<Trace> suite() {
  std::vector<Trace> traces;
  for (const Dimension dimension : {Dimension::kShadow, Dimension::kEpt}) {
    SubjectInfo info;
    info.dimension = dimension;
    ConformChoice choice;
    choice.modes = {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level};
    choice.corpus = true;
    for (ConformRow& row : conform_rows(choice, info)) {
      for (ConformTrace& c : row.traces) {
        Machine& machine = c.trace.machine;
        if (machine.maxphyaddr == Machine{}.maxphyaddr) machine.maxphyaddr = kUsualWidth;
        if (machine.host_maxphyaddr == Machine{}.host_maxphyaddr)
          machine.host_maxphyaddr = kUsualWidth;
        traces.push_back(std::move(c.trace));
      }
    }
  }
  return traces;
}

}  // namespace

int write_image(const std::vector<std::string>& paths, const std::string& out) {
  std::vector<Trace> traces;
  if (paths.empty()) traces = suite();
  for (NamedTrace& named : load_traces(paths, Input::kAny))
    traces.push_back(std::move(named.trace));
  std::vector<const Trace*> all;
  all.reserve(traces.size());
  for (const Trace& trace : traces) all.push_back(&trace);
  const std::vector<Program> programs = lower_all(all);
  std::string why;
  const std::string elf = hosts::vmx_image_file(why);
  if (elf.empty()) throw Failure(why);
  const hosts::ScratchFolder scratch;
  const std::string iso = scratch.file("x.iso");
  if (!hosts::write_vmx_iso(elf, hosts::module_of(programs), iso, why)) throw Failure(why);
  std::ifstream made(iso, std::ios::binary);
  write_file(out, std::string(std::istreambuf_iterator<char>(made), {}));
  fmt::print(stderr,
             "twinwalk: {}: {} traces; boot it, and give what comes from the first serial port "
             "(115200 8N1) to `report`\n",
             out, programs.size());
  return kExitGood;
}

}  // namespace twinwalk::cli

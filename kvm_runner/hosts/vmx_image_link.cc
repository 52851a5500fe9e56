#include "kvm_runner/hosts/vmx_image_link.h"

#include <algorithm>
#include <string_view>

#include "harness/trace/serial_log.h"
#include "kvm_runner/hosts/vmx_iso.h"

namespace twinwalk::hosts {
namespace {

using remote::Answer;

constexpr std::chrono::seconds kMostBootTime{600};

// Calls fn(line) for every whole line of the image's.
template <class Fn>
void each_line(std::string_view said, Fn fn) {
  LogLine line;
  while (!said.empty()) {
    const std::size_t end = said.find('\n');
    if (read_log_line(said.substr(0, end), line) == LogRead::kWhole) fn(line);
    said.remove_prefix(end == said.npos ? said.size() : end + 1);
  }
}

std::size_t answered(std::string_view said) {
  std::size_t count = 0;
  each_line(said, [&count](const LogLine& line) { count += line.word == LogWord::kRan ? 1 : 0; });
  return count;
}

// The last thing that it said for people.
std::string last_words(std::string_view said) {
  std::string text = "nothing more was said";
  each_line(said, [&text](const LogLine& line) {
    if (line.word == LogWord::kNote) text = line.text;
  });
  return text;
}

}  // namespace

void wait_for_image(Emulator& emulator, const std::string& output,
                    const ImageMachine::Watch& watch) {
  const auto until = std::chrono::steady_clock::now() + kMostBootTime;
  while (!emulator.wait(std::chrono::seconds(1))) {
    const bool enough = !watch(contents_of(output));
    if (enough || std::chrono::steady_clock::now() >= until) emulator.kill();
  }
}

bool VmxImageLink::open(std::string& why) {
  boot({}, {}, why);
  if (description_.empty() && why.empty()) why = machine_->name() + ": the image says nothing";
  return !description_.empty();
}

std::size_t VmxImageLink::boot(std::span<const Program> programs, std::span<Answer> answers,
                               std::string& why) {
  const std::string elf = vmx_image_file(why);
  ScratchFolder scratch;
  const std::string iso = scratch.file("image.iso");
  std::string said;
  if (elf.empty() || !write_vmx_iso(elf, module_of(programs), iso, why)) return programs.size();
  const auto watch = [this](const std::string& so_far) {
    tell_progress(answered(so_far));
    return !asked_to_stop();
  };
  if (!machine_->boot(iso, watch, said, why)) return programs.size();
  bool whole = false;
  std::vector<std::uint8_t> bytes;
  each_line(said, [&](const LogLine& line) {
    if (line.word == LogWord::kHost) description_ = line.text + "; " + machine_->name();
    if (line.word == LogWord::kBye) whole = true;
    if (line.word != LogWord::kRan || line.number >= answers.size()) return;
    Answer& answer = answers[line.number];
    answer.there = from_base64(line.text, bytes) && decode_reply(bytes, answer.reply);
  });
  if (description_.empty()) why = machine_->name() + ": " + last_words(said);
  const auto missing = std::find_if(answers.begin(), answers.end(),
                                    [](const Answer& answer) { return !answer.there; });
  if (missing == answers.end() || whole || description_.empty()) return programs.size();
  if (asked_to_stop()) {
    why = kStopped;
    return programs.size();
  }
  missing->died = true;
  missing->why = "the image ended over this: " + last_words(said);
  return static_cast<std::size_t>(missing - answers.begin());
}

void VmxImageLink::run(std::span<const Program> programs, std::vector<Answer>& answers) {
  answers.assign(programs.size(), {});
  for (std::size_t done = 0; done < programs.size();) {
    std::string why;
    const std::span<Answer> rest = std::span(answers).subspan(done);
    const std::size_t reached = boot(programs.subspan(done), rest, why);
    if (!why.empty()) {
      for (Answer& answer : rest) {
        if (!answer.there && !answer.died) answer.why = why;
      }
    }
    done += reached + 1;
  }
}

}  // namespace twinwalk::hosts

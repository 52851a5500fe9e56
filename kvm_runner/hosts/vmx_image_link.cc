#include "kvm_runner/hosts/vmx_image_link.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <string_view>
#include <thread>

#include "harness/trace/serial_log.h"
#include "kvm_runner/hosts/vmx_iso.h"

namespace twinwalk::hosts {
namespace {

using remote::Answer;

constexpr std::chrono::seconds kMostBootTime{600};
// A boot costs about as much as a hundred programs.
constexpr std::size_t kLeastPrograms = 500;

unsigned processors() { return std::max(1u, std::thread::hardware_concurrency()); }

// A processor for a machine to run on, as long as this lives; waits until there is one. Of all
// links of this process.
class Processor {
 public:
  Processor() {
    std::unique_lock lock(mutex());
    changed().wait(lock, [] { return in_use() < processors(); });
    ++in_use();
  }
  ~Processor() {
    const std::lock_guard lock(mutex());
    --in_use();
    changed().notify_one();
  }
  Processor(const Processor&) = delete;
  Processor& operator=(const Processor&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex it;
    return it;
  }
  static std::condition_variable& changed() {
    static std::condition_variable it;
    return it;
  }
  static unsigned& in_use() {
    static unsigned it = 0;
    return it;
  }
};

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
  Part none;
  const auto told_nobody = [] {};
  boot(none, 0, told_nobody, description_, why);
  if (description_.empty() && why.empty()) why = machine_->name() + ": the image says nothing";
  return !description_.empty();
}

std::size_t VmxImageLink::boot(Part& part, std::size_t first, const std::function<void()>& told,
                               std::string& description, std::string& why) {
  const std::span<const Program> programs = part.programs.subspan(first);
  const std::span<Answer> answers = part.answers.subspan(first);
  const std::string elf = vmx_image_file(why);
  ScratchFolder scratch;
  const std::string iso = scratch.file("image.iso");
  std::string said;
  const Processor processor;
  if (elf.empty() || !write_vmx_iso(elf, module_of(programs), iso, why)) return programs.size();
  const auto watch = [&](const std::string& so_far) {
    part.answered = first + answered(so_far);
    told();
    return !asked_to_stop();
  };
  if (!machine_->boot(iso, watch, said, why)) return programs.size();
  bool whole = false;
  std::vector<std::uint8_t> bytes;
  each_line(said, [&](const LogLine& line) {
    if (line.word == LogWord::kHost) description = line.text + "; " + machine_->name();
    if (line.word == LogWord::kBye) whole = true;
    if (line.word != LogWord::kRan || line.number >= answers.size()) return;
    Answer& answer = answers[line.number];
    answer.there = from_base64(line.text, bytes) && decode_reply(bytes, answer.reply);
  });
  if (description.empty()) why = machine_->name() + ": " + last_words(said);
  const auto missing = std::find_if(answers.begin(), answers.end(),
                                    [](const Answer& answer) { return !answer.there; });
  if (missing == answers.end() || whole || description.empty()) return programs.size();
  if (asked_to_stop()) {
    why = kStopped;
    return programs.size();
  }
  missing->died = true;
  missing->why = "the image ended over this: " + last_words(said);
  return static_cast<std::size_t>(missing - answers.begin());
}

void VmxImageLink::run_part(Part& part, const std::function<void()>& told) {
  for (std::size_t done = 0; done < part.programs.size();) {
    std::string why, description = description_;
    const std::size_t reached = boot(part, done, told, description, why);
    if (!why.empty()) {
      for (Answer& answer : part.answers.subspan(done)) {
        if (!answer.there && !answer.died) answer.why = why;
      }
    }
    done += reached + 1;
  }
}

void VmxImageLink::run(std::span<const Program> programs, std::vector<Answer>& answers) {
  answers.assign(programs.size(), {});
  const std::size_t count =
      std::clamp<std::size_t>(programs.size() / kLeastPrograms, 1, processors());
  std::deque<Part> parts;  // stay where they are
  for (std::size_t n = 0; n < count; ++n) {
    const std::size_t first = programs.size() * n / count, end = programs.size() * (n + 1) / count;
    Part& part = parts.emplace_back();
    part.programs = programs.subspan(first, end - first);
    part.answers = std::span(answers).subspan(first, end - first);
  }
  std::mutex telling;
  const auto told = [&] {
    const std::lock_guard lock(telling);
    std::size_t done = 0;
    for (const Part& part : parts) done += part.answered;
    tell_progress(done);
  };
  std::vector<std::future<void>> others;
  for (Part& part : parts) {
    if (&part == &parts.front()) continue;
    others.push_back(std::async(std::launch::async, [&] { run_part(part, told); }));
  }
  run_part(parts.front(), told);
  for (std::future<void>& other : others) other.get();
}

}  // namespace twinwalk::hosts

#include "kvm_runner/hosts/live_link.h"

#include <utility>

#include "harness/trace/binary.h"

namespace twinwalk::hosts {
namespace {

using remote::Answer;
using remote::LineChannel;

// So much is under way at most: a far end that is dead has lost no more than this, and neither end
// ever holds a whole corpus.
constexpr std::size_t kMostUnderWay = 64;

std::string trace_line(std::uint64_t number, const Program& program) {
  Trace trace;
  trace_of(program, trace);
  std::vector<std::uint8_t> bytes;
  encode(trace, bytes);
  return to_log_line(LogWord::kTrace, number, bytes);
}

}  // namespace

std::unique_ptr<LiveLink> open_live_link(LiveHostPlan plan, std::string& why) {
  if (plan.wishes.driving != Driving::kFaster)
    plan.commands.emplace_back(plan.wishes.driving == Driving::kAlone ? "drive alone"
                                                                      : "drive batched");
  if (plan.wishes.watched) plan.commands.emplace_back("watch");
  auto link = std::make_unique<LiveLink>(std::move(plan));
  if (!link->open(why)) return nullptr;
  return link;
}

LiveLink::~LiveLink() {
  if (channel_ == nullptr) return;
  channel_->send(to_log_text(LogWord::kBye, 0, ""));
  channel_->flush(LineChannel::Clock::now() + std::chrono::milliseconds(200));
}

// A machine that does not come up is tried once more: on a busy one its kernel's timers may err.
bool LiveLink::open(std::string& why) { return try_open(why) || try_open(why); }

bool LiveLink::try_open(std::string& why) {
  host_ = plan_.start(why);
  if (host_ == nullptr) return false;
  channel_ = std::make_unique<LineChannel>(host_->port(), host_->port());
  shares_ = false;
  const bool there = host_->boots() ? await(0, nullptr, why) : command("describe", why);
  if (!there) return close(), false;
  for (const std::string& text : plan_.commands) {
    if (!command(text, why)) return close(), false;
  }
  if (!tell_sharing(why)) return close(), false;
  if (description_.compare(0, 7, "no KVM:") == 0) {
    why = description_;
    return close(), false;
  }
  return true;
}

void LiveLink::close() {
  channel_.reset();
  host_.reset();
}

bool LiveLink::command(const std::string& text, std::string& why) {
  const std::uint64_t number = next_++;
  channel_->send(to_log_text(LogWord::kDo, number, text));
  return await(number, nullptr, why);
}

bool LiveLink::be_ready(std::string& why) {
  if (channel_ != nullptr && tell_sharing(why)) return true;
  close();
  return open(why);
}

bool LiveLink::tell_sharing(std::string& why) {
  if (share_ == shares_) return true;
  if (!command(share_ ? "vms kept" : "vms fresh", why)) return false;
  shares_ = share_;
  return true;
}

bool LiveLink::await(std::uint64_t number, Answer* answer, std::string& why) {
  const auto until = LineChannel::Clock::now() + plan_.patience;
  std::string text;
  LogLine line;
  for (;;) {
    switch (channel_->next(text, until)) {
      case LineChannel::Got::kTimeout:
        why = "no answer for " + std::to_string(plan_.patience.count()) +
              " s; console: " + host_->last_words();
        return false;
      case LineChannel::Got::kClosed:
        why = "the host went away; console: " + host_->last_words();
        return false;
      case LineChannel::Got::kLine:
        break;
    }
    const LogRead read = read_log_line(text, line);
    if (read == LogRead::kOther || (read == LogRead::kWhole && line.number != number)) continue;
    if (read == LogRead::kDamaged) {
      why = "a line of the host's is damaged: " + text.substr(0, 80);
      return false;
    }
    if (line.word == LogWord::kHost) {
      description_ = line.text;
      if (answer == nullptr) return true;
    } else if (line.word == LogWord::kNote) {
      why = line.text;
      if (answer != nullptr) answer->why = why;
      return answer != nullptr;
    } else if (line.word == LogWord::kSeen && answer != nullptr) {
      from_base64(line.text, answer->seen);
    } else if (line.word == LogWord::kRan && answer != nullptr) {
      std::vector<std::uint8_t> bytes;
      answer->there = from_base64(line.text, bytes) && decode_reply(bytes, answer->reply);
      if (!answer->there) why = "an answer is no reply";
      return answer->there;
    }
  }
}

std::size_t LiveLink::ask(std::span<const Program> programs, std::size_t first,
                          std::vector<Answer>& answers, std::string& why) {
  const std::uint64_t base = next_ - first;
  std::size_t sent = first;
  for (std::size_t i = first; i < programs.size(); ++i) {
    for (; sent < programs.size() && sent < i + kMostUnderWay; ++sent)
      channel_->send(trace_line(base + sent, programs[sent]));
    next_ = base + sent;
    if (!await(base + i, &answers[i], why)) return i;
    tell_progress(i + 1);
    if (asked_to_stop()) return i + 1;
  }
  return programs.size();
}

void LiveLink::run(std::span<const Program> programs, std::vector<Answer>& answers) {
  answers.assign(programs.size(), {});
  std::string why;
  for (std::size_t done = 0; done < programs.size();) {
    if (!be_ready(why)) {
      for (; done < programs.size(); ++done) answers[done].why = why;
      return;
    }
    const std::size_t reached = ask(programs, done, answers, why);
    if (reached == programs.size()) return;
    if (asked_to_stop()) {
      close();  // with answers under way that nobody will read
      for (done = reached; done < programs.size(); ++done) answers[done].why = kStopped;
      return;
    }
    answers[reached] = {};
    answers[reached].died = true;
    answers[reached].why = why;
    close();
    done = reached + 1;
  }
}

}  // namespace twinwalk::hosts

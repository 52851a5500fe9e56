#include "kvm_runner/remote/answer.h"

#include <algorithm>

#include "harness/trace/binary.h"
#include "harness/trace/serial_log.h"
#include "harness/trace/stored_words.h"

namespace twinwalk::remote {
namespace {

constexpr auto kIdle = std::chrono::hours(24);  // a far end has nothing else to do

// What a server keeps from one line to the next.
class Server {
 public:
  Server(FarEnd& far_end, LineChannel& channel) : far_end_(far_end), channel_(channel) {}

  void introduce(std::uint64_t number) {
    channel_.send(to_log_text(LogWord::kHost, number, far_end_.describe()));
  }

  // False: it was the last one.
  bool one(const LogLine& line) {
    switch (line.word) {
      case LogWord::kTrace:
        run(line);
        return true;
      case LogWord::kDo:
        if (far_end_.carry_out(line.text)) {
          introduce(line.number);
        } else {
          note(line.number, "no such command: " + line.text);
        }
        return true;
      case LogWord::kBye:
        return false;
      default:
        return true;
    }
  }

  void note(std::uint64_t number, const std::string& text) {
    channel_.send(to_log_text(LogWord::kNote, number, text));
  }

 private:
  void run(const LogLine& line) {
    Subject* subject = far_end_.subject();
    if (subject == nullptr)
      return note(line.number, "nothing runs programs: " + far_end_.describe());
    if (!from_base64(line.text, bytes_) || !decode(bytes_, trace_).whole)
      return note(line.number, "that is no trace");
    lowering_.lower(trace_, program_);
    far_end_.about_to_run();
    answer(*subject, program_, reply_);
    bytes_.clear();
    encode_reply(reply_, bytes_);
    const std::string seen = far_end_.seen();
    if (!seen.empty()) {
      const auto* first = reinterpret_cast<const std::uint8_t*>(seen.data());
      channel_.send(to_log_line(LogWord::kSeen, line.number, {first, seen.size()}));
    }
    channel_.send(to_log_line(LogWord::kRan, line.number, bytes_));
  }

  FarEnd& far_end_;
  LineChannel& channel_;
  std::vector<std::uint8_t> bytes_;
  Trace trace_;
  Lowering lowering_;
  Program program_;
  Reply reply_;
};

}  // namespace

void answer(Subject& subject, const Program& program, Reply& reply) {
  reply.clear();
  subject.run(program, reply.outcomes);
  std::vector<std::uint64_t> words;
  for (std::size_t i = 0; i < program.steps.size(); ++i) {
    each_stored(program.steps[i].what, reply.outcomes.steps[i],
                [&words](std::uint64_t gpa) { words.push_back(gpa & ~std::uint64_t{7}); });
  }
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  for (const std::uint64_t gpa : words) {
    std::uint64_t word = 0;
    if (subject.read_image(gpa, word)) reply.image.push_back({gpa, word});
  }
}

std::string describe(const SubjectInfo& info) {
  std::string text;
  if (info.vendor) text = std::string("vendor=") + std::string(name_of(*info.vendor)) + " ";
  return text + "judged=" + std::string(name_of(info.profile)) + " " + info.version;
}

void serve(FarEnd& far_end, LineChannel& channel) {
  Server server(far_end, channel);
  server.introduce(0);
  std::string text;
  LogLine line;
  while (channel.next(text, LineChannel::Clock::now() + kIdle) == LineChannel::Got::kLine) {
    const LogRead read = read_log_line(text, line);
    if (read == LogRead::kDamaged) server.note(0, "a damaged line");
    if (read == LogRead::kWhole && !server.one(line)) break;
  }
  channel.send(to_log_text(LogWord::kBye, 0, ""));
  channel.flush(LineChannel::Clock::now() + std::chrono::seconds(10));
}

}  // namespace twinwalk::remote

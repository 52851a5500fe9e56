#include "kvm_runner/hosts/qemu_monitor.h"

#include <nlohmann/json.hpp>
#include <thread>

namespace twinwalk::hosts {
namespace {

using remote::LineChannel;
using json = nlohmann::json;

constexpr auto kPatience = std::chrono::seconds(30);

// For the shell that QEMU's exec: starts.
std::string quoted(const std::string& path) {
  std::string out = "'";
  for (const char c : path) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace

bool QemuMonitor::execute(const std::string& command, std::string& result, std::string& why) {
  channel_.send(command + "\n");
  std::string line;
  const auto until = LineChannel::Clock::now() + kPatience;
  while (channel_.next(line, until) == LineChannel::Got::kLine) {
    const json answer = json::parse(line, nullptr, false);
    if (answer.is_object() && answer.contains("error")) {
      why = "QEMU's monitor: " + answer["error"].dump();
      return false;
    }
    if (!answer.is_object() || !answer.contains("return")) continue;  // a greeting, an event
    result = answer["return"].dump();
    return true;
  }
  why = "QEMU's monitor does not answer";
  return false;
}

bool QemuMonitor::greet(std::string& why) {
  std::string result;
  greeted_ = greeted_ || execute(R"({"execute":"qmp_capabilities"})", result, why);
  return greeted_;
}

bool QemuMonitor::await_status(const char* query, const char* wanted, std::string& why) {
  std::string result;
  const auto until = LineChannel::Clock::now() + kPatience;
  while (LineChannel::Clock::now() < until) {
    if (!execute(json({{"execute", query}}).dump(), result, why)) return false;
    const std::string status = json::parse(result).value("status", "");
    if (status == wanted) return true;
    if (status == "failed") break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  why = std::string("QEMU: ") + query + " does not come to " + wanted;
  return false;
}

bool QemuMonitor::wait_until_running(std::string& why) {
  return greet(why) && await_status("query-status", "running", why);
}

bool QemuMonitor::save_state(const std::string& path, std::string& why) {
  std::string result;
  const json migrate = {{"execute", "migrate"},
                        {"arguments", {{"uri", "exec:cat > " + quoted(path)}}}};
  return greet(why) && execute(migrate.dump(), result, why) &&
         await_status("query-migrate", "completed", why);
}

}  // namespace twinwalk::hosts

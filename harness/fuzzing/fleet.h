#ifndef TWINWALK_HARNESS_FUZZING_FLEET_H_
#define TWINWALK_HARNESS_FUZZING_FLEET_H_

// Runs of `fuzz` that share a folder, on one or many machines: their names, which of them has
// AFL++'s main instance, and what they have of each other.

#include <string>

#include "harness/fuzzing/corpus_exchange.h"

namespace twinwalk::fuzz {

// Longest name: AFL++ gives an instance 32 characters, NAME-0 to NAME-1023 (fix_up_sync()).
inline constexpr unsigned kMaxFleetName = 27;

// "" or why a run cannot be named so.
std::string bad_fleet_name(const std::string& name);

// What this machine's runs are called if nobody says: its name, as far as AFL++ takes it.
std::string machine_name();

// An advisory lock of the whole file, which ends with the process.
class FileLock {
 public:
  FileLock() = default;
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  enum class Got { kLocked, kTaken, kFailed };
  Got lock(const std::string& path);
  const std::string& error() const { return error_; }

 private:
  int fd_ = -1;
  std::string error_;
};

class Fleet {
 public:
  // Joins those that share `folder`, made if it is not there, as `name`; if that is empty as the
  // machine's name, with _2, _3, ... where that runs already. Returns "" or why not.
  std::string join(const std::string& folder, const std::string& name);
  bool joined() const { return !name_.empty(); }

  const std::string& folder() const { return folder_; }
  const std::string& name() const { return name_; }
  // The folder of AFL++'s n-th instance of this run in it.
  std::string instance(unsigned n) const { return name_ + "-" + std::to_string(n); }
  // True if no other run that lives and sees this folder is the main one: asked once, by a run that
  // has AFL++ instances.
  bool become_main();

  // libFuzzer's workers share `corpus`. Returns "" or why they cannot exchange inputs.
  std::string exchange(const std::string& corpus);
  // Now and then; "" or what could not be written.
  std::string tend(double now);

  // Once the workers have ended; the same.
  std::string finish();

  // Of libFuzzer's corpus, or of the queues of AFL++ instances, as of the last look.
  const Origins& origins() const { return exchanges_ ? exchange_.origins() : of_instances_; }

 private:
  Origins count_instances() const;

  std::string folder_, name_;
  FileLock name_lock_, main_lock_;
  CorpusExchange exchange_;
  Origins of_instances_;
  bool exchanges_ = false;
  double next_look_ = 0;
};

// "11 inputs of its own, 22 taken over (20 from a-0, 2 from b-libfuzzer)".
std::string to_text(const Origins& origins);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_FLEET_H_

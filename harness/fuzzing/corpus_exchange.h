#ifndef TWINWALK_HARNESS_FUZZING_CORPUS_EXCHANGE_H_
#define TWINWALK_HARNESS_FUZZING_CORPUS_EXCHANGE_H_

// libFuzzer's part in a fleet. Its workers share a corpus folder of their own run; what they find
// is put into a queue as AFL++'s instances keep them, and what is in the queues of others is put
// into the corpus, where the workers reload it. libFuzzer does not get at the shared folder itself:
// it removes inputs for which it has smaller ones, and takes for old what rsync brings with the
// time at which it was made.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <unordered_set>

#include "harness/fuzzing/sync_folder.h"

namespace twinwalk::fuzz {

// Where the inputs of a run are from, over all runs of its name.
struct Origins {
  std::uint64_t own = 0;
  std::map<std::string, std::uint64_t> taken;  // by instance
  std::uint64_t all_taken() const;
};

class CorpusExchange {
 public:
  // `corpus`: with the seeds in it. `folder`/`own`/queue is this run's alone to write, and made if
  // it is not there; what is in it goes into the corpus. Returns "" or why not.
  std::string start(std::string corpus, std::string folder, std::string own);

  // Lists what is new, or goes on with what was listed: a few files each time. Returns "" or what
  // could not be written; it is not tried again.
  std::string look();
  // The last: gives what the workers found until they were stopped.
  std::string give_rest();
  bool listed_all() const { return to_give_.empty() && to_take_.empty(); }

  const Origins& origins() const { return origins_; }

 private:
  struct Input {
    std::string path, name, from;
  };
  void list_found();
  void list();
  std::string give(const Input& input);
  std::string take(const Input& input);
  // False if it is no input, or one that was met before.
  bool read_new(const std::string& path, std::string& bytes, std::uint64_t& hash);

  std::string corpus_, folder_, own_;
  Arrivals found_;
  std::map<std::string, Arrivals> queues_;
  std::deque<Input> to_give_, to_take_;
  std::unordered_set<std::uint64_t> known_;  // hashes of inputs that are in the corpus
  Origins origins_;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_CORPUS_EXCHANGE_H_

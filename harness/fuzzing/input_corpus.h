#ifndef TWINWALK_HARNESS_FUZZING_INPUT_CORPUS_H_
#define TWINWALK_HARNESS_FUZZING_INPUT_CORPUS_H_

// Folders of fuzzing inputs: what one has that another lacks, the fewest that reach the same, what
// they reach. The engine does the work: libFuzzer's merge, by the edges and MMU states of the
// target.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace twinwalk::fuzz {

// What an engine can say of inputs.
struct Reach {
  std::uint64_t edges = 0, mmu_states = 0;
  std::uint64_t divergences = 0;  // inputs that diverge
};

struct CorpusStat {
  std::uint64_t inputs = 0, bytes = 0, operations = 0;
  std::map<std::string, std::uint64_t> machines;  // "shadow 4-level" -> inputs
  Reach reach;
};

// Paths of the inputs in a folder, sorted. In the folder of AFL++ instances, that is the output of
// one run or a folder that several share, those of their queues; elsewhere every file, in folders
// below it too, but for names that begin with a dot. A path that is a file is itself.
std::vector<std::string> list_inputs(const std::string& path);

class InputCorpus {
 public:
  // `program`: the fuzz target. `config`: see config.h. `work`: a folder for logs and links, there
  // as long as this is used.
  InputCorpus(std::string program, std::string config, std::string work);

  // Each returns "" or what went wrong, in one line. An interrupt ends them early; it is an error.

  // Adds to `to`, which is made if need be, what of `from` reaches something new. `*.walk` counts
  // as the input that it stands for.
  std::string merge(const std::string& to, const std::vector<std::string>& from);
  // Replaces the folder by one with the fewest inputs that reach what it reaches, at once or not at
  // all.
  std::string minimise(const std::string& folder);
  std::string stat(const std::string& folder, CorpusStat& out);

 private:
  std::string stage(const std::vector<std::string>& from, std::string& folder);
  std::string run(const std::vector<std::string>& words, const std::string& log);
  std::string measure(const std::string& folder, Reach& out);
  std::string stats_path() const { return work_ + "/stats"; }

  std::string program_, config_, work_;
  unsigned staged_ = 0;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_INPUT_CORPUS_H_

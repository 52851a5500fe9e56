#ifndef TWINWALK_HARNESS_FUZZING_SYNC_FOLDER_H_
#define TWINWALK_HARNESS_FUZZING_SYNC_FOLDER_H_

// The folder by which AFL++ instances know of each other: FOLDER/INSTANCE/queue/id:NNNNNN,...
// Whoever keeps such a queue is read by them, and may read theirs.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace twinwalk::fuzz {

// Bytes that an input may have, for every engine; a trace of 256 operations fits.
inline constexpr unsigned kMaxInput = 4096;

struct Instance {
  std::string name;   // of its folder
  std::string queue;  // path of its inputs
};

// The instances in a folder, sorted by name; none if it is no such folder.
std::vector<Instance> instances_in(const std::string& folder);

// Whether a file of a queue is an input: AFL++ keeps notes in a hidden folder beside them, and what
// rsync has not yet brought whole has a hidden name.
bool is_queued(const std::string& file);

// What the file's name says of where it is from.
enum class Origin {
  kSeed,   // given at the start
  kFound,  // by the instance itself
  kTaken,  // from another instance
};
// `from`: the other instance, if taken.
Origin origin_of(const std::string& file, std::string& from);

// Names of a folder's files, each told once, by the look after the one that saw it first: whoever
// writes it is done by then.
class Arrivals {
 public:
  // Those that `wanted` is true of, sorted.
  std::vector<std::string> look(const std::string& folder, bool (*wanted)(const std::string&));

 private:
  std::set<std::string> seen_, told_;
};

// Files in a folder; 0 if there is none.
std::uint64_t count_files(const std::string& folder);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_SYNC_FOLDER_H_

// service_seeds CONFIG FOLDER OUT: the traces below FOLDER whose machines the configuration has, as
// a fuzz target reads them.

#include <cstdio>
#include <optional>

#include "harness/fuzzing/seeds.h"

int main(int argc, char** argv) {
  const auto config = argc == 4 ? twinwalk::fuzz::find_config(argv[1]) : std::nullopt;
  if (!config) {
    std::fprintf(stderr, "usage: service_seeds CONFIG FOLDER OUT\n");
    return 2;
  }
  unsigned made = 0;
  const std::string why = twinwalk::fuzz::build_seeds(argv[2], argv[3], made, &*config);
  if (!why.empty()) std::fprintf(stderr, "service_seeds: %s\n", why.c_str());
  return why.empty() ? 0 : 2;
}

#include "harness/cli/subjects.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <system_error>

#include "harness/bare_subject.h"
#include "harness/cli/output.h"
#include "harness/own_subject.h"
#include "kvm_runner/known.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::cli {
namespace {

// What `name` gives of the variants for which `which` holds, each once, with commas.
template <class Which, class Name>
std::string listed(Which which, Name name) {
  std::vector<std::string> names;
  for (const hosts::HostVariant& variant : hosts::host_variants()) {
    if (!which(variant)) continue;
    if (std::find(names.begin(), names.end(), name(variant)) == names.end())
      names.push_back(name(variant));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string host_of(const hosts::HostVariant& variant) { return std::string(variant.host); }

[[noreturn]] void refuse(const std::string& word) {
  if (word.find(".so") != std::string::npos)
    throw Failure(fmt::format("--subject {}: not available in this version", word));
  const std::string hosts = listed([&](const auto& v) { return v.subject == word; }, host_of);
  throw Failure(hosts.empty()
                    ? fmt::format("--subject: found `{}`; allowed: core, bare, kvm, core-kvm", word)
                    : fmt::format("--subject {} runs on a host only: --host {}", word, hosts));
}

}  // namespace

std::string label_of(const hosts::HostVariant& variant) {
  return fmt::format("{}:{}", variant.host, variant.name);
}

std::string host_names() {
  return listed([](const auto&) { return true; }, host_of);
}

std::vector<const hosts::HostVariant*> variants_of(const std::string& host,
                                                   const std::string& subject) {
  std::vector<const hosts::HostVariant*> found;
  bool host_is_known = false;
  for (const hosts::HostVariant& variant : hosts::host_variants()) {
    const bool named = (host == variant.host && !variant.by_name_only) || host == label_of(variant);
    host_is_known |= named;
    if (named && (subject.empty() || subject == variant.subject)) found.push_back(&variant);
  }
  if (!host_is_known) {
    const std::string variants =
        listed([&](const auto& v) { return host.substr(0, host.find(':')) == v.host; }, label_of);
    throw Failure(fmt::format("--host: found `{}`; allowed: {}", host,
                              variants.empty() ? "local, " + host_names() : variants));
  }
  if (found.empty()) throw Failure(fmt::format("--host {} has no subject {}", host, subject));
  return found;
}

NamedSubject make_subject(const SubjectWords& words) {
  const std::string& word = words.subject;
  NamedSubject named;
  if (words.host.compare(0, 5, "local") != 0) {
    named.subject = hosts::start_variant(*variants_of(words.host, word).front(), named.why_not);
    return named;
  }
  if (word == "core") {
    named.subject = make_own_subject();
  } else if (word == "bare") {
    named.subject = make_bare_subject();
  } else if (word == "kvm") {
    named.subject = make_kvm_subject(named.why_not);
  } else if (word == "core-kvm") {
    named.subject = make_core_kvm_subject(named.why_not);
  } else {
    refuse(word);
  }
  return named;
}

void accept_host_deviations(Checker& checker) {
  checker.accept_deviations([&checker](std::uint32_t step, const Verdict& verdict) {
    return KnownDeviations::built_in().covering(
        {checker.subject().info(), checker.program(), checker.outcomes(), step, verdict});
  });
}

std::unique_ptr<oracle::UnicornClient> make_unicorn() {
  return std::make_unique<oracle::UnicornClient>(sibling_program("twinwalk-unicorn"));
}

References parse_references(const std::string& words) {
  References references;
  if (words.empty()) {
    references.unicorn = true;
    return references;
  }
  std::istringstream list(words);
  for (std::string word; std::getline(list, word, ',');) {
    if (word == "unicorn") {
      references.unicorn = references.asked = true;
    } else if (word != "spec") {
      throw Failure(fmt::format("--reference: found `{}`; allowed: spec, unicorn", word));
    }
  }
  return references;
}

std::unique_ptr<oracle::UnicornClient> start_unicorn(const References& references) {
  if (!references.unicorn) return nullptr;
  auto client = make_unicorn();
  std::string why;
  if (client->available(why)) return client;
  if (references.asked) throw Failure("reference unicorn: " + why);
  fmt::print(stderr, "twinwalk: without the reference unicorn: {}\n", why);
  return nullptr;
}

std::string sibling_program(const std::string& name) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? name : (self.parent_path() / name).string();
}

}  // namespace twinwalk::cli

// The program `twinwalk`: one verb, its options, and an exit code that CI can rely on.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "harness/cli/bench_verb.h"
#include "harness/cli/conform_verb.h"
#include "harness/cli/corpus_add.h"
#include "harness/cli/corpus_verb.h"
#include "harness/cli/doctor.h"
#include "harness/cli/explain.h"
#include "harness/cli/forms.h"
#include "harness/cli/fuzz_host.h"
#include "harness/cli/fuzz_report.h"
#include "harness/cli/image_verb.h"
#include "harness/cli/minimise_verb.h"
#include "harness/cli/output.h"
#include "harness/cli/report_verb.h"
#include "harness/cli/run.h"
#include "harness/cli/sweep_verb.h"
#include "harness/cli/zoo_report.h"
#include "harness/fuzzing/bisect.h"
#include "harness/fuzzing/config.h"
#include "harness/fuzzing/fleet.h"
#include "harness/fuzzing/fuzz.h"
#include "harness/fuzzing/zoo.h"
#include "harness/mutation/mutate.h"

namespace twinwalk::cli {
namespace {

using Paths = std::vector<std::string>;

// PATH...: shared, so that it lives as long as the callback that reads it.
std::shared_ptr<Paths> add_paths(CLI::App* verb, const char* what) {
  auto paths = std::make_shared<Paths>();
  verb->add_option("PATH", *paths, what)->required();
  return paths;
}

void add_fmt(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand("fmt", "Brings text traces into canonical form, in place");
  auto paths = add_paths(verb, "files, folders of *.walk, or - for standard input");
  auto check = std::make_shared<bool>(false);
  verb->add_flag("--check", *check, "change nothing; name what is not canonical and exit 1");
  verb->callback([paths, check, &code] { code = format_traces(*paths, *check); });
}

// [--raw [--config NAME]], for verbs that take what a fuzzer or a fuzzing service wrote.
std::shared_ptr<Reading> add_reading(CLI::App* verb, Input otherwise = Input::kAny) {
  auto reading = std::make_shared<Reading>(otherwise);
  CLI::Option* raw = verb->add_flag_callback(
      "--raw", [reading] { reading->input = Input::kRaw; },
      "any bytes are a trace, as the fuzz targets read them");
  verb->add_option("--config", reading->config,
                   "with --raw: of the fuzz target that the bytes are from; all if not given")
      ->needs(raw);
  return reading;
}

// FILE [-o OUT], for the verbs that read one trace and write something else.
struct FileAndOutput {
  std::string file, out = "-";
};
std::shared_ptr<FileAndOutput> add_file_and_output(CLI::App* verb) {
  auto names = std::make_shared<FileAndOutput>();
  verb->add_option("FILE", names->file, "a trace, text or binary; - is standard input")->required();
  verb->add_option("-o,--output", names->out, "where to write; standard output if not given");
  return names;
}

void add_encode(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand("encode", "Writes the binary form of a trace");
  auto names = add_file_and_output(verb);
  verb->callback([names, &code] { code = encode_trace(names->file, names->out); });
}

void add_decode(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand("decode", "Writes the text form of a binary trace");
  auto names = add_file_and_output(verb);
  auto reading = add_reading(verb, Input::kBinary);
  verb->callback(
      [names, reading, &code] { code = decode_trace(names->file, names->out, *reading); });
}

void add_subject_words(CLI::App* verb, SubjectWords& words) {
  verb->add_option("--subject", words.subject, "what is under test: core, bare, kvm or core-kvm");
  verb->add_option("--host", words.host, "where it runs: local, or " + host_names());
}

void add_run(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand("run", "Replays traces and checks every operation");
  auto options = std::make_shared<RunOptions>();
  verb->add_option("PATH", options->paths, "traces, or folders of *.walk")->required();
  add_subject_words(verb, options->under_test);
  verb->add_option("--reference", options->references,
                   "spec (always), unicorn; both where they can be had if not given");
  auto reading = add_reading(verb);
  verb->add_flag("--json", options->json, "one JSON object a line, the summary last");
  verb->add_flag("--fit", options->fit, "a machine that says no vendor is one of the host's");
  verb->callback([options, reading, &code] {
    options->reading = *reading;
    code = run(*options);
  });
}

void add_minimise(CLI::App& app, int& code) {
  CLI::App* verb =
      app.add_subcommand("minimise", "Writes the smallest trace with the same divergence class");
  auto names = add_file_and_output(verb);
  auto words = std::make_shared<SubjectWords>();
  add_subject_words(verb, *words);
  auto reading = add_reading(verb);
  verb->callback([names, words, reading, &code] {
    code = minimise_trace(names->file, *reading, *words, names->out);
  });
}

void add_explain(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand(
      "explain", "Tells a trace step by step: both walks, the rule that decides, its citation");
  auto file = std::make_shared<std::string>();
  auto words = std::make_shared<SubjectWords>();
  verb->add_option("FILE", *file, "a trace, text or binary; - is standard input")->required();
  add_subject_words(verb, *words);
  auto reading = add_reading(verb);
  verb->callback([file, words, reading, &code] { code = explain(*file, *reading, *words); });
}

void add_bench(CLI::App& app, int& code) {
  CLI::App* verb =
      app.add_subcommand("bench", "The benchmark, with its limits measured in the same run");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "one JSON object a row");
  verb->callback([json, &code] { code = bench(*json); });
}

void add_report(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand("report", "Renders result lines for people or for CI");
  auto inputs = std::make_shared<Paths>();
  auto out = std::make_shared<std::string>();
  verb->add_option("IN", *inputs,
                   "files of result lines (JSON Lines, or a summary.json), or what the image said "
                   "(a serial log)")
      ->required();
  verb->add_option("-o,--output", *out, "OUT.html, .xml (JUnit), .md or .sarif")->required();
  verb->callback([inputs, out, &code] { code = report(*inputs, *out); });
}

// What is fuzzed when it is not the core.
void add_fuzz_host(CLI::App* verb, SubjectWords& words) {
  verb->add_option("--subject", words.subject, "core, or kvm on an emulated host");
  verb->add_option("--host", words.host, "of kvm: " + host_names());
}

void add_fuzz(CLI::App& app, int& code) {
  CLI::App* verb =
      app.add_subcommand("fuzz", "Fuzzes the core, or a real KVM: progress, triage, HTML report");
  auto options = std::make_shared<fuzz::FuzzOptions>();
  auto engine = std::make_shared<std::string>("libfuzzer");
  auto jobs = std::make_shared<unsigned>(0);
  auto words = std::make_shared<SubjectWords>();
  verb->add_option("--seconds", options->seconds, "how long; 0: until it is interrupted")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--jobs", *jobs, "workers; one a core if not given")
      ->check(CLI::Range(1u, 1024u));
  CLI::Option* config =
      verb->add_option("--config", options->config, "machines to try: " + fuzz::config_names());
  CLI::Option* engine_option = verb->add_option("--engine", *engine, "libfuzzer or afl")
                                   ->check(CLI::IsMember({"libfuzzer", "afl"}));
  verb->add_option("--corpus", options->corpus, "folder of inputs to start from and add to");
  CLI::Option* sync =
      verb->add_option("--sync", options->sync, "folder by which runs share what they find");
  CLI::Option* name = verb->add_option("--name", options->name,
                                       "of this run among them; the machine's if not given");
  verb->add_option("--unicorn-share", options->unicorn_share,
                   "percent of the time that Unicorn may take")
      ->check(CLI::Range(0u, 100u));
  verb->add_option("--out", options->out, "folder of findings, summary.json and report.html");
  add_fuzz_host(verb, *words);
  verb->callback([=, &code] {
    if (!fuzz::find_config(options->config)) {
      throw Failure(
          fmt::format("--config: found `{}`; allowed: {}", options->config, fuzz::config_names()));
    }
    if (sync->count() != 0 && options->sync.empty())
      throw Failure("--sync: found ``; allowed: a folder");
    if (name->count() != 0 && options->name.empty()) throw Failure(fuzz::bad_fleet_name(""));
    options->jobs = *jobs;
    options->write_report = write_fuzz_report;
    options->engine = *engine == "afl" ? fuzz::Engine::kAfl : fuzz::Engine::kLibFuzzer;
    if (words->subject == "core" && words->host == "local") {
      code = fuzz::run_fuzz(*options);
      return;
    }
    if (engine_option->count() != 0) throw Failure("--engine is for subject core");
    if (sync->count() != 0) throw Failure("--sync is for subject core");
    if (config->count() == 0) options->config = kHostConfig;
    code = fuzz_host(*options, *words);
  });
}

void add_conform(CLI::App& app, int& code) {
  CLI::App* verb =
      app.add_subcommand("conform", "The conformance suite, as a matrix of features by subjects");
  auto options = std::make_shared<ConformOptions>();
  verb->add_option("--subject", options->subject, "core, core-kvm or kvm; all if not given");
  verb->add_option("--host", options->host, "where: local, or " + host_names());
  verb->add_option("--mode", options->mode,
                   "one guest mode alone: none, 32-bit, pae, 4-level, 5-level");
  verb->add_flag("--quick", options->quick, "a few cases a feature, as on slow hosts");
  verb->add_flag("--full", options->full, "every case, also on slow hosts");
  verb->add_flag("!--no-corpus", options->corpus, "without the traces of the corpus");
  verb->add_flag("--reload-module", options->reload_module,
                 "kvm here: with and without EPT or NPT, by loading the module anew");
  verb->add_option("--cpu", options->cpu, "stay on that processor")->check(CLI::NonNegativeNumber);
  verb->add_option("--seconds", options->seconds, "begin nothing more after that time")
      ->check(CLI::NonNegativeNumber);
  verb->add_flag("--json", options->json, "one JSON object a feature and subject");
  verb->add_option("--out", options->out, "folder for lines, matrix and traces that failed");
  verb->callback([options, &code] { code = conform(*options); });
}

void add_image(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand(
      "image", "Writes an ISO that boots the core as a VMX hypervisor on a machine of one's own");
  auto paths = std::make_shared<Paths>();
  auto out = std::make_shared<std::string>();
  verb->add_option("-o,--output", *out, "X.iso")->required();
  verb->add_option("PATH", *paths,
                   "traces, or folders of *.walk; the suite and the corpus if none");
  verb->callback([paths, out, &code] { code = write_image(*paths, *out); });
}

void add_sweep(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand(
      "sweep", "Every entry bit by control bit by kind of access, core against both references");
  auto options = std::make_shared<SweepOptionsOfVerb>();
  verb->add_option(
      "--mode", options->mode,
      "none, 32-bit, pae, 4-level, 5-level or all (the default); ept or npt: two dimensions");
  verb->add_option("--shard", options->shard, "i/n: every n-th program, beginning with the i-th");
  verb->add_option("--block", options->block, "one block alone");
  verb->add_flag("--json", options->json, "one JSON object a divergence, the summary last");
  verb->callback([options, &code] { code = run_sweep_verb(*options); });
}

void add_zoo(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand(
      "zoo", "Seeds each known bug in turn: reached, triggered, detected, and how soon");
  auto options = std::make_shared<fuzz::ZooOptions>();
  verb->add_option("--seconds", options->seconds, "of fuzzing a bug, the build not counted")
      ->check(CLI::PositiveNumber);
  verb->add_option("--jobs", options->jobs, "workers; one a core if not given");
  verb->add_option("--repeats", options->repeats, "trials of each, with seeds of their own")
      ->check(CLI::Range(1u, 1000u));
  verb->add_option("ID,--only", options->only, "one bug or control alone: the stem of its patch");
  verb->add_flag("--json", options->json, "one JSON object a trial");
  verb->add_option("--out", options->out, "folder of zoo.jsonl, findings and report.html");
  verb->callback([options, &code] {
    options->write_report = write_zoo_report;
    code = fuzz::run_zoo(*options);
  });
}

// FOLDER... [--config NAME], for the parts of `corpus` that ask the fuzz target.
std::shared_ptr<CorpusOptions> add_folders(CLI::App* verb, std::size_t least, const char* what) {
  auto options = std::make_shared<CorpusOptions>();
  verb->add_option("FOLDER", options->folders, what)
      ->required()
      ->expected(static_cast<int>(least), 1 << 20);
  verb->add_option("--config", options->config, "machines to try: " + fuzz::config_names());
  return options;
}

void add_corpus_add(CLI::App* corpus, int& code) {
  CLI::App* verb = corpus->add_subcommand(
      "add", "Puts a finding under corpus/regress: minimised, with its story");
  auto options = std::make_shared<CorpusAddOptions>();
  verb->add_option("FINDING", options->finding, "a trace, text or binary; - is standard input")
      ->required();
  auto reading = add_reading(verb);
  verb->add_option("--story", options->story, "what happened, and why it was wrong");
  verb->add_option("--name", options->name, "of the file; the finding's own if not given");
  verb->add_option("--corpus", options->folder, "another folder than corpus/regress");
  verb->add_flag("--as-is", options->as_is, "as it is: the bug is mended already");
  verb->callback([options, reading, &code] {
    options->reading = *reading;
    code = add_to_corpus(*options);
  });
}

void add_corpus(CLI::App& app, int& code) {
  CLI::App* corpus = app.add_subcommand("corpus", "Folders of fuzzing inputs, and of regressions");
  corpus->require_subcommand(1);
  CLI::App* verb = corpus->add_subcommand(
      "merge", "Adds to the first folder what of the others reaches something new");
  auto merged = add_folders(verb, 2, "folders of inputs or *.walk, or AFL++'s output; files too");
  verb->callback([merged, &code] { code = merge_corpus(*merged); });
  verb = corpus->add_subcommand("minimise", "Leaves the fewest inputs that reach the same");
  auto smaller = add_folders(verb, 1, "folders of inputs");
  verb->callback([smaller, &code] { code = minimise_corpus(*smaller); });
  verb = corpus->add_subcommand("stat", "What is in it, and what it reaches");
  auto asked = add_folders(verb, 1, "folders of inputs or *.walk, or AFL++'s output; files too");
  verb->add_flag("--json", asked->json, "one JSON object a folder");
  verb->callback([asked, &code] { code = stat_corpus(*asked); });
  add_corpus_add(corpus, code);
}

void add_bisect(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand(
      "bisect", "Finds the first revision of the core that shows a trace's divergence");
  auto options = std::make_shared<fuzz::BisectOptions>();
  verb->add_option("FILE", options->trace, "a trace, text or binary")->required();
  verb->add_option("--good", options->good, "a revision; found by going back if not given");
  verb->add_option("--bad", options->bad, "a revision; HEAD if not given");
  verb->add_option("--repository", options->source, "another than this tree's, with mmu_core/");
  verb->add_flag("--json", options->json, "one JSON object");
  verb->callback([options, &code] { code = fuzz::run_bisect(*options); });
}

void add_mutate(CLI::App& app, int& code) {
  CLI::App* verb = app.add_subcommand(
      "mutate", "How many small mistakes in the core or the reference the suite would notice");
  auto options = std::make_shared<mutation::MutateOptions>();
  auto side = std::make_shared<std::string>();
  verb->add_option("SIDE", *side, "core or oracle")
      ->required()
      ->check(CLI::IsMember({"core", "oracle"}));
  verb->add_option("--sample", options->sample, "mutants; 0: all of them");
  verb->add_option("--seed", options->seed, "of the choice, and of fuzzing");
  verb->add_option("--only", options->only, "those whose id (FILE:LINE:COLUMN:CHANGE) begins so");
  verb->add_option("--seconds", options->seconds, "of fuzzing a mutant that the corpus lets pass")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--jobs", options->jobs, "processes; one a core if not given");
  verb->add_option("--bound", options->bound, "percent that must be killed for exit code 0")
      ->check(CLI::Range(0.0, 100.0));
  verb->add_flag("--list", options->list, "print the ids of the sample and try nothing");
  verb->add_flag("--json", options->json, "one JSON object a mutant, the summary last");
  verb->add_option("--out", options->out, "folder of mutants.jsonl");
  verb->callback([options, side, &code] {
    options->side = *side == "core" ? mutation::Side::kCore : mutation::Side::kOracle;
    code = mutation::run_mutate(*options);
  });
}

// Adds every verb; the one that is called leaves its exit code in `code`.
void add_verbs(CLI::App& app, int& code) {
  add_fuzz(app, code);
  add_run(app, code);
  add_explain(app, code);
  add_minimise(app, code);
  add_fmt(app, code);
  add_encode(app, code);
  add_decode(app, code);
  add_sweep(app, code);
  add_corpus(app, code);
  add_bisect(app, code);
  add_zoo(app, code);
  add_mutate(app, code);
  add_conform(app, code);
  add_image(app, code);
  add_bench(app, code);
  add_report(app, code);
  app.add_subcommand("doctor", "What this machine can run, and what to do about the rest")
      ->callback([&code] { code = doctor(); });
}

// One line, whatever the library's message looks like.
std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

int run_program(int argc, char** argv) {
  CLI::App app("Differential fuzzing and conformance of x86 MMU virtualization", "twinwalk");
  app.set_version_flag("--version", std::string("twinwalk ") + TWINWALK_VERSION);
  app.require_subcommand(1);
  int code = kExitGood;
  add_verbs(app, code);
  try {
    app.parse(argc, argv);
    flush_out();
    return code;
  } catch (const CLI::Success& asked) {  // --help, --version
    app.exit(asked);
    flush_out();
    return kExitGood;
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "twinwalk: {}\n", one_line(error.what()));
  } catch (const std::exception& error) {
    fmt::print(stderr, "twinwalk: {}\n", one_line(error.what()));
  }
  return kExitBad;
}

}  // namespace
}  // namespace twinwalk::cli

int main(int argc, char** argv) { return twinwalk::cli::run_program(argc, argv); }

#ifndef TWINWALK_FUZZERS_FIELD_MUTATION_H_
#define TWINWALK_FUZZERS_FIELD_MUTATION_H_

// Changes of single fields, driven by the schema: no verb is known here.

#include "fuzzers/rng.h"
#include "fuzzers/survey.h"
#include "harness/trace/op.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {

// Another value for the field (resolved), legal, near `old` or from the pools. `survey` tells what
// the trace uses.
std::uint64_t another_value(Rng& rng, const FieldInfo& field, std::uint64_t old,
                            const Survey& survey);

// Changes one field of the operation, or its vCPU; sometimes only whether an optional field is
// said.
void change_field(Rng& rng, Op& op, const Survey& survey);

// An operation of that verb with all fields from the pools.
Op any_op(Rng& rng, Verb verb, const Survey& survey);
// A verb that subjects execute; rarely one that they do not execute yet.
Verb any_verb(Rng& rng);

void change_machine(Rng& rng, Machine& machine);
// The machine of a new trace: mostly the default one, with some options and capabilities changed.
Machine any_machine(Rng& rng);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_FIELD_MUTATION_H_

#!/bin/sh
# Compiler launcher of the afl preset: AFL++'s compiler instruments all that it compiles unless told otherwise,
# and feedback shall be about the core alone.
AFL_LLVM_ALLOWLIST=${0%/*}/afl_allowlist.txt AFL_QUIET=1 exec "$@"

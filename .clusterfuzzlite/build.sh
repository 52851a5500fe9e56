#!/bin/bash -eu
exec "$SRC/twinwalk/fuzzers/oss-fuzz/build.sh"

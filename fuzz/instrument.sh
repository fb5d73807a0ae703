#!/bin/sh
# The compiler of the fuzz targets and of what they test, as RUSTC_WORKSPACE_WRAPPER: with the coverage that libFuzzer
# is guided by (the flags of cargo-fuzz), and with checks for overflow. The first argument is the compiler.
case "$*" in
*"--crate-name build_script_"* | *"--crate-type proc-macro"*) exec "$@" ;;
esac
exec "$@" --cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Cdebug-assertions=yes -Coverflow-checks=yes -Ccodegen-units=1

#!/usr/bin/env bash
# Audio SNIPS: SUPERB's slot filling on frozen upstreams.
#
#   bash recipes/snips/run.sh source=FOLDER [out=runs/snips] [upstreams="[fbank,fbank_no_cmvn]"] [seeds=0] [device=cuda]
#     [workers=4] [dry=1]
#
# source: a copy in either layout (see README.md); unset, SPEECHSSL_DATA/snips is used. upstreams: one, a list [a,b],
# or with labels "{mine: runs/a, other: fbank}", as speechssl benchmark takes them. seeds: one, or several as in
# 0,1,2. workers: processes that read audio. dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/snips source=null upstreams="[fbank,fbank_no_cmvn]" seeds=0 device=$(device_here) workers=4 dry=0
read_arguments "out= source= upstreams= seeds= device= workers= dry=" "$@"
PATH="$root/.venv/bin:$PATH"

title "1. corpus"
run speechssl prepare corpus=snips "source=$source" "out=$out/data"

title "2. slots and their values from frozen features"
run speechssl benchmark "upstream=$upstreams" tasks=sf "data=$out/data/sf" "run_dir=$out/bench" "seeds=[$seeds]" \
  "device=$device" "num_workers=$workers"
title "table: $out/bench/results.md"

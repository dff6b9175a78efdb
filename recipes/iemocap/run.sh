#!/usr/bin/env bash
# IEMOCAP: SUPERB's emotion recognition on frozen upstreams, five folds.
#
#   bash recipes/iemocap/run.sh source=FOLDER [out=runs/iemocap] [upstreams="[fbank,fbank_no_cmvn]"]
#     [dev=random] [seeds=0] [device=cuda] [workers=4] [dry=1]
#
# source: the folder with Session1 .. Session5; unset, SPEECHSSL_DATA/iemocap is used. upstreams: one, a list [a,b],
# or with labels "{mine: runs/a, other: fbank}", as speechssl benchmark takes them. dev: random (a fifth of what is
# not tested, as SUPERB) or session (new speakers). seeds: one, or several as in 0,1,2. workers: processes that read
# audio. dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/iemocap source=null upstreams="[fbank,fbank_no_cmvn]" dev=random seeds=0 device=$(device_here) workers=4 dry=0
read_arguments "out= source= upstreams= dev= seeds= device= workers= dry=" "$@"
one_of dev "$dev" random session
PATH="$root/.venv/bin:$PATH"

title "1. corpus"
run speechssl prepare corpus=iemocap "source=$source" "out=$out/data" "options.dev=$dev"

title "2. four emotions from frozen features, each session tested once"
run speechssl benchmark "upstream=$upstreams" tasks=er "data=$out/data/er" "run_dir=$out/bench" "seeds=[$seeds]" \
  "device=$device" "num_workers=$workers"
title "table: $out/bench/results.md"

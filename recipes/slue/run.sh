#!/usr/bin/env bash
# SLUE: sentiment and named entities on frozen upstreams, with SUPERB's heads.
#
#   bash recipes/slue/run.sh [out=runs/slue] [source=FOLDER] [upstreams="[fbank,fbank_no_cmvn]"] [seeds=0] [device=cuda]
#     [workers=4] [dry=1]
#
# source: the folder with slue-voxceleb and slue-voxpopuli; unset, SPEECHSSL_DATA/slue is used, and without that both
# are downloaded. upstreams: one, a list [a,b], or with labels "{mine: runs/a, other: fbank}", as speechssl benchmark
# takes them. seeds: one, or several as in 0,1,2. workers: processes that read audio. dry=1 prints the commands.
# Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/slue source=null upstreams="[fbank,fbank_no_cmvn]" seeds=0 device=$(device_here) workers=4 dry=0
read_arguments "out= source= upstreams= seeds= device= workers= dry=" "$@"
PATH="$root/.venv/bin:$PATH"
data=$out/data

title "1. corpus"
run speechssl prepare corpus=slue "source=$source" "out=$data"

title "2. sentiment and named entities from frozen features"
shared=("upstream=$upstreams" "run_dir=$out/bench" "seeds=[$seeds]" "device=$device" "num_workers=$workers")
run speechssl benchmark "${shared[@]}" tasks=sentiment "data=$data/sentiment"
run speechssl benchmark "${shared[@]}" tasks=ner "data=$data/ner"
title "table: $out/bench/results.md"

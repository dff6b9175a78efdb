#!/usr/bin/env bash
# VoxCeleb1: SUPERB's speaker identification (sid) and verification (asv) on frozen upstreams.
#
#   bash recipes/voxceleb1/run.sh [out=runs/voxceleb1] [source=FOLDER] [trim=true] [upstreams="[fbank,fbank_no_cmvn]"]
#     [tasks="[sid,asv]"] [seeds=0] [device=cuda] [workers=4] [dry=1]
#
# source: the folder with wav, or with dev/wav and test/wav, and the lists iden_split.txt, veri_test.txt, vox1_meta.csv;
# unset, SPEECHSSL_DATA/voxceleb1 is used. trim: verification on copies without pauses, as SUPERB does; false spares the
# disk, and is another protocol. upstreams: one, a list [a,b], or with labels "{mine: runs/a, other: fbank}", as speechssl
# benchmark takes them. seeds: of the heads, one or several as in 0,1,2. workers: processes that read audio. dry=1 prints
# the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/voxceleb1 source=null trim=true upstreams="[fbank,fbank_no_cmvn]" tasks="[sid,asv]" seeds=0
device=$(device_here) workers=4 dry=0
read_arguments "out= source= trim= upstreams= tasks= seeds= device= workers= dry=" "$@"
one_of trim "$trim" true false
PATH="$root/.venv/bin:$PATH"

title "1. corpus"
run speechssl prepare corpus=voxceleb1 "source=$source" "out=$out/data" "options.trim=$trim"

title "2. who speaks, and whether two are one, from frozen features"
run speechssl benchmark "upstream=$upstreams" "tasks=$tasks" "data=$out/data" "run_dir=$out/bench" "seeds=[$seeds]" \
  "device=$device" "num_workers=$workers"
title "table: $out/bench/results.md"

#!/usr/bin/env bash
# LibriMix: SUPERB's diarization (sd) on frozen upstreams.
#
#   bash recipes/librimix/run.sh [out=runs/librimix] [source=FOLDER] [labels=FOLDER] [activity=alignments]
#     [upstreams="[fbank,fbank_no_cmvn]"] [seeds=0] [device=cuda] [workers=4] [dry=1]
#
# source: the generated folder Libri2Mix; unset, SPEECHSSL_DATA/librimix is used. labels: metadata/LibriSpeech of
# github.com/s3prl/LibriMix with its RTTM files; null looks beside the mixtures. activity: alignments, or spans, which take
# whole utterances as speech and do not compare with published results. upstreams: one, a list [a,b], or with labels
# "{mine: runs/a, other: fbank}", as speechssl benchmark takes them. seeds: of the heads, one or several as in 0,1,2.
# workers: processes that read audio. dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/librimix source=null labels=null activity=alignments upstreams="[fbank,fbank_no_cmvn]" seeds=0
device=$(device_here) workers=4 dry=0
read_arguments "out= source= labels= activity= upstreams= seeds= device= workers= dry=" "$@"
one_of activity "$activity" alignments spans
PATH="$root/.venv/bin:$PATH"

title "1. corpus"
run speechssl prepare corpus=librimix "source=$source" "out=$out/data" "options.labels=$labels" \
  "options.activity=$activity"

title "2. who speaks when, from frozen features"
run speechssl benchmark "upstream=$upstreams" tasks=sd "data=$out/data/sd" "run_dir=$out/bench" "seeds=[$seeds]" \
  "device=$device" "num_workers=$workers"
title "table: $out/bench/results.md"

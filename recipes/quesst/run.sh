#!/usr/bin/env bash
# QUESST 2014: SUPERB's search by spoken example (qbe) on the hidden states of frozen upstreams; nothing is trained.
#
#   bash recipes/quesst/run.sh [out=runs/quesst] [source=FOLDER] [language=nnenglish] [upstreams="[fbank,fbank_no_cmvn]"]
#     [device=cuda] [workers=4] [dry=1]
#
# source: the folder quesst14Database; unset, SPEECHSSL_DATA/quesst is used, and without that the corpus is downloaded.
# language: SUPERB's is nnenglish; also albanian, basque, czech, romanian, slovak, or null for all. upstreams: one, a list
# [a,b], or with labels "{mine: runs/a, other: fbank}", as speechssl benchmark takes them. workers: processes that read
# audio. dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/quesst source=null language=nnenglish upstreams="[fbank,fbank_no_cmvn]" device=$(device_here) workers=4 dry=0
read_arguments "out= source= language= upstreams= device= workers= dry=" "$@"
one_of language "$language" albanian basque czech nnenglish romanian slovak null
PATH="$root/.venv/bin:$PATH"

title "1. corpus"
run speechssl prepare corpus=quesst "source=$source" "out=$out/data" "options.language=$language"

title "2. queries found in documents with every hidden state, the best on dev"
run speechssl benchmark "upstream=$upstreams" tasks=qbe "data=$out/data/qbe" "run_dir=$out/bench" "device=$device" \
  "num_workers=$workers"
title "table: $out/bench/results.md"

#!/usr/bin/env bash
# Kathbath: which of twelve languages of India is spoken (lid), and what is said (asr=), on frozen upstreams.
#
#   bash recipes/kathbath/run.sh [out=runs/kathbath] [source=FOLDER] [languages="[hindi,tamil]"] [transcripts=FOLDER]
#     [asr=""] [upstreams="[fbank,fbank_no_cmvn]"] [seeds=0] [device=cuda] [workers=4] [dry=1]
#
# source: the folder with one per language, its m4a files converted (recipes/kathbath/convert.sh); unset,
# SPEECHSSL_DATA/kathbath is used. languages: null takes all that are there. transcripts: their unpacked archive; null looks
# beside the audio, and lid needs none. asr: languages to recognise, such as "hindi tamil"; "" = none. upstreams: one, a
# list [a,b], or with labels "{mine: runs/a, other: fbank}", as speechssl benchmark takes them. seeds: of the heads, one
# or several as in 0,1,2. workers: processes that read audio. dry=1 prints the commands. Started again, it continues
# where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/kathbath source=null languages=null transcripts=null asr= upstreams="[fbank,fbank_no_cmvn]" seeds=0
device=$(device_here) workers=4 dry=0
read_arguments "out= source= languages= transcripts= asr= upstreams= seeds= device= workers= dry=" "$@"
PATH="$root/.venv/bin:$PATH"

title "1. corpus"
run speechssl prepare corpus=kathbath "source=$source" "out=$out/data" "options.languages=$languages" \
  "options.transcripts=$transcripts"

title "2. languages from frozen features, tested on unknown speakers, then on known ones"
for view in lid lid_known; do
  run speechssl benchmark "upstream=$upstreams" tasks=lid "data=$out/data/$view" "run_dir=$out/bench" \
    "seeds=[$seeds]" "device=$device" "num_workers=$workers"
done

for language in $asr; do
  title "3. what is said: $language"
  run speechssl benchmark "upstream=$upstreams" tasks=asr task.language=null task.alphabet=corpus \
    "data=$out/data/asr/$language" "run_dir=$out/bench" "seeds=[$seeds]" "device=$device" "num_workers=$workers"
done
title "table: $out/bench/results.md"

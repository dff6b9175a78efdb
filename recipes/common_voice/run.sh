#!/usr/bin/env bash
# Common Voice: language identification, and recognition of single languages, on frozen upstreams. Not tasks of SUPERB.
#
#   bash recipes/common_voice/run.sh source=FOLDER [out=runs/common_voice] [upstreams="[fbank,fbank_no_cmvn]"]
#     [languages=null] [max_clips=20000] [asr=""] [seeds=0] [device=cuda] [workers=4] [dry=1]
#
# source: the folder of a release with a folder per language; unset, SPEECHSSL_DATA/common_voice is used. upstreams:
# one, a list [a,b], or with labels "{mine: runs/a, other: fbank}", as speechssl benchmark takes them. languages: such
# as [de,en,fr]; null = all that are there. max_clips: most clips of a language in a split; null = all. asr: languages
# to recognise, such as "de fr"; "" = none. seeds: one, or several as in 0,1,2. workers: processes that read audio.
# dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/common_voice source=null upstreams="[fbank,fbank_no_cmvn]" languages=null max_clips=20000 asr= seeds=0
device=$(device_here) workers=4 dry=0
read_arguments "out= source= upstreams= languages= max_clips= asr= seeds= device= workers= dry=" "$@"
PATH="$root/.venv/bin:$PATH"

title "1. corpus"
run speechssl prepare corpus=common_voice "source=$source" "out=$out/data" "options.languages=$languages" \
  "options.max_clips=$max_clips"

shared=("upstream=$upstreams" "run_dir=$out/bench" "seeds=[$seeds]" "device=$device" "num_workers=$workers")
title "2. which language, from frozen features"
run speechssl benchmark "${shared[@]}" tasks=lid "data=$out/data/lid"

for language in $asr; do
  title "3. what is said: $language"
  run speechssl benchmark "${shared[@]}" tasks=asr task.language=null task.alphabet=corpus "data=$out/data/asr/$language"
done
title "table: $out/bench/results.md"

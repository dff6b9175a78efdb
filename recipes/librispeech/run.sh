#!/usr/bin/env bash
# LibriSpeech: SUPERB's phone recognition (pr) and speech recognition (asr) on frozen upstreams; pretraining if wanted.
#
#   bash recipes/librispeech/run.sh [out=runs/librispeech] [source=FOLDER] [parts="[dev-clean,...]"] [lexicon=FILE]
#     [upstreams="[fbank,fbank_no_cmvn]"] [tasks="[pr,asr]"] [pretrain=tera/base] [steps=200000] [seconds=120]
#     [precision=auto] [seeds=0] [device=cuda] [workers=4] [dry=1]
#
# source: the folder LibriSpeech; unset, SPEECHSSL_DATA/librispeech is used, and without that the parts are downloaded.
# parts: of the corpus; null takes all that are there, or downloads train-clean-100, dev-clean and test-clean. lexicon:
# file or "[a,b]" with the phones of words, for pr; null looks beside the corpus. upstreams: one, a list [a,b], or with
# labels "{mine: runs/a, other: fbank}", as speechssl benchmark takes them. pretrain: also pretrain this family and size on
# all train parts, so many steps of so many seconds of audio in this precision, and measure it. seeds: of the heads, one or
# several as in 0,1,2. workers: processes that read audio. dry=1 prints the commands. Started again, it continues where it
# stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/librispeech source=null parts=null lexicon=null upstreams="[fbank,fbank_no_cmvn]" tasks="[pr,asr]" pretrain=
steps=200000 seconds=120 precision=auto seeds=0 device=$(device_here) workers=4 dry=0
known="out= source= parts= lexicon= upstreams= tasks= pretrain= steps= seconds= precision= seeds= device= workers= dry="
read_arguments "$known" "$@"
PATH="$root/.venv/bin:$PATH"
data=$out/data

# measure UPSTREAMS: their rows, all in one table.
measure() {
  run speechssl benchmark "upstream=$1" "tasks=$tasks" "data=$data" "run_dir=$out/bench" "seeds=[$seeds]" \
    "device=$device" "num_workers=$workers"
}

title "1. corpus"
run speechssl prepare corpus=librispeech "source=$source" "out=$data" "options.parts=$parts" "options.lexicon=$lexicon"

title "2. phones and text from frozen features: $upstreams"
measure "$upstreams"

if [[ -n $pretrain ]]; then
  title "3. pretraining of $pretrain on all train parts, without labels, then the same"
  run speechssl pretrain "upstream=$pretrain" "data=$data" "run_dir=$out/pretrained" "trainer.max_steps=$steps" \
    "trainer.max_seconds=$seconds" "trainer.precision=$precision" "trainer.num_workers=$workers"
  measure "{pretrained: '$out/pretrained'}"
fi
title "table: $out/bench/results.md"

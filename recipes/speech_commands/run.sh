#!/usr/bin/env bash
# Speech Commands: pretrain SSAST without labels, probe it frozen (12 classes and all words), fine-tune it.
#
#   bash recipes/speech_commands/run.sh [out=runs/speech_commands] [source=FOLDER] [version=2] [size=frame_tiny]
#     [model=NAME] [seeds="1 2 3"] [steps=40000] [seconds=...] [device=cuda] [precision=auto] [workers=4] [dry=1]
#
# source: the folder with speech_commands_v0.02 and speech_commands_test_set_v0.02 (or v0.01); unset,
# SPEECHSSL_DATA/speech_commands is used, and without that the corpus is downloaded. version: 2 fine-tunes on its 35
# words, 1 on SUPERB's 12 classes. size: {patch,frame}_{tiny,small,base}. model: take these weights instead of pretraining
# here: a run directory, or ssast:FILE for a published checkpoint (give its size too). steps, seconds: of pretraining,
# updates and audio per update. dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/speech_commands source=null version=2 size=frame_tiny model= seeds="1 2 3" steps=40000 seconds=
device=$(device_here) precision=auto workers=4 dry=0
read_arguments "out= source= version= size= model= seeds= steps= seconds= device= precision= workers= dry=" "$@"
one_of size "$size" {patch,frame}_{tiny,small,base}
one_of version "$version" 1 2
PATH="$root/.venv/bin:$PATH"
data=$out/data variant=${size%%_*} runs=()
seconds=${seconds:-$(pretraining_clips "$size")}
if [[ $version == 2 ]]; then
  words=v35 tuned=v35 task=ks/speech_commands_35 preset=speech_commands
  if [[ $variant == patch ]]; then preset=speech_commands_patch; fi
  recipe=("preset=ssast/$preset")
else
  words=v30 tuned=v12 task=ks recipe=(preset=ssast/superb_ks)
  # The preset has the patch variant's rate and leaves the strides to the variant.
  if [[ $variant == patch ]]; then
    recipe+=(settings.frequency_stride=10 settings.time_stride=10)
  else
    recipe+=(settings.frequency_stride=128 settings.time_stride=1 'finetuning.lrs=[5e-5]')
  fi
fi

title "1. corpus"
run speechssl prepare corpus=speech_commands "source=$source" "out=$data" "options.version=$version"

title "2. pretraining on the train words, without labels, and not at all (untrained)"
for seed in $seeds; do
  pretrain "$data" "$out/untrained-$seed" "$seed" 0
  if [[ -z $model ]]; then pretrain "$data" "$out/pretrained-$seed" "$seed" "$steps"; fi
done

title "3. frozen on 12 classes and on all words, then fine-tuned"
for seed in $seeds; do
  ssast="untrained: $out/untrained-$seed, pretrained: '${model:-$out/pretrained-$seed}'"
  shared=("seeds=[$seed]" "device=$device" "cache=$out/cache")
  runs+=("$out/bench/frozen-v12-$seed")
  run speechssl benchmark "upstream={fbank_no_cmvn: fbank_no_cmvn, $ssast}" tasks=ks "data=$data/v12" \
    "${shared[@]}" "run_dir=${runs[-1]}"
  runs+=("$out/bench/frozen-$words-$seed")
  run speechssl benchmark "upstream={fbank_no_cmvn: fbank_no_cmvn, $ssast}" tasks=ks/speech_commands_35 \
    "data=$data/$words" "${shared[@]}" "run_dir=${runs[-1]}"
  runs+=("$out/bench/finetuned-$tuned-$seed")
  run speechssl benchmark "upstream={$ssast}" "tasks=$task" "data=$data/$tuned" "${shared[@]}" finetune=true \
    "${recipe[@]}" "finetuning.precision=$precision" "finetuning.num_workers=$workers" "run_dir=${runs[-1]}"
done

title "4. one table"
run speechssl compare "runs=[$(IFS=,; echo "${runs[*]}")]" "baseline=[fbank_no_cmvn,untrained]" "out=$out/compare"
title "table: $out/compare/compare.md"

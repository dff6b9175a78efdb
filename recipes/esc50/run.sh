#!/usr/bin/env bash
# ESC-50: pretrain SSAST without labels, probe it frozen, fine-tune it, over the five given folds.
#
#   bash recipes/esc50/run.sh [out=runs/esc50] [source=FOLDER] [size=patch_tiny] [model=NAME] [seeds="1 2 3"]
#     [steps=20000] [seconds=...] [device=cuda] [precision=auto] [workers=4] [dry=1]
#
# source: a copy of github.com/karolpiczak/ESC-50; unset, SPEECHSSL_DATA/esc50 is used, and without that the corpus is
# downloaded (0.6 GB). size: {patch,frame}_{tiny,small,base}. model: take these weights instead of pretraining here: a
# run directory, or ssast:FILE for a published checkpoint (give its size too). steps, seconds: of pretraining, updates
# and audio per update. dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/esc50 source=null size=patch_tiny model= seeds="1 2 3" steps=20000 seconds= device=$(device_here)
precision=auto workers=4 dry=0
read_arguments "out= source= size= model= seeds= steps= seconds= device= precision= workers= dry=" "$@"
one_of size "$size" {patch,frame}_{tiny,small,base}
PATH="$root/.venv/bin:$PATH"
data=$out/data variant=${size%%_*} runs=()
seconds=${seconds:-$(($(pretraining_clips "$size") * 5))}

title "1. corpus"
run speechssl prepare corpus=esc50 "source=$source" "out=$data"

title "2. pretraining on all clips, without labels, and not at all (untrained)"
for seed in $seeds; do
  pretrain "$data" "$out/untrained-$seed" "$seed" 0
  if [[ -z $model ]]; then pretrain "$data" "$out/pretrained-$seed" "$seed" "$steps"; fi
done

title "3. frozen, with each pooling, then fine-tuned"
for seed in $seeds; do
  ssast="untrained: $out/untrained-$seed, pretrained: '${model:-$out/pretrained-$seed}'"
  shared=("data=$data/folds" "seeds=[$seed]" "device=$device" "cache=$out/cache")
  for pooling in mean mean_std; do
    runs+=("$out/bench/frozen-$pooling-$seed")
    run speechssl benchmark "upstream={fbank_no_cmvn: fbank_no_cmvn, $ssast}" tasks=aec "${shared[@]}" \
      "task.pooling=$pooling" "run_dir=${runs[-1]}"
  done
  runs+=("$out/bench/finetuned-$seed")
  run speechssl benchmark "upstream={$ssast}" tasks=aec "${shared[@]}" finetune=true "preset=ssast/esc50_$variant" \
    "finetuning.precision=$precision" "finetuning.num_workers=$workers" "run_dir=${runs[-1]}"
done

title "4. one table"
run speechssl compare "runs=[$(IFS=,; echo "${runs[*]}")]" "baseline=[fbank_no_cmvn,untrained]" "out=$out/compare"
title "table: $out/compare/compare.md"

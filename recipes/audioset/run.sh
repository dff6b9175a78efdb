#!/usr/bin/env bash
# AudioSet: pretrain SSAST on all train audio without labels, probe it frozen, fine-tune it for 527 sounds.
#
#   bash recipes/audioset/run.sh source=FOLDER [out=runs/audioset] [lists=balanced] [unbalanced=true]
#     [labels_file=FILE] [size=patch_tiny] [model=NAME] [seeds=1] [steps=...] [seconds=...] [device=cuda]
#     [precision=auto] [workers=8] [dry=1]
#
# source: your copy of the audio (it cannot be downloaded); unset, SPEECHSSL_DATA/audioset. lists: what is fine-tuned on,
# balanced (AudioSet-20K) or full (AudioSet-2M). unbalanced=false leaves the unbalanced list out of pretraining too.
# labels_file: other labels of train clips, see corpus=audioset. size: {patch,frame}_{tiny,small,base}. model: take these
# weights instead of pretraining here: a run directory, or ssast:FILE for a published checkpoint (give its size too).
# steps, seconds: of pretraining, updates and audio per update. dry=1 prints the commands. Started again, it continues
# where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/audioset source=null lists=balanced unbalanced=true labels_file=null size=patch_tiny model= seeds=1 steps=
seconds= device=$(device_here) precision=auto workers=8 dry=0
read_arguments "out= source= lists= unbalanced= labels_file= size= model= seeds= steps= seconds= device= precision= \
workers= dry=" "$@"
one_of size "$size" {patch,frame}_{tiny,small,base}
one_of lists "$lists" balanced full
one_of unbalanced "$unbalanced" true false
PATH="$root/.venv/bin:$PATH"
data=$out/data variant=${size%%_*} runs=()
seconds=${seconds:-$(($(pretraining_clips "$size") * 1024 / 100))}
if [[ -z $steps ]]; then case $size in *_base) steps=800000 ;; *_small) steps=320000 ;; *) steps=160000 ;; esac; fi
# Published for patches only; frames change nothing but size and stride.
if [[ $lists == full ]]; then recipe=(preset=ssast/audioset); else recipe=(preset=ssast/audioset20k); fi
if [[ $variant == frame ]]; then recipe+=(settings.frequency_stride=128 settings.time_stride=1); fi
recipe+=(task.refit=true) # neither preset selects anything, so dev is trained on too, as published

title "1. corpus: what is found of each list stands in $data/corpus.json"
run speechssl prepare corpus=audioset "source=$source" "out=$data" "options.unbalanced=$unbalanced" \
  "options.labels_file=$labels_file"

title "2. pretraining on all train audio, without labels, and not at all (untrained)"
for seed in $seeds; do
  pretrain "$data" "$out/untrained-$seed" "$seed" 0
  if [[ -z $model ]]; then pretrain "$data" "$out/pretrained-$seed" "$seed" "$steps"; fi
done

title "3. frozen on the balanced list, with each pooling, then fine-tuned"
for seed in $seeds; do
  ssast="untrained: $out/untrained-$seed, pretrained: '${model:-$out/pretrained-$seed}'"
  shared=("seeds=[$seed]" "device=$device" "cache=$out/cache")
  for pooling in mean mean_std; do
    runs+=("$out/bench/frozen-$pooling-$seed")
    run speechssl benchmark "upstream={fbank_no_cmvn: fbank_no_cmvn, $ssast}" tasks=aec "data=$data/balanced" \
      "${shared[@]}" "num_workers=$workers" "task.pooling=$pooling" "run_dir=${runs[-1]}"
  done
  runs+=("$out/bench/finetuned-$lists-$seed")
  run speechssl benchmark "upstream={$ssast}" tasks=aec "data=$data/$lists" "${shared[@]}" finetune=true "${recipe[@]}" \
    "finetuning.precision=$precision" "finetuning.num_workers=$workers" "run_dir=${runs[-1]}"
done

title "4. one table"
run speechssl compare "runs=[$(IFS=,; echo "${runs[*]}")]" "baseline=[fbank_no_cmvn,untrained]" "out=$out/compare"
title "table: $out/compare/compare.md"

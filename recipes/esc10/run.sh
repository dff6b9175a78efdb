#!/usr/bin/env bash
# ESC-10: pretrain SSAST-tiny without labels on a CPU, probe it frozen, fine-tune it, over the five given folds.
#
#   bash recipes/esc10/run.sh [out=runs/esc10] [source=FOLDER] [also=FOLDER] [size=patch_tiny] [seeds="1 2 3"]
#     [steps=2000] [epochs=10] [jobs=2] [precision=...] [dry=1]
#
# source: a copy of the corpus; unset, SPEECHSSL_DATA/esc10 is used, and without that the corpus is downloaded.
# also: a prepared corpus to pretrain on as well, such as that of recipes/fsdd. steps, epochs: of pretraining and of
# fine-tuning. jobs: trainings side by side, one CPU thread each. precision: bf16-mixed where the processor has bf16
# instructions, else 32-true. dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/esc10 source=null also= size=patch_tiny seeds="1 2 3" steps=2000 epochs=10 jobs=$(nproc) precision=32-true dry=0
if grep -qs -m1 -E 'avx512_bf16|amx_bf16' /proc/cpuinfo; then precision=bf16-mixed; fi
read_arguments "out= source= also= size= seeds= steps= epochs= jobs= precision= dry=" "$@"
one_of size "$size" {patch,frame}_{tiny,small,base}
PATH="$root/.venv/bin:$PATH"
export OMP_NUM_THREADS=1
data=$out/data logs=$out/logs
unlabelled=$data
if [[ -n $also ]]; then unlabelled="[$data,$also]"; fi
if [[ $dry != 1 ]]; then mkdir -p "$logs"; fi

title "1. corpus"
run speechssl prepare corpus=esc10 "source=$source" "out=$data"

title "2. pretraining on all clips, without labels, and not at all (untrained)"
recipe=("upstream=ssast/$size" upstream.mean=null upstream.std=null upstream.initial_positions=sinusoidal
  task.sampler=patches task.mask_ratio=0.6 optim.lr=1e-3 'optim.betas=[0.9,0.98]' trainer.crop_seconds=1.945
  trainer.max_seconds=32 "trainer.precision=$precision" trainer.num_workers=0 trainer.num_threads=1
  trainer.eval_every=0 trainer.save_every=250 "data=$unlabelled")
for seed in $seeds; do
  for system in untrained pretrained; do
    if [[ $system == untrained ]]; then of=0; else of=$steps; fi
    queue "$system-$seed" speechssl pretrain "${recipe[@]}" "run_dir=$out/$system-$seed" "seed=$seed" "trainer.max_steps=$of"
  done
done | together "$jobs" "$logs"

title "3. frozen, with each pooling, then fine-tuned"
bench=(tasks=aec/debug "data=$data/folds" num_threads=1)
tuning=(finetune=true 'finetuning.lrs=[1e-4]' finetuning.head_lr=20 "finetuning.epochs=$epochs" finetuning.batch_size=8
  finetuning.warmup_steps=40 finetuning.head=linear finetuning.loss=ce finetuning.crop_seconds=2.5
  finetuning.frequency_mask=16 finetuning.time_mask=24 finetuning.select=last "finetuning.precision=$precision")
for seed in $seeds; do
  systems="fbank_no_cmvn: fbank_no_cmvn, untrained: $out/untrained-$seed, pretrained: $out/pretrained-$seed"
  for pooling in mean mean_std; do
    for standardize in false true; do
      name=frozen-$pooling-$standardize-$seed
      queue "$name" speechssl benchmark "upstream={$systems}" "${bench[@]}" "seeds=[$seed]" "cache=$out/cache-$seed" \
        "task.pooling=$pooling" "probe.standardize=$standardize" "run_dir=$out/bench/$name"
    done
  done
  for system in untrained pretrained; do
    name=finetuned-$system-$seed
    queue "$name" speechssl benchmark "upstream={$system: $out/$system-$seed}" "${bench[@]}" "seeds=[$seed]" \
      "${tuning[@]}" "run_dir=$out/bench/$name"
  done
done | together "$jobs" "$logs"

title "4. one table"
runs=()
for seed in $seeds; do
  for name in frozen-{mean,mean_std}-{false,true} finetuned-{untrained,pretrained}; do runs+=("$out/bench/$name-$seed"); done
done
run speechssl compare "runs=[$(IFS=,; echo "${runs[*]}")]" "baseline=[fbank_no_cmvn,untrained]" "out=$out/compare"
title "table: $out/compare/compare.md"

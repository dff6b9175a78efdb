#!/usr/bin/env bash
# ESC-10 and FSDD: three iterations of BEATs-tiny without labels on a CPU, each probed frozen on sounds, words and voices.
#
#   bash recipes/esc10_fsdd/run.sh [out=runs/esc10_fsdd] [source=FOLDER] [fsdd=FOLDER] [seeds="1 2 3"] [iterations=3]
#     [steps=1500] [tokenizer_steps=500] [kmeans=1] [jobs=2] [precision=...] [dry=1]
#
# source, fsdd: copies of ESC-10 and of the Free Spoken Digit Dataset; unset, those of SPEECHSSL_DATA are used, and
# without that the corpora are downloaded. steps, tokenizer_steps: of each encoder and of each distilled tokenizer.
# kmeans=1: all of it once more with k-means of raw patches as the first tokenizer (our own extra). jobs: trainings side
# by side, one CPU thread each. precision: bf16-mixed where the processor has bf16 instructions, else 32-true. dry=1
# prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/esc10_fsdd source=null fsdd=null seeds="1 2 3" iterations=3 steps=1500 tokenizer_steps=500 kmeans=0
jobs=$(nproc) precision=32-true dry=0
if grep -qs -m1 -E 'avx512_bf16|amx_bf16' /proc/cpuinfo; then precision=bf16-mixed; fi
read_arguments "out= source= fsdd= seeds= iterations= steps= tokenizer_steps= kmeans= jobs= precision= dry=" "$@"
one_of iterations "$iterations" {1..9}
one_of kmeans "$kmeans" 0 1
PATH="$root/.venv/bin:$PATH"
export OMP_NUM_THREADS=1
sounds=$out/esc10 digits=$out/fsdd logs=$out/logs
if [[ $dry != 1 ]]; then mkdir -p "$logs"; fi

# pretraining NAME SEED KEY=VALUE...: a line for `together`. Crops of 1.945 s are 193 frames, 12 columns of patches.
pretraining() {
  local name=$1-$2 seed=$2
  shift 2
  queue "$name" speechssl pretrain upstream=beats/tiny upstream.mean=null upstream.std=null upstream.dropout=0 \
    upstream.attention_dropout=0 task.num_codes=256 task.code_size=64 task.predictor_layers=1 \
    task.predictor_convolution=true task.estimator_layers=1 task.dead_code_reset_steps=15 "data=[$sounds,$digits]" \
    "run_dir=$out/$name" "seed=$seed" optim.lr=1e-3 'optim.betas=[0.9,0.98]' trainer.crop_seconds=1.945 \
    trainer.max_seconds=32 "trainer.precision=$precision" trainer.num_workers=0 trainer.num_threads=1 \
    trainer.eval_every=0 trainer.save_every=250 "$@"
}

# encoder RUN NUMBER: the folder of a run's encoder, whatever the number of its stage.
encoder() {
  local found=("$out/$1"/stages/*-encoder-"$2")
  if [[ $dry != 1 && ! -d ${found[0]} ]]; then echo "$out/$1 has no encoder $2" >&2; exit 1; fi
  echo "${found[0]}"
}

# systems SEED RUN LABEL: every iteration of a run, called LABEL1, LABEL2, ...
systems() {
  local number folder
  for number in $(seq "$iterations"); do
    folder=$(encoder "$2-$1" "$number") || exit 1
    printf ', %s: %s' "$3$number" "$folder"
  done
}

# benchmarks PREFIX SEED SYSTEMS: lines for `together`.
benchmarks() {
  local shared=("upstream={$3}" "seeds=[$2]" "cache=$out/cache-$2" num_threads=1) standardize pooling name
  for standardize in false true; do
    for pooling in mean mean_std; do
      name=$1esc10-$pooling-$standardize-$2
      queue "$name" speechssl benchmark "${shared[@]}" tasks=aec/debug "data=$sounds/folds" "task.pooling=$pooling" \
        "probe.standardize=$standardize" "run_dir=$out/bench/$name"
    done
    name=$1fsdd-$standardize-$2
    queue "$name" speechssl benchmark "${shared[@]}" 'tasks=[ks/debug,sid/debug]' "data=$digits" \
      "probe.standardize=$standardize" "run_dir=$out/bench/$name"
  done
}

title "1. corpora"
run speechssl prepare corpus=esc10 "source=$source" "out=$sounds"
run speechssl prepare corpus=fsdd "source=$fsdd" "out=$digits"

title "2. pretraining on all clips, without labels, and not at all (untrained)"
recipe=("iterations=$iterations" "trainer.max_steps=$steps" "task.tokenizer_steps=$tokenizer_steps")
for seed in $seeds; do
  pretraining untrained "$seed" iterations=1 trainer.max_steps=0
  pretraining pretrained "$seed" "${recipe[@]}"
done | together "$jobs" "$logs"

title "3. every encoder frozen, with each pooling, plain and standardised"
for seed in $seeds; do
  trained=$(systems "$seed" pretrained iteration)
  benchmarks "" "$seed" "fbank_no_cmvn: fbank_no_cmvn, untrained: $out/untrained-$seed$trained"
done | together "$jobs" "$logs"

if [[ $kmeans == 1 ]]; then
  title "extra: the same with k-means of raw patches as the first tokenizer"
  for seed in $seeds; do pretraining kmeans "$seed" "${recipe[@]}" task.tokenizer=kmeans; done | together "$jobs" "$logs"
  for seed in $seeds; do
    trained=$(systems "$seed" kmeans kmeans)
    benchmarks kmeans- "$seed" "${trained#, }"
  done | together "$jobs" "$logs"
fi

title "4. one table"
runs=()
for seed in $seeds; do
  for name in esc10-{mean,mean_std}-{false,true} fsdd-{false,true}; do
    runs+=("$out/bench/$name-$seed")
    if [[ $kmeans == 1 ]]; then runs+=("$out/bench/kmeans-$name-$seed"); fi
  done
done
run speechssl compare "runs=[$(IFS=,; echo "${runs[*]}")]" "baseline=[fbank_no_cmvn,untrained,iteration1]" "out=$out/compare"
title "table: $out/compare/compare.md"

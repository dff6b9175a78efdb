#!/usr/bin/env bash
# The weights that come with the package: TERA, SSAST and BEATs, tiny, pretrained on a CPU on data that anyone may use.
#
#   bash recipes/bundled/run.sh [out=runs/bundled] [source=FOLDER] [fsdd=FOLDER] [jobs=2] [precision=...] [scale=1] [dry=1]
#
# source: a copy of ESC-10; unset, SPEECHSSL_DATA/esc10 is used, and without that it is downloaded. fsdd: the same of the
# Free Spoken Digit Dataset, which is only measured on. jobs: trainings side by side, one CPU thread each. precision:
# bf16-mixed where the processor has bf16 instructions, else 32-true. scale: of all numbers of steps, 0.01 to try it out.
# dry=1 prints the commands. Started again, it continues where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/bundled source=null fsdd=null jobs=$(nproc) precision=32-true scale=1 dry=0
if grep -qs -m1 -E 'avx512_bf16|amx_bf16' /proc/cpuinfo; then precision=bf16-mixed; fi
read_arguments "out= source= fsdd= jobs= precision= scale= dry=" "$@"
PATH="$root/.venv/bin:$PATH"
export OMP_NUM_THREADS=1
logs=$out/logs
if [[ $dry != 1 ]]; then mkdir -p "$logs"; fi
steps() { awk "BEGIN { n = int($1 * $scale); print (n > 1) ? n : 2 }"; }

title "1. corpora: espeak-ng voices (CC0) and the clips of ESC-10 that are CC BY or freer"
voices=(corpus=synthetic options.num_sentences=24 options.num_foreign=4 options.keyword_takes=1
  'options.languages="en,de,es,fr,it"' options.tasks=basic)
run speechssl prepare "${voices[@]}" seed=6 options.num_speakers=240 "out=$out/speech"
run speechssl prepare "${voices[@]}" seed=7 options.num_speakers=60 "out=$out/voices"
run speechssl prepare corpus=esc10 "source=$source" options.exclude_sampling_plus=true "out=$out/sounds"

title "2. pretraining without labels: TERA on speech, first on short and then on long crops; SSAST and BEATs on both"
alone=("trainer.precision=$precision" trainer.num_workers=0 trainer.num_threads=1)
tera=(speechssl pretrain upstream=tera/tiny "data=$out/speech" task.noise_proportion=0 trainer.eval_every=1000 "${alone[@]}")
patches=(upstream.mean=null upstream.std=null "data=[$out/voices,$out/sounds]" seed=1 optim.lr=1e-3
  'optim.betas=[0.9,0.98]' trainer.crop_seconds=1.945 trainer.max_seconds=32 trainer.save_every=250 "${alone[@]}")
{
  queue tera-short "${tera[@]}" "run_dir=$out/tera-short" seed=1 optim.lr=1e-3 trainer.crop_seconds=0.8 \
    trainer.max_seconds=16 "trainer.max_steps=$(steps 10000)"
  queue ssast speechssl pretrain upstream=ssast/patch_tiny "run_dir=$out/ssast" "${patches[@]}" \
    upstream.initial_positions=sinusoidal task.sampler=patches task.mask_ratio=0.6 trainer.eval_every=1000 \
    "trainer.max_steps=$(steps 4000)"
  queue beats speechssl pretrain upstream=beats/tiny "run_dir=$out/beats" "${patches[@]}" iterations=2 \
    upstream.dropout=0 upstream.attention_dropout=0 task.num_codes=256 task.code_size=64 task.predictor_layers=1 \
    task.predictor_convolution=true task.estimator_layers=1 task.dead_code_reset_steps=15 \
    "task.tokenizer_steps=$(steps 500)" trainer.eval_every=0 "trainer.max_steps=$(steps 1800)"
} | together "$jobs" "$logs"
queue tera "${tera[@]}" "run_dir=$out/tera" "init_from=$out/tera-short" seed=2 optim.lr=7e-4 trainer.crop_seconds=4 \
  trainer.max_seconds=32 "trainer.max_steps=$(steps 3000)" | together 1 "$logs"

title "3. half precision"
models=(tera/tiny=tera ssast/patch_tiny=ssast beats/tiny=beats)
for model in "${models[@]}"; do
  run speechssl export "run=$out/${model#*=}" format=hub dtype=float16 "out=$out/weights/${model%=*}"
done
run cp "$out/tera-short/metrics.jsonl" "$out/weights/tera/tiny/training-1.jsonl"
run cp "$out/tera/metrics.jsonl" "$out/weights/tera/tiny/training-2.jsonl"
run cp "$out/ssast/metrics.jsonl" "$out/weights/ssast/patch_tiny/training.jsonl"
for number in 1 2; do
  run cp "$out"/beats/stages/*-encoder-$number/metrics.jsonl "$out/weights/beats/tiny/training-$number.jsonl"
done
run cp "$out/beats/lineage.json" "$out/weights/beats/tiny/lineage.json"

title "4. measuring what comes with the package, on real voices that no model has heard, and on the sounds"
run speechssl prepare corpus=fsdd "source=$fsdd" "out=$out/fsdd"
systems="fbank_no_cmvn: fbank_no_cmvn"
for model in "${models[@]}"; do
  systems+=", ${model%=*}@random: ${model%=*}@random, ${model%=*}: $out/weights/${model%=*}"
done
shared=("upstream={$systems}" "seeds=[0,1,2]" "cache=$out/cache" "run_dir=$out/bench" num_threads=1)
run speechssl benchmark "${shared[@]}" 'tasks=[ks/debug,sid/debug]' "data=$out/fsdd"
run speechssl benchmark "${shared[@]}" tasks=aec/debug "data=$out/sounds/folds"

title "5. model cards"
for model in "${models[@]}"; do
  weights=$out/weights/${model%=*}
  run speechssl card "run=$weights" "origin=$out/${model#*=}" licence=apache-2.0 "results=[$out/bench/results.jsonl]"
  run cp "$root/recipes/bundled/LICENSE.md" "$weights/LICENSE.md"
done
title "weights: $out/weights/FAMILY/SIZE; the package has them as upstream/FAMILY/weights/SIZE"

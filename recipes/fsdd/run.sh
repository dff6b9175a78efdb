#!/usr/bin/env bash
# Free Spoken Digit Dataset: pretrain TERA without labels, then measure what its features are worth.
#
#   bash recipes/fsdd/run.sh [out=runs/fsdd] [source=FOLDER] [seeds="1 2 3"] [steps=3000] [jobs=2] [precision=...]
#
# source: a copy of the corpus (its folder, or the one with recordings/); unset, SPEECHSSL_DATA/fsdd is used, and
# without that the corpus is downloaded. precision: bf16-mixed where the processor has bf16 instructions, else 32-true. jobs: pretrainings and benchmarks that run side by side, one CPU thread each.
# Started again, it continues where it stopped.
set -euo pipefail
out=runs/fsdd source=null seeds="1 2 3" steps=3000 jobs=$(nproc) precision=32-true
if grep -qs -m1 -E 'avx512_bf16|amx_bf16' /proc/cpuinfo; then precision=bf16-mixed; fi
for argument in "$@"; do
  case $argument in
    out=*|source=*|seeds=*|steps=*|jobs=*|precision=*) declare "${argument%%=*}=${argument#*=}" ;;
    *) echo "unknown argument $argument; known: out= source= seeds= steps= jobs= precision=" >&2; exit 2 ;;
  esac
done
root=$(cd "$(dirname "$0")/../.." && pwd)
PATH="$root/.venv/bin:$PATH"
export OMP_NUM_THREADS=1
data=$out/data logs=$out/logs
speakers="george jackson lucas nicolas theo yweweler"
mkdir -p "$logs"

# Commands of a file, a line each, `jobs` at a time; what they print goes to a log each.
together() {
  while read -r name command; do
    printf '%s\0%s\0' "$logs/$name.log" "$command"
  done | xargs -0 -r -n 2 -P "$jobs" bash -c 'echo "$1" > "$0"; echo "start  $(basename "$0" .log)"
    if bash -c "$1" >> "$0" 2>&1; then echo "end    $(basename "$0" .log)"
    else echo "FAILED $(basename "$0" .log): $(tail -1 "$0")"; exit 255; fi'
}

echo "== 1. corpus"
speechssl prepare corpus=fsdd source="$source" out="$data"

echo "== 2. pretraining: all speakers, without the held-out one (unseen), and none at all (untrained)"
recipe="upstream=tera/tiny task.noise_proportion=0 optim.lr=1e-3 trainer.max_seconds=8 trainer.precision=$precision
  trainer.num_workers=0 trainer.num_threads=1 trainer.eval_every=500 trainer.save_every=500"
recipe=$(echo $recipe)
for seed in $seeds; do
  echo "untrained-$seed speechssl pretrain $recipe data=$data run_dir=$out/untrained-$seed seed=$seed trainer.max_steps=0"
  echo "pretrained-$seed speechssl pretrain $recipe data=$data run_dir=$out/pretrained-$seed seed=$seed trainer.max_steps=$steps"
  for speaker in $speakers; do
    echo "unseen-$speaker-$seed speechssl pretrain $recipe data=$data/loso/$speaker run_dir=$out/unseen-$speaker-$seed seed=$seed trainer.max_steps=$steps"
  done
done | together

echo "== 3. benchmark"
head="task.normalise=false task.spec_augment=false task.lrs=[3e-3]"  # of recognition, as when the table was made
draws=$(for n in 0 1 2 3 4; do printf '%s,' "$data/ks60/draw$n"; done)
folds=$(for speaker in $speakers; do printf '%s,' "$data/loso/$speaker"; done)
for seed in $seeds; do
  systems="'upstream={fbank_no_cmvn: fbank_no_cmvn, untrained: $out/untrained-$seed, pretrained: $out/pretrained-$seed}'"
  shared="seeds=[$seed] cache=$out/cache num_threads=1"
  for standardize in false true; do
    linear="$shared probe.standardize=$standardize"
    name=$standardize-$seed
    echo "ks-sid-$name speechssl benchmark $systems $linear 'tasks=[ks/debug,sid/debug]' data=$data run_dir=$out/bench/ks-sid-$name"
    echo "ks60-$name speechssl benchmark $systems $linear tasks=ks/debug 'data=[${draws%,}]' run_dir=$out/bench/ks60-$name"
    echo "loso-$name speechssl benchmark $systems $linear tasks=ks/debug 'data=[${folds%,}]' run_dir=$out/bench/loso-$name"
    for speaker in $speakers; do
      unseen="'upstream={pretrained_unseen: $out/unseen-$speaker-$seed}'"
      echo "unseen-$speaker-$name speechssl benchmark $unseen $linear tasks=ks/debug data=$data/loso/$speaker run_dir=$out/bench/unseen-$speaker-$name"
    done
  done
  for strings in strings strings60; do
    echo "asr-$strings-$seed speechssl benchmark $systems $shared probe.standardize=true tasks=asr/debug $head data=$data/$strings run_dir=$out/bench/$strings-$seed"
  done
done | together

echo "== 4. one table"
runs=$(find "$out/bench" -mindepth 1 -maxdepth 1 -type d | sort | paste -sd,)
speechssl compare "runs=[$runs]" "baseline=[fbank_no_cmvn,untrained]" out="$out/compare"
echo "table: $out/compare/compare.md"

#!/usr/bin/env bash
# The whole benchmark offline: a spoken corpus made on the spot, a small TERA pretrained on it, every task on both.
#
#   bash recipes/synthetic/run.sh [out=runs/synthetic] [steps=3000] [seeds=0] [upstreams=...] [dry=1]
#
# steps: of pretraining. seeds: of the heads, one or several as in 0,1,2. upstreams: further ones to benchmark, with
# labels and a comma at the end, as in "mine: runs/a,". dry=1 prints the commands. Started again, it continues where it
# stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/recipes/common.sh"
out=runs/synthetic steps=3000 seeds=0 upstreams= dry=0
read_arguments "out= steps= seeds= upstreams= dry=" "$@"
PATH="$root/.venv/bin:$PATH"
export OMP_NUM_THREADS=1
data=$out/data

title "1. corpus"
run speechssl prepare corpus=synthetic "out=$data"

title "2. pretraining, without labels and without the voices of dev and test"
run speechssl pretrain upstream=tera/tiny "data=$data" seed=0 optim.lr=1e-3 trainer.max_seconds=8 \
  trainer.crop_seconds=0.6 trainer.num_workers=0 trainer.num_threads=1 task.noise_proportion=0 \
  "run_dir=$out/tera" "trainer.max_steps=$steps" trainer.eval_every=500

title "3. every task"
systems="{fbank_no_cmvn: fbank_no_cmvn, untrained: tera/tiny@random, ${upstreams}tera: $out/tera}"
run speechssl benchmark "upstream=$systems" tasks=all "data=$data" "run_dir=$out/bench" "seeds=[$seeds]" num_threads=1
title "table: $out/bench/results.md"

# Sourced by recipes: arguments of the form key=value, and commands that are run or, with dry=1, printed.

# read_arguments "out= source= ..." "$@": sets the named variables; any other argument ends the script.
read_arguments() {
  local known=$1 argument
  shift
  for argument in "$@"; do
    if [[ $argument == *=* && " $known " == *" ${argument%%=*}= "* ]]; then
      printf -v "${argument%%=*}" %s "${argument#*=}"
    else
      echo "unknown argument $argument; known: $known" >&2
      exit 2
    fi
  done
}

# one_of NAME VALUE ALLOWED...: ends the script where the value is none of the allowed ones.
one_of() {
  local name=$1 value=$2
  shift 2
  if [[ " $* " != *" $value "* ]]; then
    echo "$name=$value is unknown; expected one of: $*" >&2
    exit 2
  fi
}

# Say what comes next.
title() { echo "== $*" >&2; }

# Run a command, or print it as a line that a shell reads back.
run() {
  if [[ $dry == 1 ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# Learning rate of SSAST's pretraining: published for tiny and base; small lies between.
pretraining_rate() {
  case $1 in
    *_base) echo 1e-4 ;;
    *_small) echo 2.5e-4 ;;
    *) echo 5e-4 ;;
  esac
}

# Clips per pretraining step: published 24 for base, 120 for tiny.
pretraining_clips() {
  case $1 in
    *_base) echo 24 ;;
    *_small) echo 60 ;;
    *) echo 120 ;;
  esac
}

# pretrain DATA RUN_DIR SEED STEPS: SSAST of $size; 0 steps leave it untrained.
pretrain() {
  run speechssl pretrain "upstream=ssast/$size" "data=$1" "run_dir=$2" "seed=$3" "trainer.max_steps=$4" \
    "optim.lr=$(pretraining_rate "$size")" optim.weight_decay=5e-7 'optim.betas=[0.95,0.999]' \
    "trainer.max_seconds=$seconds" trainer.crop_seconds=10.25 "trainer.precision=$precision" \
    "trainer.num_workers=$workers"
}

device_here() { if command -v nvidia-smi > /dev/null; then echo cuda; else echo cpu; fi; }

# queue NAME COMMAND...: a line for `together`.
queue() { printf '%q ' "$@"; echo; }

# together JOBS LOGS: commands from standard input, a line "name command..." each, JOBS at a time; a log each in LOGS.
together() {
  while read -r name command; do
    if [[ $dry == 1 ]]; then echo "$command"; else printf '%s\0%s\0' "$2/$name.log" "$command"; fi
  done | { if [[ $dry == 1 ]]; then cat; else xargs -0 -r -n 2 -P "$1" bash -c 'echo "$1" > "$0"
    echo "start  $(basename "$0" .log)"
    if bash -c "$1" >> "$0" 2>&1; then echo "end    $(basename "$0" .log)"
    else echo "FAILED $(basename "$0" .log): $(tail -1 "$0")"; exit 255; fi'; fi; }
}

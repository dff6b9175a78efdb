#!/usr/bin/env bash
# Convert Kathbath's m4a files to 16 kHz wav, each beside itself; those that are there already are left. Needs ffmpeg.
#
#   bash recipes/kathbath/convert.sh FOLDER [JOBS]
set -euo pipefail
if [[ $# -lt 1 || ! -d $1 ]]; then
  echo "usage: bash $0 FOLDER [JOBS]; FOLDER holds the m4a files" >&2
  exit 2
fi
if ! command -v ffmpeg > /dev/null; then
  echo "ffmpeg is missing; install it with the system's package manager" >&2
  exit 2
fi
# A file is written under another name first, so that an interrupted run leaves no half of one.
find "$1" -name '*.m4a' ! -name '._*' -print0 | xargs -0 -r -n 1 -P "${2:-$(nproc)}" bash -c '
  wav=${1%.m4a}.wav
  if [[ ! -e $wav ]]; then
    ffmpeg -nostdin -loglevel error -y -i "$1" -ar 16000 -ac 1 -f wav "$wav.part" && mv "$wav.part" "$wav"
  fi' convert

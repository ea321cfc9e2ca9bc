#!/usr/bin/env bash
help() { cat <<'END'
Trains on TPU slices of a GKE cluster that xpk made (pip install xpk); the image is of
launch/docker/Dockerfile. What is behind -- goes to the program:

  launch/xpk.sh NAME --cluster=CLUSTER --type=TYPE --image=IMAGE [OPTIONS] -- \
    --config=configs/750m.py --workdir=/bucket/runs/mine --config.data.store=/bucket/store

  --cluster=CLUSTER  as `xpk cluster list` shows it
  --type=TYPE        of a slice, such as v5litepod-256, v6e-256, v5p-512
  --image=IMAGE      of a registry that the cluster can read
  --slices=N         so many (1): data alone lies across them (mesh.slices)
  --storage=NAMES    of `xpk storage attach`, which mounts a bucket
  --restarts=N       at most so many (1000)
  --grace=SECONDS    between SIGTERM and SIGKILL (120); the console says what a save takes
  --project=, --zone=  gcloud's own, unless given
  --spot             the nodes may be preempted
  --dry_run          prints the command and runs none

The run ends with 0, complete; 143, stopped or a peer is gone: xpk starts it again, as it
does on all of 127 to 255; 1 and 2, a mistake that another start would repeat: the
workload ends (docs/launch.md).
END
}
set -euo pipefail
fail() { echo "error: $1; --help says more" >&2; exit 2; }

options=() name="" image="" slices=1 restarts=1000 grace=120 dry_run=""
while (($#)); do
  case "$1" in
    -h | --help) help; exit 0 ;;
    --cluster=?* | --project=?* | --zone=?* | --storage=?* | --spot) options+=("$1") ;;
    --type=?*) options+=("--tpu-type=${1#*=}") ;;
    --image=?*) image="${1#*=}" ;;
    --slices=?*) slices="${1#*=}" ;;
    --restarts=?*) restarts="${1#*=}" ;;
    --grace=?*) grace="${1#*=}" ;;
    --dry_run) dry_run=1 ;;
    --) shift; break ;;
    -*) fail "no such option: $1" ;;
    *) [[ -z "$name" ]] || fail "unexpected argument $1"; name="$1" ;;
  esac
  shift
done
[[ -n "$name" ]] || fail "NAME is missing"
[[ " ${options[*]}" == *" --cluster="* && " ${options[*]}" == *" --tpu-type="* && -n "$image" ]] ||
  fail "one of --cluster, --type, --image is missing"
[[ " $*" == *" --workdir="* ]] || fail "behind --, --config and --workdir are missing"

command=(xpk workload create --workload="$name" "${options[@]}"
  --num-slices="$slices" --docker-image="$image" --max-restarts="$restarts"
  --termination-grace-period-seconds="$grace"
  --command="exec python -m dga_jax.main$(printf ' %q' "$@")")
if [[ -n "$dry_run" ]]; then printf '%q ' "${command[@]}"; echo; exit; fi
exec "${command[@]}"

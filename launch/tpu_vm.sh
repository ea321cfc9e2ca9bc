#!/usr/bin/env bash
help() { cat <<'END'
Trains on a Cloud TPU slice: asks for it, waits, copies this code, installs it, trains on
all its hosts, and begins again where the run was when the slice was preempted, until the
run is complete.

  launch/tpu_vm.sh NAME --zone=ZONE --type=TYPE --version=VERSION [OPTIONS] -- \
    --config=configs/750m.py --workdir=bucket/runs/mine --config.data.store=bucket/store

  --zone=ZONE        such as us-east5-b
  --type=TYPE        such as v5litepod-16, v6e-8; several slices are xpk's (launch/xpk.sh)
  --version=VERSION  of the machines' software, such as v2-alpha-tpuv5-lite, v2-alpha-tpuv6e
  --bucket=NAME      a bucket of Cloud Storage that all hosts see as the folder "bucket"
  --project=PROJECT  gcloud's own, unless given
  --spot             cheaper, and may be preempted
  --xla              with the TPU flags of launch/xla_flags.sh
  --delete           gives the slice back when the run has ended, whatever it ended with
  --dry_run          prints the commands and runs none

The run ends with 0, complete; 143, stopped, or the connection is lost (255): once more;
anything else, a mistake that another start would repeat (docs/launch.md).
END
}
set -euo pipefail
fail() { echo "error: $1; --help says more" >&2; exit 2; }

pause="${PAUSE:-30}" # seconds between looks
place=() create=() run_first="" bucket="" name="" delete="" dry_run=""
while (($#)); do
  case "$1" in
    -h | --help) help; exit 0 ;;
    --zone=?* | --project=?*) place+=("$1") ;;
    --type=?*) create+=("--accelerator-type=${1#*=}") ;;
    --version=?*) create+=("--runtime-version=${1#*=}") ;;
    --spot) create+=("$1") ;;
    --bucket=?*) bucket="${1#*=}" ;;
    --xla) run_first="source launch/xla_flags.sh tpu; " ;;
    --delete) delete=1 ;;
    --dry_run) dry_run=1 ;;
    --) shift; break ;;
    -*) fail "no such option: $1" ;;
    *) [[ -z "$name" ]] || fail "unexpected argument $1"; name="$1" ;;
  esac
  shift
done
[[ -n "$name" ]] || fail "NAME is missing"
packed="${TMPDIR:-/tmp}/$name.tar"
for wanted in --zone= --accelerator-type= --runtime-version=; do
  [[ " ${place[*]} ${create[*]}" == *" $wanted"* ]] || fail "one of --zone, --type, --version is missing"
done
[[ " $*" == *" --workdir="* ]] || fail "behind --, --config and --workdir are missing"

gcloud_() { # COMMAND...; a dry run prints it
  if [[ -n "$dry_run" ]]; then printf '%q ' gcloud compute tpus "$@"; echo; return; fi
  gcloud compute tpus "$@"
}
on_all() { gcloud_ tpu-vm ssh "$name" "${place[@]}" --worker=all --command="$1"; }
state() {
  [[ -z "$dry_run" ]] || { echo ACTIVE; return; }
  gcloud compute tpus queued-resources describe "$name" "${place[@]}" \
    --format='value(state.state)' 2>/dev/null || echo NONE
}
give_back() { gcloud_ queued-resources delete "$name" "${place[@]}" --force --quiet; }

# shellcheck disable=SC2016 # the hosts fill it in
mount_bucket='command -v gcsfuse >/dev/null || {
  echo "deb https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list
  curl -s https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo apt-key add -
  sudo apt-get -qq update && sudo apt-get -qq install -y gcsfuse; }
mkdir -p bucket; mountpoint -q bucket || gcsfuse --implicit-dirs --rename-dir-limit=100000 --metadata-cache-ttl-secs=0 '
# TPU VMs have an older Python than 3.11: uv brings one.
# shellcheck disable=SC2016
install='set -e; rm -rf dga_jax; mkdir dga_jax; tar -xf dga_jax.tar -C dga_jax; cd dga_jax
curl -LsSf https://astral.sh/uv/install.sh | sh; export PATH="$HOME/.local/bin:$PATH"
uv venv -q --python 3.12; uv pip install -q -c constraints-3.12.txt ".[tpu]"; '

set_up() {
  gcloud_ queued-resources create "$name" --node-id="$name" "${place[@]}" "${create[@]}"
  until [[ "$(state)" == ACTIVE ]]; do
    case "$(state)" in FAILED | SUSPENDED | NONE) return 1 ;; esac
    sleep "$pause"
  done
  git archive --output="$packed" HEAD
  gcloud_ tpu-vm scp "$packed" "$name:dga_jax.tar" "${place[@]}" --worker=all
  on_all "$install${bucket:+$mount_bucket$bucket bucket}"
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# What a lost connection has left running has to end first.
run="cd dga_jax; while pkill -TERM -f '^.venv/bin/python'; do sleep 5; done; $run_first"
run+="exec .venv/bin/python -m dga_jax.main$(printf ' %q' "$@")"
[[ "$(state)" == ACTIVE && -z "$dry_run" ]] || set_up
while true; do
  status=0
  on_all "$run" || status=$?
  [[ $status == 143 || $status == 255 ]] || break
  echo "$(date +%T) ended with $status"
  sleep "$pause" # for what has become of the slice to be known
  while [[ "$(state)" != ACTIVE ]]; do
    give_back || true
    set_up || sleep "$pause"
  done
done
if [[ -n "$delete" ]]; then give_back; fi
exit "$status"
